"""Which message is performed next."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial import unittest

from msgd.work.choice import NEW_SHARE, Kind, choose

KINDS = st.sampled_from(list(Kind))


class ChooseTests(unittest.TestCase):
    def test_high_before_new(self) -> None:
        """A slot that prefers new jobs takes a high one first."""
        chosen = choose({Kind.NEW, Kind.HIGH, Kind.MORE}, slots=8, new=0, more=0, last=None)
        self.assertIs(chosen, Kind.HIGH)

    def test_the_share_of_new_jobs(self) -> None:
        """With everything waiting, a quarter of the slots goes to new jobs and the rest to continuations."""
        new = more = 0
        for _ in range(16):
            kind = choose({Kind.NEW, Kind.MORE}, slots=16, new=new, more=more, last=None)
            new, more = new + (kind is Kind.NEW), more + (kind is Kind.MORE)
        self.assertEqual((new, more), (4, 12))

    def test_one_slot_takes_turns(self) -> None:
        """A worker with one slot alternates, so that neither side starves."""
        last: Kind | None = None
        begun = []
        for _ in range(4):
            last = choose({Kind.NEW, Kind.MORE}, slots=1, new=0, more=0, last=last)
            begun.append(last)
        self.assertEqual(begun, [Kind.NEW, Kind.MORE, Kind.NEW, Kind.MORE])

    @given(waiting=st.sets(KINDS), slots=st.integers(1, 64), taken=st.data(), last=st.none() | KINDS)
    def test_no_slot_idles(self, waiting: set[Kind], slots: int, taken: st.DataObject, last: Kind | None) -> None:
        """Something that waits is chosen exactly if a slot is free, and only what waits."""
        new = taken.draw(st.integers(0, slots))
        more = taken.draw(st.integers(0, slots - new))
        chosen = choose(waiting, slots=slots, new=new, more=more, last=last)
        if waiting and new + more < slots:
            self.assertIn(chosen, waiting)
        else:
            self.assertIsNone(chosen)

    @given(
        slots=st.integers(1, 12),
        ends=st.lists(st.tuples(st.booleans(), st.integers(0, 11)), min_size=100, max_size=200),
    )
    def test_nobody_starves(self, slots: int, ends: list[tuple[bool, int]]) -> None:
        """Under a flood of both, whichever slots become free: each side keeps its share, once all slots are taken."""
        running: list[Kind] = []
        last: Kind | None = None
        begun: list[Kind] = []
        everything = set(Kind)
        for _, which in ends:
            if len(running) == slots:
                running.pop(which % slots)
            new = sum(kind is not Kind.MORE for kind in running)
            last = choose(everything, slots=slots, new=new, more=len(running) - new, last=last)
            assert last is not None
            running.append(last)
            begun.append(last)
        if slots == 1:
            self.assertEqual(begun[:4], [Kind.HIGH, Kind.MORE, Kind.HIGH, Kind.MORE])
        elif len(running) == slots:
            share = max(1, slots // NEW_SHARE)
            new = sum(kind is not Kind.MORE for kind in running)
            self.assertEqual(new, share)
            self.assertGreaterEqual(slots - new, 1)

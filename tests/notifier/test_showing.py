"""Rounds of offers: a while at a time, in order, to all whom they concern, and to nobody else."""

from __future__ import annotations

from array import array
from typing import Any

from msgspec import Raw
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import LiveEvent
from msgd.notifier import squads
from msgd.notifier.audience import Group
from msgd.notifier.direct import Cork
from msgd.notifier.items import Item, Stretch
from msgd.notifier.showing import BETWEEN_LOOKS, ROUNDS, TURN_S, Listener, Offers, Showing
from msgd.notifier.squads import Squad, Straight

MANY = 3000
COST_S = 20e-6
"""That one listener takes, asked by itself."""

WAVE_COST_S = 10e-6
"""That one takes among those who are sent to in one wave: what a socket does."""


class Socket:
    """An outlet that takes everything."""

    def straight(self) -> int:
        return 7

    def sent(self, data: bytes, taken: int) -> None:
        raise AssertionError


class Reader:
    """Takes some time for each offer, and keeps what it was offered."""

    def __init__(self, case: ShowingTest) -> None:
        self.patterns = ("room.a",)
        self.shown: list[int] = []
        self.calls = 0
        self.label = "room.a"
        self.squad: Squad[Any] | None = None
        self.stood: list[int] = []
        self.is_broken = False
        self._case = case
        self.outlet: Straight | None = None

    def offer(self, items: Stretch) -> Straight | None:
        self._case.now_s += COST_S
        self.calls += 1
        self.shown += [item.pos for item in items]
        return self.outlet

    def show_transient(self, items: Stretch) -> None:
        self.offer(items)

    def stands(self, pos: int, seq: int) -> None:
        self.stood.append(pos)

    def broke(self) -> None:
        self.is_broken = True

    def renewed(self) -> None:
        raise AssertionError


def items(*places: int) -> list[Item]:
    return [Item("e", LiveEvent("room.a", pos, pos, str(pos), "said", "", 0, Raw(b"null"))) for pos in places]


class ShowingTest(SynchronousTestCase):
    """One group of many, and a clock that their offers move."""

    def setUp(self) -> None:
        self.now_s = 0.0
        self.clock = Clock()
        self.showing = Showing(Cork(), self.clock, frozenset, lambda: self.now_s)
        self.group: Group[Listener] = Group(("room.a",))
        self.readers = [Reader(self) for _ in range(MANY)]
        for reader in self.readers:
            self.group.listeners[reader] = None

    def offers(self, *places: int) -> Offers:
        return {self.group: items(*places)}

    def finish(self) -> None:
        while self.clock.getDelayedCalls():
            self.turn()

    def turn(self) -> None:
        begun_s = self.now_s
        (call,) = self.clock.calls
        self.clock.calls.clear()
        call.called = 1
        call.func()
        longest_s = TURN_S + max(BETWEEN_LOOKS * COST_S, squads.SIZE * WAVE_COST_S)  # one look, or wave, too late
        self.assertLess(longest_s, 0.03)
        self.assertLess(self.now_s - begun_s, longest_s)

    def test_no_turn_is_long(self) -> None:
        """Thousands of sockets are served in turns of 20 ms or so, each socket once, in order."""
        self.showing.recorded(self.offers(1), after=0)
        self.assertLess(self.now_s, TURN_S + BETWEEN_LOOKS * COST_S)
        self.assertEqual(self.readers[0].shown, [1])
        self.assertEqual(self.readers[-1].shown, [])
        self.assertEqual(self.showing.offered(1), 0)
        self.finish()
        self.assertEqual({tuple(reader.shown) for reader in self.readers}, {(1,)})
        self.assertEqual(self.showing.offered(1), 1)

    def test_many_small_groups(self) -> None:
        """So are thousands of groups of one."""
        groups: Offers = {}
        for reader in self.readers:
            group: Group[Listener] = Group(("room.a",))
            group.listeners[reader] = None
            groups[group] = items(1)
        self.showing.recorded(groups, after=0)
        self.assertLess(self.now_s, TURN_S + BETWEEN_LOOKS * COST_S)
        self.finish()
        self.assertEqual({tuple(reader.shown) for reader in self.readers}, {(1,)})

    def test_what_waits_leaves_together(self) -> None:
        """What is released while a round is under way is one round, however much that is."""
        self.showing.recorded(self.offers(1), after=0)
        for pos in range(2, 50):
            self.showing.recorded(self.offers(pos), after=pos - 1)
        self.finish()
        self.assertEqual({tuple(reader.shown) for reader in self.readers}, {tuple(range(1, 50))})
        self.assertEqual({reader.calls for reader in self.readers}, {2})

    def test_transient_in_order(self) -> None:
        """Transient events are shown between what was recorded before and after; too many are lost."""
        self.showing.recorded(self.offers(1), after=0)
        self.showing.transient(self.offers(100))
        self.showing.recorded(self.offers(2), after=1)
        self.showing.recorded(self.offers(3), after=2)
        self.finish()
        self.assertEqual({tuple(reader.shown) for reader in self.readers}, {(1, 100, 2, 3)})
        self.showing.recorded(self.offers(4), after=3)
        for _ in range(2 * ROUNDS):
            self.showing.transient(self.offers(100))
        self.showing.recorded(self.offers(5), after=4)
        self.assertLessEqual(len(self.showing._rounds), ROUNDS + 1)
        self.assertEqual(self.showing.offered(5), 3)
        self.showing.forget()

    def test_who_comes_and_goes(self) -> None:
        """Who leaves while a round is under way is not served any more, and who comes is due the next one."""
        self.showing.recorded(self.offers(1), after=0)
        gone = self.readers.pop()
        del self.group.listeners[gone]
        come = Reader(self)
        self.group.listeners[come] = None
        self.finish()
        self.assertEqual((gone.shown, come.shown), ([], []))
        self.showing.recorded(self.offers(2), after=1)
        self.finish()
        self.assertEqual((gone.shown, come.shown), ([], [2]))

    def test_forgotten(self) -> None:
        """What is forgotten, also by one of those who are served, is offered to nobody; what comes then is."""
        first = self.readers[0]
        first.offer = lambda items: self.showing.forget()  # type: ignore[method-assign]  # of this one only
        self.showing.recorded(self.offers(1), after=0)
        self.assertEqual({tuple(reader.shown) for reader in self.readers}, {()})
        self.assertEqual(self.clock.getDelayedCalls(), [])
        del first.offer
        self.showing.recorded(self.offers(2), after=1)
        self.showing.forget()
        self.finish()
        self.assertEqual(self.readers[-1].shown, [])
        self.showing.recorded(self.offers(3), after=2)
        self.finish()
        self.assertEqual(self.readers[-1].shown, [3])

    def gather(self) -> list[int]:
        """Give all readers sockets, and show them the event 1; returns the sizes of the waves sent from then on."""
        waves: list[int] = []

        def send_each(fds: array[int], data: bytes) -> list[tuple[int, int]]:
            waves.append(len(fds))
            self.now_s += len(fds) * WAVE_COST_S
            return []

        self.patch(squads, "send_each", send_each)
        for reader in self.readers:
            reader.outlet = Socket()
        self.showing.recorded(self.offers(1), after=0)
        self.finish()
        self.assertEqual(waves, [])
        return waves

    def test_together(self) -> None:
        """Who has been shown the same is sent what follows in waves, which are turns of 20 ms too."""
        waves = self.gather()
        self.showing.recorded(self.offers(2), after=1)
        self.assertLess(self.now_s, 2 * MANY * COST_S)
        self.finish()
        self.assertEqual(sum(waves), MANY)
        self.assertEqual({reader.calls for reader in self.readers}, {1})
        self.readers[7].outlet = None
        squad = self.readers[7].squad
        assert squad is not None
        squad.leave(self.readers[7])
        self.showing.recorded(self.offers(3), after=2)
        self.finish()
        self.assertEqual(self.readers[7].shown, [1, 3])
        self.assertEqual(self.readers[7].stood, [2])
        self.assertEqual(sum(waves), 2 * MANY - 1)

    def test_not_together_with_others(self) -> None:
        """A round of several groups is offered to each, as it is to leave in one write a connection; then they are
        together again."""
        waves = self.gather()
        other: Group[Listener] = Group(("room.a", "room.b"))
        self.showing.recorded({**self.offers(2), other: items(2)}, after=1)
        self.finish()
        self.assertEqual({tuple(reader.shown) for reader in self.readers}, {(1, 2)})
        self.assertEqual(waves, [])
        self.showing.recorded(self.offers(3), after=2)
        self.showing.recorded(self.offers(4), after=3)
        self.finish()
        self.assertEqual({tuple(reader.shown) for reader in self.readers}, {(1, 2, 3)})
        self.assertEqual(sum(waves), MANY)

    def test_a_wave_that_fails(self) -> None:
        """Its readers are told, and those of others have their events."""
        waves = self.gather()
        failures = iter([ValueError("a mistake")])

        def fails_once(fds: array[int], data: bytes) -> list[tuple[int, int]]:
            for failure in failures:
                raise failure
            waves.append(len(fds))
            return []

        self.patch(squads, "send_each", fails_once)
        self.showing.recorded(self.offers(2), after=1)
        self.finish()
        broken = [reader for reader in self.readers if reader.is_broken]
        self.assertEqual(sum(waves) + len(broken), MANY)
        self.assertLessEqual(len(broken), squads.SIZE)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_forgotten_between_waves(self) -> None:
        """Who was not sent it yet stands where it stood."""
        waves = self.gather()
        self.showing.recorded(self.offers(2), after=1)
        self.showing.forget()
        sent = sum(waves)
        self.assertLess(sent, MANY)
        for reader in self.readers:
            if reader.squad is not None:
                reader.squad.leave(reader)
        self.assertEqual(sorted(reader.stood[-1] for reader in self.readers), [1] * (MANY - sent) + [2] * sent)

    def test_a_mistake_of_one(self) -> None:
        """One reader's mistake costs the others nothing."""

        def broken(items: Stretch) -> None:
            raise ValueError("a mistake")

        self.readers[0].offer = broken  # type: ignore[method-assign]  # of this one only
        self.showing.recorded(self.offers(1), after=0)
        self.finish()
        self.assertEqual({tuple(reader.shown) for reader in self.readers[1:]}, {(1,)})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

"""What waits for one connection's socket."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError
from twisted.trial.unittest import SynchronousTestCase

from msgd.notifier.backlog import Backlog
from msgd.notifier.limits import BUFFER_BYTES

sizes = st.lists(st.integers(1, BUFFER_BYTES // 3), max_size=12)


class BacklogTest(SynchronousTestCase):
    @given(sizes, st.integers(0, BUFFER_BYTES))
    def test_bounded(self, sizes: list[int], before: int) -> None:
        """The first pieces that fit are taken, and no more than fit; an open socket counts nothing as waiting."""
        backlog = Backlog()
        backlog.wrote(before)
        self.assertEqual(backlog.room, BUFFER_BYTES)
        backlog.pause()
        backlog.wrote(before)
        taken = backlog.fitting(bytes(size) for size in sizes)
        self.assertEqual([len(piece) for piece in taken], sizes[: len(taken)])
        if taken:
            self.assertLessEqual(before + sum(map(len, taken)), BUFFER_BYTES)
        if len(taken) < len(sizes):
            self.assertGreater(before + sum(sizes[: len(taken) + 1]), BUFFER_BYTES)

    def test_larger_than_all_room(self) -> None:
        """What is larger than all the room goes out alone, and only where nothing waits."""
        backlog, large = Backlog(), bytes(BUFFER_BYTES + 1)
        backlog.pause()
        self.assertEqual(len(backlog.fitting([large, b"next"])), 1)
        backlog.wrote(1)
        self.assertEqual(backlog.fitting([large]), [])

    def test_drained(self) -> None:
        """Who waits is told when everything has been written; who does not wait any more is not; the end cancels."""
        backlog = Backlog()
        self.successResultOf(backlog.drained())
        backlog.pause()
        waiting, given_up = backlog.drained(), backlog.drained()
        given_up.cancel()
        self.failureResultOf(given_up, CancelledError)
        self.assertNoResult(waiting)
        backlog.resume()
        self.successResultOf(waiting)
        backlog.pause()
        late = backlog.drained()
        backlog.end()
        self.failureResultOf(late, CancelledError)

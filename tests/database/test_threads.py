"""Worker threads."""

from __future__ import annotations

from queue import SimpleQueue
from threading import Event, Thread, current_thread

from twisted.trial.unittest import SynchronousTestCase

from msgd.database.threads import Threads

PATIENCE_S = 60.0
"""For a thread to get its turn on a busy machine."""


class ThreadsTests(SynchronousTestCase):
    def test_quit_waits_for_nobody(self) -> None:
        """Whoever ends the threads goes on at once; what was given is performed all the same, then they are gone."""
        go_on, performed = Event(), SimpleQueue[str]()
        threads = Threads("test", 1)
        threads.do(lambda: performed.put(str(go_on.wait(PATIENCE_S))))
        threads.do(lambda: performed.put(current_thread().name))
        running: SimpleQueue[Thread] = SimpleQueue()
        threads.do(lambda: running.put(current_thread()))
        threads.quit()
        self.assertTrue(performed.empty())
        go_on.set()
        self.assertEqual([performed.get(timeout=PATIENCE_S) for _ in range(2)], ["True", "test-0"])
        thread = running.get(timeout=PATIENCE_S)
        thread.join(PATIENCE_S)
        self.assertFalse(thread.is_alive())

    def test_quit_twice(self) -> None:
        """Ending them twice is harmless."""
        threads = Threads("test", 2)
        threads.quit()
        threads.quit()

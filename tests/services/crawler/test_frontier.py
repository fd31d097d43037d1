"""The frontier's order, and the entries in hand."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler.frontier import HOPS, REDIRECTS, Entry, Ready, digest, level_of


class LevelTests(SynchronousTestCase):
    @given(
        st.tuples(st.integers(0, 1000), st.integers(0, HOPS - 1)),
        st.tuples(st.integers(0, 1000), st.integers(0, HOPS - 1)),
    )
    def test_order(self, one: tuple[int, int], other: tuple[int, int]) -> None:
        """Levels are in order of depth, then of redirects; an entry knows both."""
        self.assertEqual(level_of(*one) < level_of(*other), one < other)
        entry = Entry(0, "http://a.example/", level_of(*one))
        self.assertEqual((entry.depth, entry.hops), one)

    def test_room(self) -> None:
        """A depth has room for all redirects and a sitemap of a sitemap after them."""
        self.assertGreater(HOPS, REDIRECTS + 2)

    def test_digest(self) -> None:
        """Different keys have different digests, also with text that is no Unicode."""
        self.assertNotEqual(digest("http://a.example/"), digest("http://a.example/?"))
        self.assertEqual(len(digest("\ud800")), 16)


class ReadyTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, 3), max_size=30))
    def test_order(self, hosts: list[int]) -> None:
        """All that is added is taken, each host's in its order."""
        ready = Ready()
        entries = [Entry(n, f"http://{host}.example/{n}", 0) for n, host in enumerate(hosts)]
        ready.add(entries)
        taken = []
        while ready:
            taken.append(ready.take(next(ready.hosts())))
        self.assertEqual(sorted(entry.n for entry in taken), list(range(len(hosts))))
        for host in set(hosts):
            own = [entry.n for entry in taken if entry.url.startswith(f"http://{host}.")]
            self.assertEqual(own, sorted(own))

    def test_turns(self) -> None:
        """Hosts take turns."""
        ready = Ready()
        ready.add(Entry(n, f"http://{host}.example/", 0) for n, host in enumerate("aaabb"))
        order = []
        while ready:
            order.append(ready.take(next(ready.hosts())).n)
        self.assertEqual(order, [0, 3, 1, 4, 2])

"""Exchanges and bindings, without I/O."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker import topology
from msgd.broker.embedded.routing import Router
from msgd.broker.topology import Exchange
from msgd.errors import NotFound
from msgd.messages.topics import matches

WORDS = st.sampled_from(["a", "b", "*", "#"])
PATTERNS = st.lists(WORDS, min_size=1, max_size=3).map(".".join)
KEYS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map(".".join)
QUEUES = st.sampled_from(["q1", "q2", "q3"])


class RouterTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.router: Router[str] = Router(
            [
                Exchange("direct", "direct", alternate="rest"),
                Exchange("topic", "topic"),
                Exchange("rest", "fanout"),
            ]
        )

    def test_direct(self) -> None:
        """A direct exchange takes the key as it is, also where it looks like a pattern."""
        self.router.bind("direct", "a", "q1")
        self.router.bind("direct", "#", "q2")
        self.assertEqual(self.router.route("direct", "a"), ("q1",))
        self.assertEqual(self.router.route("direct", "a.b"), ())

    def test_fanout(self) -> None:
        """A fanout exchange takes everything, for every queue once."""
        for key in ("x", "y"):
            self.router.bind("rest", key, "q1")
        self.router.bind("rest", "", "q2")
        self.assertEqual(self.router.route("rest", "anything"), ("q1", "q2"))

    def test_alternate(self) -> None:
        """What nothing is bound for goes to the alternate exchange, and only that."""
        self.router.bind("rest", "", "grave")
        self.router.bind("direct", "a", "q1")
        self.assertEqual(self.router.route("direct", "a"), ("q1",))
        self.assertEqual(self.router.route("direct", "b"), ("grave",))
        self.router.unbind("direct", "a", "q1")
        self.assertEqual(self.router.route("direct", "a"), ("grave",))

    def test_unbind_all(self) -> None:
        """A queue that goes takes its bindings with it, and nobody else's."""
        for queue in ("q1", "q2"):
            self.router.bind("topic", "a.*", queue)
            self.router.bind("direct", "a", queue)
        self.router.unbind_all("q1")
        self.assertEqual(self.router.route("topic", "a.b"), ("q2",))
        self.assertEqual(self.router.route("direct", "a"), ("q2",))

    def test_unbind_what_is_not_bound(self) -> None:
        """Unbinding what was not bound is harmless."""
        self.router.unbind("topic", "a", "q1")
        self.assertEqual(self.router.route("topic", "a"), ())

    def test_unknown_exchange(self) -> None:
        """An exchange that there is not is NotFound, whatever is asked of it."""
        with self.assertRaises(NotFound):
            self.router.bind("nowhere", "a", "q1")
        with self.assertRaises(NotFound):
            self.router.route("nowhere", "a")

    def test_topology(self) -> None:
        """Every exchange of the topology can be routed through, its alternates included."""
        router: Router[str] = Router(topology.EXCHANGES)
        for queue in topology.QUEUES:
            for exchange, key in queue.bindings:
                router.bind(exchange, key, queue.name)
        self.assertEqual(router.route(topology.EVENTS, "job.1"), (topology.JOB_EVENTS_QUEUE,))
        self.assertEqual(router.route(topology.EVENTS, "room.x"), (topology.TALK_QUEUE,))
        self.assertEqual(router.route(topology.JOBS, "unknown"), (topology.DEAD_QUEUE,))

    @given(st.lists(st.tuples(st.booleans(), PATTERNS, QUEUES, KEYS), max_size=30))
    def test_topics(self, steps: list[tuple[bool, str, str, str]]) -> None:
        """However bindings come and go, a topic exchange routes by those that stand and match."""
        router: Router[str] = Router([Exchange("topic", "topic")])
        bound = set()
        for binds, pattern, queue, key in steps:
            if binds:
                router.bind("topic", pattern, queue)
                bound.add((pattern, queue))
            else:
                router.unbind("topic", pattern, queue)
                bound.discard((pattern, queue))
            expected = {queue for pattern, queue in bound if matches(pattern, key)}
            found = router.route("topic", key)
            self.assertEqual(set(found), expected)
            self.assertEqual(len(found), len(expected))

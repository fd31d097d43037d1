"""The core of presence: whatever gets lost, killed or set, all views come to be the same, and true."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.notifier.presence.roster import DEBOUNCE_S, PAIRS, SETTLED_S, SILENT_S, TICK_S, Roster
from msgd.notifier.presence.said import AnySaid, Beat, Change, State, decode, encode

TOPICS: Final = ("room.a", "room.b")
SUBS: Final = ("ann", "bob", "cyd")


class Node:
    """A notifier: its core, its clock, its doors, and what is on its way to it."""

    def __init__(self, name: str, now_s: float) -> None:
        self.roster = Roster(name, now_s)
        self.now_s = now_s
        self.doors: list[tuple[str, str]] = []
        self.inbox: deque[AnySaid] = deque()


class Net:
    """Notifiers, and a broker between them that may lose what it is given; order is kept for each pair."""

    def __init__(self, count: int) -> None:
        self.lives = 0
        self.nodes: dict[int, Node] = {}
        self.lose = 0.0
        self.random = Random(1)
        for place in range(count):
            self.start(place)

    def start(self, place: int) -> None:
        if place in self.nodes:
            return
        self.lives += 1
        self.nodes[place] = Node(f"life-{self.lives}", 1000.0 * self.lives)
        self.send()

    def kill(self, place: int) -> None:
        self.nodes.pop(place, None)

    def stop(self, place: int) -> None:
        if place in self.nodes:
            self.nodes[place].roster.stop()
            self.send()
            self.kill(place)

    def send(self) -> None:
        """Put what everybody has to say on its way."""
        for node in self.nodes.values():
            for said in node.roster.output().messages:
                for other in self.nodes.values():
                    if other is not node and self.random.random() >= self.lose:
                        other.inbox.append(decode(encode(said)))

    def enter(self, place: int, topic: str, sub: str) -> None:
        node = self.nodes.get(place)
        if node is not None:
            node.doors.append((topic, sub))
            node.roster.enter(topic, sub)
            self.send()

    def leave(self, place: int, which: int) -> None:
        node = self.nodes.get(place)
        if node is not None and node.doors:
            node.roster.leave(*node.doors.pop(which % len(node.doors)))

    def drop(self, place: int) -> None:
        """Lose what is on its way to one of them."""
        if place in self.nodes:
            self.nodes[place].inbox.clear()

    def missed(self, place: int) -> None:
        """One of them notices that something may be lost."""
        if place in self.nodes:
            self.nodes[place].roster.missed()
            self.send()

    def losing(self, part: float) -> None:
        """From now on this part of all messages is lost."""
        self.lose = part

    def deliver(self, place: int, most: int = 10_000) -> None:
        node = self.nodes.get(place)
        while node is not None and node.inbox and most:
            node.roster.heard(node.inbox.popleft())
            most -= 1
        self.send()

    def tick(self, place: int, step_s: float = TICK_S) -> None:
        node = self.nodes.get(place)
        if node is not None:
            node.now_s += step_s
            node.roster.tick(node.now_s)
            self.send()

    def settle(self, seconds: float) -> None:
        """Time passes, and nothing is lost."""
        self.lose = 0.0
        for _ in range(int(seconds / TICK_S)):
            for place in list(self.nodes):
                self.tick(place)
            for _ in range(3):  # a question, its answer
                for place in list(self.nodes):
                    self.deliver(place)

    def views(self) -> list[dict[str, set[str]]]:
        return [
            {topic: set(node.roster.members(topic)) for topic in node.roster.topics} for node in self.nodes.values()
        ]

    @property
    def truth(self) -> dict[str, set[str]]:
        here: dict[str, set[str]] = {}
        for node in self.nodes.values():
            for topic, sub in node.doors:
                here.setdefault(topic, set()).add(sub)
        return here


PLACES: Final = 3
places = st.integers(0, PLACES - 1)
steps: st.SearchStrategy[Sequence[tuple[Any, ...]]] = st.lists(
    st.one_of(
        st.tuples(st.just("enter"), places, st.sampled_from(TOPICS), st.sampled_from(SUBS)),
        st.tuples(st.just("leave"), places, st.integers(0, 5)),
        st.tuples(st.just("tick"), places),
        st.tuples(st.just("tick"), places, st.sampled_from((-3600.0, -1.0, 0.0, 0.3, 5.0, 3600.0))),
        st.tuples(st.just("deliver"), places, st.integers(1, 4)),
        st.tuples(st.just("losing"), st.sampled_from((0.0, 0.3, 1.0))),
        st.tuples(st.just("drop"), places),
        st.tuples(st.just("missed"), places),
        st.tuples(st.just("kill"), places),
        st.tuples(st.just("stop"), places),
        st.tuples(st.just("start"), places),
    ),
    max_size=60,
)


class RosterPropertyTest(SynchronousTestCase):
    """Random lives."""

    @settings(max_examples=300, deadline=None)
    @given(steps)
    def test_views_converge_to_the_truth(self, steps: Sequence[tuple[Any, ...]]) -> None:
        """After joins, leaves, lost messages, killed, stopped and restarted notifiers and clocks that were set, all
        views are the truth within the stated bound."""
        net = Net(PLACES)
        for name, *how in steps:
            getattr(net, name)(*how)
        net.settle(SETTLED_S)
        for view in net.views():
            self.assertEqual(view, net.truth)


class RosterTest(SynchronousTestCase):
    """One thing at a time."""

    def members(self, net: Net, place: int, topic: str = "room.a") -> set[str]:
        return set(net.nodes[place].roster.members(topic))

    def pair(self) -> Net:
        net = Net(2)
        net.settle(3)
        return net

    def exchange(self, net: Net) -> None:
        net.send()
        net.deliver(0)
        net.deliver(1)

    def test_a_join_is_told_at_once(self) -> None:
        """No beat is waited for."""
        net = self.pair()
        net.nodes[0].roster.enter("room.a", "ann")
        self.exchange(net)
        self.assertEqual(self.members(net, 1), {"ann"})

    def test_a_short_absence_is_no_leave(self) -> None:
        """Who is back within the debounce, here or at another notifier, was never away."""
        net = self.pair()
        for place in (0, 1):
            net.nodes[0].roster.enter("room.a", "ann")
            self.exchange(net)
            net.nodes[0].roster.leave("room.a", "ann")
            net.settle(DEBOUNCE_S - 1)
            self.assertEqual(self.members(net, 1), {"ann"})
            net.nodes[place].roster.enter("room.a", "ann")
            net.settle(2 * DEBOUNCE_S)
            self.assertEqual(self.members(net, 0), {"ann"})
            self.assertEqual(self.members(net, 1), {"ann"})
            net.nodes[place].roster.leave("room.a", "ann")
        net.settle(DEBOUNCE_S + 1)
        self.assertEqual(net.views(), [{}, {}])

    def test_two_doors_of_one_principal(self) -> None:
        """A principal is present until the last of its doors has closed."""
        net = self.pair()
        for _ in range(2):
            net.nodes[0].roster.enter("room.a", "ann")
        net.nodes[0].roster.leave("room.a", "ann")
        net.settle(2 * DEBOUNCE_S)
        self.assertEqual(self.members(net, 1), {"ann"})

    def test_silence(self) -> None:
        """Three missed beats remove an incarnation, not two."""
        net = self.pair()
        net.nodes[0].roster.enter("room.a", "ann")
        self.exchange(net)
        net.kill(0)
        net.settle(int(SILENT_S))
        self.assertEqual(self.members(net, 1), {"ann"})
        net.settle(2)
        self.assertEqual(self.members(net, 1), set())
        self.assertEqual(net.nodes[1].roster.peers, 0)

    def test_goodbye(self) -> None:
        """Members of a notifier that stops stay for the debounce: they turn up at another."""
        net = self.pair()
        net.nodes[0].roster.enter("room.a", "ann")
        net.nodes[0].roster.enter("room.a", "bob")
        self.exchange(net)
        net.stop(0)
        net.settle(2)
        net.nodes[1].roster.enter("room.a", "ann")
        self.assertEqual(self.members(net, 1), {"ann", "bob"})
        net.settle(DEBOUNCE_S - 1)
        self.assertEqual(self.members(net, 1), {"ann"})

    def test_a_cut_off_notifier_forgets_nobody(self) -> None:
        """While it hears nothing, the silence of others says nothing; afterwards it does."""
        net = self.pair()
        net.nodes[0].roster.enter("room.a", "ann")
        self.exchange(net)
        net.kill(0)
        node = net.nodes[1]
        for _ in range(60):
            node.now_s += TICK_S
            node.roster.tick(node.now_s, hears=False)
        self.assertEqual(self.members(net, 1), {"ann"})
        net.settle(SETTLED_S)
        self.assertEqual(self.members(net, 1), set())

    def test_a_clock_that_is_set_removes_nobody(self) -> None:
        """An hour that passes in a tick is no silence."""
        net = self.pair()
        net.nodes[0].roster.enter("room.a", "ann")
        self.exchange(net)
        for step_s in (3600.0, -7200.0, 3600.0):
            net.tick(1, step_s)
            self.assertEqual(self.members(net, 1), {"ann"})
            net.settle(4)

    def test_large_rooms(self) -> None:
        """A herd is few messages, a newcomer is told in parts, and a part that is lost is made up for."""
        net = self.pair()
        count = 2 * PAIRS + 1
        for number in range(count):
            net.nodes[0].roster.enter("room.a", f"user-{number}")
        output = net.nodes[0].roster.output()
        self.assertEqual([type(one) for one in output.messages], [Change] * 3)
        self.assertEqual(output.topics, {"room.a"})
        net.settle(SETTLED_S)  # what it had said is lost
        self.assertEqual(len(self.members(net, 1)), count)
        net.start(2)
        net.deliver(0)
        parts = [one for one in net.nodes[2].inbox if isinstance(one, State)]
        self.assertEqual([one.part for one in parts], [0, 1, 2])
        net.nodes[2].inbox = deque(one for one in net.nodes[2].inbox if one is not parts[1])
        net.deliver(2)
        self.assertEqual(len(self.members(net, 2)), 0)
        net.settle(SETTLED_S)
        self.assertEqual(len(self.members(net, 2)), count)

    def test_many_questions_one_answer(self) -> None:
        """Ten newcomers that ask at once are told by one message a part."""
        net = Net(1)
        net.settle(2)
        for place in range(1, 11):
            net.start(place)
        net.deliver(0)
        self.assertEqual(sum(isinstance(one, State) for one in net.nodes[1].inbox), 1)

    def test_beats(self) -> None:
        """Every 2 s, and no more is said where nothing happens."""
        roster = Roster("me", 0.0)
        roster.output()
        for second in range(1, 11):
            roster.tick(float(second))
        self.assertEqual([type(one) for one in roster.output().messages], [Beat] * 5)

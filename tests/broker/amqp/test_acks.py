"""Joining acknowledgements."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.acks import Acks


class Channel:
    """What RabbitMQ's channel does with acks: it refuses a tag that it does not hold."""

    def __init__(self) -> None:
        self.held: set[int] = set()

    def settle(self, tag: int) -> None:
        assert tag in self.held, f"unknown delivery tag {tag}"
        self.held.remove(tag)

    def ack_up_to(self, tag: int) -> None:
        assert tag in self.held, f"unknown delivery tag {tag}"
        self.held = {each for each in self.held if each > tag}


class AcksTest(SynchronousTestCase):
    """:class:`Acks`."""

    def test_in_order(self) -> None:
        """A run of finished deliveries takes one acknowledgement."""
        acks = Acks()
        for tag in (1, 2, 3):
            acks.ack(tag)
        self.assertEqual(acks.take(), (3, []))
        self.assertEqual(acks.take(), (0, []))
        self.assertEqual(acks.floor, 3)

    def test_ahead_of_a_slow_one(self) -> None:
        """What is finished before an earlier delivery is acked singly, and not again with that one."""
        acks = Acks()
        for tag in (2, 4, 5):
            acks.ack(tag)
        self.assertEqual(acks.take(), (0, [2, 4, 5]))
        acks.ack(1)
        self.assertEqual(acks.take(), (1, []))
        self.assertEqual(acks.floor, 2)
        acks.ack(3)
        self.assertEqual(acks.take(), (3, []))
        self.assertEqual(acks.floor, 5)

    def test_given_back(self) -> None:
        """A delivery that was given back is passed over."""
        acks = Acks()
        acks.settled(1)
        acks.ack(2)
        self.assertEqual(acks.take(), (2, []))

    @given(st.permutations(range(1, 13)), st.lists(st.sampled_from(["ack", "nack", "take"]), min_size=12, max_size=40))
    def test_model(self, order: list[int], steps: list[str]) -> None:
        """In any order of acks, nacks and flushes the broker settles what was settled, and refuses nothing."""
        acks, channel = Acks(), Channel()
        channel.held = set(range(1, 13))
        waiting = iter(order)
        acked: set[int] = set()
        for step in [*steps, "take"]:
            if step == "take":
                multiple, singles = acks.take()
                if multiple:
                    channel.ack_up_to(multiple)
                for tag in singles:
                    channel.settle(tag)
                acked.clear()
                continue
            tag = next(waiting, 0)
            if not tag:
                continue
            if step == "ack":
                acks.ack(tag)
                acked.add(tag)
            else:
                channel.settle(tag)
                acks.settled(tag)
        left = set(waiting)
        self.assertEqual(channel.held, left)

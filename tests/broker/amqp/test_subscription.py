"""Deliveries and acknowledgements on one channel, without a socket."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pamqp import commands
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.frames import DELIVER, method_frame
from msgd.broker.amqp.subscription import Subscription
from msgd.broker.interface import Delivery
from tests.broker.amqp.peer import Peer


class SubscriptionTest(SynchronousTestCase):
    """:class:`Subscription`."""

    def setUp(self) -> None:
        self.peer = Peer()
        self.peer.log_in()
        self.channel = self.peer.open_channel()
        self.got: list[Delivery] = []
        self.buried: list[tuple[Delivery, str]] = []
        self.subscription = self.subscribe(self.got.append)

    def subscribe(self, callback: Callable[[Delivery], None], *, acked_by_broker: bool = False) -> Subscription:
        def bury(delivery: Delivery, reason: str) -> Deferred[None]:
            self.buried.append((delivery, reason))
            return succeed(None)

        return Subscription("queue", callback, self.channel, bury, acked_by_broker=acked_by_broker)

    def deliver(self, *tags: int) -> None:
        for tag in tags:
            self.peer.deliver(tag, b"%d" % tag)

    def settled(self) -> list[tuple[Any, ...]]:
        """What the client has told the broker: method, tag, multiple, and requeue of nacks."""
        return [
            (one.name, one.delivery_tag, one.multiple, *([one.requeue] if one.name == "Basic.Nack" else []))
            for one in self.peer.written()
        ]

    def test_delivery(self) -> None:
        """A delivery tells where it comes from."""
        self.peer.send(commands.Basic.Deliver("ctag", 1, True, "exchange", "klíč"))
        self.peer.content(b"\xff", message_id="m")
        (delivery,) = self.got
        self.assertEqual((delivery.exchange, delivery.key, delivery.queue), ("exchange", "klíč", "queue"))
        self.assertEqual((delivery.message.body, delivery.message.message_id), (b"\xff", "m"))
        self.assertTrue(delivery.redelivered)
        self.assertTrue(delivery.current)

    def test_acks_of_a_turn_are_joined(self) -> None:
        """Acks given in one turn, in any order, leave as one acknowledgement in one write."""
        self.deliver(*range(1, 101))
        before = self.peer.transport.writes
        for delivery in reversed(self.got):
            delivery.ack()
        self.assertEqual(self.settled(), [("Basic.Ack", 100, True)])
        self.assertEqual(self.peer.transport.writes - before, 1)

    def test_settled_once(self) -> None:
        """A second ack or requeue of a delivery does nothing: the broker would close the channel."""
        self.deliver(1, 2)
        self.got[0].ack()
        self.got[0].ack()
        self.got[0].requeue()
        self.got[1].requeue()
        self.got[1].ack()
        self.assertEqual(sorted(self.settled()), [("Basic.Ack", 1, True), ("Basic.Nack", 2, False, True)])

    def test_error_in_the_callback(self) -> None:
        """A callback that fails has its delivery made dead with the error, unless it had settled it already."""

        def fail(delivery: Delivery) -> None:
            if delivery.message.body == b"2":
                delivery.ack()
            raise ZeroDivisionError("by nothing")

        self.subscribe(fail)
        self.deliver(1, 2, 3)
        self.assertEqual(
            [(delivery.message.body, reason) for delivery, reason in self.buried],
            [(b"1", "ZeroDivisionError: by nothing"), (b"3", "ZeroDivisionError: by nothing")],
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    def test_malformed_header(self) -> None:
        """A message whose properties cannot be read is made dead; the next one comes, the connection stays."""
        deliver = DELIVER + b"\x00" + (1).to_bytes(8, "big") + b"\x00\x00\x00"
        header = b"\x00\x3c\x00\x00" + (0).to_bytes(8, "big") + b"\x20\x00" + b"\x00\x00\x00\xff"
        self.peer.protocol.dataReceived(method_frame(1, deliver) + b"\x02" + method_frame(1, header)[1:])
        self.deliver(2)
        ((delivery, reason),) = self.buried
        self.assertIn("Malformed", reason)
        self.assertEqual(delivery.message.body, b"")
        self.assertEqual([each.message.body for each in self.got], [b"2"])

    def test_key_that_is_no_text(self) -> None:
        """A key that is not UTF-8 is still one that a message can be published under."""
        deliver = DELIVER + b"\x00" + (1).to_bytes(8, "big") + b"\x00\x00" + b"\xff" + b"\xf9" * 255
        header = b"\x00\x3c\x00\x00" + (0).to_bytes(8, "big") + b"\x00\x00"
        self.peer.protocol.dataReceived(method_frame(1, deliver) + b"\x02" + method_frame(1, header)[1:])
        (delivery,) = self.got
        self.assertEqual(delivery.key, "?" * 255)

    def test_stop(self) -> None:
        """After ``stop`` deliveries go straight back, those in hand can be acked, the channel ends with the last."""
        self.deliver(1, 2)
        self.got[0].ack()
        stopped = self.subscription.stop("ctag")
        self.deliver(3)
        self.assertEqual([one.name for one in self.peer.written()], ["Basic.Ack", "Basic.Cancel", "Basic.Nack"])
        self.peer.send(commands.Basic.CancelOk("ctag"))
        self.successResultOf(stopped)
        self.assertEqual(len(self.got), 2)
        self.assertTrue(self.got[1].current)
        self.got[1].ack()
        self.assertEqual([one.name for one in self.peer.written()], ["Basic.Ack", "Channel.Close"])
        self.assertFalse(self.got[1].current)
        self.peer.send(commands.Channel.CloseOk())

    def test_stop_with_nothing_in_hand(self) -> None:
        """A consumer that holds nothing gives up its channel at once."""
        stopped = self.subscription.stop("ctag")
        self.peer.send(commands.Basic.CancelOk("ctag"))
        self.successResultOf(stopped)
        self.assertEqual([one.name for one in self.peer.written()], ["Basic.Cancel", "Channel.Close"])

    def test_end(self) -> None:
        """``end`` writes the acks given so far; later ones do not count."""
        self.deliver(1, 2)
        self.got[0].ack()
        self.subscription.end()
        self.got[1].ack()
        self.got[1].requeue()
        self.assertEqual(self.settled(), [("Basic.Ack", 1, True)])
        self.assertFalse(self.got[1].current)

    def test_acked_by_the_broker(self) -> None:
        """On a reply queue there is nothing to settle, and an error is only logged."""

        def fail(delivery: Delivery) -> None:
            delivery.ack()
            delivery.requeue()
            raise ZeroDivisionError

        self.subscribe(fail, acked_by_broker=True)
        self.deliver(1, 2)
        self.assertEqual((self.settled(), self.buried), ([], []))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

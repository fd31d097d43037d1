"""Confirms and returns, without a socket."""

from __future__ import annotations

from pamqp import commands
from pamqp.header import ContentHeader
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.publisher import ADDRESSES, Publisher
from msgd.errors import BrokerRefused, BrokerUnavailable, InvalidInput, Unroutable
from msgd.messages.envelope import Message
from tests.broker.amqp.peer import Peer


class PublisherTest(SynchronousTestCase):
    """:class:`Publisher`."""

    def setUp(self) -> None:
        self.peer = Peer()
        self.peer.log_in(frame_max=4096)
        self.publisher = Publisher()
        self.stand()

    def stand(self) -> None:
        standing = Deferred.fromCoroutine(self.publisher.stand(self.peer.protocol, "user"))
        self.peer.written()
        self.peer.send(commands.Channel.OpenOk())
        self.peer.written()
        self.peer.send(commands.Confirm.SelectOk())
        self.successResultOf(standing)
        self.peer.written()

    def publish(
        self, body: bytes = b"x", *, key: str = "key", mandatory: bool = False, id_: str = ""
    ) -> Deferred[None]:
        return self.publisher.publish("exchange", key, Message(body=body, message_id=id_), mandatory)

    def come_back(self, body: bytes = b"x", *, key: str = "key", id_: str = "") -> None:
        """The broker returns a message."""
        self.peer.send(commands.Basic.Return(312, "NO_ROUTE", "exchange", key))
        self.peer.content(body, message_id=id_)

    def test_one_write(self) -> None:
        """Messages published in one turn leave in one write, in order."""
        before = self.peer.transport.writes
        for number in range(50):
            self.publish(b"%d" % number)
        written = self.peer.written()
        self.assertEqual(self.peer.transport.writes - before, 1)
        self.assertEqual([one.value for one in written[2::3]], [b"%d" % number for number in range(50)])
        self.assertEqual({one.name for one in written[::3]}, {"Basic.Publish"})

    def test_confirms(self) -> None:
        """Single and multiple acks and nacks fire what they name, and nothing else."""
        first, second, third, fourth, fifth = (self.publish() for _ in range(5))
        self.peer.send(commands.Basic.Ack(2, False))
        self.successResultOf(second)
        self.assertNoResult(first)
        self.peer.send(commands.Basic.Nack(3, False))
        self.failureResultOf(third, BrokerRefused)
        self.peer.send(commands.Basic.Ack(4, True))
        self.successResultOf(first)
        self.successResultOf(fourth)
        self.assertNoResult(fifth)
        self.peer.send(commands.Basic.Nack(5, True))
        self.failureResultOf(fifth, BrokerRefused)

    def test_returns(self) -> None:
        """A returned message fails with Unroutable at its confirm; those around it do not."""
        routed = self.publish(key="a", mandatory=True)
        lost = self.publish(key="b", mandatory=True)
        also_routed = self.publish(key="c", mandatory=True)
        self.come_back(key="b")
        self.assertNoResult(lost)
        self.peer.send(commands.Basic.Ack(3, True))
        self.successResultOf(routed)
        self.assertIn("NO_ROUTE", self.failureResultOf(lost, Unroutable).getErrorMessage())
        self.successResultOf(also_routed)

    def test_returns_of_likes(self) -> None:
        """Of messages alike as many fail as came back; ids and bodies tell others apart."""
        likes = [self.publish(mandatory=True) for _ in range(3)]
        other_id = self.publish(mandatory=True, id_="m")
        other_body = self.publish(b"y", mandatory=True)
        not_mandatory = self.publish()
        self.come_back()
        self.come_back()
        self.come_back(id_="m")
        self.peer.send(commands.Basic.Ack(6, True))
        failed = [each for each in likes if isinstance(each.result, object) and each.result is not None]
        self.assertEqual(len(failed), 2)
        for each in (*failed, other_id):
            self.failureResultOf(each, Unroutable)
        self.successResultOf(other_body)
        self.successResultOf(not_mandatory)

    def test_connection_lost(self) -> None:
        """What is unconfirmed when the connection is lost fails with BrokerUnavailable, and so does what follows."""
        pending = [self.publish(), self.publish(mandatory=True)]
        self.peer.lose()
        for each in pending:
            self.failureResultOf(each, BrokerUnavailable)
        self.failureResultOf(self.publish(), BrokerUnavailable)

    def test_next_connection(self) -> None:
        """On a new connection numbers begin again."""
        old = self.publish()
        self.peer.lose()
        self.failureResultOf(old, BrokerUnavailable)
        self.peer = Peer()
        self.peer.log_in()
        self.stand()
        new = self.publish()
        self.peer.send(commands.Basic.Ack(1, False))
        self.successResultOf(new)

    def test_channel_closed(self) -> None:
        """A channel closed by the broker (an exchange is gone) fails what is unconfirmed and costs the connection."""
        pending = self.publish()
        self.peer.send(commands.Channel.Close(404, "NOT_FOUND - no exchange", 60, 40))
        self.assertIn("no exchange", self.failureResultOf(pending, BrokerUnavailable).getErrorMessage())
        self.assertTrue(self.peer.protocol.closed)

    def test_large_body_in_frames(self) -> None:
        """A body goes out in frames of the agreed size."""
        self.publish(bytes(10_000))
        _method, header, *bodies = self.peer.written()
        assert isinstance(header, ContentHeader)
        self.assertEqual(header.body_size, 10_000)
        self.assertEqual([len(each.value) for each in bodies], [4088, 4088, 1824])

    def test_refused_before_it_is_written(self) -> None:
        """What would cost the channel is refused by itself: long names, large headers, another's user id."""
        for exchange, key, message in (
            ("exchange", "k" * 256, Message(body=b"")),
            ("e" * 256, "key", Message(body=b"")),
            ("exchange", "key", Message(body=b"", headers={"large": "x" * 4096})),
            ("exchange", "key", Message(body=b"", headers={"huge": 1 << 64})),
            ("exchange", "key", Message(body=b"", user_id="somebody")),
        ):
            self.failureResultOf(self.publisher.publish(exchange, key, message, False), InvalidInput)
        self.assertEqual(self.peer.written(), [])
        confirmed = self.publisher.publish("exchange", "key", Message(body=b"", user_id="user"), False)
        self.peer.send(commands.Basic.Ack(1, False))
        self.successResultOf(confirmed)

    def test_cancelled(self) -> None:
        """Whoever stops waiting for a confirm does not disturb the others."""
        first, second = self.publish(), self.publish()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.peer.send(commands.Basic.Ack(2, True))
        self.successResultOf(second)

    def test_many_keys(self) -> None:
        """Any number of keys can be used."""
        for number in range(ADDRESSES + 10):
            self.publish(key=f"key{number}")
        keys = [one.routing_key for one in self.peer.written()[::3]]
        self.assertEqual(keys, [f"key{number}" for number in range(ADDRESSES + 10)])

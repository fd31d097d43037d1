"""Connecting: delays, TLS, and a peer that takes the connection and says nothing."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.broker import topology
from msgd.broker.amqp import AmqpBroker
from msgd.broker.amqp.connection import RETRY_FIRST_S, RETRY_MAX_S, endpoint, retry_delay
from msgd.broker.amqp.url import parse_url
from msgd.errors import BrokerUnavailable, ConfigError
from msgd.messages.envelope import Message
from tests.contract.broker_base import Inbox, ack
from tests.servers import rabbitmq
from tests.servers.certificates import Authority


class RetryDelayTest(SynchronousTestCase):
    """:func:`retry_delay`."""

    def test_doubles_to_a_limit(self) -> None:
        """Delays double from try to try, up to a limit, however many there were."""
        delays = [retry_delay(attempt, lambda: 1.0) for attempt in range(1, 9)]
        self.assertEqual(delays[:3], [RETRY_FIRST_S, RETRY_FIRST_S * 2, RETRY_FIRST_S * 4])
        self.assertEqual(delays[-1], RETRY_MAX_S)
        self.assertEqual(retry_delay(100_000, lambda: 1.0), RETRY_MAX_S)

    def test_jitter(self) -> None:
        """Chance decides the upper half of a delay, so that a herd does not come back at once."""
        self.assertEqual(retry_delay(1, lambda: 0.0), RETRY_FIRST_S / 2)
        self.assertEqual(retry_delay(1, lambda: 0.5), RETRY_FIRST_S * 0.75)


class Case(TestCase):
    """A broker and what it logs."""

    timeout = 300

    def setUp(self) -> None:
        self.troubles: list[str] = []

        def observer(event: LogEvent) -> None:
            if "trouble" in event:
                self.troubles.append(event["trouble"])

        publisher: Any = globalLogPublisher
        publisher.addObserver(observer)
        self.addCleanup(publisher.removeObserver, observer)

    def make(self, url: str) -> AmqpBroker:
        broker = AmqpBroker(reactor, [url], name="tests", jitter=lambda: 0.0)
        self.addCleanup(lambda: Deferred.fromCoroutine(broker.stop()))
        return broker

    async def trouble(self, url: str) -> str:
        """Why a connection to ``url`` fails."""
        broker = self.make(url)
        starting = Deferred.fromCoroutine(broker.start())
        while not self.troubles:
            await deferLater(reactor, 0.01)
        await broker.stop()
        with self.assertRaises(BrokerUnavailable):
            await starting
        return self.troubles[0]


class TlsTest(Case):
    """``amqps://``, verified."""

    def setUp(self) -> None:
        super().setUp()
        self.node = rabbitmq.node()
        self.vhost = rabbitmq.fresh_vhost(self)
        self.url = self.node.url(self.vhost, tls=True)

    async def test_works(self) -> None:
        """Over TLS messages of every size come and go, and an ordered consumer gives back in order."""
        broker = self.make(self.url)
        await broker.start()
        self.assertIn("amqps://", broker.description)
        held, again = Inbox(), Inbox(ack)
        consumer = await broker.consume(topology.TALK_QUEUE, held, prefetch=20, ordered=True)
        bodies = [bytes([n]) * n * 10_000 for n in range(30)]
        for body in bodies:
            await broker.publish(topology.EVENTS, "room.a", Message(body=body))
        deliveries = await held.take(20)
        for delivery in deliveries[:5]:
            delivery.ack()
        await consumer.stop()
        await broker.consume(topology.TALK_QUEUE, again, prefetch=20, ordered=True)
        self.assertEqual([each.message.body for each in await again.take(25)], bodies[5:])

    async def test_unknown_authority(self) -> None:
        """A certificate of an authority that is not trusted is refused, with or without a CA file."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup((folder / "other.pem").unlink)
        Authority("another").write_certificate(folder / "other.pem")
        other = self.url.replace(str(self.node.ca_file), str(folder / "other.pem"))
        self.assertIn("TLS: certificate verify failed", await self.trouble(other))
        self.troubles.clear()
        self.assertIn("certificate verify failed", await self.trouble(self.url.partition("?")[0]))

    async def test_wrong_name(self) -> None:
        """A certificate for another name is refused."""
        wrong = self.url + "&server_name_indication=elsewhere.example"
        self.assertIn("VerificationError", await self.trouble(wrong))

    async def test_plain_port(self) -> None:
        """TLS to a port that speaks plain AMQP fails, and is tried again."""
        await self.trouble(self.url.replace(str(self.node.tls_port), str(self.node.port)))

    def test_unusable_files(self) -> None:
        """A CA file that cannot be read or holds no certificate is a ConfigError that names it."""
        empty = Path(self.mktemp())
        empty.write_text("nothing")
        for path in (Path("/no/such/file.pem"), empty):
            error = self.assertRaises(ConfigError, endpoint, reactor, parse_url(f"amqps://localhost?cacertfile={path}"))
            self.assertIn(str(path), error.message)


class SilentPeerTest(Case):
    """A port that takes connections and says nothing."""

    async def test_given_up(self) -> None:
        """It is given up after the time that a connection may take, and the log says that it did not answer."""
        real: Any = reactor
        port = real.listenTCP(0, Factory.forProtocol(Protocol), interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        url = f"amqp://127.0.0.1:{port.getHost().port}?connection_timeout=100"
        self.assertIn("does not answer", await self.trouble(url))

    async def test_nobody(self) -> None:
        """A port where nobody listens: the log names the host and says that the connection was refused."""
        trouble = await self.trouble("amqp://user:secret@127.0.0.1:1")
        self.assertIn("user@127.0.0.1:1", trouble)
        self.assertIn("refused", trouble)
        self.assertNotIn("secret", trouble)

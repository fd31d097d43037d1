"""Broker URLs."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from msgd.broker.amqp.protocol import HEARTBEAT_S
from msgd.broker.amqp.url import Address, parse_url
from msgd.errors import ConfigError


class ParseUrlTest(SynchronousTestCase):
    """:func:`parse_url`."""

    def test_defaults(self) -> None:
        """A host is enough: RabbitMQ's ports, user and vhost."""
        self.assertEqual(parse_url("amqp://broker"), Address(host="broker", port=5672))
        self.assertEqual(parse_url("amqps://broker/"), Address(host="broker", port=5671, tls=True))

    def test_full(self) -> None:
        """Every part is read, percent-encoding undone."""
        url = (
            "amqps://us%40er:p%2Fw%3A@[::1]:123/v%2Fh?cacertfile=/a.pem&certfile=/b.pem&keyfile=/c.pem"
            "&server_name_indication=mq.example&heartbeat=5&connection_timeout=2500"
        )
        self.assertEqual(
            parse_url(url),
            Address(
                host="::1",
                port=123,
                user="us@er",
                password="p/w:",
                vhost="v/h",
                tls=True,
                ca_file="/a.pem",
                certificate_file="/b.pem",
                key_file="/c.pem",
                server_name="mq.example",
                heartbeat=5,
                connect_timeout=2.5,
            ),
        )
        self.assertEqual(parse_url("amqp://h").heartbeat, HEARTBEAT_S)

    def test_text_hides_the_password(self) -> None:
        """Neither str nor repr shows the password."""
        address = parse_url("amqps://user:secret@[::1]:99/shop")
        self.assertEqual(str(address), "amqps://user@[::1]:99/shop")
        self.assertNotIn("secret", repr(address) + f"{address!s}{[address]}")

    def test_refused(self) -> None:
        """A URL that cannot be used is refused with what is wrong, and never with its password."""
        for url, words in (
            ("http://u:secret@h", "amqp://"),
            ("amqp://u:secret@", "host"),
            ("amqp:///vhost", "host"),
            ("amqp://u:secret@h:port", "Port"),
            ("amqp://u:secret@h:99999", "Port"),
            ("amqp://u:secret@h/a/b", "%2F"),
            ("amqp://u:secret@h?colour=red", "colour"),
            ("amqp://u:secret@h?cacertfile=/x", "amqps"),
            ("amqps://u:secret@h?certfile=/x", "keyfile"),
            ("amqps://u:secret@h?verify=verify_none", "verify"),
            ("amqp://u:secret@h?heartbeat=soon", "heartbeat"),
            ("amqp://u:secret@h?heartbeat=99999999999", "heartbeat"),
        ):
            error = self.assertRaises(ConfigError, parse_url, url)
            self.assertIn(words.lower(), error.message.lower())
            self.assertNotIn("secret", error.message)

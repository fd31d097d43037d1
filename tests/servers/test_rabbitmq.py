"""The node that the tests run on."""

from __future__ import annotations

import os
import socket
from unittest import mock

from twisted.trial.unittest import SynchronousTestCase

from tests.servers import rabbitmq


class NodeTest(SynchronousTestCase):
    """:class:`rabbitmq.Node`."""

    def test_options_and_end(self) -> None:
        """The consumer timeout is set as asked; closing ends the node and its epmd and removes the folder."""
        node = rabbitmq.Node(consumer_timeout_ms=61_000)
        self.addCleanup(node.close)
        node.start()
        self.assertEqual(node.order("application:get_env(rabbit, consumer_timeout)"), "{ok,61000}")
        self.assertRaises(rabbitmq.RabbitFailed, node.order, "erlang:error(no_such_thing)")
        node.close()
        self.assertFalse(node.folder.exists())
        for port in (node.port, node._epmd_port):
            with socket.socket() as probe:
                self.assertNotEqual(probe.connect_ex(("127.0.0.1", port)), 0)

    def test_missing(self) -> None:
        """Without RabbitMQ the error says how to install it."""
        with mock.patch.object(os, "access", lambda *_: False):
            error = self.assertRaises(rabbitmq.RabbitMissing, rabbitmq.Node)
        self.assertIn("apt-get install rabbitmq-server", str(error))

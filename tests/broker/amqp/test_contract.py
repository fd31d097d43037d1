"""The broker contract on RabbitMQ."""

from __future__ import annotations

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from msgd.broker.amqp import AmqpBroker
from tests.contract.broker import BrokerContract
from tests.servers import rabbitmq


def no_jitter() -> float:
    return 0.0


class AmqpContractTest(BrokerContract, TestCase):
    """Each test in a vhost of its own, on the shared node."""

    def setUp(self) -> None:
        self.vhost = rabbitmq.fresh_vhost(self)

    def make_broker(self) -> AmqpBroker:
        return AmqpBroker(reactor, [rabbitmq.node().url(self.vhost)], name="tests", jitter=no_jitter)

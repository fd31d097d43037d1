"""The broker's contract, on the embedded broker."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker
from tests.contract.broker import BrokerContract


class EmbeddedBrokerTests(BrokerContract, TestCase):
    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "broker.sqlite3"

    def make_broker(self) -> Broker:
        return EmbeddedBroker(self.path, reactor=reactor)

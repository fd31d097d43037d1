"""The worker runtime on the embedded broker and SQLite."""

from __future__ import annotations

from pathlib import Path

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker
from tests.contract.worker import WorkerContract


class EmbeddedWorkerTests(WorkerContract, TestCase):
    timeout = 180

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def database_url(self) -> str:
        return f"sqlite:///{self.folder}/msgd.sqlite3"

    def make_broker(self) -> Broker:
        return EmbeddedBroker(self.folder / "broker.sqlite3", reactor=reactor)

"""Settings to implementations: the one place that picks them."""

from __future__ import annotations

import os
import random
import secrets
import socket
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from msgd.broker.amqp import AmqpBroker
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker
from msgd.config import Settings
from msgd.database import Database
from msgd.jobs.interface import Jobs, OutboxStore
from msgd.jobs.outbox import Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.journal.interface import Journal
from msgd.journal.sql import SQLJournal

BROKER_FILE: Final = "broker.sqlite3"


class Adapters:
    """What a daemon talks to, each made when it is first asked for, and not started here.

    A subclass may put something around an implementation by overriding its property: whoever needs it gets it here.
    """

    def __init__(self, settings: Settings, reactor: Any, daemon: str) -> None:
        self.settings = settings
        self.reactor = reactor
        self.daemon = daemon
        self.process = f"{daemon}@{socket.gethostname()}:{os.getpid()}-{secrets.token_hex(3)}"
        """Names this process in claims and leases, unlike any other."""

    def now_ms(self) -> int:
        """Milliseconds since 1970."""
        return int(self.reactor.seconds() * 1000)

    @cached_property
    def database(self) -> Database:
        url = self.settings.database.url
        if url.startswith("sqlite:///"):
            Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
        return Database(url, reactor=self.reactor)

    @cached_property
    def broker(self) -> Broker:
        if self.settings.broker.embedded:
            return EmbeddedBroker(Path(self.settings.state.dir) / BROKER_FILE, reactor=self.reactor)
        return AmqpBroker(self.reactor, self.settings.broker.url, name=self.process, jitter=random.random)

    @cached_property
    def outbox_store(self) -> OutboxStore:
        return SqlOutbox(self.database, clock=self.reactor)

    @cached_property
    def outbox(self) -> Publisher:
        return Publisher(self.outbox_store, self.broker, clock=self.reactor)

    @cached_property
    def jobs(self) -> Jobs:
        return SqlJobs(self.database, clock=self.reactor, post=self.outbox.post)

    @cached_property
    def journal(self) -> Journal:
        return SQLJournal(self.database, now_ms=self.now_ms)

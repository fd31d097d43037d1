"""Settings to implementations: the one place that picks them."""

from __future__ import annotations

import os
import random
import secrets
import socket
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from msgd.blobs.interface import Blobs, Uploads
from msgd.blobs.local import LocalBlobs
from msgd.blobs.s3 import S3Blobs
from msgd.blobs.sql import SqlUploads
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
from msgd.services.mailer.store import forget

BROKER_FILE: Final = "broker.sqlite3"
SPOOL: Final = "spool"
"""The folder, in the state folder, of what is on its way to S3 or from there."""


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
        return SqlJobs(self.database, clock=self.reactor, post=self.outbox.post, forget=[forget])

    @cached_property
    def journal(self) -> Journal:
        return SQLJournal(self.database, now_ms=self.now_ms)

    @cached_property
    def blobs(self) -> Blobs:
        url = self.settings.blobs.url
        if url.startswith("s3:"):
            return S3Blobs(url, Path(self.settings.state.dir) / SPOOL, reactor=self.reactor)
        return LocalBlobs(Path(url.removeprefix("file://")), reactor=self.reactor)

    @cached_property
    def uploads(self) -> Uploads:
        return SqlUploads(self.database, now_ms=self.now_ms)

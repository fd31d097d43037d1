"""Mail jobs through the worker runtime, on the embedded broker and SQLite, into a real SMTP server."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint
from twisted.trial.unittest import TestCase

from msgd.blobs.interface import Upload
from msgd.blobs.local import LocalBlobs
from msgd.blobs.sql import SqlUploads
from msgd.broker.embedded import EmbeddedBroker
from msgd.jobs.interface import Job, State
from msgd.messages import json
from msgd.messages.events import Event
from msgd.services.mailer.ledger import Shown
from msgd.services.mailer.making_out import Identity
from msgd.services.mailer.pool import Server, SmtpWay
from msgd.services.mailer.press import PATIENCE_S, Press
from msgd.services.mailer.store import find_mailing, recipients
from msgd.services.mailer.worker import Mailer
from tests.contract.uploads import recorded
from tests.servers.smtp import SmtpServer
from tests.work.world import World

reactor: Any = global_reactor

SENDER = "The News <news@sender.example>"


class MailCase(TestCase):
    """A world with a mailer and an SMTP server in it."""

    timeout = 300

    async def open(
        self,
        *server_options: str,
        server: Server | None = None,
        tls: Any = None,
        slice_s: float = 1000.0,
        connections: int = 4,
        identity: Identity = Identity(sender=SENDER),  # noqa: B008  # immutable
        way: Any = None,
        attempts: int = 20,
        **options: Any,
    ) -> None:
        """``options``: of the mailer."""
        self.folder = self._folder()
        self.world = World(
            f"sqlite:///{self.folder}/msgd.sqlite3",
            lambda: EmbeddedBroker(self.folder / "broker.sqlite3", reactor=reactor),
        )
        await self.world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.close()))
        self.blobs = LocalBlobs(self.folder / "blobs", reactor=reactor)
        self.uploads = SqlUploads(self.world.database, now_ms=self.now_ms)
        await self.blobs.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.blobs.stop()))
        if way is None:
            self.server = SmtpServer(self.folder / "smtp", *server_options)
            self.addCleanup(self.server.stop)
            self.port = self.server.port
            target = server or Server("127.0.0.1", self.port, False, "off")
            way = SmtpWay(
                target,
                reactor,
                endpoint=lambda: HostnameEndpoint(reactor, "127.0.0.1", self.port),
                tls=tls,
                connections=connections,
                identity="client.test",
            )
        self.mailer = self.make_mailer(way, identity, **options)
        await self.world.runner(self.mailer, slice_s=slice_s, attempts=attempts, concurrency=4)

    def _folder(self) -> Path:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    def make_mailer(self, way: Any, identity: Identity, **options: Any) -> Mailer:
        return Mailer(
            jobs=self.world.jobs,
            database=self.world.database,
            uploads=self.uploads,
            blobs=self.blobs,
            way=way,
            press=Press(reactor, patience_s=options.pop("patience_s", PATIENCE_S)),
            identity=identity,
            reactor=reactor,
            clock=reactor,
            now_ms=self.now_ms,
            jitter=lambda: 0.5,
            **options,
        )

    def closed_port(self) -> int:
        """A port that refuses connections: it is taken, and nobody listens there."""
        taken = socket.socket()
        self.addCleanup(taken.close)
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port

    def now_ms(self) -> int:
        return int(self.world.clock.seconds() * 1000)

    async def upload(self, content: bytes, *, name: str = "list.csv", owner: str = "ann") -> str:
        """The id of an upload with this content."""
        draft = await self.blobs.draft()
        await draft.write(content)
        blob = await draft.finish()
        await self.uploads.hold(blob.name)
        await draft.publish()
        id_ = f"up{blob.name[:10]}"
        made = Upload(
            id=id_, owner=owner, name=name, media_type="text/csv", size=blob.size, blob=blob.name, created_ms=1
        )
        await recorded(self.uploads, made)
        return id_

    async def submit(self, to: Any, **params: Any) -> str:
        """A mail to these: addresses, or what else ``to`` may be."""
        if isinstance(to, list):
            to = [{"email": one} if isinstance(one, str) else one for one in to]
        given = {"to": to, "subject": "Hello", "text": "Hello {{ name }}", **params}
        return await self.world.submit("mail", given, owner="ann")

    async def mail(self, to: Any, *, state: State = State.DONE, **params: Any) -> Job:
        """A mail job that has ended."""
        return await self.world.ended(await self.submit(to, **params), state)

    async def late(self, id_: str, state: State = State.DONE) -> Job:
        """A mail job that ends when what it deferred has become due: time passes until then."""

        async def ended() -> bool:
            return (await self.world.jobs.get(id_)).ended

        await self.world.until(ended, passing_s=1.0)
        return await self.world.ended(id_, state)

    async def ledger(self, job: str) -> dict[str, Shown]:
        """The ledger of a job by address."""
        mailing = await self.world.database.read(partial(find_mailing, job=job))
        if mailing is None:
            return {}
        read = partial(recipients, mailing=mailing.id, states=(), after=0, limit=100_000)
        return {row.email: row for row in await self.world.database.read(read)}

    async def states(self, job: str) -> dict[str, str]:
        return {email: row.state for email, row in (await self.ledger(job)).items()}

    def events(self, job: str) -> list[tuple[str, dict[str, Any]]]:
        """What was told of recipients, as the journal would keep it: each id once."""
        kept: dict[str, Event] = {}
        for event in self.world.of(job):
            if event.type in ("sent", "deferred", "bounced", "suppressed", "unknown"):
                kept.setdefault(event.id, event)
        return [(event.type, msgspec.json.decode(event.data)) for event in kept.values()]

    def result(self, job: Job) -> dict[str, Any]:
        assert job.result is not None
        found: dict[str, Any] = json.decode(job.result, dict[str, Any])
        return found

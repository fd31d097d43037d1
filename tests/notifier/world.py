"""A notifier on real parts: embedded broker, SQLite, a loopback port; and a scribe that records what it is given."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred, DeferredLock
from twisted.internet.task import Clock
from twisted.trial.unittest import TestCase
from twisted.web.client import Agent, HTTPConnectionPool
from twisted.web.iweb import IResponse

from msgd.broker import topology
from msgd.broker.embedded import EmbeddedBroker
from msgd.broker.interface import Broker, Consumer, Delivery
from msgd.config.settings import Auth, Limits
from msgd.config.settings import Notifier as Settings
from msgd.database import Database
from msgd.jobs.interface import Submission
from msgd.jobs.outbox import Publisher
from msgd.jobs.outbox_sql import SqlOutbox
from msgd.jobs.sql import SqlJobs
from msgd.journal.interface import Lease
from msgd.journal.sql import SQLJournal
from msgd.messages import json
from msgd.messages.envelope import Message
from msgd.messages.events import Event, Recorded
from msgd.messages.ids import new_id
from msgd.messages.live import Head, encode_batch, encode_head, group
from msgd.messages.wire import message_to_event
from msgd.notifier.auth.keys import Keys
from msgd.notifier.auth.keys_file import SecretKeys
from msgd.notifier.auth.signing import make_token
from msgd.notifier.interface import Mount, Suspend
from msgd.notifier.service import Notifier
from msgd.work.interface import JobType

reactor: Any = _reactor
SECRET: Final = b"a secret of the tests, long enough to be one"


class PaintParams(msgspec.Struct):
    """Parameters of a job type that exists for these tests."""

    colour: str
    coats: int = 1


PAINT: Final = JobType("paint", PaintParams, summary="Paints something")
TTL_S: Final = 4.0
"""Of a token whose end a test waits for. It is told in whole seconds: over three are left to come in with it."""

PAINTING: Final[dict[str, Any]] = {"type": "paint", "params": {"colour": "red"}}
"""A request for a job of that type."""


def token(sub: str = "ann", *can: str, ttl_s: float = 600, ahead_s: float = 0) -> str:
    """A token that the world's notifier trusts; ``ahead_s``: as if it were issued by a clock that is ahead."""
    return make_token(SECRET, sub=sub, can=can or ("admin:#",), ttl_s=ttl_s, now_s=reactor.seconds() + ahead_s)


class Scribe:
    """Stands where the recorder stands: stores events and tells the notifiers, or leaves out what a test wants lost."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._lease: Lease | None = None
        self._consumers: list[Consumer] = []
        self._order = DeferredLock()
        self.lose: Callable[[str, str], bool] = lambda exchange, key: False

    async def listen(self) -> None:
        """Record what is published to ``msgd.events``."""
        for queue in (topology.JOB_EVENTS_QUEUE, topology.TALK_QUEUE):
            self._consumers.append(await self._world.broker.consume(queue, self._arrived, prefetch=100))

    def _arrived(self, delivery: Delivery) -> None:
        event = message_to_event(delivery.key, delivery.message, now_ms=self._world.now_ms(), new_id=new_id(0))
        Deferred.fromCoroutine(self.record([event])).addCallback(lambda _: delivery.ack())

    async def finish(self) -> None:
        """Listen no more; returns when what was begun is recorded and told."""
        while self._consumers:
            await self._consumers.pop().stop()
        await self.settled()

    async def settled(self) -> None:
        """Returns when what has begun is recorded and told."""
        await self._order.run(lambda: None)

    async def record(self, events: Sequence[Event]) -> Sequence[Recorded]:
        """Store a batch and publish it live; batches one after the other."""
        recorded: Sequence[Recorded] = await self._order.run(lambda: Deferred.fromCoroutine(self._record(events)))
        return recorded

    async def _record(self, events: Sequence[Event]) -> Sequence[Recorded]:
        if self._lease is None:
            self._lease = await self._world.journal.acquire("scribe", ttl_ms=3_600_000)
        assert self._lease is not None
        jobs = self._world.jobs

        def within(transaction: Any, given: Sequence[Event], recorded: Sequence[Recorded]) -> None:
            jobs.record(transaction, recorded)

        appended = await self._world.journal.append(self._lease, events, within=within)
        await self.tell(appended.epoch, appended.recorded)
        return appended.recorded

    async def tell(self, epoch: str, recorded: Sequence[Recorded]) -> None:
        """Publish a stored batch live."""
        if not recorded:
            return
        buckets = group(recorded)
        for number, some in buckets.items():
            await self._live(str(number), encode_batch(epoch, some))
        counts = {number: len(some) for number, some in buckets.items()}
        await self.head(epoch, recorded[0].pos, recorded[-1].pos, counts)

    async def head(self, epoch: str, first: int, last: int, counts: dict[int, int] | None = None) -> None:
        """Publish a head; an idle one has ``first = last + 1``."""
        await self._live(topology.HEAD_KEY, encode_head(Head(epoch, first, last, counts or {})))

    async def idle(self) -> None:
        """What an idle recorder says every two seconds."""
        head = await self._world.journal.head()
        await self.head(head.epoch, head.pos + 1, head.pos)

    async def _live(self, key: str, body: bytes) -> None:
        if not self.lose(topology.LIVE, key):
            await self._world.broker.publish(topology.LIVE, key, Message(body=body, persistent=False))


class World:
    """Everything a notifier needs, for real."""

    def __init__(
        self,
        settings: Settings | None = None,
        broker: Broker | None = None,
        *,
        auth: Auth | None = None,
        limits: Limits | None = None,
        keys: Keys | None = None,
        mounts: Sequence[Mount] = (),
        suspend: Sequence[Suspend] = (),
    ) -> None:
        """``broker``: instead of the embedded one; ``keys``: instead of the secret."""
        self.folder = Path(tempfile.mkdtemp(prefix="msgd-notifier-"))
        self.database = Database(f"sqlite:///{self.folder}/msgd.sqlite3", reactor=reactor)
        self.broker: Broker = broker or EmbeddedBroker(self.folder / "broker.sqlite3", reactor=reactor)
        self.journal = SQLJournal(self.database, now_ms=self.now_ms)
        self.outbox = Publisher(SqlOutbox(self.database, clock=reactor), self.broker, clock=reactor)
        self.jobs = SqlJobs(self.database, clock=reactor, post=self.outbox.post)
        self.scribe = Scribe(self)
        self.notifier = Notifier(
            broker=self.broker,
            jobs=self.jobs,
            journal=self.journal,
            database=self.database,
            types={"paint": PAINT},
            keys=keys or SecretKeys(SECRET),
            settings=settings or Settings(),
            auth=auth or Auth(),
            limits=limits or Limits(),
            reactor=reactor,
            mounts=mounts,
            suspend=suspend,
        )
        self._pool = HTTPConnectionPool(reactor, persistent=False)
        agent: Any = Agent(reactor, pool=self._pool)
        self._http = HTTPClient(agent)
        self._port: Any = None
        self.port = 0

    def now_ms(self) -> int:
        return int(reactor.seconds() * 1000)

    async def start(self, *, broker: bool = True) -> None:
        await self.database.start()
        if broker:
            await self.broker.start()
        await self.notifier.start()
        self._port = reactor.listenTCP(0, self.notifier.site, interface="127.0.0.1")
        self.port = self._port.getHost().port

    async def stop(self) -> None:
        if self._port is not None:
            await self._port.stopListening()
        await self.scribe.finish()
        await self.notifier.stop()
        await self.outbox.stop()
        await self.broker.stop()
        await self.database.stop()
        await self._pool.closeCachedConnections()
        shutil.rmtree(self.folder)

    def stop_time(self) -> None:
        """From now on nothing is refilled that one may ask for so many times a second: who is refused is decided by
        what is asked, not by how fast the machine is."""
        now_s = reactor.seconds()
        self.notifier.allowances._now_s = lambda: now_s
        self.notifier._admission._clock = clock = Clock()
        clock.advance(now_s)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def doors(self) -> list[Any]:
        """What is open to clients, in the notifier's own form."""
        return list(self.notifier.doors)

    def event(self, topic: str, type_: str = "said", data: Any = None, **more: Any) -> Event:
        """An event as somebody would have published it."""
        fields = {"id": new_id(self.now_ms()), "source": "test", "time_ms": self.now_ms(), **more}
        return Event(topic=topic, type=type_, data=json.encode(data), **fields)

    async def job(self, owner: str = "ann") -> str:
        """A queued job."""
        return (await self.jobs.submit(Submission(type="paint", params=b'{"colour":"red"}', owner=owner))).job.id

    async def call(
        self, method: str, path: str, body: Any = None, *, who: str | None = "", headers: dict[str, str] | None = None,
        raw: bytes | None = None,
    ) -> tuple[int, Any, IResponse]:  # fmt: skip
        """An HTTP call: status, decoded body (bytes if it is not JSON), response. ``who``: a token; None: none."""
        given: Any = dict(headers or {})
        if who is not None:
            given.setdefault("Authorization", f"Bearer {who or token()}")
        data = raw
        if body is not None:
            given.setdefault("Content-Type", "application/json")
            data = json.encode(body)
        response = await self._http.request(method, self.url + path, headers=given, data=data)
        content = await treq.content(response)
        kind = response.headers.getRawHeaders("Content-Type", [""])[0]
        if content and "json" in kind and "ndjson" not in kind:
            return response.code, msgspec.json.decode(content), response
        return response.code, content, response


class WorldCase(TestCase):
    """A test with a world of its own."""

    timeout = 300

    async def world(
        self,
        settings: Settings | None = None,
        *,
        broker: bool = True,
        instead: Broker | None = None,
        auth: Auth | None = None,
        limits: Limits | None = None,
        keys: Keys | None = None,
        mounts: Sequence[Mount] = (),
    ) -> World:
        """A world that has begun; ``broker`` False: its broker has not; ``instead``: of the embedded broker; ``keys``:
        instead of the secret; ``mounts``: routes of services."""
        world = World(settings, instead, auth=auth, limits=limits, keys=keys, mounts=mounts)
        self.addCleanup(forget_timers)
        self.addCleanup(lambda: Deferred.fromCoroutine(world.stop()))
        await world.start(broker=broker)
        return world


def forget_timers() -> None:
    """Autobahn's timers come in batches, whose call stays in the reactor when all that waited for it are cancelled."""
    for call in reactor.getDelayedCalls():
        if "_BatchedTimer" in str(call):
            call.cancel()


def header(response: IResponse, name: str) -> str:
    """A response header's first value, or ""."""
    values: list[str] = response.headers.getRawHeaders(name, [""])
    return values[0]


def pause(seconds: float) -> Deferred[None]:
    """Let the reactor, and the other side of a socket, do something; no outcome depends on how long."""
    done: Deferred[None] = Deferred()
    reactor.callLater(seconds, done.callback, None)
    return done

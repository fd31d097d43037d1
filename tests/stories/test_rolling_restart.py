"""A rolling restart of two notifiers loses nothing: clients on all three transports, on RabbitMQ and PostgreSQL, and
events all the while."""

from __future__ import annotations

import signal
from typing import Any, Final

import msgspec
import treq
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from twisted.web.client import (
    Agent,
    HTTPConnectionPool,
    RequestTransmissionFailed,
    ResponseFailed,
    ResponseNeverReceived,
)

from msgd.clock import sleep
from msgd.messages import json
from msgd.work.floor import GRACE_S
from tests.notifier.eventsource import listen
from tests.notifier.socket import Client
from tests.notifier.world import forget_timers, reactor
from tests.stories.deployment import Deployment, distributed, logs_on_failure

TOPIC: Final = "app.story"
PATH: Final = f"/api/topics/{TOPIC}/events"
EACH: Final = 4
"""Clients on each transport."""

AGAIN_S: Final = 0.05
"""After a refused connection, until the other notifier is tried; no outcome depends on it."""

GONE: Final = (ConnectError, ConnectionClosed, ResponseNeverReceived, ResponseFailed, RequestTransmissionFailed)


class Follower:
    """A client that is always connected to one of two notifiers, and goes to the other when that one ends."""

    def __init__(self, ports: list[int], token: str) -> None:
        self.seqs: list[int] = []
        self.gaps: list[Any] = []
        self.drained = 0
        self._cursor = "0"
        self._ports = ports
        self._token = token
        self._over = False
        self._following: Deferred[None] = Deferred()
        self._awaited: tuple[int, Deferred[None]] | None = None

    def begin(self) -> None:
        """Begin to follow."""
        self._following = Deferred.fromCoroutine(self._follow())

    def end(self) -> Deferred[Any]:
        """Follow no more."""
        self._over = True
        self._following.cancel()
        return self._following.addErrback(lambda failure: failure.trap(CancelledError, ConnectingCancelledError))

    async def _follow(self) -> None:
        while not self._over:
            self._ports = [*self._ports[1:], self._ports[0]]
            try:
                await self.stay(self._ports[0])
            except GONE:
                if not self._over:
                    await sleep(reactor, AGAIN_S)

    async def stay(self, port: int) -> None:
        """Be connected there and take what comes, as long as it lasts."""
        raise NotImplementedError

    def take(self, message: dict[str, Any]) -> None:
        """What a notifier says."""
        if message["op"] == "event":
            self.seqs.append(message["seq"])
            self._cursor = message["cursor"]
            if self._awaited is not None and self.seqs[-1] >= self._awaited[0]:
                awaited, self._awaited = self._awaited[1], None
                awaited.callback(None)
        elif message["op"] == "gap":
            self.gaps.append(message)
        elif message["op"] == "drain":
            self.drained += 1

    async def reached(self, seq: int) -> None:
        """Returns when this one has come."""
        if not self.seqs or self.seqs[-1] < seq:
            self._awaited = (seq, Deferred())
            await self._awaited[1]


class BySocket(Follower):
    async def stay(self, port: int) -> None:
        client = Client()
        try:
            await client.connect(_Port(port), who=self._token)
            if not client.open:
                return
            client.say("subscribe", topic=TOPIC, since=self._cursor)
            while not client.ended.called:
                self.take(await client.next(lambda message: True))
        except AssertionError:
            pass  # the connection has ended
        finally:
            if client.protocol is not None:
                client.protocol.transport.abortConnection()


class ByStream(Follower):
    async def stay(self, port: int) -> None:
        source = await listen(port, PATH, who=self._token, headers={"Last-Event-ID": self._cursor})
        taken = 0
        try:
            while True:
                for _, message, _ in source.heard[taken:]:
                    self.take(message)
                taken = len(source.heard)
                if source.ended:
                    return
                await source.more()
        finally:
            source.close()


class ByPoll(Follower):
    async def stay(self, port: int) -> None:
        path = f"{PATH}?since={self._cursor}&wait=20"
        answer = await listen(port, path, who=self._token, headers={"Accept": "application/json"})
        try:
            await answer.end()
        finally:
            answer.close()
        if answer.status == 200:
            page: dict[str, Any] = msgspec.json.decode(answer.body)
            for event in page["events"]:
                self.take({"op": "event", **event})
            for gap in page.get("gaps", ()):
                self.take({"op": "gap", **gap})
            self._cursor = page["cursor"]


class _Port:
    """Where a notifier is, for :class:`~tests.notifier.socket.Client`."""

    def __init__(self, port: int) -> None:
        self.port = port


class RollingRestartTest(TestCase):
    timeout = 600

    async def test_rolling_restart(self) -> None:
        """Two notifiers are restarted in turn with SIGTERM while events are published: each client, on whichever
        transport, sees each event once and in order; each is told to leave before its notifier ends in time."""
        self.addCleanup(forget_timers)
        one, other = await deferToThread(self._deploy)
        pool = HTTPConnectionPool(reactor)
        self.addCleanup(pool.closeCachedConnections)
        agent: Any = Agent(reactor, pool=pool)
        http = HTTPClient(agent)
        token = await deferToThread(one.token)
        with logs_on_failure(one, other):
            ports = [one.port, other.port]
            followers = [
                kind(ports[n % 2 :] + ports[: n % 2], token)
                for kind in (BySocket, ByStream, ByPoll)
                for n in range(EACH)
            ]
            for follower in followers:
                follower.begin()
                self.addCleanup(follower.end)
            publisher = Publisher(ports, token, http)
            publishing = Deferred.fromCoroutine(publisher.run())
            for made in (one, other, one, other):
                await gatherResults([Deferred.fromCoroutine(f.reached(publisher.published + 20)) for f in followers])
                status = await deferToThread(made.stop, "notifier", seconds=GRACE_S)
                self.assertIn(status, (0, -signal.SIGTERM), made.log("notifier")[-3000:])
                await deferToThread(made.start, "notifier")
            publisher.enough = True
            await publishing
            await gatherResults([Deferred.fromCoroutine(f.reached(publisher.published)) for f in followers])
            for follower in followers:
                self.assertEqual(follower.seqs, list(range(1, publisher.published + 1)), follower)
                self.assertEqual(follower.gaps, [])
                self.assertTrue(follower.drained or isinstance(follower, ByPoll), follower)

    def _deploy(self) -> tuple[Deployment, Deployment]:
        """One recorder, two notifiers that trust the same secret."""
        one = distributed(self)
        secret = one.folder / "secret"
        secret.write_text("a secret of two notifiers that is long enough")
        secret.chmod(0o600)
        auth = f'[auth]\nsecret_file = "{secret}"'
        one.config.write_text(one.config.read_text() + "\n" + auth)
        other = Deployment(("notifier",), broker=one.broker, database=one.database, more=auth)
        self.addCleanup(other.close)
        one.start("recorder", "notifier")
        other.start()
        return one, other


class Publisher:
    """Publishes through whichever notifier answers, again under the same id if it is not sure."""

    def __init__(self, ports: list[int], token: str, http: Any) -> None:
        self.published = 0
        self.enough = False
        self._ports = ports
        self._token = token
        self._http = http

    async def run(self) -> None:
        """One event after the other."""
        while not self.enough:
            if await self._publish(f"e{self.published}"):
                self.published += 1
            else:
                self._ports = self._ports[::-1]
                await sleep(reactor, AGAIN_S)

    async def _publish(self, id_: str) -> bool:
        try:
            answer = await self._http.post(
                f"http://127.0.0.1:{self._ports[0]}/api/events",
                data=json.encode({"topic": TOPIC, "type": "told", "id": id_}),
                headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            )
            await treq.content(answer)
        except GONE:
            return False
        return bool(answer.code == 202)

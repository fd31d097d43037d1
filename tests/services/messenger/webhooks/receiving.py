"""A receiver of webhooks on loopback, well-behaved or not, and a world with a worker that sends to it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from msgd.broker.embedded import EmbeddedBroker
from msgd.messages.ids import new_id
from msgd.services.messenger.webhooks import store
from msgd.services.messenger.webhooks.endpoints import Endpoint
from msgd.services.messenger.webhooks.signing import new_secret
from msgd.services.messenger.webhooks.worker import Webhooks
from msgd.work.network import Reach, parse_networks
from tests.work.world import World

reactor: Any = global_reactor

LOOPBACK = Reach(parse_networks(["127.0.0.0/8"]))


class Request(Struct, frozen=True):
    """A request as it came."""

    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


Answer = Callable[[Any], int | None]
"""Writes an answer to a request of twisted.web's; NOT_DONE_YET: it is not finished."""


def status(code: int, **headers: str) -> Answer:
    """An answer of this status, without a body."""

    def answer(request: Any) -> None:
        request.setResponseCode(code)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        request.setHeader("content-length", "0")

    return answer


class Receiver(Resource):
    """Answers each request with the next of ``answers``; the last one repeats."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[Answer] = [status(204)]
        self.requests: list[Request] = []
        self._awaited: list[tuple[int, Deferred[None]]] = []
        self._port: Any = None

    def render(self, request: Any) -> bytes | int:
        headers = {
            name.decode().lower(): values[-1].decode() for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.requests.append(Request(request.path.decode(), headers, request.content.read()))
        for entry in [entry for entry in self._awaited if entry[0] <= len(self.requests)]:
            self._awaited.remove(entry)
            entry[1].callback(None)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return NOT_DONE_YET if answer(request) == NOT_DONE_YET else b""

    async def received(self, count: int = 1) -> None:
        """Returns when so many requests have come."""
        if len(self.requests) < count:
            awaited: Deferred[None] = Deferred()
            self._awaited.append((count, awaited))
            await awaited

    async def start(self) -> None:
        self._port = await TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1").listen(Site(self))

    async def stop(self) -> None:
        await self._port.stopListening()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port.getHost().port}/hook"


class WebhookCase(TestCase):
    """A world with a worker of webhooks in it, and a receiver."""

    timeout = 180

    async def open(self, *, reach: Reach = LOOPBACK, attempts: int = 10, **options: Any) -> None:
        folder = self._folder()
        self.world = World(
            f"sqlite:///{folder}/msgd.sqlite3", lambda: EmbeddedBroker(folder / "broker.sqlite3", reactor=reactor)
        )
        await self.world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.close()))
        worker = Webhooks(reactor, reach, self.world.jobs, attempts=attempts, **{"now_ms": self.now_ms, **options})
        await self.world.runner(worker, attempts=attempts, concurrency=32)
        self.receiver = await self.serve()

    def _folder(self) -> Path:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    async def serve(self) -> Receiver:
        receiver = Receiver()
        await receiver.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(receiver.stop()))
        return receiver

    async def endpoint(self, **fields: Any) -> Endpoint:
        """An endpoint of ann's, at the receiver."""
        given = {"owner": "ann", "url": self.receiver.url, "description": "", "secret": new_secret(), **fields}
        endpoint = Endpoint(id=new_id(self.now_ms()), created_ms=self.now_ms(), **given)
        await self.world.database.write(partial(store.create, endpoint=endpoint))
        return endpoint

    async def stored(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint as it stands now."""
        found = await self.world.database.read(partial(store.find, id_=endpoint.id))
        assert found is not None
        return found

    def now_ms(self) -> int:
        return int(self.world.clock.seconds() * 1000)

    async def tell(self, endpoint: Endpoint, owner: str = "ann", **params: Any) -> str:
        """The id of a new job for an endpoint."""
        given = {"endpoint": endpoint.id, "event": "invoice.created", "data": {"number": 17}, **params}
        return await self.world.submit("webhook", given, owner=owner)

    async def send(self, url: str = "", **params: Any) -> str:
        """The id of a new webhook job."""
        return await self.world.submit(
            "webhook", {"url": url or self.receiver.url, "event": "invoice.created", "data": {"number": 17}, **params}
        )

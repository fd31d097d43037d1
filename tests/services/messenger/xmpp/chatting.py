"""The worker of messages on a real Prosody, with another client beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.broker.embedded import EmbeddedBroker
from msgd.messages.ids import new_id
from msgd.services.messenger.xmpp.account import Account
from msgd.services.messenger.xmpp.login import Login
from msgd.services.messenger.xmpp.people import People
from msgd.services.messenger.xmpp.talk import Talk
from msgd.services.messenger.xmpp.worker import Messages
from msgd.work.cancel import cancel
from tests.servers import prosody, xmpp_peer
from tests.servers.xmpp_peer import Peer
from tests.work.world import World

T = TypeVar("T")

reactor: Any = global_reactor

US = "msgd@localhost"

SOON_S = 1.5
"""For one try, where troubles are to be told soon."""


class ChatCase(TestCase):
    """A world with a worker of messages in it."""

    timeout = 180
    quiet_s = 30.0
    send_s = 30.0  # also on a busy machine the first try is the last

    async def open(self, **login: Any) -> None:
        """``login``: other settings of the account than those of the server's."""
        self.server = prosody.server(self, "msgd", "ann", "eve")
        folder = self._folder()
        self.world = World(
            f"sqlite:///{folder}/msgd.sqlite3", lambda: EmbeddedBroker(folder / "broker.sqlite3", reactor=reactor)
        )
        await self.world.open()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.close()))
        given = {
            "jid": US,
            "password_file": str(self.server.password_file),
            "server": self.server.server,
            "ca_file": str(self.server.ca_file),
            **login,
        }
        self.account = await self.messenger(Login(**given))

    async def messenger(self, login: Login) -> Account:
        """Another messenger process."""
        world = self.world
        account = Account(reactor, login, jitter=lambda: 0.0, quiet_s=self.quiet_s, answer_s=self.quiet_s)
        talk = Talk(account, reactor, "msgd")
        people = People(
            account,
            talk,
            world.jobs,
            world.database,
            people={"ann@localhost": "ann"},
            subscriptions="people",
            cancel=lambda job: cancel(world.jobs, world.broker, reactor, job),
            clock=reactor,
            new_id=new_id,
        )
        await world.runner(
            Messages(reactor, login, account, talk, people, send_s=self.send_s), concurrency=16, attempts=12
        )
        return account

    def _folder(self) -> Path:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return folder

    async def peer(self, account: str = "ann") -> Peer:
        """Another client, online."""
        return await _in_thread(xmpp_peer.peer, self, self.server, account)

    async def until(self, peer: Peer, condition: Any) -> dict[str, Any]:
        """The first of what the peer said that fulfils the condition."""
        return await _in_thread(peer.until, condition)

    async def heard(self, peer: Peer, body: str) -> dict[str, Any]:
        """The first message of that text that the peer heard."""
        return await self.until(peer, lambda one: one.get("heard") == body)

    async def send(self, body: str, to: str = "ann@localhost") -> str:
        """The id of a new message job."""
        return await self.world.submit("message", {"via": "xmpp", "to": to, "body": body})

    async def passing(self, deferred: Deferred[Any]) -> Any:
        """What fires, while the world's time passes with the real one, so that retries come due."""
        result = deferred
        while not result.called:
            await deferLater(reactor, 0.02)
            self.world.clock.advance(0.2)
        return await result

    async def ended(self, id_: str, *state: Any) -> Any:
        """The job, once it has ended, however many tries that takes."""
        return await self.passing(Deferred.fromCoroutine(self.world.ended(id_, *state)))


async def _in_thread(call: Callable[..., T], *arguments: Any) -> T:
    return await deferToThread(call, *arguments)

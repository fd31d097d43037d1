"""The connection: lost and found, and the ways in which there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.task import deferLater

from msgd.services.messenger.xmpp.acks import Acks
from tests.servers.certificates import Authority
from tests.servers.prosody import PASSWORD
from tests.services.messenger.xmpp.chatting import SOON_S, ChatCase, reactor


class ConnectionTest(ChatCase):
    """With a server that dies, and others that are not what they should be."""

    send_s = SOON_S

    async def test_server_killed(self) -> None:
        """kill -9 of the server in mid-stream: nothing is lost, and what comes twice has one id."""
        await self.open()
        peer = await self.peer()
        ids: dict[str, str] = {}
        for number in range(30):
            if number == 15:
                self.server.kill()
            ids[f"number {number}"] = await self.send(f"number {number}")
            await deferLater(reactor, 0.005)
        self.server.start()
        for id_ in ids.values():
            await self.ended(id_)
        for body, id_ in ids.items():
            await self.heard(peer, body)
            self.assertEqual({one["id"] for one in peer.heard(body)}, {id_})

    async def test_resumed(self) -> None:
        """A connection that is cut is made again, the session resumed, and what was under way arrives once."""
        self.send_s = 60.0  # a second try would send it again
        await self.open()
        peer = await self.peer()
        await self.account.connected()
        jid = self.account.jid
        ids = [await self.send(f"number {number}") for number in range(5)]
        stream: Any = self.account._stream
        stream.cut("the test cut it")
        for number, id_ in enumerate(ids):
            await self.ended(id_)
            await self.heard(peer, f"number {number}")
            self.assertEqual(len(peer.heard(f"number {number}")), 1)
        self.assertEqual(self.account.jid, jid)

    async def test_server_frozen(self) -> None:
        """A server that says nothing is taken for lost after a while; when it is back all goes on."""
        self.quiet_s = 0.4
        await self.open()
        peer = await self.peer()
        await self.account.connected()
        with self.server.frozen():
            id_ = await self.send("Hello")
            while "has said nothing for" not in self.account.trouble:
                await deferLater(reactor, 0.02)
        await self.ended(id_)
        await self.heard(peer, "Hello")
        self.assertEqual({one["id"] for one in peer.heard("Hello")}, {id_})

    async def test_bad_password(self) -> None:
        """A password that is refused is told as what it is; once it is right, the message goes out."""
        path = self.file("wrong")
        await self.open(password_file=str(path))
        id_ = await self.send("Hello")
        problem = await self.problem(id_)
        self.assertIn("the server refuses the login of msgd@localhost (not-authorized)", problem)
        self.assertIn(str(path), problem)
        self.file(PASSWORD, path)
        await self.ended(id_)

    async def test_bad_certificate(self) -> None:
        """A certificate of an authority that is not trusted ends it before the password is sent."""
        path = Path(self.mktemp())
        Authority("Somebody else").write_certificate(path)
        await self.open(ca_file=str(path))
        problem = await self.problem(await self.send("Hello"))
        self.assertRegex(problem, "TLS with 127.0.0.1:\\d+ failed .*certificate")
        self.assertNotIn("Authenticated", self.server.log())

    async def test_nobody_there(self) -> None:
        """No server, or none of that domain: the job waits, and says for what."""
        await self.open(server="127.0.0.1:1")
        self.assertIn("127.0.0.1:1", await self.problem(await self.send("Hello")))

    def file(self, text: str, path: Path | None = None) -> Path:
        path = path or Path(self.mktemp())
        path.write_text(text)
        return path

    async def problem(self, id_: str) -> str:
        """What the first failed try was told as."""
        return str(msgspec.json.decode((await self.world.event(id_, "retrying")).data)["message"])


class AcksTest(ChatCase):
    """XEP-0198's counting."""

    def test_counted(self) -> None:
        """What the peer has handled is told once, in order; what is left is to be sent again."""
        acks: Acks[int] = Acks()
        for number in range(5):
            acks.sent(number)
        self.assertEqual((acks.acked(2), acks.acked(2), acks.acked(3)), ([0, 1], [], [2]))
        self.assertEqual(acks.left(lambda number: number != 3), [4])
        acks.received()
        self.assertEqual((acks.h, len(acks)), (1, 1))
        self.assertEqual(acks.acked(2**32 - 1), [4], "more than were sent")

    def test_wraps(self) -> None:
        """The count begins again after 2^32 - 1."""
        acks: Acks[int] = Acks()
        vars(acks)["_acked"] = 2**32 - 1
        acks.sent(1)
        acks.sent(2)
        self.assertEqual(acks.acked(1), [1, 2])

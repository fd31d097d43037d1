"""Bounces out of a folder on a real IMAP server, which is restarted, and has all sorts of mail."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.defer import Deferred

from msgd.clock import sleep
from msgd.credentials import tls_to
from msgd.services.mailer.bounces import imap
from msgd.services.mailer.bounces.imap import ImapFolder
from msgd.services.mailer.bounces.place import FolderTrouble, LoginRefused, Place
from msgd.services.mailer.bounces.reading import Bounces, bounce_address
from msgd.services.mailer.bounces.session import Session, open_session
from tests.servers import dovecot
from tests.servers.certificates import Authority
from tests.servers.dovecot import HOST, PASSWORD, USER
from tests.services.mailer.bouncing import ADDRESS, MANY, BounceCase, nested, reactor

READ = {"\\Seen", "msgd-read"}

AWAY = b"""\
To: bounces+%s@sender.example
Subject: Out of office

I am away.
"""


class ImapCase(BounceCase):
    """A reader of a folder of a server."""

    def serve(self, **options: str) -> None:
        self.server = dovecot.server(self, **options)

    def place(self, **fields: Any) -> Place:
        given = {"host": HOST, "port": self.server.port, "tls": False, "user": USER, **fields}
        return Place(**given)

    async def session(self, place: Place, password: str = PASSWORD, ca_file: Any = None) -> Session:
        tls = tls_to(place.host, ca_file=str(ca_file or self.server.ca_file), where="")
        return await open_session(reactor, place, password, tls)

    def reading(self, place: Place | None = None, password: str = PASSWORD, **options: Any) -> Bounces:
        where = place or self.place()
        folder = ImapFolder(
            where,
            lambda: self.session(where, password),
            bounce_address(ADDRESS),
            clock=reactor,
            jitter=lambda: 0.0,
            **options,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(folder.close()))
        return self.reader(folder)

    async def refusal(self, error: type[FolderTrouble], place: Place, *given: Any) -> str:
        """Why the folder cannot be opened."""
        try:
            await self.session(place, *given)
        except error as raised:
            return raised.message
        raise AssertionError("it was opened")


class ReadingTests(ImapCase):
    """What is done with what is in the folder."""

    async def test_arrives(self) -> None:
        """The server tells of a notice while nobody asks; it bounces the mail and suppresses the address, once, however
        often it comes, and is marked."""
        self.serve()
        await self.begin()
        self.server.deliver(b"Subject: lunch?\n\n")
        bounces = self.reading()
        await bounces.start()
        while self.server.flags() != [{"msgd-read"}]:
            await sleep(reactor, 0.05)
        self.server.deliver(self.notice())
        await self.told
        await bounces.stop()
        self.assertEqual((await self.state(), self.types), ("bounced", ["bounced"]))
        self.assertEqual(await self.suppressed(), ["anna@example.com"])
        self.assertEqual(len(re.findall(r" Login: .*, TLS,", self.server.log())), 1)
        again = self.reading(self.place(port=self.server.tls_port, tls=True))
        self.server.deliver(self.notice())
        while await again.look():
            pass
        self.assertEqual((len(self.posted), self.server.flags()), (1, [{"msgd-read"}, READ, READ]))

    async def test_all_sorts(self) -> None:
        """Mail that is no notice, forged, huge, broken, or nobody's business: the notice behind it is read. What did
        not come to a bounce address stays as unread as it is."""
        self.serve()
        await self.begin()
        to = b"To: bounces+%s@sender.example\n" % self.verp.encode()
        forged = self.verp[:-1] + ("a" if self.verp[-1] != "a" else "b")
        ours = [
            AWAY % self.verp.encode(),
            self.notice(forged),
            to + b"X-Long: " + b"x" * 2_000_000 + b"\n\n",
            to + b"\n" + b"A line.\n" * 500_000,
            to + nested(1000),
            to + MANY,
            to + b"Content-Type: multipart/report; boundary=\xff\n\n--\xff\n\0",
        ]
        self.server.deliver(*ours, b"Subject: lunch?\n\nAt noon.\n", b"\n", b"To: x\n\n" + to, self.notice())
        bounces = self.reading()
        while await bounces.look():
            pass
        self.assertEqual((await self.state(), self.types), ("bounced", ["bounced"]))
        self.assertEqual(self.server.flags(), [READ] * 7 + [{"msgd-read"}] * 3 + [READ])

    async def test_seen_by_others(self) -> None:
        """That somebody has looked at a notice does not keep it from being read; one that is deleted is."""
        self.serve()
        await self.begin()
        self.server.deliver(self.notice(), self.notice())
        with self.server.client() as client:
            client.store("1", "+FLAGS", "\\Deleted")
            client.store("2", "+FLAGS", "\\Seen")
        self.assertEqual(await self.reading().look(), 1)
        self.assertEqual(self.types, ["bounced"])

    async def test_moved(self) -> None:
        """What came to a bounce address is moved where it is told to, also by a server that can only copy; what else is
        marked as deleted there is not expunged, and other mail stays."""
        for more in ("", "imap_capability = IMAP4rev1 UIDPLUS STARTTLS AUTH=PLAIN"):
            self.serve(more=more)
            self.folder.joinpath("msgd.sqlite3").unlink(missing_ok=True)
            await self.begin()
            self.server.make_folder('"Read &- done/Bounces"')
            self.server.deliver(b"Subject: mine\n\n", self.notice(), AWAY % self.verp.encode(), b"Subject: lunch?\n\n")
            with self.server.client() as client:
                client.store("1", "+FLAGS", "\\Deleted")
            bounces = self.reading(self.place(done="Read & done/Bounces"))
            while await bounces.look():
                pass
            self.assertEqual(self.types, ["bounced"])
            self.assertEqual(self.server.flags(), [{"\\Deleted"}, {"msgd-read"}])
            self.assertEqual(self.server.flags('"Read &- done/Bounces"'), [{"\\Seen"}, {"\\Seen"}])

    async def test_nowhere_to_move_to(self) -> None:
        """A folder to move to that is not there is told of before anything is read."""
        self.serve()
        await self.begin()
        self.server.deliver(self.notice())
        try:
            await self.reading(self.place(done="Nowhere")).look()
        except FolderTrouble as error:
            self.assertEqual(error.where, "mail.bounce_done")
            self.assertIn("'Nowhere'", error.message)
        else:
            self.fail("it was read")
        self.assertEqual(self.server.flags(), [set()])

    async def test_many(self) -> None:
        """A flood is taken in portions, and looked for in a part of the folder at a time."""
        self.patch(imap, "WINDOW", 3)
        self.patch(imap, "AT_ONCE", 4)
        self.serve()
        await self.begin()
        self.server.deliver(*[b"Subject: %d\n\n" % number for number in range(10)], self.notice())
        bounces = self.reading()
        self.assertEqual([await bounces.look() for _ in range(4)], [4, 4, 3, 0])
        self.assertEqual(self.types, ["bounced"])

    async def test_without_idle(self) -> None:
        """A server that tells of nothing by itself is asked."""
        self.serve(more="imap_capability = IMAP4rev1 STARTTLS AUTH=PLAIN")
        await self.begin()
        bounces = self.reading()
        self.assertEqual(await bounces.look(), 0)
        self.server.deliver(self.notice())
        self.assertEqual(await bounces.look(), 1)
        self.assertEqual(self.types, ["bounced"])

    async def test_restarted(self) -> None:
        """The server stops and starts again: the reader comes back, and reads what has come meanwhile."""
        self.serve()
        await self.begin()
        bounces = self.reading(pauses_s=(0.1,))
        await bounces.start()
        self.server.deliver(b"Subject: lunch?\n\n")
        self.server.stop()
        self.server.start()
        self.server.deliver(self.notice())
        await self.told
        await bounces.stop()
        self.assertEqual((await self.state(), self.types), ("bounced", ["bounced"]))


class RefusedTests(ImapCase):
    """What keeps the folder from being opened, in words that help."""

    async def test_reasons(self) -> None:
        """A wrong password, which is not told; no such folder; certificates that do not hold; nobody there."""
        self.serve()
        said = await self.refusal(LoginRefused, self.place(), "wrong word")
        self.assertIn(f"refuses the login of {USER}", said)
        self.assertNotIn("wrong word", said)
        said = await self.refusal(FolderTrouble, self.place(folder="Bön/ces"))
        self.assertIn("the folder 'Bön/ces' cannot be opened", said)
        self.assertIn("doesn't exist", said)
        other = self.folder / "other.pem"
        Authority("somebody else").write_certificate(other)
        tls = {"port": self.server.tls_port, "tls": True}
        for place in (self.place(), self.place(**tls)):
            self.assertIn("certificate verify failed", await self.refusal(FolderTrouble, place, PASSWORD, other))
        for place in (self.place(host="127.0.0.1"), self.place(host="127.0.0.1", **tls)):
            self.assertIn("certificate must be valid for 127.0.0.1", await self.refusal(FolderTrouble, place))
        said = await self.refusal(FolderTrouble, self.place(tls=True))  # TLS to a port that speaks without
        self.assertIn("TLS failed", said)
        self.server.stop()
        self.assertIn(f"{HOST}:{self.server.port} cannot be reached", await self.refusal(FolderTrouble, self.place()))

    async def test_without_tls(self) -> None:
        """On this machine a server needs no STARTTLS, and it can be switched off."""
        self.serve(more="ssl = no")
        await (await self.session(self.place())).leave()
        await (await self.session(self.place(starttls="off"))).leave()

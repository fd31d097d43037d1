"""A folder to which anybody can send: what is in one mail keeps nobody from reading the next."""

from __future__ import annotations

import time
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.services.mailer.bounces.maildir import AT_ONCE, KEPT_DAYS, MaildirFolder
from msgd.services.mailer.bounces.notice import NOTICE_BYTES, read_notice
from tests.services.mailer.bouncing import MANY, NOTICE, BounceCase, nested, reactor


class BouncesTest(BounceCase):
    """The reader of bounces on a maildir."""

    async def begin(self, *, sent: bool = True) -> None:
        await super().begin(sent=sent)
        (self.folder / "new").mkdir()
        self.maildir = MaildirFolder(self.folder, in_thread=deferToThread, clock=reactor, now_ms=lambda: self.time_ms)
        self.bounces = self.reader(self.maildir)

    def put(self, name: str, content: bytes) -> None:
        (self.folder / "new" / name).write_bytes(content)

    def names(self, part: str) -> list[str]:
        return sorted(file.name for file in (self.folder / part).iterdir())

    async def test_hostile(self) -> None:
        """A thousand parts in parts, and a mebibyte of them side by side: the notice behind them is read, and the
        reactor has other things to do meanwhile."""
        await self.begin()
        self.put("a", nested(1000))
        self.put("b", MANY)
        self.put("c", self.notice())
        began_s = time.thread_time()
        self.assertEqual(await self.bounces.look(), 3)
        self.assertLess(time.thread_time() - began_s, 0.5)
        self.assertEqual(self.types, ["bounced"])
        self.assertEqual((self.names("new"), self.names("cur")), ([], ["a:2,ST", "b:2,ST", "c:2,ST"]))

    async def test_unexpected(self) -> None:
        """What nobody thought of is logged, and the mail put aside."""
        await self.begin()
        self.put("a", self.notice())

        def post(_: Any) -> None:
            raise ValueError("nobody thought of it")

        self.assertEqual(await self.reader(self.maildir, post).look(), 1)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(await self.bounces.look(), 0)

    async def test_early(self) -> None:
        """A notice that is quicker than the mailer, which has not saved yet that the mail was sent, waits for that; not
        for ever."""
        await self.begin(sent=False)
        self.put("a", self.notice())
        self.put("b", b"")
        self.assertEqual([await self.bounces.look() for _ in range(2)], [1, 0])
        self.assertEqual((await self.state(), self.names("new")), ("sending", ["a"]))
        await self.sent()
        self.assertEqual(await self.bounces.look(), 1)
        self.assertEqual((await self.state(), self.types), ("bounced", ["bounced"]))

    async def test_too_early_for_too_long(self) -> None:
        """Where the mail is still being sent after an hour, nobody waits for it any more."""
        await self.begin(sent=False)
        self.put("a", self.notice())
        self.time_ms += 3_600_000
        self.assertEqual(await self.bounces.look(), 1)
        self.assertEqual((await self.state(), self.types), ("sending", []))

    async def test_cleared(self) -> None:
        """What was read is deleted after some days, and nothing that somebody else has put there."""
        await self.begin()
        self.put("a", self.notice())
        await self.bounces.look()
        (self.folder / "cur" / "mine:2,S").write_bytes(b"")
        self.time_ms += round((KEPT_DAYS - 1) * 86_400_000)
        await self.bounces.look()
        self.assertEqual(self.names("cur"), ["a:2,ST", "mine:2,S"])
        self.time_ms += 2 * 86_400_000
        await self.bounces.look()
        self.assertEqual(self.names("cur"), ["mine:2,S"])

    async def test_many(self) -> None:
        """A flood is taken in portions."""
        await self.begin()
        for number in range(AT_ONCE + 1):
            self.put(f"m{number}", b"")
        self.assertEqual([await self.bounces.look() for _ in range(3)], [AT_ONCE, 1, 0])


class BoundsTest(TestCase):
    """What is read of one mail."""

    def test_depth_and_count(self) -> None:
        """A report is read although what follows it is too much."""
        report = NOTICE.removesuffix(b"--b--\n") % b"x@sender.example" + b"--b\n"
        for more in (nested(1000).replace(b"--b", b"--x").replace(b"boundary=b", b"boundary=x"), b"\n--b\n" * 20_000):
            notice = read_notice(report + more)
            assert notice is not None
            self.assertEqual((notice.code, notice.addresses), (550, ("x@sender.example",)))

    def test_fields(self) -> None:
        """A field whose parameters take the standard parser ten seconds is cut first."""
        began_s = time.thread_time()
        self.assertIsNone(read_notice(b'Content-Type: multipart/mixed;"' + b";" * NOTICE_BYTES + b"\n\n"))
        self.assertLess(time.thread_time() - began_s, 0.5)

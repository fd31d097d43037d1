"""A folder on an IMAP server, in which what comes to the bounce addresses arrives."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.logger import Logger

from msgd.clock import Clock, sleep
from msgd.services.mailer.bounces.notice import NOTICE_BYTES
from msgd.services.mailer.bounces.place import CommandRefused, LoginRefused, Place
from msgd.services.mailer.bounces.reading import Unreadable
from msgd.services.mailer.bounces.session import Session

_log = Logger()

AT_ONCE: Final = 200
"""Mails taken at one look."""

WINDOW: Final = 2000
"""Mails among which is searched at once: an answer of many more takes the reactor too long to read."""

HEADER_BYTES: Final = 64 * 1024
"""Of a mail's header, in which its bounce address is looked for."""

IDLE_S: Final = 600.0
"""After which IDLE is begun anew: a server may end it after half an hour (RFC 2177), and a router in between forgets
connections on which nothing happens for a quarter of an hour."""

POLL_S: Final = 60.0
"""Between two looks where the server has no IDLE."""

PAUSES_S: Final = (1.0, 5.0, 15.0, 60.0, 300.0)
"""Before the next connection is tried, each by chance down to the half; the last one repeats."""

REFUSED_S: Final = 900.0
"""The same after a refused login: a password that is tried too often locks the account."""

TRIES: Final = 3
"""Connections that end while the same mail is read: then it is left alone."""

READ: Final = "msgd-read"
"""The keyword of mails that were read: what people have looked at is not what msgd has."""


class ImapFolder:
    """Conforms to :class:`~msgd.services.mailer.bounces.reading.Folder`. Names are UIDs.

    What came to a bounce address is marked as seen and read, or moved where it is told to. All other mail stays as it
    is, but for a keyword; where the server keeps no keywords, it is marked as seen too. Nothing is deleted.

    That a mail was read is known by its flags; by UIDs, as long as they mean the same, only what is passed over.
    """

    def __init__(
        self,
        place: Place,
        connect: Callable[[], Any],
        word: re.Pattern[str],
        *,
        clock: Clock,
        jitter: Callable[[], float],
        pauses_s: Sequence[float] = PAUSES_S,
    ) -> None:
        """``connect``: a coroutine that makes a Session; ``word``: what bounce addresses look like; ``jitter``: from 0
        to 1."""
        self._place = place
        self._connect = connect
        self._word = word
        self._clock = clock
        self._jitter = jitter
        self._pauses_s = pauses_s
        self._session: Session | None = None
        self._failed = 0  # connections in a row that were of no use
        self._refused = False
        self._validity = 0
        self._passed: set[int] = set()  # what is not given again
        self._tries: dict[int, int] = {}

    def __str__(self) -> str:
        return str(self._place)

    async def arrived(self) -> Sequence[int]:
        session = await self._ready()
        keys = f"UNDELETED UNKEYWORD {READ}" if session.keywords else "UNDELETED UNSEEN"
        if not session.news:
            await session.look()
        session.news = False
        unread: list[int] = []
        there: set[int] = set()
        for first in range(1, session.exists + 1, WINDOW):
            found = await session.find(first, first + WINDOW - 1, keys.encode())
            there.update(found)
            unread += [uid for uid in found if uid not in self._passed]
            if len(unread) >= AT_ONCE:
                break
        else:
            self._passed &= there
        self._failed = 0
        return unread[:AT_ONCE]

    async def read(self, name: int) -> bytes | None:
        session = await self._ready()
        self._tries[name] = tries = self._tries.get(name, 0) + 1
        if tries > TRIES:
            self._pass_over(name)
            raise Unreadable(f"{TRIES} connections ended while it was read")
        try:
            header = await session.fetch(name, b"HEADER", HEADER_BYTES)
            if header is None or not self._word.search(header.decode("latin-1")):
                content = None
            else:
                content = await session.fetch(name, b"", NOTICE_BYTES)
        except CommandRefused as error:
            self._pass_over(name)
            raise Unreadable(error.message) from None
        del self._tries[name]
        return content

    async def done(self, name: int, *, ours: bool) -> None:
        session = await self._ready()
        self._passed.add(name)  # also where the server forgets flags
        try:
            if not (ours and self._place.done):
                flags = [READ] * session.keywords + [r"\Seen"] * (ours or not session.keywords)
                await session.mark(name, " ".join(flags).encode())
                return
            if session.keywords:  # else it would not be found again, if it cannot be moved just now
                await session.mark(name, rb"\Seen")
            await session.move(name, self._place.done)
        except CommandRefused as error:
            raise Unreadable(f"it was read, and cannot be marked or moved: {error.message}") from None

    async def wait(self) -> None:
        session = await self._ready()
        if session.idles:
            await session.idle(IDLE_S)
        else:
            await sleep(self._clock, POLL_S)

    async def close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.leave()

    def _pass_over(self, uid: int) -> None:
        self._passed.add(uid)
        self._tries.pop(uid, None)

    # -- the connection -----------------------------------------------------------------------------------------------

    async def _ready(self) -> Session:
        """A connection, when it is time for one. Raises FolderTrouble."""
        if self._session is not None and not self._session.lost:
            return self._session
        self._session = None
        pause_s = self.pause_s(self._failed, refused=self._refused)
        if pause_s:
            await sleep(self._clock, pause_s)
        self._failed += 1
        self._refused = False
        try:
            session: Session = await self._connect()
        except LoginRefused:
            self._refused = True
            raise
        self._session = session
        if session.validity != self._validity:
            self._validity = session.validity
            self._passed.clear()
            self._tries.clear()
        session.news = True
        return session

    def pause_s(self, failed: int, *, refused: bool) -> float:
        """Seconds before the next connection, after so many in a row that were of no use; none before the first."""
        if not failed:
            return 0.0
        longest = REFUSED_S if refused else self._pauses_s[min(failed, len(self._pauses_s)) - 1]
        return longest * (1 + self._jitter()) / 2

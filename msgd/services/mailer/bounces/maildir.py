"""A maildir into which the mail server delivers what comes to the bounce addresses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from msgd.clock import Clock, sleep
from msgd.services.mailer.bounces.notice import NOTICE_BYTES
from msgd.services.mailer.maildir import InThread

LOOK_S: Final = 5.0
"""Between two looks: nobody waits for a bounce."""

AT_ONCE: Final = 200
"""Mails taken at one look."""

KEPT_DAYS: Final = 14.0
"""For which a mail that was read stays in ``cur``, for whoever wonders what became of it."""

CLEAR_S: Final = 3600.0
"""Between two looks for mails that have stayed so long."""

DONE: Final = ":2,ST"
"""Seen, and in the trash, in the words of maildir: mails without this mark are somebody else's, and stay."""


class MaildirFolder:
    """Conforms to :class:`~msgd.services.mailer.bounces.reading.Folder`.

    A mail that was read is moved to ``cur``, where it is deleted after some days.
    """

    def __init__(
        self,
        folder: Path,
        *,
        in_thread: InThread,
        clock: Clock,
        now_ms: Callable[[], int],
        look_s: float = LOOK_S,
    ) -> None:
        """``in_thread`` calls its first argument with the others in a thread."""
        self._folder = folder
        self._in_thread = in_thread
        self._clock = clock
        self._now_ms = now_ms
        self._look_s = look_s
        self._clear_at_s = 0.0

    def __str__(self) -> str:
        return str(self._folder)

    async def arrived(self) -> Sequence[str]:
        now_s = self._now_ms() / 1000
        if now_s >= self._clear_at_s:
            await self._in_thread(_clear, self._folder, now_s - KEPT_DAYS * 86_400)
            self._clear_at_s = now_s + CLEAR_S
        names: Sequence[str] = await self._in_thread(_arrived, self._folder)
        return names

    async def read(self, name: str) -> bytes | None:
        content: bytes | None = await self._in_thread(_read, self._folder / "new" / name)
        return content

    async def done(self, name: str, *, ours: bool) -> None:
        await self._in_thread(_done, self._folder, name)

    async def wait(self) -> None:
        await sleep(self._clock, self._look_s)

    async def close(self) -> None:
        """Nothing is held open."""


def _arrived(folder: Path) -> list[str]:
    """Some of the mails that nobody has read, in no order."""
    new = folder / "new"
    if not new.is_dir():
        return []
    with os.scandir(new) as entries:
        return list(islice((entry.name for entry in entries if entry.is_file()), AT_ONCE))


def _read(path: Path) -> bytes | None:
    """The beginning of a mail; None if another mailer was faster."""
    try:
        with path.open("rb") as file:
            return file.read(NOTICE_BYTES)
    except FileNotFoundError:
        return None


def _done(folder: Path, name: str) -> None:
    """Out of the way of the next look."""
    (folder / "cur").mkdir(exist_ok=True, mode=0o700)
    with contextlib.suppress(FileNotFoundError):  # another mailer has read it too
        (folder / "new" / name).rename(folder / "cur" / f"{name.partition(':')[0]}{DONE}")


def _clear(folder: Path, before_s: float) -> None:
    """Delete what was moved to ``cur`` before this time (a file's ctime)."""
    if not (folder / "cur").is_dir():
        return
    with os.scandir(folder / "cur") as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # another mailer clears too
                if entry.name.endswith(DONE) and entry.is_file() and entry.stat().st_ctime < before_s:
                    os.unlink(entry)

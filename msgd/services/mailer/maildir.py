"""The way into a maildir (https://cr.yp.to/proto/maildir.html): one file a mail, there as a whole or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from twisted.internet.defer import Deferred

from msgd.services.mailer.replies import Accepted, Outcome
from msgd.services.mailer.smtp import Unreachable
from msgd.services.mailer.transaction import Envelope

WIDTH: Final = 8
"""Files written at a time: most of the time each waits for the disk."""

_BARE_RETURN: Final = re.compile(rb"\r\n?")

InThread = Callable[..., "Deferred[Any]"]


class MaildirWay:
    """Writes mail into a folder instead of sending it. Conforms to :class:`~msgd.services.mailer.ways.Way`."""

    width = WIDTH

    def __init__(self, folder: Path, in_thread: InThread) -> None:
        """``in_thread`` calls its first argument with the others in a thread."""
        self._folder = folder
        self._in_thread = in_thread

    async def start(self) -> None:
        """The folder is made when the first mail comes."""

    async def stop(self) -> None:
        """Nothing to stop: what is being written is written."""

    async def ready(self) -> None:
        """The folder is there."""
        try:
            await self._in_thread(make_maildir, self._folder)
        except OSError as error:
            raise Unreachable(f"{self._folder}: {error.strerror}", where=str(self._folder)) from None

    def deliver(self, envelope: Envelope, name: str, *, pass_on: Callable[[], None] | None = None) -> Deferred[Outcome]:
        """The file of a mail is named for it, so the same mail is there once."""
        return Deferred.fromCoroutine(self._deliver(envelope, name))

    async def _deliver(self, envelope: Envelope, name: str) -> Outcome:
        try:
            await self._in_thread(write, self._folder, name, envelope)
        except OSError as error:
            raise Unreachable(f"{self._folder}: {error.strerror}", where=str(self._folder)) from None
        return Accepted(250, f"new/{name}")

    def hurry(self, names: frozenset[str], *, hard: bool) -> None:
        """A file takes milliseconds."""


def make_maildir(folder: Path) -> None:
    """The folder with its three parts, for us alone."""
    for part in ("tmp", "new", "cur"):
        (folder / part).mkdir(parents=True, exist_ok=True, mode=0o700)


def write(folder: Path, name: str, envelope: Envelope) -> None:
    """Blocking: into ``tmp``, onto the disk, then into ``new`` in one step."""
    make_maildir(folder)
    head = f"Return-Path: <{envelope.sender}>\nDelivered-To: {envelope.recipient}\n".encode()
    temporary = folder / "tmp" / name
    with temporary.open("wb") as file:
        file.write(head + _BARE_RETURN.sub(b"\n", envelope.message))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / "new" / name)
    directory = os.open(folder / "new", os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)

"""Reads bounces where the mail server puts what comes to the bounce addresses."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.clock import Clock, sleep
from msgd.errors import MsgdError
from msgd.jobs.interface import Jobs, OutboxRow
from msgd.services.mailer.bounces.notice import Notice, read_notice
from msgd.services.mailer.bounces.store import Database, TooEarly, Transaction, bounce, signing_key
from msgd.services.mailer.maildir import InThread
from msgd.services.mailer.signing import KEY_BYTES, Signer

_log = Logger()

AGAIN_S: Final = 5.0
"""After which it is tried again what failed, or came too early."""


class Folder(Protocol):
    """Where bounces arrive. ``str()`` names it in logs. Its errors are MsgdErrors and OSErrors; :class:`Unreadable` is
    that of one mail."""

    async def arrived(self) -> Sequence[Any]:
        """The names of some mails that nobody has read; empty: there are none."""

    async def read(self, name: Any) -> bytes | None:
        """The beginning of a mail, NOTICE_BYTES at most; None if it is gone, or cannot be of use. Raises
        Unreadable."""

    async def done(self, name: Any, *, ours: bool) -> None:
        """A mail has been read, and what it says is saved; ``ours``: it was of use, or could have been."""

    async def wait(self) -> None:
        """Returns when there may be more."""

    async def close(self) -> None:
        """Hold nothing open."""


class Unreadable(MsgdError):
    """One mail cannot be read; the folder gives it no more for now."""


class Bounces:
    """Takes in what arrives in a folder. A :class:`~msgd.work.parts.Part`.

    A mail is done with after what it says has been saved; in between it is read again, which changes nothing. Anybody
    can send one: whatever is in it, the next one is read. Several mailers may read the same folder.
    """

    def __init__(
        self,
        folder: Folder,
        address: str,
        *,
        database: Database,
        jobs: Jobs,
        in_thread: InThread,
        clock: Clock,
        now_ms: Callable[[], int],
    ) -> None:
        """``address``: the one that the bounce addresses are made of."""
        self._word = bounce_address(address)
        self._folder = folder
        self._database = database
        self._jobs = jobs
        self._in_thread = in_thread
        self._clock = clock
        self._now_ms = now_ms
        self._signer: Signer | None = None
        self._reading: Deferred[None] | None = None
        self._trouble = ""
        self._early = False

    async def start(self) -> None:
        """Begin to look."""
        self._reading = Deferred.fromCoroutine(self._read_on()).addErrback(_ended)

    async def stop(self) -> None:
        """Look no more."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            await reading
        await self._folder.close()

    async def _read_on(self) -> None:
        while True:
            try:
                while await self.look():
                    pass
                if self._trouble:
                    _log.info("bounces are read again from {folder}", folder=str(self._folder))
                    self._trouble = ""
                if not self._early:
                    await self._folder.wait()
                    continue
            except CancelledError:
                raise
            except MsgdError as error:
                self._tell(error.message)
            except OSError as error:
                self._tell(str(error))
            except Exception:  # whatever it is, the next look may do better
                _log.failure("bounces wait in {folder}", folder=str(self._folder))
            await sleep(self._clock, AGAIN_S)

    def _tell(self, trouble: str) -> None:
        """Log why nothing can be read, once as long as it is the same."""
        if trouble != self._trouble:
            _log.warn("bounces wait in {folder}: {trouble}", folder=str(self._folder), trouble=trouble)
            self._trouble = trouble

    async def look(self) -> int:
        """Take in what is there now; how many mails are done with. What came too early stays, for the next look."""
        if self._signer is None:
            key = secrets.token_bytes(KEY_BYTES)
            self._signer = Signer(await self._database.write(partial(signing_key, made=key)))
        done = 0
        self._early = False
        for name in await self._folder.arrived():
            try:
                content = await self._folder.read(name)
                try:
                    if content is not None:
                        await self._take(self._signer, await self._in_thread(read_notice, content))
                except (CancelledError, MsgdError, OSError):
                    raise  # it waits for better times
                except Exception:  # a stranger wrote it: one mail must not end the reading of all others
                    _log.failure("the mail {name} in {folder} is no use", name=name, folder=str(self._folder))
                await self._folder.done(name, ours=content is not None)
                done += 1
            except TooEarly:
                self._early = True
            except Unreadable as error:
                _log.warn("the mail {name} in {folder} stays: {why}", name=name, folder=str(self._folder), why=error)
        return done

    async def _take(self, signer: Signer, notice: Notice | None) -> None:
        for address in () if notice is None else notice.addresses:
            found = self._word.search(address)
            whose = signer.read_verp(found[1]) if found else None
            if notice is not None and whose is not None:
                self._jobs.post(await self._database.write(partial(self._taken, notice, *whose)))
                return

    def _taken(self, notice: Notice, mailing: int, row: int, transaction: Transaction) -> Sequence[OutboxRow]:
        event = bounce(transaction, mailing, row, notice, self._now_ms())
        return [] if event is None else self._jobs.tell_within(transaction, [event])


def bounce_address(address: str) -> re.Pattern[str]:
    """What the bounce addresses look like that are made of this one; its group is the word that tells whose it is."""
    local, _, domain = address.rpartition("@")
    return re.compile(rf"{re.escape(local)}\+([0-9a-z-]+)@{re.escape(domain)}", re.IGNORECASE)


def _ended(failure: Failure) -> None:
    if not failure.check(CancelledError):
        _log.failure("bounces are read no more", failure)

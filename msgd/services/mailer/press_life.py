"""One life of the process in which messages are made, as the mailer sees it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.clock import DelayedCall
from msgd.services.mailer.press_process import Answer, Request, framed, wanted

_log = Logger()

BEGINNING_S: Final = 30.0
"""For a process that has just been started: it has Python and its libraries to load."""

ANSWER_BYTES: Final = 64 * 1024 * 1024
"""Of one answer; attachments are bounded far below."""

_KEPT: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "VIRTUAL_ENV")
"""What Python needs to find its modules. No more of the environment: it may hold secrets."""


class Life(ProcessProtocol):
    """Begun at once; ended by :meth:`end`, by itself, or when an answer is too long in coming."""

    transport: Any

    def __init__(
        self,
        reactor: Any,
        program: Sequence[str],
        *,
        answered: Callable[[Sequence[Answer]], None],
        ended: Callable[[Life, str], None],
        patience_s: float,
    ) -> None:
        """``answered`` gets the answers that came together, in order, of which the very first is :class:`Begun`.
        ``ended``: it is over, and why."""
        self._reactor = reactor
        self._answered = answered
        self._ended = ended
        self._patience_s = patience_s
        self._received = bytearray()
        self._decode = msgspec.msgpack.Decoder(Answer).decode
        self._awaited = 1  # that it has begun
        self._over: Deferred[None] | None = None
        self._is_over = False
        self._killed_for = ""
        self._since_s: float = reactor.seconds()
        environment = {name: os.environ[name] for name in _KEPT if name in os.environ}
        self._timer: DelayedCall | None = reactor.callLater(BEGINNING_S, self._too_slow)
        reactor.spawnProcess(self, program[0], list(program), env=environment)

    @property
    def at_it_s(self) -> float:
        """How long it has been at what is not answered yet, in seconds."""
        return float(self._reactor.seconds() - self._since_s)

    def send(self, request: Request) -> None:
        """Ask for something."""
        if self._is_over or self.transport is None:
            return
        if not self._awaited:
            self._since_s = self._reactor.seconds()
        self.transport.write(framed(request))
        self._awaited += wanted(request)
        if self._awaited and self._timer is None:
            self._timer = self._reactor.callLater(self._patience_s, self._too_slow)

    async def end(self) -> None:
        """Returns when it has ended."""
        if not self._is_over:
            self._over = Deferred()
            self._kill()
            await self._over

    def outReceived(self, data: bytes) -> None:
        self._received += data
        answers = []
        while len(self._received) >= 4:
            length = int.from_bytes(self._received[:4], "big")
            if length > ANSWER_BYTES:
                self._kill("its answer is too large")
                break
            if len(self._received) < 4 + length:
                break
            try:
                answers.append(self._decode(self._received[4 : 4 + length]))
            except msgspec.MsgspecError as error:
                self._kill(f"its answer cannot be read: {error}")
                break
            del self._received[: 4 + length]
        if answers:
            self._awaited -= len(answers)
            self._since_s = self._reactor.seconds()
            self._set_timer()
            self._answered(answers)

    def _set_timer(self) -> None:
        if self._timer is not None and self._awaited:
            self._timer.reset(self._patience_s)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def errReceived(self, data: bytes) -> None:
        _log.warn("the process that makes messages says: {text}", text=data[-2000:].decode("utf-8", "replace"))

    def _too_slow(self) -> None:
        self._timer = None
        self._kill("it took too long")

    def _kill(self, reason: str = "it was not needed any more") -> None:
        self._killed_for = self._killed_for or reason
        try:
            self.transport.signalProcess("KILL")
        except Exception:  # it has ended by itself, which comes as processEnded
            _log.debug("the process that makes messages has ended already")

    def processEnded(self, reason: Failure = Failure(ProcessDone(0))) -> None:  # noqa: B008  # as in the base class
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._over is not None:
            self._over.callback(None)
        self._ended(self, self._killed_for or reason.getErrorMessage())

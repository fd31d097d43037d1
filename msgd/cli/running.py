"""A coroutine under the reactor; errors become one line on stderr, errors and signals an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import react
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from msgd.cli.exits import SIGNALLED, exit_code, explain
from msgd.errors import MsgdError

Command = Callable[[Any], Coroutine[Any, Any, int]]

SHOW_CURSOR: Final = b"\x1b[?25h"
"""A progress bar hides it."""


def run(command: Command) -> NoReturn:
    """Run ``command(reactor)`` and exit with the code it returns. Log lines of errors and worse go to stderr.

    Ctrl-C and SIGTERM cancel it: it sees CancelledError, tidies up, and the exit code is 128 and the signal's number
    (unless it returns one all the same). The second time nothing is waited for.
    """
    observer: Any = textFileLogObserver(sys.stderr)  # zope interfaces mean nothing to a type checker
    errors_only: Any = LogLevelFilterPredicate(defaultLogLevel=LogLevel.error)
    filtered: Any = FilteringLogObserver(observer, [errors_only])
    globalLogBeginner.beginLoggingTo([filtered], redirectStandardIO=False, discardBuffer=True)
    react(lambda reactor: _Run(reactor, command).begin())


class _Run:
    """One command from its start to its exit code."""

    def __init__(self, reactor: Any, command: Command) -> None:
        self._reactor = reactor
        self._command = command
        self._signal: int | None = None
        self._running: Deferred[int] | None = None

    def begin(self) -> Deferred[None]:
        # Later the reactor would put its own handlers over ours: it is asked to run first.
        self._reactor.callWhenRunning(self._listen)
        return Deferred.fromCoroutine(self._ended())

    def _listen(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: object) -> None:
        if self._signal is not None:
            if os.isatty(sys.stderr.fileno()):
                os.write(sys.stderr.fileno(), SHOW_CURSOR)
            os._exit(SIGNALLED + number)
        self._signal = number
        self._reactor.callFromThread(self._cancel)

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _ended(self) -> None:
        """Raises SystemExit, which sets the exit code under ``react``."""
        raise SystemExit(await self._code())

    async def _code(self) -> int:
        self._running = Deferred.fromCoroutine(self._command(self._reactor))
        try:
            code = await self._running
            sys.stdout.flush()
            return code
        except MsgdError as error:
            explain(error)
            return exit_code(error)
        except CancelledError:
            if self._signal is None:
                raise
            return SIGNALLED + self._signal
        except (BrokenPipeError, SystemExit):  # SystemExit: what rich makes of a broken pipe
            # Whoever read our output has enough of it; the interpreter would stumble over what is left in the buffer.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return SIGNALLED + signal.SIGPIPE

"""A coroutine under the reactor; errors become one line on stderr and an exit code (DESIGN §4.7)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final, NoReturn, TextIO

from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.logger import (
    FilteringLogObserver,
    LogLevel,
    LogLevelFilterPredicate,
    globalLogBeginner,
    textFileLogObserver,
)

from msgd.errors import Fault, Forbidden, MsgdError, Unauthenticated, Unavailable

DONE: Final = 0
JOB_FAILED: Final = 1
WRONG_INPUT: Final = 2
UNREACHABLE: Final = 3
NOT_ALLOWED: Final = 4
INTERRUPTED: Final = 130
"""128 + SIGINT, as shells have it."""


def exit_code(error: MsgdError) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, (Unauthenticated, Forbidden)):
        return NOT_ALLOWED
    if isinstance(error, Unavailable):
        return UNREACHABLE
    return WRONG_INPUT if error.fault is Fault.CALLER else JOB_FAILED


def explain(error: MsgdError, stream: TextIO | None = None) -> None:
    """One line: what was wrong, and where."""
    where = f" ({error.where})" if error.where and error.where not in error.message else ""
    print(f"msgd: {error.message}{where}", file=stream or sys.stderr)


def run(command: Callable[[Any], Coroutine[Any, Any, int]]) -> NoReturn:
    """Run ``command(reactor)`` and exit with the code it returns. Log lines of errors and worse go to stderr."""
    observer: Any = textFileLogObserver(sys.stderr)  # zope interfaces mean nothing to a type checker
    errors_only: Any = LogLevelFilterPredicate(defaultLogLevel=LogLevel.error)
    filtered: Any = FilteringLogObserver(observer, [errors_only])
    globalLogBeginner.beginLoggingTo([filtered], redirectStandardIO=False, discardBuffer=True)

    async def guarded(reactor: Any) -> None:
        try:
            code = await command(reactor)
        except MsgdError as error:
            explain(error)
            code = exit_code(error)
        raise SystemExit(code)

    def main(reactor: Any) -> Deferred[None]:
        return Deferred.fromCoroutine(guarded(reactor))

    react(main)

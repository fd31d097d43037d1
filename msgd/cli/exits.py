"""How a command ends: exit codes (DESIGN §4.7), and the one line that explains an error. Imports nothing slow."""

from __future__ import annotations

import sys
from typing import Final, TextIO

from msgd.errors import Fault, Forbidden, MsgdError, PeerError, Unauthenticated, Unavailable

DONE: Final = 0
JOB_FAILED: Final = 1
WRONG_INPUT: Final = 2
UNREACHABLE: Final = 3
NOT_ALLOWED: Final = 4
SIGNALLED: Final = 128
"""Plus the signal's number, as shells have it: Ctrl-C gives 130, a reader that has gone (SIGPIPE) 141."""

TOKENS: Final = "give a token with --token or MSGD_TOKEN, or run this in the server's folder, with its configuration"
"""Commands make themselves a token from the secret of ./var, which is not there in another folder."""


def exit_code(error: MsgdError) -> int:
    """The exit code that an error stands for."""
    if isinstance(error, (Unauthenticated, Forbidden)):
        return NOT_ALLOWED
    if isinstance(error, (Unavailable, PeerError)):
        return UNREACHABLE
    return WRONG_INPUT if error.fault is Fault.CALLER else JOB_FAILED


def explain(error: MsgdError, stream: TextIO | None = None) -> None:
    """One line: what was wrong, and where."""
    where = f" ({error.where})" if error.where and error.where not in error.message else ""
    hint = f"; {TOKENS}" if isinstance(error, Unauthenticated) else ""
    line = f"msgd: {error.message}{where}{hint}"
    # A server's words may hold what a crawled page held: it must not steer the terminal.
    print("".join(char if char.isprintable() else " " for char in line), file=stream or sys.stderr)

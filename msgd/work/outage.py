"""Waiting out an outage: what must be said to the database or the broker is said until it is heard."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from msgd.clock import Clock, sleep
from msgd.errors import Unavailable

T = TypeVar("T")

_log = Logger()

PAUSES_S: Final = (0.1, 0.5, 1.0, 2.0)
"""Between tries; the last one repeats. A conflict passes at once; a restarted server is met within two seconds."""


def pause(clock: Clock, tried: int) -> Deferred[None]:
    """Fires when it is time to try again, ``tried`` tries having failed."""
    return sleep(clock, PAUSES_S[min(tried, len(PAUSES_S)) - 1])


async def wait_out(clock: Clock, call: Callable[[], Awaitable[T]]) -> T:
    """What ``call`` returns, tried again for as long as it raises Unavailable. Cancel it to give up.

    ``call`` must be harmless to repeat: the answer of a call that took effect may have been lost.
    """
    tried = 0
    while True:
        try:
            return await call()
        except Unavailable as error:
            tried += 1
            if tried == len(PAUSES_S):  # not for what passes in a second
                _log.warn("waiting out an outage: {error}", error=error)
        await pause(clock, tried)

"""Time as everything below the assembly sees it: given, never taken from the global reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred


class DelayedCall(Protocol):
    """A call that is to come."""

    def active(self) -> bool: ...

    def cancel(self) -> None: ...

    def reset(self, seconds_from_now: float, /) -> None: ...


class Clock(Protocol):
    """What a reactor and :class:`twisted.internet.task.Clock` have in common.

    Twisted's own ``IReactorTime`` says the same, but zope interfaces mean nothing to a type checker.
    """

    def seconds(self) -> float:
        """Seconds since some moment; of a reactor, since 1970."""

    def callLater(self, delay: float, call: Callable[..., Any], /, *args: Any, **kw: Any) -> DelayedCall: ...


def milliseconds(clock: Clock) -> int:
    """What the clock says, in milliseconds; since 1970 where it counts from there, as a reactor does."""
    return int(clock.seconds() * 1000)


def sleep(clock: Clock, seconds: float) -> Deferred[None]:
    """Fires after so many seconds. Cancel it to wake up early, with CancelledError."""
    waiter: Deferred[None] = Deferred(lambda _: call.cancel())
    call = clock.callLater(seconds, waiter.callback, None)
    return waiter

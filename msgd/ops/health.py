"""Named checks, and what they add up to: may this process live on, and may it be sent work?

Liveness is that the process answers at all; a restart would not bring back a lost database. Readiness is that all that
is needed for work answers too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred, FirstError, gatherResults
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from msgd.clock import Clock
from msgd.errors import MsgdError

_log = Logger()

TIMEOUT_S: Final = 3.0
"""How long one check may take: a load balancer that asks every few seconds gives up at about five."""


class Finding(Struct, frozen=True):
    """What a check found; ``detail`` is one line for the operator, without secrets."""

    ok: bool
    detail: str = ""


class Report(Struct, frozen=True):
    """What all checks found, by name."""

    ok: bool
    checks: dict[str, Finding]


Check = Callable[[], Awaitable[Finding]]


class Health:
    """The checks of one process. A check that raises, or takes too long, has found something wrong."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._checks: dict[str, Check] = {}

    def add(self, name: str, check: Check) -> None:
        """Have ``check`` decide over readiness from now on. Names are given once."""
        if name in self._checks:
            raise ValueError(f"there is a health check named {name!r} already")
        self._checks[name] = check

    def live(self) -> Report:
        """Whether the process lives: it does if it can tell."""
        return Report(ok=True, checks={})

    async def ready(self) -> Report:
        """Run all checks at the same time, each for at most ``TIMEOUT_S`` seconds."""
        names = list(self._checks)
        try:
            findings = await gatherResults(
                [Deferred.fromCoroutine(self._find(name)) for name in names], consumeErrors=True
            )
        except FirstError as error:  # of a cancellation: all else is a finding
            raise CancelledError from error
        return Report(ok=all(finding.ok for finding in findings), checks=dict(zip(names, findings, strict=True)))

    async def _find(self, name: str) -> Finding:
        running: Deferred[Finding] = Deferred.fromCoroutine(_run(self._checks[name]))
        running.addTimeout(TIMEOUT_S, self._clock)  # type: ignore[arg-type]  # a Clock is an IReactorTime
        try:
            return await running
        except CancelledError:
            raise
        except TimedOut:
            return Finding(False, f"no answer within {TIMEOUT_S:g} s")
        except MsgdError as error:
            return Finding(False, error.message)
        except Exception as error:  # whatever a check dies of is its finding
            _log.failure("health check {name} failed", name=name)
            return Finding(False, type(error).__name__)


async def _run(check: Check) -> Finding:
    return await check()

"""Parts that only an assembly needs: open ports, and a start that nobody waits for."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.config.endpoints import address
from msgd.errors import ConfigError
from msgd.work.parts import Part

_log = Logger()

BACKLOG: Final = 4096
"""Connections that the kernel has made and nobody has accepted yet (it takes fewer if ``net.core.somaxconn`` says so).
Twisted's 50 are full within a millisecond of a herd's return, and what is dropped then is tried again after 1, 3, 7, 15
seconds."""


class PortInUse(ConfigError):
    """An endpoint on which somebody else listens."""


class Listening:
    """Endpoints in Twisted's words (``tcp:8080:interface=127.0.0.1``), open from start to stop."""

    def __init__(self, reactor: Any, descriptions: Sequence[str], factory: Any) -> None:
        self._reactor = reactor
        self._descriptions = descriptions
        self._factory = factory
        self._ports: list[Any] = []

    async def start(self) -> None:
        """Raises ConfigError for an endpoint that cannot be opened, PortInUse if that is because it is taken."""
        for description in self._descriptions:
            try:
                self._ports.append(await serverFromString(self._reactor, roomy(description)).listen(self._factory))
            except CannotListenError as error:
                kind = PortInUse if getattr(error.socketError, "errno", None) == errno.EADDRINUSE else ConfigError
                raise kind(f"cannot listen on {description}: {error.socketError}", where="notifier.listen") from None
            except (ValueError, TypeError) as error:
                raise ConfigError(f"{description!r} is no endpoint: {error}", where="notifier.listen") from None
            _log.info("listening on {shown}", shown=_shown(description))

    async def stop(self) -> None:
        """Close the ports; connections that stand are not touched."""
        while self._ports:
            await self._ports.pop().stopListening()


def _shown(description: str) -> str:
    """An endpoint as whoever reads the log can use it: by its URL, if it has one."""
    try:
        return f"{address(description)} ({description})"
    except ConfigError:
        return description


def roomy(description: str) -> str:
    """An endpoint's description with room for a herd, if it does not say how much there is."""
    takes_it = description.partition(":")[0] in ("tcp", "tcp4", "tcp6", "ssl", "unix")
    return f"{description}:backlog={BACKLOG}" if takes_it and ":backlog=" not in description else description


class InBackground:
    """A part whose start may take for ever, begun but not awaited."""

    def __init__(self, part: Part) -> None:
        self._part = part
        self._starting: Deferred[None] | None = None

    async def start(self) -> None:
        """Begin to start the part. An error of it is logged."""
        self._starting = Deferred.fromCoroutine(self._part.start())
        self._starting.addErrback(self._failed)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("{part} did not start", failure, part=self._part)

    async def stop(self) -> None:
        """Give up the start if it is still under way, and stop the part."""
        if self._starting is not None:
            self._starting.cancel()
        await self._part.stop()

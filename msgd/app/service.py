"""A daemon as a Twisted service: its parts start in order, and stop in reverse before the process goes."""

from __future__ import annotations

import atexit
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from msgd.app.collector import calm_collector
from msgd.errors import MsgdError
from msgd.ops.notify import Systemd
from msgd.work.parts import Parts

_log = Logger()

FAILED_TO_START: Final = 1
"""The exit status that lets systemd see a failed start; ``twistd`` itself would leave with 0."""


class DaemonService(Service):
    """Runs the parts that ``build`` makes once the reactor runs; a failed start ends the process with status 1."""

    def __init__(self, reactor: Any, name: str, build: Callable[[], Parts]) -> None:
        self.setName(name)
        self._reactor = reactor
        self._build = build
        self._systemd: Systemd | None = None
        self._parts: Parts | None = None

    def startService(self) -> None:
        super().startService()
        self._systemd = Systemd(os.environ, self._reactor)  # not before: twistd forks, and systemd asks for the pid
        self._reactor.callWhenRunning(lambda: Deferred.fromCoroutine(self._start()))

    async def _start(self) -> None:
        try:
            self._parts = self._build()
            await self._parts.start()
        except CancelledError:
            return
        except MsgdError as error:
            where = f" ({error.where})" if error.where else ""
            _log.critical("{name} cannot start: {message}{where}", name=self.name, message=error.message, where=where)
            self._give_up()
        except Exception:  # a mistake of ours: the process must not stay, half started
            _log.failure("{name} cannot start", name=self.name)
            self._give_up()
        else:
            calm_collector()
            _log.info("{name} is up", name=self.name)
            if self._systemd is not None:
                self._systemd.ready(f"{self.name} is up")

    def _give_up(self) -> None:
        atexit.register(_exit)  # once twistd has tidied up after itself
        if self._reactor.running:
            self._reactor.stop()

    def stopService(self) -> Deferred[None]:
        super().stopService()
        return Deferred.fromCoroutine(self._drain())

    async def _drain(self) -> None:
        if self._systemd is not None:
            self._systemd.stopping()
        if self._parts is not None:
            _log.info("{name} is stopping", name=self.name)
            await self._parts.stop()
        if self._systemd is not None:
            self._systemd.stopped()


def _exit() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(FAILED_TO_START)

"""A notifier in a process of its own, whose memory can be looked at: commands come as lines of JSON, and so do answers.

``{"publish": n}`` records n events on ``room.a`` and pushes them live; each command is answered with what is resident.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
from pathlib import Path
from typing import Any, Final

from twisted.internet import stdio
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.protocols.basic import LineOnlyReceiver

from msgd.messages.events import Event
from tests.notifier.world import World, token

BATCH: Final = 2000
"""Events in a batch: four times what the recorder takes, for the test is about those who read."""


def resident() -> int:
    """Bytes of memory that this process has."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


class Commands(LineOnlyReceiver):
    """What the test wants done, in order."""

    delimiter = b"\n"
    transport: Any

    def __init__(self, world: World) -> None:
        self.ended: Deferred[None] = Deferred()
        self._world = world

    def lineReceived(self, line: bytes) -> None:
        Deferred.fromCoroutine(self._publish(int(json.loads(line)["publish"]))).addErrback(self.ended.errback)

    async def _publish(self, count: int) -> None:
        for begin in range(0, count, BATCH):
            batch = range(begin, min(begin + BATCH, count))
            now_ms = self._world.now_ms()
            await self._world.scribe.record(
                [
                    Event(
                        topic="room.a", id=f"{now_ms}-{number}", type="said", source="", time_ms=now_ms, data=b'"hello"'
                    )
                    for number in batch
                ]
            )
        self.answer()

    def answer(self) -> None:
        self.sendLine(json.dumps({"resident": resident(), "port": self._world.port}).encode())

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


async def main(reactor: Any) -> None:
    world = World()
    await world.start()
    try:
        commands = Commands(world)
        stdio.StandardIO(commands)
        commands.sendLine(json.dumps({"port": world.port, "token": token()}).encode())
        await commands.ended
    finally:
        await world.stop()


if __name__ == "__main__":
    sys.exit(react(lambda reactor: Deferred.fromCoroutine(main(reactor)), ()))

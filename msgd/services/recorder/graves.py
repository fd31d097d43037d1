"""Reads the dead letters: each is kept with its reason, and what it called for is settled (Jobs.bury)."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from msgd.broker.interface import Broker, Delivery
from msgd.broker.topology import DEAD_QUEUE
from msgd.clock import Clock
from msgd.jobs.interface import Jobs
from msgd.messages import dead_letters
from msgd.messages.envelope import HeaderValue
from msgd.services.recorder.bell import Bell
from msgd.work.outage import wait_out

_log = Logger()

PREFETCH: Final = 20
"""Dead letters are few; each may hold 1 MiB."""

LOOK_S: Final = 60.0
"""Longest wait for the next one; whatever comes rings."""


class Cause(Struct, frozen=True):
    """Why a message is dead, and where it was."""

    reason: str
    queue: str  # empty: no queue took it
    exchange: str
    key: str


def cause(delivery: Delivery) -> Cause:
    """What made a message dead: ours says it in headers, RabbitMQ in the first entry of ``x-death`` (its guide "Dead
    Letter Exchanges"); without either it came through the alternate exchange, as no queue took it."""
    headers = delivery.message.headers
    if dead_letters.REASON in headers:
        ours = (dead_letters.REASON, dead_letters.QUEUE, dead_letters.EXCHANGE, dead_letters.KEY)
        return Cause(*(_text(headers, name) for name in ours))
    deaths = headers.get("x-death")
    if isinstance(deaths, (list, tuple)) and deaths and isinstance(deaths[0], Mapping):
        death: Mapping[str, Any] = deaths[0]
        keys = death.get("routing-keys")
        key = str(keys[0]) if isinstance(keys, (list, tuple)) and keys else delivery.key
        reason = f"given up by the broker: {_text(death, 'reason')}"
        return Cause(reason, _text(death, "queue"), _text(death, "exchange"), key)
    return Cause("no queue takes it: nobody performs jobs of this type", "", delivery.exchange, delivery.key)


def _text(table: Mapping[str, HeaderValue], name: str) -> str:
    value = table.get(name, "")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class Graves:
    """Buries dead letters, one after the other, for as long as it is let."""

    def __init__(self, broker: Broker, jobs: Jobs, clock: Clock) -> None:
        self._broker = broker
        self._jobs = jobs
        self._clock = clock
        self._waiting: deque[Delivery] = deque()
        self._bell = Bell(clock)

    async def watch(self) -> None:
        """Does not return. Cancel it to stop: what is not buried goes back to its queue."""
        consumer = await self._broker.consume(DEAD_QUEUE, self._arrived, prefetch=PREFETCH)
        try:
            while True:
                while self._waiting:
                    await self._bury(self._waiting[0])
                    self._waiting.popleft()
                await self._bell.wait(LOOK_S)
        finally:
            await consumer.stop()
            for delivery in self._waiting:
                delivery.requeue()
            self._waiting.clear()

    def _arrived(self, delivery: Delivery) -> None:
        self._waiting.append(delivery)
        self._bell.ring()

    async def _bury(self, delivery: Delivery) -> None:
        if not delivery.current:
            return
        why = cause(delivery)
        try:
            await wait_out(
                self._clock,
                lambda: self._jobs.bury(
                    delivery.message, reason=why.reason, queue=why.queue, exchange=why.exchange, key=why.key
                ),
            )
        except CancelledError:
            raise
        except Exception:  # of the database, or of a message that nobody has thought of
            # It cannot even be kept; come again it would fail again, for ever. The log is what is left of it.
            _log.failure(
                "a dead letter of {queue!r} cannot be kept ({reason}): {message!r}",
                queue=why.queue,
                reason=why.reason,
                message=delivery.message,
            )
        delivery.ack()

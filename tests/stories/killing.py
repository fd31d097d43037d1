"""twistd with a death wish: the process kills itself (-9) between two neighbouring effects of DESIGN §3, by name.

``MSGD_TEST_KILL=<point>``, and a file named ``armed`` in the working directory: at the next time the point is reached.
The product knows nothing of this: the assembly picks adapters, and here it picks ours, which stand around its own.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, Final

from twisted.internet.defer import Deferred

import msgd.app.daemons
from msgd.app.adapters import Adapters
from msgd.broker import topology
from msgd.broker.interface import Delivery
from msgd.jobs.interface import OutboxRow
from msgd.messages.envelope import Message

VARIABLE: Final = "MSGD_TEST_KILL"
ARMED: Final = "armed"

WORKER_POINTS: Final = (
    "claim|started",
    "events|checkpoint",
    "checkpoint|events",
    "events|save",
    "save|continuation",
    "continuation|confirm",
    "save|ack",
    "events|end",
    "end|publish",
)
RECORDER_POINTS: Final = ("receive|store", "store|live", "live|head", "live|ack")
DOOR_POINTS: Final = ("submit|row", "row|publish", "publish|delete")
UPLOAD_POINTS: Final = ("hold|blob", "blob|rows", "upload|job", "row|publish")


class Trigger:
    """Ends the process at the point it was told, once it is armed: what is left from before is not what is meant."""

    def __init__(self, point: str) -> None:
        self._point = point

    def reach(self, point: str) -> None:
        """We are between these two effects."""
        if point == self._point and os.path.exists(ARMED):
            os.kill(os.getpid(), signal.SIGKILL)


class Around:
    """Passes everything on to what it stands around."""

    def __init__(self, inner: Any, trigger: Trigger) -> None:
        self._inner = inner
        self._trigger = trigger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class KillingDelivery(Around):
    """Kills before an acknowledgement."""

    def ack(self) -> None:
        queue = self._inner.queue
        if queue.startswith(f"{topology.JOBS}."):
            self._trigger.reach("save|ack")
        elif queue in (topology.JOB_EVENTS_QUEUE, topology.TALK_QUEUE):
            self._trigger.reach("live|ack")
        self._inner.ack()


class KillingBroker(Around):
    """Kills around publishes."""

    def publish(self, exchange: str, key: str, message: Message, *, mandatory: bool = False) -> Deferred[None]:
        if exchange == topology.EVENTS and message.type == "started":
            self._trigger.reach("claim|started")
        if exchange == topology.LIVE and key == topology.HEAD_KEY:
            self._trigger.reach("live|head")
        done: Deferred[None] = self._inner.publish(exchange, key, message, mandatory=mandatory)
        if exchange == topology.JOBS and key.endswith(".more"):
            done.addCallback(lambda _: self._trigger.reach("continuation|confirm"))
        return done

    async def consume(
        self, queue: str, callback: Callable[[Delivery], None], *, prefetch: int, ordered: bool = False
    ) -> Any:
        def received(delivery: Delivery) -> None:
            callback(KillingDelivery(delivery, self._trigger))

        return await self._inner.consume(queue, received, prefetch=prefetch, ordered=ordered)


class KillingJobs(Around):
    """Kills around the changes of a job's row."""

    async def submit(self, submission: Any) -> Any:
        self._trigger.reach("submit|row")
        return await self._inner.submit(submission)

    def submit_within(self, transaction: Any, submissions: Any) -> Any:
        self._trigger.reach("upload|job")
        return self._inner.submit_within(transaction, submissions)

    async def checkpoint(self, claim: Any, write: Any) -> Any:
        self._trigger.reach("events|checkpoint")
        result = await self._inner.checkpoint(claim, write)
        self._trigger.reach("checkpoint|events")
        return result

    async def save(self, *arguments: Any, **named: Any) -> None:
        self._trigger.reach("events|save")
        await self._inner.save(*arguments, **named)

    async def end(self, *arguments: Any, **named: Any) -> None:
        self._trigger.reach("events|end")
        await self._inner.end(*arguments, **named)


class KillingUploads(Around):
    """Kills around the record of an upload."""

    async def hold(self, blob: str) -> None:
        await self._inner.hold(blob)
        self._trigger.reach("hold|blob")

    async def make(self, *arguments: Any, **named: Any) -> Any:
        self._trigger.reach("blob|rows")
        return await self._inner.make(*arguments, **named)


class KillingJournal(Around):
    """Kills around a batch's commit."""

    async def append(self, lease: Any, events: Any, **named: Any) -> Any:
        self._trigger.reach("receive|store")
        appended = await self._inner.append(lease, events, **named)
        self._trigger.reach("store|live")
        return appended


class KillingOutbox(Around):
    """Kills between a commit and its publish."""

    def post(self, rows: Sequence[OutboxRow]) -> None:
        for row in rows:
            if row.is_event:
                self._trigger.reach("end|publish")
            elif row.key.endswith(".more"):
                self._trigger.reach("save|continuation")
            else:
                self._trigger.reach("row|publish")
        self._inner.post(rows)


class KillingStore(Around):
    """Kills between a publish and the deletion of its row."""

    async def published(self, rows: Sequence[OutboxRow], **named: Any) -> None:
        if any(not row.is_event for row in rows):
            self._trigger.reach("publish|delete")
        await self._inner.published(rows, **named)


class KillingAdapters(Adapters):
    """The real ones, with ours around them."""

    @cached_property
    def trigger(self) -> Trigger:
        return Trigger(os.environ.get(VARIABLE, ""))

    @cached_property
    def broker(self) -> Any:
        return KillingBroker(Adapters.broker.func(self), self.trigger)  # type: ignore[attr-defined]  # mypy takes a cached_property for its value

    @cached_property
    def outbox_store(self) -> Any:
        return KillingStore(Adapters.outbox_store.func(self), self.trigger)  # type: ignore[attr-defined]  # mypy takes a cached_property for its value

    @cached_property
    def outbox(self) -> Any:
        return KillingOutbox(Adapters.outbox.func(self), self.trigger)  # type: ignore[attr-defined]  # mypy takes a cached_property for its value

    @cached_property
    def jobs(self) -> Any:
        return KillingJobs(Adapters.jobs.func(self), self.trigger)  # type: ignore[attr-defined]  # mypy takes a cached_property for its value

    @cached_property
    def uploads(self) -> Any:
        return KillingUploads(Adapters.uploads.func(self), self.trigger)  # type: ignore[attr-defined]  # mypy takes a cached_property for its value

    @cached_property
    def journal(self) -> Any:
        return KillingJournal(Adapters.journal.func(self), self.trigger)  # type: ignore[attr-defined]  # mypy takes a cached_property for its value


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    setattr(msgd.app.daemons, "Adapters", KillingAdapters)  # noqa: B010 - mypy forbids to assign to a class
    run()

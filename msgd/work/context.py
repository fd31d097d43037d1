"""One attempt as its worker sees it: the implementation of :class:`~msgd.work.interface.Context`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final, Generic, TypeVar

import msgspec
from msgspec import Struct
from twisted.internet.defer import Deferred, fail

from msgd.broker.interface import Broker
from msgd.clock import Clock, DelayedCall
from msgd.database import Transaction
from msgd.errors import InvalidInput, Superseded, TooLarge
from msgd.jobs.interface import Claim, Job, Jobs
from msgd.messages import json
from msgd.messages.batches import pack
from msgd.messages.envelope import Message
from msgd.messages.events import ENDS, PROGRESS, RETRYING, STARTED, TRANSIENT, Event, event_ids
from msgd.messages.limits import BODY_BYTES, ID_BYTES, TYPE_BYTES
from msgd.messages.topics import check_topic, job_topic
from msgd.messages.wire import event_to_message
from msgd.work.emitter import Emitter, all_safe
from msgd.work.once import Once
from msgd.work.progress import Progress

P = TypeVar("P", bound=Struct)
T = TypeVar("T")

OURS: Final = ENDS | {STARTED, PROGRESS, RETRYING}
"""Event types that a worker cannot emit: they tell a job's state, which the runtime changes."""


def encode(value: Any, *, where: str) -> bytes:
    """``value`` as the JSON that an event or a row may hold; raises TooLarge, or InvalidInput if JSON has no such
    value."""
    try:
        body = json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{where} is no JSON value: {error}", where=where) from None
    if len(body) > BODY_BYTES:
        raise TooLarge(f"{where} has {len(body)} bytes as JSON; the limit is {BODY_BYTES}", where=where)
    return body


def _others_topic(topic: str) -> str:
    """The topic, if a worker may publish there; raises InvalidInput."""
    if check_topic(topic).partition(".")[0] == "job":
        raise InvalidInput(f"a worker does not publish on {topic}: on its own job's topic it emits", where="topic")
    return topic


def _bounded(text: str, most: int, *, where: str) -> str:
    """The text, if an event can have it as its type or id; raises InvalidInput."""
    encoded = text.encode("utf-8", "replace")
    if not 0 < len(encoded) <= most or "\0" in text or encoded.decode() != text:
        raise InvalidInput(f"an event cannot have the {where} {text[:most]!r}", where=where)
    return text


def _emitted(type_: str) -> str:
    """The type, if a worker may emit it; raises InvalidInput."""
    if type_ in OURS:
        raise InvalidInput(f"a worker cannot emit {type_!r}: msgd does", where="type")
    return _bounded(type_, TYPE_BYTES, where="type")


class AttemptContext(Generic[P]):
    """Conforms to :class:`~msgd.work.interface.Context`. The slice begins when it is made."""

    def __init__(
        self,
        job: Job,
        claim: Claim,
        *,
        decode: Callable[[bytes], P],
        slice_s: float,
        jobs: Jobs,
        broker: Broker,
        clock: Clock,
        now_ms: Callable[[], int],
    ) -> None:
        self.job = job
        self._decode = decode
        self._claim = claim
        self._jobs = jobs
        self._clock = clock
        self._now_ms = now_ms
        self._topic = job_topic(job.id)
        self._id_of = event_ids(job.id, claim.run)
        self._emitter = Emitter(broker, clock, self._topic)
        self._progress = Progress(broker, clock, now_ms, job, claim)
        self._deadline = clock.seconds() + slice_s
        self._over = Once()
        self._timer: DelayedCall | None = None

    # -- what the worker sees -----------------------------------------------------------------------------------------

    @cached_property
    def params(self) -> P:
        return self._decode(self.job.params)

    @cached_property
    def state(self) -> Any:
        return None if self.job.saved is None else msgspec.json.decode(self.job.saved)

    @property
    def slice_over(self) -> bool:
        return self._over.happened or self._clock.seconds() >= self._deadline

    def over(self) -> Deferred[None]:
        if self.slice_over:
            self._over.happen()
        elif self._timer is None:  # made late: most slices end before anybody asks
            self._timer = self._clock.callLater(self._deadline - self._clock.seconds(), self._over.happen)
        return self._over.wait()

    def emit(self, type_: str, data: Any, *, key: str = "") -> Deferred[None]:
        try:
            return self._emitter.emit(self._message(_emitted(type_), encode(data, where=type_), key))
        except InvalidInput as error:
            return fail(error)

    def emit_all(self, events: Iterable[tuple[str, Any, str]]) -> Deferred[None]:
        try:
            time_ms = self._now_ms()
            made = [
                self._event(_emitted(type_), encode(data, where=type_), key, time_ms) for type_, data, key in events
            ]
        except InvalidInput as error:
            return fail(error)
        return all_safe([self._emitter.emit(message) for message in pack(made)])

    def publish(self, topic: str, type_: str, data: Any, *, id_: str) -> Deferred[None]:
        try:
            if type_ in TRANSIENT:
                raise InvalidInput(f"a worker cannot publish {type_!r}: msgd does", where="type")
            event = Event(
                topic=_others_topic(topic),
                type=_bounded(type_, TYPE_BYTES, where="type"),
                id=_bounded(id_, ID_BYTES, where="id"),
                source=self.job.type,
                time_ms=self._now_ms(),
                data=encode(data, where=type_),
            )
            return self._emitter.emit(event_to_message(event), topic=topic)
        except InvalidInput as error:
            return fail(error)

    def progress(self, **fields: Any) -> None:
        self._progress.show(fields)

    async def checkpoint(self, write: Callable[[Transaction], T], *, confirmed: bool = False) -> T:
        if not confirmed:
            await self._emitter.flush()
        return await self._jobs.checkpoint(self._claim, write)

    # -- what the runtime does ----------------------------------------------------------------------------------------

    @property
    def shown(self) -> bytes | None:
        """The latest progress as JSON, for the heartbeat."""
        return self._progress.latest

    def tell_started(self) -> None:
        """Emit ``started``. Nobody awaits it by itself: the next change of state does, through :meth:`settled`."""
        self._emitter.tell(self._message(STARTED, b"{}", ""))

    def end_slice(self) -> None:
        """Time is up before its time: the process stops, or another slice must run alone."""
        self._over.happen()

    async def settled(self) -> None:
        """Returns when all that was emitted is safe: then the state may change. Raises Superseded."""
        await self._emitter.flush()

    def close(self, error: Exception | None = None) -> None:
        """The attempt has ended: publish nothing more. ``error``: for those who still wait."""
        self._progress.end()
        self._emitter.end(error or Superseded("this attempt has ended"))
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    def _message(self, type_: str, data: bytes, key: str) -> Message:
        return event_to_message(self._event(type_, data, key, self._now_ms()))

    def _event(self, type_: str, data: bytes, key: str, time_ms: int) -> Event:
        return Event(
            topic=self._topic,
            type=type_,
            id=self._id_of(type_, key),
            source=self.job.type,
            time_ms=time_ms,
            data=data,
            run=self._claim.run,
            token=self._claim.token,
        )

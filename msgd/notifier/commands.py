"""What can be asked for, by whichever door: each command checks the right, the form, and says what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType
from twisted.internet.defer import Deferred, FirstError, gatherResults

from msgd.broker import topology
from msgd.broker.interface import Broker
from msgd.clock import Clock
from msgd.errors import BrokerUnavailable, InvalidInput, InvalidParams, NotFound, UnknownType
from msgd.jobs.interface import Job, Jobs, Submission, TypeInfo
from msgd.messages import json
from msgd.messages.events import TRANSIENT, Event
from msgd.messages.ids import IdMaker
from msgd.messages.jobs import NORMAL, PRIORITIES
from msgd.messages.limits import ID_BYTES, TYPE_BYTES
from msgd.messages.topics import check_topic, is_word
from msgd.messages.wire import event_to_message
from msgd.notifier.interface import Principal
from msgd.notifier.limits import DELAY_MOST_S
from msgd.work.interface import JobType

TYPES_KNOWN_S: Final = 2.0
"""How long announced job types are remembered: a new worker is usable soon, and a herd asks the database once."""


class JobRequest(Struct, kw_only=True):
    """A job asked for."""

    type: str
    params: Raw = Raw(b"{}")
    key: str = ""
    delay: float = 0.0  # seconds
    priority: str = NORMAL


class EventRequest(Struct, kw_only=True):
    """An event to be published."""

    topic: str
    type: str
    data: Raw = Raw(b"null")
    id: str = ""
    source: str | UnsetType = UNSET


Cancel = Callable[[str], Awaitable[Job]]
"""Ends a job within a second, in whatever state it is; the runtime knows how."""


InThread = Callable[..., Awaitable[Any]]
"""Calls its first argument with the others in a thread."""


class Commands:
    """The commands, for any principal."""

    def __init__(
        self,
        broker: Broker,
        jobs: Jobs,
        types: Mapping[str, JobType[Any]],
        *,
        cancel: Cancel,
        clock: Clock,
        new_id: IdMaker,
        in_thread: InThread,
    ) -> None:
        """``types``: those whose params can be checked at the door. Others are known by their announcement.
        ``in_thread`` runs a call off the reactor's thread: fifty expressions take a quarter of a second to compile."""
        self._broker = broker
        self._jobs = jobs
        self._types = types
        self._cancel = cancel
        self._clock = clock
        self._new_id = new_id
        self._in_thread = in_thread
        self._announced: dict[str, TypeInfo] = {}
        self._announced_at_s = float("-inf")

    @property
    def now_ms(self) -> int:
        return int(self._clock.seconds() * 1000)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    async def submit(self, who: Principal, request: JobRequest, *, traceparent: str = "") -> Job:
        """Make a job. It is safe when this returns, also while the broker is down."""
        if not is_word(request.type):
            raise UnknownType(f"{request.type[:80]!r} cannot be a job type", where="type")
        who.require(who.may_submit(request.type), f"submitting {request.type} jobs")
        params = bytes(request.params)
        await self._check_params(request.type, params)
        if request.priority not in PRIORITIES:
            raise InvalidInput(f"priority must be {' or '.join(sorted(PRIORITIES))}", where="priority")
        if not 0 <= request.delay <= DELAY_MOST_S:
            raise InvalidInput(f"delay must be 0 to {DELAY_MOST_S:.0f} seconds", where="delay")
        if len(request.key.encode("utf-8", "surrogatepass")) > ID_BYTES:
            raise InvalidInput(f"a key has at most {ID_BYTES} bytes", where="key")
        submission = Submission(
            type=request.type,
            params=params,
            owner=who.sub,
            key=request.key,
            priority=request.priority,
            not_before_ms=self.now_ms + round(request.delay * 1000) if request.delay else None,
            traceparent=traceparent,
        )
        return (await self._jobs.submit(submission)).job

    async def _check_params(self, type_: str, params: bytes) -> None:
        json.check(params, where="params")
        known = self._types.get(type_)
        if known is not None:
            await self._in_thread(known.decode, params)
            return
        if type_ not in await self.announced():
            names = ", ".join(sorted({*self._types, *self._announced}))
            raise UnknownType(f"no worker performs {type_!r} jobs; there are: {names or 'none'}", where="type")
        if not params.lstrip().startswith(b"{"):
            raise InvalidParams("params must be a JSON object", where="params")

    async def announced(self) -> Mapping[str, TypeInfo]:
        """The job types that workers have announced."""
        now_s = self._clock.seconds()
        if now_s - self._announced_at_s > TYPES_KNOWN_S:
            self._announced = {info.name: info for info in await self._jobs.types()}
            self._announced_at_s = now_s
        return self._announced

    async def result_types(self, type_: str) -> Sequence[str]:
        """The event types that are results of a job type."""
        known = self._types.get(type_)
        if known is not None:
            return known.results
        info = (await self.announced()).get(type_)
        return info.results if info is not None else TypeInfo(name=type_).results

    async def job(self, who: Principal, job: str) -> Job:
        """A job that ``who`` may see. Raises NotFound, also for one that is not theirs to know of."""
        found = await self._get(job)
        if not who.may_watch(job, found.owner):
            raise _no_job(job)
        return found

    async def cancel(self, who: Principal, job: str) -> Job:
        """End a job; one that has ended is returned as it is."""
        await self._mine(who, job, "cancelling")
        return await self._cancel(job)

    async def run_again(self, who: Principal, job: str) -> Job:
        """Begin an ended job anew. Raises Conflict if it has not ended."""
        found = await self._mine(who, job, "running again")
        who.require(who.may_submit(found.type), f"submitting {found.type} jobs")
        return await self._jobs.run_again(job)

    async def _mine(self, who: Principal, job: str, what: str) -> Job:
        found = await self.job(who, job)
        who.require(who.may_change(job, found.owner), f"{what} the job {job}")
        return found

    async def _get(self, job: str) -> Job:
        if not is_word(job):
            raise _no_job(job)
        return await self._jobs.get(job)

    # -- events -------------------------------------------------------------------------------------------------------

    def publish(self, who: Principal, requests: Sequence[EventRequest]) -> Awaitable[list[str]]:
        """Publish events in their order; the awaitable gives their ids once the broker has all of them.

        Raises at once, having published none, if one is refused or the broker takes none (BrokerUnavailable).
        """
        events = [self._event(who, request, index) for index, request in enumerate(requests)]
        if not self._broker.accepting:
            raise BrokerUnavailable("the broker takes no events now: publish again, under the same ids")
        confirms = [self._broker.publish(topology.EVENTS, one.topic, event_to_message(one)) for one in events]
        return _confirmed([event.id for event in events], gatherResults(confirms, consumeErrors=True))

    def _event(self, who: Principal, request: EventRequest, index: int) -> Event:
        where = f"[{index}]" if index else ""
        topic = check_topic(request.topic)
        who.require(who.may_publish(topic), f"publishing to {topic}")
        if not request.type or len(request.type.encode("utf-8", "surrogatepass")) > TYPE_BYTES:
            raise InvalidInput(f"an event type has 1 to {TYPE_BYTES} bytes", where=f"{where}type")
        if request.type in TRANSIENT:
            raise InvalidInput(f"events of the type {request.type!r} are made by msgd itself", where=f"{where}type")
        if len(request.id.encode("utf-8", "surrogatepass")) > ID_BYTES:
            raise InvalidInput(f"an id has at most {ID_BYTES} bytes", where=f"{where}id")
        source = who.sub
        if request.source is not UNSET and request.source != source:
            # Ids are told apart by their source: whoever could choose it could take another's ids.
            who.require(who.administers(topic), f"the source {request.source!r} on {topic}: leave it out")
            source = request.source
        for name, text in (("type", request.type), ("id", request.id), ("source", source)):
            if "\0" in text:  # the journal would refuse it, when nobody can be told any more
                raise InvalidInput(f"an event's {name} cannot hold the character U+0000", where=f"{where}{name}")
        now_ms = self.now_ms
        return Event(
            topic=topic,
            type=request.type,
            id=request.id or self._new_id(now_ms),
            source=source,
            time_ms=now_ms,
            data=json.check(bytes(request.data), where=f"{where}data"),
        )


async def _confirmed(ids: list[str], confirms: Deferred[list[None]]) -> list[str]:
    try:
        await confirms
    except FirstError as error:
        error.subFailure.raiseException()
    return ids


def _no_job(job: str) -> NotFound:
    return NotFound(f"there is no job {job[:80]!r}, or it is not yours to see", where="id")

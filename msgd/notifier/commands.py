"""What can be asked for, by whichever door: each command checks the right, the form, and says what became of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

from msgspec import UNSET, Raw, Struct, UnsetType
from twisted.internet.defer import Deferred, FirstError, gatherResults

from msgd.broker import topology
from msgd.broker.interface import Broker
from msgd.clock import Clock, milliseconds
from msgd.errors import BrokerUnavailable, InvalidInput, InvalidParams, InvalidTopic, UnknownType
from msgd.jobs.interface import DELAY_MOST_S, Job, Jobs, Submission, TypeInfo
from msgd.messages import json
from msgd.messages.events import TRANSIENT, Event
from msgd.messages.ids import IdMaker
from msgd.messages.jobs import PRIORITIES
from msgd.messages.limits import ID_BYTES, TYPE_BYTES
from msgd.messages.topics import check_pattern, check_topic, is_word
from msgd.messages.wire import event_to_message
from msgd.notifier.access import Access
from msgd.notifier.allowances import Allowances
from msgd.notifier.interface import PUBLISH, SUBSCRIBE, JobRequest, Principal
from msgd.notifier.pressure import Pressure
from msgd.notifier.rooms.interface import TYPES as ROOM_TYPES
from msgd.notifier.rooms.interface import room_of, room_topic
from msgd.work.interface import JobType

TYPES_KNOWN_S: Final = 2.0
"""How long announced job types are remembered: a new worker is usable soon, and a herd asks the database once."""


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
    """The commands, for any principal. To routes of services they are :class:`~msgd.notifier.interface.Orders`."""

    def __init__(
        self,
        broker: Broker,
        jobs: Jobs,
        types: Mapping[str, JobType[Any]],
        access: Access,
        allowances: Allowances,
        pressure: Pressure,
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
        self._access = access
        self._allowances = allowances
        self._pressure = pressure
        self._cancel = cancel
        self._clock = clock
        self._new_id = new_id
        self._in_thread = in_thread
        self._announced: dict[str, TypeInfo] = {}
        self._announced_at_s = float("-inf")

    @property
    def now_ms(self) -> int:
        return milliseconds(self._clock)

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def check_submit(self, who: Principal, type_: str) -> None:
        """Raises UnknownType, Forbidden or Overloaded if a job of this type cannot be submitted now."""
        if not is_word(type_):
            raise UnknownType(f"{type_[:80]!r} cannot be a job type", where="type")
        who.require(who.may_submit(type_), f"submitting {type_} jobs")
        self._pressure.check_jobs()

    async def submit(self, who: Principal, request: JobRequest, *, traceparent: str = "") -> Job:
        """Make a job. It is safe when this returns, also while the broker is down."""
        return (await self._jobs.submit(await self.submission(who, request, traceparent=traceparent))).job

    async def submission(self, who: Principal, request: JobRequest, *, traceparent: str = "") -> Submission:
        """What :meth:`submit` makes a job of, all checks done."""
        self.check_submit(who, request.type)
        params = bytes(request.params)
        await self._check_params(request.type, params)
        await self._check_needs(who, request.type, params)
        if request.priority not in PRIORITIES:
            raise InvalidInput(f"priority must be {' or '.join(sorted(PRIORITIES))}", where="priority")
        if not 0 <= request.delay <= DELAY_MOST_S:
            raise InvalidInput(f"delay must be 0 to {DELAY_MOST_S:.0f} seconds", where="delay")
        if len(request.key.encode("utf-8", "surrogatepass")) > ID_BYTES:
            raise InvalidInput(f"a key has at most {ID_BYTES} bytes", where="key")
        return Submission(
            type=request.type,
            params=params,
            owner=who.sub,
            key=request.key,
            priority=request.priority,
            not_before_ms=self.now_ms + round(request.delay * 1000) if request.delay else None,
            traceparent=traceparent,
        )

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

    async def _check_needs(self, who: Principal, type_: str, params: bytes) -> None:
        """Raises Forbidden unless ``who`` has the rights that a job of this type takes; InvalidInput and its kinds for
        params that do not tell."""
        known = self._types.get(type_) or (await self.announced()).get(type_)
        if known is None or not known.needs:
            return
        given = json.decode(params, dict, where="params", error=InvalidParams)
        for need in known.needs:
            where = f"params.{need.param}"
            for name in _texts(given.get(need.param), where):
                try:
                    await self._check_need(who, need.action, name)
                except InvalidTopic as error:
                    raise InvalidParams(error.message, where=where) from None

    async def _check_need(self, who: Principal, action: str, name: str) -> None:
        if action == PUBLISH:
            self._access.check_publish(who, check_topic(name))
        elif action == SUBSCRIBE:
            await self._access.check_read(who, check_pattern(name))
        else:
            who.require(who.may(action, name), f"{action}:{name}")

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
        return await self._access.job(who, job)

    async def cancel(self, who: Principal, job: str) -> Job:
        """End a job; one that has ended is returned as it is."""
        await self._mine(who, job, "cancelling")
        return await self._cancel(job)

    async def run_again(self, who: Principal, job: str) -> Job:
        """Begin an ended job anew. Raises Conflict if it has not ended."""
        found = await self._mine(who, job, "running again")
        who.require(who.may_submit(found.type), f"submitting {found.type} jobs")
        await self._check_needs(who, found.type, found.params)
        return await self._jobs.run_again(job)

    async def _mine(self, who: Principal, job: str, what: str) -> Job:
        found = await self.job(who, job)
        who.require(who.may_change(job, found.owner), f"{what} the job {job}")
        return found

    # -- events -------------------------------------------------------------------------------------------------------

    def publish(self, who: Principal, requests: Sequence[EventRequest]) -> Awaitable[list[str]]:
        """Publish events in their order; the awaitable gives their ids once the broker has all of them.

        Raises at once, having published none, if one is refused, the broker takes none (BrokerUnavailable), the
        recorder is too far behind (Overloaded), or ``who`` publishes too many (RateLimited).
        """
        events = [self._event(who, request, index) for index, request in enumerate(requests)]
        if not self._broker.accepting:
            raise BrokerUnavailable("the broker takes no events now: publish again, under the same ids")
        self._pressure.check_events()
        self._allowances.publish(who, len(events))
        confirms = [self._broker.publish(topology.EVENTS, one.topic, event_to_message(one)) for one in events]
        return _confirmed([event.id for event in events], gatherResults(confirms, consumeErrors=True))

    def _event(self, who: Principal, request: EventRequest, index: int) -> Event:
        """The event that was asked for; ``index``: its place in the request, which errors name."""
        where = f"[{index}]" if index else ""
        topic = check_topic(request.topic)
        self._access.check_publish(who, topic)
        source = who.sub
        if request.source is not UNSET and request.source != source:
            # Ids are told apart by their source: whoever could choose it could take another's ids.
            who.require(who.administers(topic), f"the source {request.source!r} on {topic}: leave it out")
            source = request.source
        _check_event(request, topic, source, where)
        now_ms = self.now_ms
        return Event(
            topic=topic,
            type=request.type,
            id=request.id or self._new_id(now_ms),
            source=source,
            time_ms=now_ms,
            data=json.check(bytes(request.data), where=f"{where}data"),
        )


def _check_event(request: EventRequest, topic: str, source: str, where: str) -> None:
    """Raises InvalidInput for an event that cannot be, or that only msgd itself may make."""
    if not request.type or len(request.type.encode("utf-8", "surrogatepass")) > TYPE_BYTES:
        raise InvalidInput(f"an event type has 1 to {TYPE_BYTES} bytes", where=f"{where}type")
    if request.type in TRANSIENT:
        raise InvalidInput(f"events of the type {request.type!r} are made by msgd itself", where=f"{where}type")
    if request.type in ROOM_TYPES and topic == room_topic(room_of(topic) or ""):
        raise InvalidInput(
            f"events of the type {request.type!r} on a room's topic are made by msgd itself", where=f"{where}type"
        )
    if len(request.id.encode("utf-8", "surrogatepass")) > ID_BYTES:
        raise InvalidInput(f"an id has at most {ID_BYTES} bytes", where=f"{where}id")
    for name, text in (("type", request.type), ("id", request.id), ("source", source)):
        if "\0" in text:  # the journal would refuse it, when nobody can be told any more
            raise InvalidInput(f"an event's {name} cannot hold the character U+0000", where=f"{where}{name}")


def _texts(given: object, where: str) -> Sequence[str]:
    """A text or a list of texts, as a list; of null nothing."""
    values = [] if given is None else given if isinstance(given, list) else [given]
    texts = [value for value in values if isinstance(value, str)]
    if len(texts) < len(values):
        raise InvalidParams("a text is expected, or a list of them", where=where)
    return texts


async def _confirmed(ids: list[str], confirms: Deferred[list[None]]) -> list[str]:
    try:
        await confirms
    except FirstError as error:
        error.subFailure.raiseException()
    return ids

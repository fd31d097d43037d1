"""Events and job messages to and from the AMQP form of DESIGN §4.1, in which any AMQP client takes part.

========================  =======================================================
body                      ``data`` of an event, ``params`` of a job: UTF-8 JSON
``message_id``            the id
``type``                  the event type (jobs have it in the routing key)
``app_id``                the source
``timestamp``             seconds; ``msgd-time`` has RFC 3339 with milliseconds
routing key               the topic, or the job type
``msgd-run``, ``-token``  of events of jobs; ``msgd-n`` orders progress
``msgd-seq``, ``-cursor`` of events pushed to a ``reply_to``
``msgd-slice``            of job messages that the database has caused
``msgd-outbox``           the outbox row that the message came from
========================  =======================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from msgd.errors import InvalidInput
from msgd.messages import json
from msgd.messages.envelope import HeaderValue, Message
from msgd.messages.events import Event
from msgd.messages.jobs import NORMAL, PRIORITIES, JobMessage
from msgd.messages.limits import ID_BYTES, TYPE_BYTES
from msgd.messages.topics import check_topic, is_word

VERSION: Final = 1
RESERVED_REPLY: Final = "msgd."
"""``reply_to`` must not name a queue of ours: a caller could have replies written into them."""

_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999
"""The years 1 to 9999, which is what RFC 3339 can say."""


def format_time(time_ms: int) -> str:
    """RFC 3339 in UTC with milliseconds: ``2026-11-21T01:28:00.000Z``."""
    return f"{_format_second(time_ms // 1000)}.{time_ms % 1000:03d}Z"


@lru_cache(maxsize=16)  # the events of a second, of which there may be thousands, share it
def _format_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"


def parse_time(text: str, *, where: str = "time") -> int:
    """Milliseconds since 1970 of an RFC 3339 time; raises InvalidInput."""
    try:
        stamp = datetime.fromisoformat(text)
        if stamp.tzinfo is None:
            raise ValueError("it has no offset from UTC")
        time_ms = round(stamp.timestamp() * 1000)
        if not _FIRST_MS <= time_ms <= _LAST_MS:
            raise ValueError("in UTC it is not in the years 1 to 9999")
        return time_ms
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{text[:40]!r} is not an RFC 3339 time: {error}", where=where) from None


def _number(headers: Mapping[str, HeaderValue], name: str) -> int | None:
    value = headers.get(name)
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    raise InvalidInput(f"header {name} must be a number from 0, not {value!r}", where=name)


def _text(headers: Mapping[str, HeaderValue], name: str) -> str:
    value = headers.get(name, "")
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return value if isinstance(value, str) else ""


# -- events ------------------------------------------------------------------------------------------------------------


def event_to_message(event: Event, *, seq: int | None = None, cursor: str = "") -> Message:
    """The AMQP form of an event; its routing key is ``event.topic``. ``seq`` and ``cursor``: once it is recorded."""
    headers: dict[str, HeaderValue] = {"msgd-version": VERSION, "msgd-time": format_time(event.time_ms)}
    if event.run is not None:
        headers["msgd-run"] = event.run
    if event.token is not None:
        headers["msgd-token"] = event.token
    if event.n is not None:
        headers["msgd-n"] = event.n
    if event.outbox is not None:
        headers["msgd-outbox"] = event.outbox
    if seq is not None:
        headers["msgd-seq"] = seq
    if cursor:
        headers["msgd-cursor"] = cursor
    return Message(
        body=event.data,
        message_id=event.id,
        type=event.type,
        app_id=event.source,
        timestamp=event.time_ms // 1000,
        persistent=not event.transient,
        headers=headers,
    )


def message_to_event(topic: str, message: Message, *, now_ms: int, new_id: str) -> Event:
    """The event in an AMQP message; raises InvalidInput (and its kinds) for what no event can be.

    A foreign client may leave out nearly everything: ``now_ms`` and ``new_id`` stand in for its time and its id.
    """
    check_topic(topic)
    if not message.type:
        raise InvalidInput("an event needs the property 'type', such as 'created'", where="type")
    if len(message.type.encode()) > TYPE_BYTES:
        raise InvalidInput(f"an event type has at most {TYPE_BYTES} bytes", where="type")
    if len(message.message_id.encode()) > ID_BYTES:
        raise InvalidInput(f"a message_id has at most {ID_BYTES} bytes", where="message_id")
    stamp = _text(message.headers, "msgd-time")
    if stamp:
        time_ms = parse_time(stamp, where="msgd-time")
    elif message.timestamp is not None:
        time_ms = message.timestamp * 1000
        if time_ms > _LAST_MS:  # nobody could be shown the event
            raise InvalidInput(
                f"timestamp {message.timestamp} must be seconds since 1970: are these milliseconds?", where="timestamp"
            )
    else:
        time_ms = now_ms
    return Event(
        topic=topic,
        type=message.type,
        id=message.message_id or new_id,
        source=message.app_id,
        time_ms=time_ms,
        data=json.check(message.body, where="body"),
        run=_number(message.headers, "msgd-run"),
        token=_number(message.headers, "msgd-token"),
        n=_number(message.headers, "msgd-n"),
        outbox=_number(message.headers, "msgd-outbox"),
    )


# -- jobs --------------------------------------------------------------------------------------------------------------


def job_to_message(job: JobMessage) -> Message:
    """The AMQP form of a job message; for its routing key see ``broker.topology.job_key``."""
    headers: dict[str, HeaderValue] = {"msgd-version": VERSION}
    if job.slice is not None:
        headers["msgd-slice"] = job.slice
    if job.priority != NORMAL:
        headers["msgd-priority"] = job.priority
    if job.traceparent:
        headers["traceparent"] = job.traceparent
    return Message(
        body=job.params,
        message_id=job.id,
        app_id=job.app_id,
        reply_to=job.reply_to,
        correlation_id=job.correlation_id,
        headers=headers,
    )


def message_to_job(type_: str, message: Message, *, new_id: str) -> JobMessage:
    """The job message in an AMQP message; raises InvalidInput (and its kinds) for what no job can be.

    Without ``message_id`` the submission is at least once: ``new_id`` is taken, and a redelivery makes a second job.
    """
    job = message.message_id or new_id
    if not is_word(job):
        raise InvalidInput(
            f"message_id {job[:80]!r} cannot be a job id: letters, digits, '_' and '-' only, for the topic job.<id>",
            where="message_id",
        )
    if message.reply_to.startswith(RESERVED_REPLY):
        raise InvalidInput(f"reply_to {message.reply_to!r} names a queue of msgd", where="reply_to")
    priority = _text(message.headers, "msgd-priority") or NORMAL
    if priority not in PRIORITIES:
        raise InvalidInput(
            f"header msgd-priority must be one of {', '.join(sorted(PRIORITIES))}", where="msgd-priority"
        )
    slice_ = _number(message.headers, "msgd-slice")
    params = message.body or b"{}"
    if slice_ is None:  # else the database has them, checked: to read a megabyte again takes 20 ms of the reactor
        json.check(params, where="body")
    return JobMessage(
        id=job,
        type=type_,
        params=params,
        slice=slice_,
        priority=priority,
        app_id=message.app_id,
        reply_to=message.reply_to,
        correlation_id=message.correlation_id,
        traceparent=_text(message.headers, "traceparent"),
    )

"""What a job's transitions say to the world: calls of workers, and events of the job. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Struct

from msgd.broker.topology import EVENTS, JOBS, job_key
from msgd.jobs.interface import Job, Problem
from msgd.messages import json
from msgd.messages.envelope import Message
from msgd.messages.events import CANCELLED, DONE, FAILED, RETRYING, Event, event_id
from msgd.messages.jobs import JobMessage
from msgd.messages.topics import job_topic
from msgd.messages.wire import event_to_message, format_time, job_to_message

OUTBOX_HEADER: Final = "msgd-outbox"

PROBLEM_CHARACTERS: Final = 2000
"""Of an error's message: enough for a sentence and an address, too little for a page of somebody's HTML."""


class Posting(Struct, frozen=True):
    """A row for the outbox that has no number yet."""

    job: str
    exchange: str
    key: str
    message: Message
    not_before_ms: int = 0

    @property
    def is_call(self) -> bool:
        return self.exchange == JOBS


def call(job: Job) -> Posting:
    """The message that calls a worker for the job's present slice."""
    message = job_to_message(
        JobMessage(
            id=job.id,
            type=job.type,
            params=job.params,
            slice=job.slice,
            priority=job.priority,
            reply_to=job.reply_to,
            correlation_id=job.correlation_id,
            traceparent=job.traceparent,
        )
    )
    key = job_key(job.type, job.priority, continuation=job.started_ms is not None)
    return Posting(job.id, JOBS, key, message, job.not_before_ms or 0)


def event(job: Job, type_: str, now_ms: int) -> Posting:
    """The event of a transition, told from the job as it stands after it."""
    topic = job_topic(job.id)
    said = Event(
        topic=topic,
        type=type_,
        # A job may be retried at several of its slices, each time beginning with attempt 1: the slice tells them apart.
        id=event_id(job.id, job.run, type_, str(job.slice) if type_ == RETRYING else ""),
        source=job.type,
        time_ms=now_ms,
        data=_data(job, type_),
        run=job.run,
        token=job.token,
    )
    return Posting(job.id, EVENTS, topic, event_to_message(said))


def told(event: Event) -> Posting:
    """An event that somebody tells of a change of his own. It is in no job's line: nothing waits for its confirm."""
    return Posting("", EVENTS, event.topic, event_to_message(event))


def _data(job: Job, type_: str) -> bytes:
    """The data of the events that come out of transitions.

    ``done`` ``{result}``, ``failed`` ``{code, message}``, ``cancelled`` ``{}``,
    ``retrying`` ``{code, message, attempt, at}`` with the time of the next attempt.
    """
    data: dict[str, Any] = {}
    if type_ == DONE:
        data["result"] = msgspec.Raw(job.result or b"null")
    if type_ in (FAILED, RETRYING) and job.error is not None:
        data |= {"code": job.error.code, "message": job.error.message}
    if type_ == RETRYING:
        data |= {"attempt": job.attempt, "at": format_time(job.not_before_ms or 0)}
    assert type_ != CANCELLED or not data
    return json.encode(data)


def numbered(message: Message, exchange: str, row: int) -> Message:
    """A message as it leaves the outbox: an event names its row, so that the recorder can delete it."""
    if exchange != EVENTS:
        return message
    return msgspec.structs.replace(message, headers={**message.headers, OUTBOX_HEADER: row})


def storable(text: str) -> str:
    """``text`` as both databases and JSON can hold it: without NUL (PostgreSQL) and lone surrogates (UTF-8)."""
    if text.isascii() and "\0" not in text:
        return text
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def kept(problem: Problem) -> Problem:
    """A problem as it is stored: its message, which may be anything a library said, cleaned and shortened."""
    return Problem(storable(problem.code)[:100], storable(problem.message)[:PROBLEM_CHARACTERS])

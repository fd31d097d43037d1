"""Jobs, events and gaps as JSON: one form for the API, the WebSocket and the dashboard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

from msgspec import Raw, Struct

from msgd.jobs.interface import DeadLetter, Job, State, TypeInfo
from msgd.journal.interface import Gap
from msgd.messages import json
from msgd.messages.cursors import Cursor
from msgd.messages.events import Recorded
from msgd.messages.live import LiveEvent, live_event
from msgd.messages.topics import job_topic
from msgd.messages.wire import format_time

_NULL: Final = Raw(b"null")


class EventView(Struct, frozen=True, omit_defaults=True):
    """An event in a page of history; ``run`` is there on events of jobs."""

    topic: str
    seq: int | None  # None: transient
    cursor: str | None
    id: str
    type: str
    source: str
    time: str
    data: Raw
    run: int | None = None


class EventMessage(EventView, frozen=True, tag_field="op", tag="event"):
    """An event in ``msgd.v1``. ``subscription`` is the pattern that it came by, where that is not its topic, so that a
    client with overlapping subscriptions knows whose cursor has moved."""

    subscription: str = ""


def _fields(epoch: str, event: LiveEvent) -> dict[str, Any]:
    return {
        "topic": event.topic,
        "seq": event.seq,
        "cursor": None if event.pos is None else str(Cursor(epoch, event.pos)),
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "time": format_time(event.time),
        "data": event.data,
        "run": event.run,
    }


def event_message(epoch: str, event: LiveEvent, subscription: str) -> bytes:
    """The ``event`` message for the readers of one subscription."""
    by = "" if subscription == event.topic else subscription
    return json.encode(EventMessage(**_fields(epoch, event), subscription=by))


def event_page(epoch: str, event: LiveEvent) -> bytes:
    """An event of a page, encoded."""
    return json.encode(EventView(**_fields(epoch, event)))


def event_view(epoch: str, recorded: Recorded) -> EventView:
    """An event of a page of history."""
    return EventView(**_fields(epoch, live_event(recorded.event, recorded.seq, recorded.pos)))


def gap_view(gap: Gap) -> dict[str, Any]:
    """What was lost, as it stands in pages and messages."""
    return {
        "topic": gap.topic,
        "requested": gap.requested,
        "first": gap.first,
        "lost": gap.lost,
        "reason": gap.reason.value,
    }


def page_view(events: Sequence[Any], cursor: str, more: bool, gaps: Sequence[Gap]) -> dict[str, Any]:
    """A page of history: its events, the place behind them, and what was lost in front of them."""
    view: dict[str, Any] = {"events": events, "cursor": cursor, "more": more}
    if gaps:
        shown = [gap_view(gap) for gap in gaps]
        view |= {"gap": shown[0], "gaps": shown}
    return view


def _time(time_ms: int | None) -> str | None:
    return None if time_ms is None else format_time(time_ms)


def _raw(stored: bytes | None) -> Raw:
    return _NULL if stored is None else Raw(stored)


def job_brief(job: Job) -> dict[str, Any]:
    """What identifies a job, and how far it is."""
    return {"id": job.id, "topic": job_topic(job.id), "state": job.shown_state.value}


def submitted_view(job: Job, asked: str) -> dict[str, Any]:
    """What a submission of a job of type ``asked`` is answered with: a ``type`` stands there only if its key stands for
    a job of another one, which a client that looks no further would take for what it asked for."""
    return job_brief(job) | ({"type": job.type} if job.type != asked else {})


def job_view(job: Job) -> dict[str, Any]:
    """A job as its page shows it. An end is shown with all that belongs to it, or not at all."""
    state = job.shown_state
    ended = job.ended and state is job.state
    return job_brief(job) | {
        "type": job.type,
        "run": job.run,
        "params": Raw(job.params),
        "owner": job.owner,
        "priority": job.priority,
        "created": format_time(job.created_ms),
        "not_before": _time(job.not_before_ms),
        "started": _time(job.started_ms),
        "ended": _time(job.ended_ms) if ended else None,
        "progress": _raw(job.progress),
        "attempt": job.attempt,
        "cancel_requested": job.cancel_requested,
        "result": _raw(job.result) if state is State.DONE else _NULL,
        "error": {"code": job.error.code, "message": job.error.message} if job.error else None,
        "parent": job.parent or None,
        "children": job.children,
    }


def jobs_view(jobs: Sequence[Job], *, more: bool) -> dict[str, Any]:
    """A page of jobs, newest first; ``before`` asks for the next one."""
    before = jobs[-1].id if more and jobs else None
    return {"jobs": [job_view(job) for job in jobs], "before": before}


def type_view(info: TypeInfo) -> dict[str, Any]:
    """A job type that may be submitted."""
    return {
        "name": info.name,
        "summary": info.summary,
        "schema": Raw(info.schema),
        "results": info.results,
        "needs": info.needs,
        "paused": info.paused,
    }


BODY_SHOWN: Final = 1000
"""Bytes of a dead letter's body in a list."""


def dead_view(letter: DeadLetter, *, whole: bool = False) -> dict[str, Any]:
    """A dead letter; of its body the beginning, or all of it. Bytes that are not UTF-8 are shown as ``\\xff``."""
    message = letter.message
    body = message.body if whole else message.body[:BODY_SHOWN]
    return {
        "id": str(letter.id),
        "time": format_time(letter.time_ms),
        "reason": letter.reason,
        "queue": letter.queue,
        "exchange": letter.exchange,
        "key": letter.key,
        "job": letter.job or None,
        "message_id": message.message_id,
        "type": message.type,
        "source": message.app_id,
        "content_type": message.content_type,
        "reply_to": message.reply_to,
        "correlation_id": message.correlation_id,
        "headers": {name: _plain(value) for name, value in message.headers.items()},
        "bytes": len(message.body),
        "body": body.decode("utf-8", "backslashreplace"),
    }


def _plain(value: Any) -> Any:
    """A header's value as JSON has it."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, Mapping):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, str)) or (isinstance(value, float) and isfinite(value)):
        return value
    return str(value)

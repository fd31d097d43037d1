"""Which rules an event concerns, and the jobs that come of it. Pure; templates take their time, so in a thread."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from msgspec import Raw, Struct
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.errors import MsgdError
from msgd.jobs.interface import Submission
from msgd.messages import json
from msgd.messages.events import Event, Recorded
from msgd.messages.topics import job_of
from msgd.messages.wire import format_time
from msgd.services.messenger.rules.rule import MAIL, MESSAGE, Rule
from msgd.services.messenger.rules.template import TemplateFailed, condition, template

_log = Logger()

JOB_PREFIX: Final = "rule-"
"""How the ids of jobs of rules begin, so that no rule acts on what such a job tells of itself."""

DIGEST_EVENTS: Final = 100
"""Events that a digest shows; further ones are counted."""

DIGEST_EVENT_BYTES: Final = 8 * 1024
"""Of an event's data in a digest; larger data is left out."""

SUBJECT_CHARACTERS: Final = 200

USUAL_SUBJECT: Final = "{{ event.data.title or event.topic }}"
USUAL_TEXT: Final = "{{ event.data.text or event.data }}{% if event.data.url %}\n\n{{ event.data.url }}{% endif %}"
USUAL_DIGEST_SUBJECT: Final = "{{ rule.name }}: {{ count }} events"
USUAL_DIGEST_TEXT: Final = (
    "{% for event in events %}{{ event.time }} {{ event.topic }}: {{ event.data.title or event.type }}\n{% endfor %}"
    "{% if count > shown %}\nand more: {{ count }} events in all\n{% endif %}"
)

_NOT_SEEN: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f\u2028\u2029\ufffe\uffff]")
_EVENT_WORDS: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


class Shown(Struct, frozen=True):
    """What templates have made of an event, or of a digest."""

    subject: str
    text: str
    event: dict[str, Any]  # the event, or the last one of a digest
    events: tuple[dict[str, Any], ...]  # of a digest
    count: int = 1


class Wanted(Struct, frozen=True):
    """An event that a rule asks for: what to send, or what to collect; or why that failed."""

    rule: Rule
    recorded: Recorded
    jobs: Sequence[Submission] = ()
    kept: bytes | None = None  # of a rule with digests: the event, as it is collected
    error: str = ""


def is_own(event: Event) -> bool:
    """Whether a job of a rule tells it of itself."""
    job = job_of(event.topic)
    return job is not None and job.startswith(JOB_PREFIX)


def event_values(event: Event, seq: int | None = None) -> dict[str, Any]:
    """An event as templates, webhooks and digests have it."""
    return {
        "topic": event.topic,
        "type": event.type,
        "id": event.id,
        "source": event.source,
        "time": format_time(event.time_ms),
        "seq": seq,
        "data": json.decode(event.data, object),
    }


def wanted(rules: Sequence[Rule], events: Sequence[Recorded]) -> list[Wanted]:
    """What the rules ask for of these events, in their order. What goes wrong is the trouble of one rule with one
    event, whatever it is: the others go on."""
    found: list[Wanted] = []
    for recorded in events:
        if is_own(recorded.event):
            continue
        values: dict[str, Any] | None = None
        for rule in rules:
            try:
                if not rule.concerns(recorded.event.topic, recorded.event.type):
                    continue
                values = values or event_values(recorded.event, recorded.seq)
                one = of_rule(rule, recorded, values)
            except Exception as error:
                one = Wanted(rule, recorded, error=problem(error))
            if one is not None:
                found.append(one)
    return found


def of_rule(rule: Rule, recorded: Recorded, values: dict[str, Any]) -> Wanted | None:
    """What one rule makes of an event; None if its condition does not hold. Raises what :func:`problem` tells."""
    if not holds(rule, values):
        return None
    event = recorded.event
    if rule.digest_s:
        return Wanted(rule, recorded, kept=collected(event, recorded.seq))
    cause = f"{event.topic}\n{event.source}\n{event.id}"
    return Wanted(rule, recorded, submissions(rule, show(rule, values), cause))


def holds(rule: Rule, values: dict[str, Any]) -> bool:
    """Whether the rule's condition holds for an event; raises TemplateFailed, and InvalidInput."""
    return not rule.condition or bool(condition(rule.condition).render(_values(rule, values, [values], 1)))


def of_digest(rule: Rule, kept: Sequence[tuple[int, bytes]]) -> tuple[Sequence[Submission], str]:
    """The jobs of a digest of what was collected, or why there are none."""
    try:
        events = [json.decode(event, dict[str, Any]) for _, event in kept]
        shown = show_digest(rule, events, rule.digest_count)
        return submissions(rule, shown, f"digest\n{kept[0][0]}"), ""
    except Exception as error:
        return (), problem(error)


def problem(error: Exception) -> str:
    """What went wrong with a rule, for its owner; what nobody has thought of is logged too."""
    if isinstance(error, TemplateFailed):
        return _clean(str(error))
    if isinstance(error, MsgdError):
        return _clean(error.reason)
    _log.failure("a rule could not act", failure=Failure(error))
    return _clean(f"{type(error).__name__}: {error}")


def show(rule: Rule, values: dict[str, Any]) -> Shown:
    """One event through the rule's templates; raises TemplateFailed."""
    given = _values(rule, values, [values], 1)
    subject = template(rule.subject or USUAL_SUBJECT).render(given)
    text = template(rule.text or USUAL_TEXT).render(given)
    return Shown(_line(subject) or rule.name, _clean(text) or _line(subject) or rule.name, values, ())


def show_digest(rule: Rule, events: Sequence[dict[str, Any]], count: int) -> Shown:
    """What was collected through the rule's templates; raises TemplateFailed. ``count``: with those not kept."""
    given = _values(rule, events[-1], list(events), count)
    subject = template(rule.subject or USUAL_DIGEST_SUBJECT).render(given)
    text = template(rule.text or USUAL_DIGEST_TEXT).render(given)
    return Shown(_line(subject) or rule.name, _clean(text) or rule.name, events[-1], tuple(events), count)


def collected(event: Event, seq: int) -> bytes:
    """An event as a digest keeps it, as JSON; without its data if that is large."""
    values = event_values(event, seq)
    if len(event.data) > DIGEST_EVENT_BYTES:
        values["data"] = None
    return json.encode(values)


def submissions(rule: Rule, shown: Shown, cause: str) -> list[Submission]:
    """The jobs of a message. ``cause`` names what it is about: the same cause is never the reason of two."""
    made = job_params(rule.action, rule.to, shown, rule=rule.id, name=rule.name)
    return [
        Submission(type=rule.action, params=json.encode(params), id=_job_id(rule.id, cause, number), owner=rule.owner)
        for number, params in enumerate(made)
    ]


def job_params(action: str, to: Sequence[str], shown: Shown, *, rule: str, name: str) -> list[dict[str, Any]]:
    """The params of the jobs that tell ``to`` what is ``shown``."""
    if action == MAIL:
        # Mail has templates of its own: what an event says must not be taken for one.
        said = {"rule_subject": shown.subject, "rule_text": shown.text}
        people = [{"email": address, "vars": said} for address in to]
        return [{"to": people, "subject": "{{ rule_subject }}", "text": "{{ rule_text }}", "unsubscribe": False}]
    if action == MESSAGE:
        body = shown.text if shown.text.startswith(shown.subject) else f"{shown.subject}\n{shown.text}"
        return [{"via": "xmpp", "to": address, "body": body} for address in to]
    data: dict[str, Any] = {"rule": {"id": rule, "name": name}, "subject": shown.subject, "text": shown.text}
    data |= {"events": shown.events, "count": shown.count} if shown.events else {"event": shown.event}
    type_ = str(shown.event.get("type", ""))
    event = "digest" if shown.events else type_ if _EVENT_WORDS.fullmatch(type_) and len(type_) <= 200 else "event"
    return [{("url" if "://" in to[0] else "endpoint"): to[0], "event": event, "data": Raw(json.encode(data))}]


def _job_id(rule: str, cause: str, number: int) -> str:
    digest = hashlib.blake2b(f"{rule}\n{number}\n{cause}".encode("utf-8", "surrogatepass"), digest_size=16)
    return f"{JOB_PREFIX}{digest.hexdigest()}"


def _values(rule: Rule, event: dict[str, Any], events: list[dict[str, Any]], count: int) -> dict[str, Any]:
    told = {"id": rule.id, "name": rule.name}
    return {"event": event, "events": events, "count": count, "shown": len(events), "rule": told}


def _line(text: str) -> str:
    """A subject: one line, without what no header can hold."""
    line = " ".join(_NOT_SEEN.sub(" ", text).split())
    return line if len(line) <= SUBJECT_CHARACTERS else line[: SUBJECT_CHARACTERS - 1] + "…"


def _clean(text: str) -> str:
    return _NOT_SEEN.sub("", text).strip().encode("utf-8", "replace").decode()

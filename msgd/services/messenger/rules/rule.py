"""What a notification rule is."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct

from msgd.messages.topics import matches
from msgd.messages.wire import format_time
from msgd.notifier.interface import Grant, Principal

FOLLOWER: Final = "rules"
"""The name under which all messengers together follow the journal."""

MAIL: Final = "mail"
MESSAGE: Final = "message"
WEBHOOK: Final = "webhook"
ACTIONS: Final = (MAIL, MESSAGE, WEBHOOK)
"""What comes of an event: each is the job type that does it."""


class Rule(Struct, frozen=True, kw_only=True):
    """A rule as it is stored. Times are milliseconds since 1970.

    It acts with the rights that its owner's token had when the rule was saved.
    """

    id: str
    owner: str  # a sub
    grants: tuple[Grant, ...]  # of the owner, for reading
    name: str
    topics: tuple[str, ...]  # topics and patterns
    types: tuple[str, ...]  # event types; none: all
    condition: str  # an expression; empty: always
    action: str
    to: tuple[str, ...]  # addresses; of a webhook an endpoint's id or a URL
    subject: str  # templates; empty: a usual one
    text: str
    digest_s: float  # for which events are collected into one message; 0: each has its own
    hourly: int  # messages in an hour
    enabled: bool
    reason: str = ""  # why it is off, if nobody switched it off
    version: int  # grows with each change by hand
    created_ms: int
    changed_ms: int
    tokens: float  # messages that may be sent at once, as of ``tokens_ms``
    tokens_ms: int
    fired: int = 0  # messages so far
    fired_ms: int | None = None  # the last
    held_back: int = 0  # messages that were too many in their hour
    error: str = ""  # what went wrong last; empty since it is well again
    error_ms: int | None = None
    digest_due_ms: int | None = None
    digest_count: int = 0  # events collected since the last digest

    @property
    def principal(self) -> Principal:
        """The owner, with the rights that the rule has."""
        return Principal(sub=self.owner, grants=self.grants, expires_s=0.0)

    def concerns(self, topic: str, type_: str) -> bool:
        """Whether events of this type on this topic are asked for."""
        return (not self.types or type_ in self.types) and any(matches(pattern, topic) for pattern in self.topics)


def view(rule: Rule) -> dict[str, Any]:
    """A rule as the API shows it."""

    def time(time_ms: int | None) -> str | None:
        return None if time_ms is None else format_time(time_ms)

    return {
        "id": rule.id,
        "owner": rule.owner,
        "name": rule.name,
        "topics": rule.topics,
        "types": rule.types,
        "condition": rule.condition,
        "action": rule.action,
        "to": rule.to,
        "subject": rule.subject,
        "text": rule.text,
        "digest": rule.digest_s,
        "hourly": rule.hourly,
        "enabled": rule.enabled,
        "reason": rule.reason,
        "created": time(rule.created_ms),
        "changed": time(rule.changed_ms),
        "fired": rule.fired,
        "last_fired": time(rule.fired_ms),
        "held_back": rule.held_back,
        "last_error": rule.error or None,
        "last_error_at": time(rule.error_ms),
        "collected": rule.digest_count,
        "digest_due": time(rule.digest_due_ms),
    }

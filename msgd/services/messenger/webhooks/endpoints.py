"""What an endpoint is: where somebody wants to be told, with the secret that its receiver knows."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, Struct, UnsetType

from msgd.errors import InvalidInput
from msgd.messages.wire import format_time

DESCRIPTION_CHARACTERS: Final = 200
"""A line."""

OWNED: Final = 1000
"""Endpoints of one owner: more are made by a program that went wrong."""

OVERLAP_S: Final = 24 * 3600.0
"""For which the old secret signs too after a new one was made: a day to put the new one into the receiver."""

OVERLAP_MOST_S: Final = 30 * 24 * 3600.0
"""A secret that must be changed is not to count for ever."""

DELIVERIES_KEPT: Final = 100
"""Tries that are shown of each endpoint; all of a job's stand in its events."""

DISABLED: Final = "webhook.disabled"
"""The event on ``user.<owner>`` that tells of an endpoint to which nothing is sent any more."""


class Endpoint(Struct, frozen=True, kw_only=True):
    """An endpoint as it is stored, its secrets perhaps sealed. Times are milliseconds since 1970."""

    id: str
    owner: str
    url: str
    description: str
    secret: str
    old_secret: str = ""
    old_until_ms: int = 0
    enabled: bool = True
    reason: str = ""
    created_ms: int
    failing_since_ms: int | None = None

    def __repr__(self) -> str:
        """Without the secrets: this stands in logs of errors."""
        return f"Endpoint(id={self.id!r}, owner={self.owner!r}, url={self.url!r}, enabled={self.enabled!r})"

    def secrets(self, now_ms: int) -> list[str]:
        """Those that sign now, the newest first."""
        return [self.secret, *([self.old_secret] if self.old_secret and now_ms < self.old_until_ms else [])]


class Delivery(Struct, frozen=True, kw_only=True):
    """One try. ``status`` 0: there was no answer."""

    endpoint: str
    job: str
    event: str
    time_ms: int
    delivered: bool
    status: int
    ms: int
    error: str = ""


class NewEndpoint(Struct, kw_only=True, forbid_unknown_fields=True):
    """An endpoint asked for."""

    url: str
    description: str = ""


class EndpointChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What an endpoint is to be like; what is left out stays as it is."""

    url: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class Rotation(Struct, kw_only=True, forbid_unknown_fields=True):
    """A new secret asked for; the old one signs too for ``overlap`` seconds."""

    overlap: float = OVERLAP_S


def checked_description(text: str) -> str:
    """``text`` if it can describe an endpoint, else raises InvalidInput."""
    if len(text) > DESCRIPTION_CHARACTERS or "\0" in text:
        raise InvalidInput(
            f"a description has at most {DESCRIPTION_CHARACTERS} characters, none of them U+0000", where="description"
        )
    return text


def view(endpoint: Endpoint, now_ms: int) -> dict[str, Any]:
    """An endpoint as it is shown: without its secrets."""
    failing = endpoint.failing_since_ms
    both = endpoint.old_secret and now_ms < endpoint.old_until_ms
    return {
        "id": endpoint.id,
        "owner": endpoint.owner,
        "url": endpoint.url,
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "reason": endpoint.reason,
        "created": format_time(endpoint.created_ms),
        "failing_since": None if failing is None else format_time(failing),
        "old_secret_until": format_time(endpoint.old_until_ms) if both else None,
    }


def delivery_view(delivery: Delivery) -> dict[str, Any]:
    """A try as it is shown."""
    return {
        "job": delivery.job,
        "event": delivery.event,
        "time": format_time(delivery.time_ms),
        "delivered": delivery.delivered,
        "status": delivery.status or None,
        "ms": delivery.ms,
        "error": delivery.error,
    }

"""A message as it goes to ``msgd.dead``, with why it is there; the same whichever broker carries it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from msgd.messages.envelope import HeaderValue, Message

REASON_CHARACTERS: Final = 1000
"""Of a reason: an error's text may quote its input, and all headers share one frame."""

REASON: Final = "msgd-reason"
QUEUE: Final = "msgd-queue"
EXCHANGE: Final = "msgd-exchange"
KEY: Final = "msgd-key"
"""Headers of ours: why a message is dead, and where it was."""

_BROKERS: Final = ("x-death", "x-first-death-", "x-last-death-", "x-delivery-count")
"""How headers begin that RabbitMQ adds to a message on its way: published again, they would count as the sender's."""

_OURS: Final = frozenset({REASON, QUEUE, EXCHANGE, KEY})


def dead_letter(
    message: Message, *, reason: str, queue: str, exchange: str, key: str, with_headers: bool = True
) -> Message:
    """``message``, with ``reason`` and where it was in headers of ours.

    ``with_headers``: beside its own, which may leave no room for ours (AMQP 0-9-1 §4.2.6.1: a header is one frame).
    """
    own = message.headers if with_headers else {}
    headers = without_traces(own)
    headers |= {REASON: reason[:REASON_CHARACTERS], QUEUE: queue, EXCHANGE: exchange, KEY: key}
    # With its expiration it would vanish, and the user id is not ours to claim.
    return replace(message, headers=headers, persistent=True, expiration="", user_id="")


def without_traces(headers: Mapping[str, HeaderValue]) -> dict[str, HeaderValue]:
    """Headers without what was added on a message's earlier way, which it does not take along on a new one."""
    return {name: value for name, value in headers.items() if name not in _OURS and not name.startswith(_BROKERS)}

"""Sizes at which a message is refused, each with its reason."""

from __future__ import annotations

from typing import Final

BODY_BYTES: Final = 1024 * 1024
"""Event data and job parameters: larger things are uploads, and a notifier buffers no more than this per reader."""

TOPIC_BYTES: Final = 200
"""A topic is an AMQP routing key, which holds 255 bytes at most (AMQP 0-9-1 §4.2.5.3, short strings)."""

ID_BYTES: Final = 200
"""Ids travel as AMQP ``message_id``, also a short string, with room for what a client library adds."""

TYPE_BYTES: Final = 100
"""Event and job types: words, not sentences."""

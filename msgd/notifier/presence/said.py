"""What notifiers tell each other about presence: JSON on ``msgd.control``, each message by one *incarnation*, which is
one life of one notifier's process."""

from __future__ import annotations

from typing import Final, Union

import msgspec
from msgspec import Struct

Pair = tuple[str, str]
"""A topic, and the ``sub`` of who is there."""


class Said(Struct, frozen=True, tag_field="op", kw_only=True):
    """What every message has: ``me``, the incarnation that speaks."""

    me: str


class Beat(Said, frozen=True, tag="beat"):
    """I live. ``n`` changes so far; ``digest`` is of the pairs that stand."""

    n: int
    digest: int


class Change(Said, frozen=True, tag="change"):
    """My ``n``-th change. No pair is in both lists."""

    n: int
    joins: tuple[Pair, ...] = ()
    leaves: tuple[Pair, ...] = ()


class Ask(Said, frozen=True, tag="ask"):
    """Tell me all that you have; ``of`` names who is asked, "" everybody."""

    of: str = ""


class State(Said, frozen=True, tag="state"):
    """All that I have after my ``n``-th change, in ``parts`` messages one after the other, this one is ``part``."""

    n: int
    part: int
    parts: int
    here: tuple[Pair, ...]


class Bye(Said, frozen=True, tag="bye"):
    """I stop; whoever was with me will soon be with somebody else."""


AnySaid = Union[Beat, Change, Ask, State, Bye]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(AnySaid).decode


def encode(said: AnySaid) -> bytes:
    """The body of its message."""
    return _encode(said)


def decode(body: bytes) -> AnySaid:
    """The inverse of :func:`encode`. Raises :class:`msgspec.DecodeError`."""
    found: AnySaid = _decode(body)
    return found

"""The words of ``msgd.v1`` (DESIGN §4.4): JSON text messages with ``op``; ``ref`` comes back on the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Union

import msgspec
from msgspec import Raw, Struct

from msgd.messages import json
from msgd.messages.jobs import NORMAL

SUBPROTOCOL: Final = "msgd.v1"

Ref = Union[str, int, None]


class Operation(Struct, tag_field="op", kw_only=True):
    """What every operation has."""

    ref: Ref = None


class Hello(Operation, tag="hello"):
    """Who asks; not needed where the handshake carried a token."""

    token: str = ""


class Subscribe(Operation, tag="subscribe"):
    """``since`` absent: from now; ``"0"``: from the first kept; a cursor: after it."""

    topic: str
    since: str | None = None


class Unsubscribe(Operation, tag="unsubscribe"):
    """No more of a subscription; what was subscribed to names it."""

    topic: str


class Publish(Operation, tag="publish"):
    """An event; ``id``: the same again adds nothing, "" has one made."""

    topic: str
    type: str
    data: Raw = Raw(b"null")
    id: str = ""


class Submit(Operation, tag="submit"):
    """A job; ``key``: the same again is the same job; ``delay``: seconds until it may begin."""

    type: str
    params: Raw = Raw(b"{}")
    key: str = ""
    delay: float = 0.0
    priority: str = NORMAL


class Cancel(Operation, tag="cancel"):
    """The end of a job, by its id."""

    job: str


class Presence(Operation, tag="presence"):
    """Who reads a topic, now and whenever that changes."""

    topic: str


class Typing(Operation, tag="typing"):
    """Who speaks for this connection is typing, on a room's topic."""

    topic: str


class Token(Operation, tag="token"):
    """A new token for the same principal, before the old one expires."""

    token: str


class Ping(Operation, tag="ping"):
    """Is somebody there?"""


AnyOperation = Union[Hello, Subscribe, Unsubscribe, Publish, Submit, Cancel, Presence, Typing, Token, Ping]

_decode: Final[Callable[[bytes], AnyOperation]] = msgspec.json.Decoder(AnyOperation).decode


def decode(payload: bytes) -> AnyOperation:
    """The operation in a message. Raises NotJson, or InvalidInput naming the field."""
    return json.decode_by(_decode, payload, where="")


class _Referred(Struct):
    """Of any message, what an answer to it names."""

    ref: Ref = None


_decode_ref = msgspec.json.Decoder(_Referred).decode


def ref_of(payload: bytes) -> Ref:
    """The ``ref`` of a message that is no operation, if it has one."""
    try:
        return _decode_ref(payload).ref
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None


def message(op: str, fields: Mapping[str, Any], ref: Ref = None) -> bytes:
    """A message to the client."""
    return json.encode({"op": op, **fields} if ref is None else {"op": op, "ref": ref, **fields})


# -- close codes: what the client should do next -----------------------------------------------------------------------

DRAINING: Final = 4000
"""This notifier stops: connect anew, at the moment advised by ``drain``."""
BROKEN: Final = 4001
"""Something went wrong here: connect anew, and go on from the cursors."""
CROWDED: Final = 4002
"""Too many connections: connect anew after the ``retry_after`` of the ``error`` before."""
PROTOCOL: Final = 4100
"""The client does not speak ``msgd.v1``: connecting anew would not help."""
BAD_TOKEN: Final = 4101
"""No token, one that cannot be trusted, or one that has expired."""
FORBIDDEN: Final = 4103
"""A token for somebody else."""

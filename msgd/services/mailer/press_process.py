"""The process in which messages are made: templates are programs of strangers, so they get one that can be ended.

It reads requests and writes answers, in order. A request is four bytes of length, two that say how many answers it
gets, and MessagePack; an answer is four bytes of length and MessagePack. Whatever a request holds, it gets its answers.
The memory is bounded, and there are no core files; the time is watched by who starts it. From files and the network it
is kept by Jinja's sandbox alone: the limits of the system do not forbid them.
``python -m msgd.services.mailer.press_process`` is this; nobody but :class:`~msgd.services.mailer.press.Press` starts
it.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
import time
from collections.abc import Iterator
from typing import BinaryIO, Final

import msgspec
from msgspec import Raw, Struct

from msgd.services.mailer.composing import Composed, Composer, Copy, Mailing
from msgd.services.mailer.templates import ContentError

MEMORY_BYTES: Final = 1024 * 1024 * 1024
"""Address space beside what the program itself takes: attachments, their base64, and a message of each in hand."""

TURN_S: Final = 0.05
"""For the messages of one request together: those that have not begun by then are for another turn, as other mailings
wait for theirs."""

HEAD: Final = struct.Struct(">IH")
"""Of a request: the length of its body, and how many answers it gets."""


class Set(Struct, frozen=True, tag=True):
    """Take a mailing in hand, under a number. ``mailing``: a :class:`Mailing`."""

    number: int
    mailing: Raw


class Make(Struct, frozen=True, tag=True):
    """Make the messages of some recipients of a mailing in hand. ``copies``: each a :class:`Copy`."""

    number: int
    copies: list[Raw]


class Drop(Struct, frozen=True, tag=True):
    """The mailing is not needed any more. There is no answer."""

    number: int


class Begun(Struct, frozen=True, tag=True):
    """The process is there: before all other answers."""


class Ready(Struct, frozen=True, tag=True):
    """A mailing is in hand, after so long."""

    took_s: float


class Made(Struct, frozen=True, tag=True):
    """A message, and how long it took."""

    composed: Composed
    took_s: float


class Wrong(Struct, frozen=True, tag=True):
    """What was asked for cannot be made; why."""

    reason: str
    took_s: float = 0.0


class Later(Struct, frozen=True, tag=True):
    """The turn was over before this message was begun."""


class Missing(Struct, frozen=True, tag=True):
    """There is no such mailing here."""


Request = Set | Make | Drop
Answer = Begun | Ready | Made | Wrong | Later | Missing


def framed(request: Request) -> bytes:
    """A request as it travels."""
    body = msgspec.msgpack.encode(request)
    return HEAD.pack(len(body), wanted(request)) + body


def wanted(request: Request) -> int:
    """How many answers it gets."""
    match request:
        case Set():
            return 1
        case Make(_, copies):
            return len(copies)
        case Drop():
            return 0


def serve(source: BinaryIO, target: BinaryIO) -> None:
    """Answer until the source ends."""
    composers: dict[int, Composer] = {}
    _write(target, Begun())
    while True:
        head = source.read(HEAD.size)
        if len(head) < HEAD.size:
            return
        length, count = HEAD.unpack(head)
        # Each is sent before the next is begun: by what is missing one sees what took the process with it.
        for answer in _answers(source.read(length), count, composers):
            _write(target, answer)


def _write(target: BinaryIO, answer: Answer) -> None:
    try:
        body = msgspec.msgpack.encode(answer)
    except ValueError:  # half a surrogate pair, which a template can write as "\\ud800"
        body = msgspec.msgpack.encode(Wrong("the message holds half a character"))
    target.write(len(body).to_bytes(4, "big") + body)
    target.flush()


_request: Final = msgspec.msgpack.Decoder(Request)
_mailing: Final = msgspec.msgpack.Decoder(Mailing)
_copy: Final = msgspec.msgpack.Decoder(Copy)
_UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, ValueError)


def _answers(body: bytes, count: int, composers: dict[int, Composer]) -> Iterator[Answer]:
    try:
        request = _request.decode(body)
    except _UNREADABLE as error:
        for _ in range(count):
            yield Wrong(f"the request cannot be read: {error}")
        return
    match request:
        case Set(number, mailing):
            yield _set(number, mailing, composers)
        case Drop(number):
            composers.pop(number, None)
        case Make(number, copies):
            yield from _make(copies, composers.get(number))


def _set(number: int, mailing: Raw, composers: dict[int, Composer]) -> Answer:
    began_s = time.perf_counter()
    try:
        composers[number] = Composer(_mailing.decode(mailing))
    except ContentError as error:
        return Wrong(str(error))
    except MemoryError:
        return Wrong("the templates and attachments take too much memory")
    except Exception as error:  # whatever is wrong with one mailing, the others go on
        return Wrong(f"the mails cannot be made: {type(error).__name__}: {error}")
    return Ready(time.perf_counter() - began_s)


def _make(copies: list[Raw], composer: Composer | None) -> Iterator[Answer]:
    began_s = since_s = time.perf_counter()
    for copy in copies:
        if composer is None:
            yield Missing()
        elif since_s - began_s > TURN_S:
            yield Later()
        else:
            made = _made(copy, composer)
            now_s = time.perf_counter()
            took_s, since_s = now_s - since_s, now_s
            yield Wrong(made, took_s) if isinstance(made, str) else Made(made, took_s)


def _made(copy: Raw, composer: Composer) -> Composed | str:
    """The message, or why there is none."""
    try:
        return composer.compose(_copy.decode(copy))
    except ContentError as error:
        return str(error)
    except MemoryError:
        return "the message takes too much memory"
    except Exception as error:  # whatever one recipient's variables lead to, the others are made
        return f"the message cannot be made: {type(error).__name__}: {error}"


def bound_memory(more_bytes: int = MEMORY_BYTES) -> None:
    """Let this process have so much more memory than it has now, and leave no core files."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        now_bytes = int(statm.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (now_bytes + more_bytes,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    bound_memory()
    serve(sys.stdin.buffer, sys.stdout.buffer)

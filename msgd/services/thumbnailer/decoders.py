"""The pool of decoding processes: few, reused, bounded in memory and time, and replaced when they die.

A picture is the one thing here that strangers made and C code reads. So it is read in a process of its own, of which
nothing is lost when it crashes, hangs or is killed for taking too much: the job that it worked for is told, and the
next one gets a new process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.errors import MsgdError
from msgd.services.thumbnailer.frames import OUT_OF_MEMORY, Made, Order, Reply, Size, Unframed, frame

_log = Logger()

PROGRAM: Final = "msgd.services.thumbnailer.decoding"

USES: Final = 500
"""Files that one process decodes before another takes its place: whatever it has lost or scattered goes with it."""

SPARE_S: Final = 5.0
"""That a process gets to end itself after its time before it is killed."""

SAID_BYTES: Final = 2000
"""Of what a process says on its standard error, the end is kept for the log."""


class DecoderDied(MsgdError):
    """A decoding process has ended in the middle of a file: crashed, or killed for what it took."""

    code = "decoder-died"


class DecoderTooSlow(DecoderDied):
    """A file takes longer to decode than it may."""

    code = "decoder-too-slow"


class NoPictures(MsgdError):
    """The decoder refuses a file; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # of this file, not of the class


class _Decoder(ProcessProtocol):
    """One process."""

    transport: Any

    def __init__(self) -> None:
        self.uses = 0
        self.ended = False
        self.killed = False
        self.gone: Deferred[None] = Deferred()
        self._frames = Unframed()
        self._waiting: Deferred[Reply] | None = None
        self._said = b""

    def ask(self, order: Order) -> Deferred[Reply]:
        """Fires with the reply. Cancelled, or if the process ends, it is of no more use."""
        self.uses += 1
        self._waiting = Deferred(lambda _: self.kill())
        self.transport.write(frame(msgspec.msgpack.encode(order)))
        return self._waiting

    def outReceived(self, data: bytes) -> None:
        try:
            for content in self._frames.feed(data):
                reply = msgspec.msgpack.decode(content, type=Reply)
                waiting, self._waiting = self._waiting, None
                if waiting is not None and not waiting.called:
                    waiting.callback(reply)
        except (ValueError, msgspec.DecodeError):
            self.kill()

    def errReceived(self, data: bytes) -> None:
        self._said = (self._said + data)[-SAID_BYTES:]

    def kill(self) -> None:
        """End it now."""
        self.killed = True
        if not self.ended and self.transport is not None:
            try:
                self.transport.signalProcess("KILL")
            except ProcessExitedAlready:
                pass

    def processEnded(self, reason: Failure) -> None:
        self.ended = True
        if self._said:
            _log.warn("a decoder said: {said}", said=self._said.decode("utf-8", "replace"))
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.called:
            waiting.errback(_death(reason))
        if not self.gone.called:
            self.gone.callback(None)


class Decoders:
    """Decodes files, several at a time. The processes are started as they are needed."""

    def __init__(self, reactor: Any, *, count: int, memory_bytes: int, pixels: int, seconds: int) -> None:
        """``count``: processes at a time; ``memory_bytes``: what each may take, beside its libraries; ``pixels``: of a
        file, all frames together; ``seconds``: for one file."""
        self._reactor = reactor
        self._count = count
        self._memory_bytes = memory_bytes
        self._pixels = pixels
        self._seconds = seconds
        self._all: set[_Decoder] = set()
        self._free: list[_Decoder] = []
        self._busy = 0
        self._turns: deque[Deferred[None]] = deque()
        self._stopped = False

    @property
    def pids(self) -> Sequence[int]:
        """Of the processes that run."""
        return [decoder.transport.pid for decoder in self._all if decoder.transport.pid is not None]

    async def shrink(self, path: Path, sizes: Sequence[Size]) -> Sequence[Made]:
        """Pictures of a file, the largest first. Raises NoPictures, DecoderDied."""
        await self._turn()
        try:
            return await self._shrink(Order(str(path), tuple(sizes), self._pixels, self._seconds))
        finally:
            self._busy -= 1
            self._next()

    async def _shrink(self, order: Order) -> Sequence[Made]:
        decoder = self._take()
        asked = decoder.ask(order)
        timer = self._reactor.callLater(order.seconds + SPARE_S, decoder.kill)
        try:
            reply = await asked
        except CancelledError:
            decoder.kill()
            raise
        except DecoderDied as death:
            if isinstance(death, DecoderTooSlow) or not timer.active():  # it ended itself, or we did
                raise DecoderTooSlow(f"the file takes longer than {order.seconds} s to decode") from None
            raise
        finally:
            if timer.active():
                timer.cancel()
        if decoder.uses < USES and reply.code != OUT_OF_MEMORY:
            self._free.append(decoder)
        else:
            decoder.transport.loseConnection()  # its input ends, and so does it
        if reply.code:
            raise NoPictures(reply.code, reply.message)
        return reply.made

    async def stop(self) -> None:
        """End all processes. Files that are still decoded fail; twice is harmless."""
        self._stopped = True
        for decoder in list(self._all):
            decoder.kill()
            await decoder.gone

    # -- whose turn it is ---------------------------------------------------------------------------------------------

    async def _turn(self) -> None:
        if self._busy >= self._count:
            turn: Deferred[None] = Deferred(lambda one: self._turns.remove(one) if one in self._turns else None)
            self._turns.append(turn)
            await turn  # who gives it to us has counted us already
        else:
            self._busy += 1

    def _next(self) -> None:
        if self._turns and self._busy < self._count:
            self._busy += 1
            self._turns.popleft().callback(None)

    def _take(self) -> _Decoder:
        if self._stopped:
            raise DecoderDied("the thumbnailer is stopping")
        while self._free:
            decoder = self._free.pop()
            if not decoder.ended:
                return decoder
        decoder = _Decoder()
        environment = {
            # One core each: there are as many processes as jobs at a time.
            "VIPS_CONCURRENCY": "1",
            # Further arenas of glibc reserve up to 128 MiB of addresses each, which the limit would count.
            "MALLOC_ARENA_MAX": "1",
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH") if name in os.environ},
        }
        command = (sys.executable, "-P", "-m", PROGRAM, str(self._memory_bytes))
        self._reactor.spawnProcess(decoder, sys.executable, command, env=environment, path=None)
        self._all.add(decoder)
        decoder.gone.addCallback(lambda _: self._all.discard(decoder))
        return decoder


def _death(reason: Failure) -> DecoderDied:
    """Why a process is no more, in words."""
    number = getattr(reason.value, "signal", None)
    if number == signal.SIGALRM:
        return DecoderTooSlow("the file takes too long to decode")
    if number:
        return DecoderDied(f"the decoder was ended by {signal.Signals(number).name} while it read the file")
    status = 0 if reason.check(ProcessDone) else getattr(reason.value, "exitCode", None)
    return DecoderDied(f"the decoder ended with status {status} while it read the file")

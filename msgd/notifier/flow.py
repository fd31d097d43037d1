"""A streamed answer, written as fast as the client takes it and no faster."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.clock import Clock
from msgd.errors import MsgdError
from msgd.notifier.interface import Stream
from msgd.notifier.limits import STALL_S

_log = Logger()


def log_broken_off(request: Any, error: Exception) -> None:
    """Tell of an answer that ends before its time; an error that nobody has thought of with where it happened."""
    if isinstance(error, MsgdError):
        _log.warn("{path} broke off: {error}", path=request.path, error=error)
    else:
        _log.failure("{path} broke off", Failure(error), path=request.path)


class Flow:
    """Writes one stream to one request. A push producer to the connection."""

    def __init__(self, request: Any, stream: Stream, clock: Clock) -> None:
        self._request = request
        self._stream = stream
        self._clock = clock
        self._paused: Deferred[None] | None = None
        self._stall: Any = None

    async def run(self) -> None:
        """Returns when all is written; an error in the middle cuts the connection: the status is long gone."""
        request = self._request
        request.registerProducer(self, True)
        try:
            async for chunk in self._stream.chunks:
                request.write(chunk)
                if self._paused is not None:
                    await self._paused
        except CancelledError:
            raise
        except Exception as error:  # whatever it is: the head is long out
            log_broken_off(request, error)
            # Without its last chunk the client sees that the answer is not whole.
            request.channel.transport.abortConnection()
            raise CancelledError from error
        finally:
            self.resumeProducing()
            close = getattr(self._stream.chunks, "aclose", None)
            if close is not None:
                await close()
            if not request._disconnected:
                request.unregisterProducer()

    def pauseProducing(self) -> None:
        """The socket's buffer is full."""
        if self._paused is None:
            self._paused = Deferred()
            self._stall = self._clock.callLater(STALL_S, self._request.channel.transport.abortConnection)

    def resumeProducing(self) -> None:
        """The socket's buffer has drained."""
        paused, self._paused = self._paused, None
        if paused is not None:
            if self._stall.active():
                self._stall.cancel()
            paused.callback(None)

    def stopProducing(self) -> None:
        """The client is gone; its request's ``notifyFinish`` cancels us."""

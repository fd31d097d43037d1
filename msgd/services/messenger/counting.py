"""What webhooks and feeds share about answers that come from anywhere: their bytes counted, their words understood.

twisted.web's Agent bounds neither the number of headers nor the body, and offers no way to hang up in mid-body. So its
connections stand behind ours, which count what comes and can be cut.
"""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectingCancelledError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.client import URI
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer


class _Counted(ProtocolWrapper):
    """A connection that is cut once its answer is too long."""

    came = 0

    def write(self, data: bytes) -> None:
        self.came = 0  # a request: what comes now is its answer
        super().write(data)

    def dataReceived(self, data: bytes) -> None:
        self.came += len(data)
        if self.came > self.factory.most:
            self.loseConnection()
        else:
            super().dataReceived(data)

    def loseConnection(self) -> None:
        """At once: the Agent says so when an answer has ended, or nobody wants the rest."""
        self.abortConnection()


class _Counting(WrappingFactory):
    """Makes the connections of one endpoint."""

    protocol = _Counted
    noisy = False

    def __init__(self, wrapped: Any, most: int) -> None:
        super().__init__(wrapped)
        self.most = most


@implementer(IStreamClientEndpoint)
class _CountedEndpoint:
    """An endpoint whose connections are counted."""

    def __init__(self, endpoint: Any, most: int) -> None:
        self._endpoint = endpoint
        self._most = most

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Fires with what ``protocolFactory`` makes, which knows nothing of the counting."""
        counting = _Counting(protocolFactory, self._most)
        connected: Deferred[Any] = self._endpoint.connect(counting)
        return connected.addCallback(lambda counted: counted.wrappedProtocol)


@implementer(IAgentEndpointFactory)
class CountedEndpoints:
    """The endpoints of another factory, counted."""

    def __init__(self, endpoints: Any, most: int) -> None:
        """``most``: bytes of one answer, headers and body as they come; what sends more is cut off."""
        self._endpoints = endpoints
        self._most = most

    def endpointForURI(self, uri: URI) -> _CountedEndpoint:
        return _CountedEndpoint(self._endpoints.endpointForURI(uri), self._most)


def retry_after_s(text: str, now_s: float) -> float | None:
    """The seconds that a ``Retry-After`` header asks for, in either form (RFC 9110 §10.2.3); None: nothing usable."""
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:12])
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return max(at.replace(tzinfo=at.tzinfo or UTC).timestamp() - now_s, 0.0)


def is_cancel(error: Exception) -> bool:
    """Whether it is the caller who gave up: the Agent wraps that like any other trouble."""
    reasons = getattr(error, "reasons", None) or ()
    return isinstance(error, ConnectingCancelledError) or any(one.check(CancelledError) for one in reasons)


def words_of(error: Exception) -> str:
    """What went wrong, in a line: of what the Agent wraps, the reason within."""
    reasons = getattr(error, "reasons", None)
    if isinstance(error, SSL.Error):
        return f"TLS: {'; '.join(str(part[-1]) for part in error.args[0]) or 'the connection was closed'}"
    if isinstance(reasons, list) and reasons and isinstance(reasons[0], Failure):
        inner = reasons[0].value
        if isinstance(inner, Exception) and inner is not error:
            return words_of(inner)
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]

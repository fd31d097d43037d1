"""From HTTP to another protocol on the same connection."""

from __future__ import annotations

from typing import Any

from twisted.protocols.policies import ProtocolWrapper

from msgd.notifier.calls import BoundedRequest


def take_over(request: BoundedRequest, protocol: Any) -> None:
    """Give the connection of ``request`` to ``protocol``; nothing more is heard of either HTTP or the request.

    Twisted has no way of its own to do this. The channel is parted from its transport, as Autobahn's
    ``WebSocketResource`` does it, and from its request, so that both are freed at once and not by the next collection.
    """
    channel = request.channel
    transport: Any = channel.transport
    channel.transport = None
    channel.requests.clear()
    transport.unregisterProducer()  # the channel
    if isinstance(transport, ProtocolWrapper):  # TLS
        transport.wrappedProtocol = protocol
    elif isinstance(transport.protocol, ProtocolWrapper):
        transport.protocol.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
    protocol.makeConnection(transport)
    transport.resumeProducing()  # in case the channel had stopped it

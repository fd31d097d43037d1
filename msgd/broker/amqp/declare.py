"""Declaring the topology, as the version of the broker has it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from txamqp.client import ChannelClosed, Closed

from msgd.broker.amqp.channel import Channel, borrowed, close_reason, together
from msgd.broker.amqp.protocol import AmqpProtocol
from msgd.broker.topology import CHECK_PREFIX, DEAD, NO_DELIVERY_LIMIT, Exchange, Queue
from msgd.errors import PeerError

_log = Logger()

OLDEST: Final = (3, 10)
"""At-least-once dead-lettering came with 3.10."""

LIMITED: Final = (4, 0)
"""From here quorum queues give a message up after 20 deliveries, and take -1 for no limit; before, both is unknown."""

NOT_FOUND: Final = 404
PRECONDITION_FAILED: Final = 406
INTERNAL_ERROR: Final = 541

Version = tuple[int, int]


class TooOld(PeerError):
    """A broker that lacks what msgd relies on."""

    code = "broker-too-old"
    retryable = False


def version_of(server: dict[str, Any]) -> Version:
    """Major and minor version from the server's properties; (0, 0) if it tells none."""
    found = re.match(r"(\d+)\.(\d+)", str(server.get("version", "")))
    return (int(found[1]), int(found[2])) if found else (0, 0)


def check_version(server: dict[str, Any]) -> None:
    """Raises TooOld for a RabbitMQ that lacks quorum queues with at-least-once dead-lettering."""
    if server.get("product") == "RabbitMQ" and version_of(server) < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise TooOld(f"RabbitMQ {server.get('version')} is too old: msgd needs {needed} or newer")


def queue_arguments(queue: Queue, version: Version) -> dict[str, Any]:
    """The arguments under which ``queue`` is declared: a quorum queue, whatever it is for."""
    arguments: dict[str, Any] = {"x-queue-type": "quorum"}
    if queue.delivery_limit != NO_DELIVERY_LIMIT or version >= LIMITED:
        arguments["x-delivery-limit"] = queue.delivery_limit
    if queue.dead_letters:
        arguments["x-dead-letter-exchange"] = DEAD
        # At least once is refused silently without reject-publish, which is without effect as no length is limited.
        arguments["x-dead-letter-strategy"] = "at-least-once"
        arguments["x-overflow"] = "reject-publish"
    if queue.single_consumer:
        arguments["x-single-active-consumer"] = True
    return arguments


def exchange_arguments(exchange: Exchange) -> dict[str, Any]:
    """The arguments under which ``exchange`` is declared."""
    return {"alternate-exchange": exchange.alternate} if exchange.alternate else {}


async def declare(protocol: AmqpProtocol, exchanges: Iterable[Exchange], queues: Iterable[Queue]) -> None:
    """Declare exchanges, then queues with their bindings. Raises Closed.

    What stands already under other arguments (from an earlier version of msgd or of the broker, or made by an
    administrator) is used as it is, and the log says so.
    """
    version = version_of(protocol.server)
    exchanges, queues = list(exchanges), list(queues)
    try:
        async with borrowed(protocol) as channel:
            await together(
                [_declare_exchange(channel, exchange) for exchange in exchanges]
                + [_declare_queue(channel, queue, version) for queue in queues]
                + [_bind(channel, queue, *binding) for queue in queues for binding in queue.bindings]
            )
    except ChannelClosed as error:
        if close_reason(error)[0] != PRECONDITION_FAILED:
            raise
        await _declare_singly(protocol, exchanges, queues, version)


async def _declare_singly(
    protocol: AmqpProtocol, exchanges: Iterable[Exchange], queues: Iterable[Queue], version: Version
) -> None:
    for exchange in exchanges:
        await _tolerantly(protocol, lambda channel, it=exchange: _declare_exchange(channel, it))
    for queue in queues:
        await _tolerantly(protocol, lambda channel, it=queue: _declare_queue(channel, it, version))
    async with borrowed(protocol) as channel:
        await together([_bind(channel, queue, *binding) for queue in queues for binding in queue.bindings])


async def _tolerantly(protocol: AmqpProtocol, call: Any) -> None:
    try:
        async with borrowed(protocol) as channel:
            await call(channel)
    except ChannelClosed as error:
        code, text = close_reason(error)
        if code != PRECONDITION_FAILED:
            raise
        _log.warn("Used as it stands, though it is not as msgd would declare it: {text}", text=text)


def _declare_exchange(channel: Channel, exchange: Exchange) -> Deferred[Any]:
    declared: Deferred[Any] = channel.exchange_declare(
        exchange=exchange.name, type=exchange.kind, durable=True, arguments=exchange_arguments(exchange)
    )
    return declared


def _declare_queue(channel: Channel, queue: Queue, version: Version) -> Deferred[Any]:
    declared: Deferred[Any] = channel.queue_declare(
        queue=queue.name, durable=True, arguments=queue_arguments(queue, version)
    )
    return declared


def _bind(channel: Channel, queue: Queue, exchange: str, key: str) -> Deferred[Any]:
    bound: Deferred[Any] = channel.queue_bind(queue=queue.name, exchange=exchange, routing_key=key)
    return bound


async def ready_counts(protocol: AmqpProtocol, queues: Iterable[str]) -> dict[str, int]:
    """Messages ready in each of ``queues`` that exists. Raises Closed."""
    counts: dict[str, int] = {}
    left = list(queues)
    while left:
        try:
            async with borrowed(protocol) as channel:
                while left:
                    answer = await channel.queue_declare(queue=left[0], passive=True)
                    counts[left.pop(0)] = answer.message_count
        except ChannelClosed as error:
            if close_reason(error)[0] != NOT_FOUND:
                raise
            left.pop(0)  # it cost the channel
    return counts


async def has_streams(protocol: AmqpProtocol) -> bool:
    """Whether the broker makes streams, with which it also dead-letters at least once (RabbitMQ's quorum queues guide);
    without them it does so at most once, in silence. A node that began as 3.8 may have them switched off.

    Nothing in AMQP tells; but a stream cannot be declared then (3.10.8), which costs the connection. Raises Closed.
    """
    name = f"{CHECK_PREFIX}{secrets.token_hex(8)}"
    try:
        async with borrowed(protocol) as channel:
            await channel.queue_declare(queue=name, durable=True, arguments={"x-queue-type": "stream"})
            await channel.queue_delete(queue=name)
    except Closed as error:
        code, text = close_reason(error)
        if code == INTERNAL_ERROR and "feature flag" in text:
            return False
        raise
    return True

"""Publishing with confirms: every message is answered by the broker, by name or by number (RabbitMQ's confirms guide).

The broker numbers the messages of a channel from 1 and acks, or nacks, one number or all up to it. A mandatory message
that no queue takes comes back (``basic.return``) before its confirm, without its number: it is known again by exchange,
key, id and body, the first published first. Two that are alike in all of these were sent to the same place in the same
state of it, so that either may stand for the other.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from twisted.internet.defer import Deferred, fail
from txamqp.client import Closed

from msgd.broker.amqp.channel import Channel, close_reason
from msgd.broker.amqp.codec import encode_short_string
from msgd.broker.amqp.content import decode_message, encode_header
from msgd.broker.amqp.frames import ACK, OVERHEAD, PUBLISH, content_frames, method_frame
from msgd.broker.amqp.protocol import AmqpProtocol
from msgd.errors import BrokerRefused, BrokerUnavailable, InvalidInput, Unroutable
from msgd.messages.envelope import Message

ADDRESSES: Final = 1024
"""Exchanges and keys whose encoded ``basic.publish`` is remembered; then all are forgotten, keys being unbounded."""

_CONFIRM = struct.Struct(">QB").unpack_from

_Mark = tuple[str, str, str, bytes]
"""By what a returned message is known again: exchange, key, id, body."""


class Publisher:
    """The messages on their way to the broker. It stands on one channel at a time, or on none."""

    def __init__(self) -> None:
        self._channel: Channel | None = None
        self._user = ""
        self._room = 0
        self._why = "not connected to a broker yet"
        self._addresses: dict[tuple[str, str, bool], bytes] = {}
        self._number = 0
        self._oldest = 1
        self._pending: dict[int, Deferred[None]] = {}
        self._mandatory: dict[_Mark, deque[int]] = {}
        self._marks: dict[int, _Mark] = {}
        self._returned: dict[int, Unroutable] = {}

    async def stand(self, protocol: AmqpProtocol, user: str) -> None:
        """Publish over this connection from now on, logged in as ``user``. Raises Closed."""
        channel = await protocol.open_channel()
        await channel.confirm_select()
        channel.on_confirm = self._confirmed
        channel.on_return = self._came_back

        def closed(error: Closed) -> None:
            if not protocol.closed:
                # Something that no channel survives, such as a deleted exchange: begin again from the topology.
                protocol.give_up(f"the broker closed the publisher's channel: {close_reason(error)[1]}")
            self._fall(close_reason(error)[1])

        channel.on_closed = closed
        self._channel = channel
        self._user = user
        self._room = protocol.frame_max
        self._addresses.clear()
        self._number, self._oldest = 0, 1

    def publish(self, exchange: str, key: str, message: Message, mandatory: bool) -> Deferred[None]:
        """See :meth:`msgd.broker.interface.Broker.publish`. Fails with InvalidInput for what AMQP cannot carry."""
        channel = self._channel
        if channel is None:
            return fail(BrokerUnavailable(f"cannot publish: {self._why}"))
        try:
            address = self._addresses.get((exchange, key, mandatory))
            if address is None:
                address = self._address(channel, exchange, key, mandatory)
            header = encode_header(message)
            if len(header) > self._room - OVERHEAD:
                raise InvalidInput(f"headers have at most {self._room - OVERHEAD} bytes", where="headers")
            if message.user_id and message.user_id != self._user:
                # The broker would close the channel, with all that is on it.
                raise InvalidInput("user_id must be the name that msgd has at the broker", where="user_id")
        except InvalidInput:
            return fail()
        self._number = number = self._number + 1
        channel.client.write(address + content_frames(channel.id, header, message.body, self._room))
        if mandatory:
            mark = (exchange, key, message.message_id, message.body)
            self._mandatory.setdefault(mark, deque()).append(number)
            self._marks[number] = mark
        confirmed: Deferred[None] = Deferred()
        self._pending[number] = confirmed
        return confirmed

    def _address(self, channel: Channel, exchange: str, key: str, mandatory: bool) -> bytes:
        method = b"".join(
            (
                PUBLISH,
                b"\x00\x00",  # ticket: reserved
                encode_short_string(exchange, "exchange"),
                encode_short_string(key, "key"),
                b"\x01" if mandatory else b"\x00",
            )
        )
        if len(self._addresses) >= ADDRESSES:
            self._addresses.clear()
        address = self._addresses[exchange, key, mandatory] = method_frame(channel.id, method)
        return address

    def _confirmed(self, method: bytes) -> None:
        """``basic.ack`` or ``basic.nack``."""
        tag, bits = _CONFIRM(method, 4)
        taken = method[:4] == ACK
        if not bits & 1:
            self._settle(tag, taken)
            return
        tag = tag or self._number  # 0: all there are
        oldest, self._oldest = self._oldest, tag + 1
        for number in range(oldest, tag + 1):
            self._settle(number, taken)

    def _settle(self, number: int, taken: bool) -> None:
        confirmed = self._pending.pop(number, None)
        if confirmed is None:
            return
        if self._marks and number in self._marks:
            self._forget_mark(number)
            returned = self._returned.pop(number, None)
            if returned is not None:
                confirmed.errback(returned)
                return
        if taken:
            confirmed.callback(None)
        else:
            confirmed.errback(BrokerRefused("the broker could not take the message (basic.nack)"))

    def _forget_mark(self, number: int) -> None:
        mark = self._marks.pop(number)
        numbers = self._mandatory[mark]
        if number in numbers:
            numbers.remove(number)
        if not numbers:
            del self._mandatory[mark]

    def _came_back(self, method: bytes, header: bytes, body: bytes) -> None:
        """``basic.return``."""
        (code,) = struct.unpack_from(">H", method, 4)
        fields = []
        position = 6
        for _ in range(3):
            end = position + 1 + method[position]
            fields.append(method[position + 1 : end].decode("utf-8", "replace"))
            position = end
        text, exchange, key = fields
        mark = (exchange, key, decode_message(header, body).message_id, body)
        for number in self._mandatory.get(mark, ()):
            if number not in self._returned:
                self._returned[number] = Unroutable(f"no queue took a message to {exchange!r} {key!r}: {code} {text}")
                return

    def _fall(self, why: str) -> None:
        """The channel is gone: what was not confirmed may or may not have arrived."""
        self._channel = None
        self._why = why
        pending, self._pending = self._pending, {}
        self._mandatory.clear()
        self._marks.clear()
        self._returned.clear()
        for confirmed in pending.values():
            confirmed.errback(BrokerUnavailable(f"the connection was lost before the confirm: {why}"))

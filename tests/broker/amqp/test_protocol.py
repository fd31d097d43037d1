"""The hardened client, without a socket."""

from __future__ import annotations

from typing import Any

from pamqp import commands, frame
from pamqp.heartbeat import Heartbeat
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from txamqp.client import ChannelClosed, Closed, ConnectionClosed

from msgd.broker.amqp.channel import close_reason, together
from msgd.broker.amqp.content import encode_header
from msgd.broker.amqp.frames import DELIVER, PREAMBLE, content_frames, method_frame
from msgd.broker.amqp.protocol import CAPABILITIES, CLOSE_S
from msgd.messages.envelope import Message
from tests.broker.amqp.peer import Peer


class LogInTest(SynchronousTestCase):
    """The beginning of a conversation."""

    def test_preamble(self) -> None:
        """The client opens with the protocol's name and the version 0-9-1."""
        peer = Peer()
        peer.clock.advance(0)
        self.assertEqual(peer.transport.value(), PREAMBLE)

    def test_log_in(self) -> None:
        """It tells its capabilities and name, logs in with PLAIN, agrees to the limits, opens the vhost."""
        peer = Peer(heartbeat=20)
        start, tune, opening = peer.log_in(frame_max=65_536, heartbeat=60)
        self.assertEqual((start.mechanism, start.response), ("PLAIN", "\0user\0sesame"))
        self.assertEqual(start.client_properties["capabilities"], CAPABILITIES)
        self.assertEqual(start.client_properties["connection_name"], "tests")
        self.assertEqual((tune.channel_max, tune.frame_max, tune.heartbeat), (100, 65_536, 20))
        self.assertEqual(opening.virtual_host, "/shop")
        self.assertEqual(peer.protocol.server["version"], "3.13.1")
        self.assertEqual(peer.protocol.frame_max, 65_536)

    def test_no_limits(self) -> None:
        """Where the server says "no limit" (0), ours hold; a heartbeat that one side does not want is off."""
        peer = Peer(heartbeat=20)
        _, tune, _ = peer.log_in(frame_max=0, heartbeat=0)
        self.assertEqual((tune.frame_max, tune.heartbeat), (131_072, 0))

    def test_password_is_forgotten(self) -> None:
        """After the log-in the connection does not hold the password any more."""
        peer = Peer()
        peer.log_in()
        self.assertNotIn("sesame", repr(vars(peer.protocol)))

    def test_refused(self) -> None:
        """A refused log-in fails with the server's words."""
        peer = Peer()
        opened = Deferred.fromCoroutine(peer.protocol.open("user", "wrong"))
        peer.send(commands.Connection.Start(0, 9, {}, "PLAIN", "en_US"), channel=0)
        peer.send(commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0), channel=0)
        failure = self.failureResultOf(opened, Closed)
        self.assertEqual(close_reason(failure.value), (403, "403 ACCESS_REFUSED - Login was refused"))
        self.assertIsInstance(peer.written()[-1], commands.Connection.CloseOk)

    def test_not_a_broker(self) -> None:
        """A peer that speaks something else is cut, and the log says what it may be."""
        peer = Peer()
        opened = Deferred.fromCoroutine(peer.protocol.open("user", "password"))
        peer.protocol.dataReceived(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        self.assertIn("AMQP", close_reason(self.failureResultOf(opened, Closed).value)[1])
        self.assertTrue(peer.transport.disconnecting)


class HeartbeatTest(SynchronousTestCase):
    """Heartbeats, both ways, at an interval of 10 seconds."""

    def setUp(self) -> None:
        self.peer = Peer(heartbeat=10)
        self.peer.log_in(heartbeat=60)

    def test_sent_when_idle(self) -> None:
        """An idle client sends one each half interval; one that has just written does not."""
        self.peer.written()
        self.peer.clock.advance(5)  # it wrote during the log-in
        self.assertEqual(self.peer.written(), [])
        self.peer.clock.advance(5)
        (beat,) = self.peer.written()
        self.assertIsInstance(beat, Heartbeat)

    def test_silent_broker(self) -> None:
        """A broker that says nothing for two intervals is given up, no sooner."""
        lost: list[str] = []
        self.peer.protocol.on_lost(lost.append)
        self.peer.clock.advance(5)  # heard during the log-in
        for _ in range(3):
            self.peer.clock.advance(5)
        self.assertFalse(self.peer.protocol.closed)
        self.peer.clock.advance(5)
        self.assertTrue(self.peer.protocol.closed)
        self.peer.lose()
        self.assertEqual(lost, ["no heartbeat from the broker"])

    def test_any_bytes_are_a_sign_of_life(self) -> None:
        """Heartbeats, and part of a frame too, keep the connection."""
        for _ in range(10):
            self.peer.clock.advance(9)
            self.peer.protocol.dataReceived(frame.marshal(Heartbeat(), 0))
        self.peer.protocol.dataReceived(b"\x01")
        self.peer.clock.advance(10)
        self.assertFalse(self.peer.protocol.closed)

    def test_nothing_is_left_behind(self) -> None:
        """A lost connection has no timers."""
        self.peer.lose()
        self.assertEqual(self.peer.clock.getDelayedCalls(), [])


class ChannelTest(SynchronousTestCase):
    """Calls, answers, and what comes unasked."""

    def setUp(self) -> None:
        self.peer = Peer()
        self.peer.log_in()
        self.channel: Any = self.peer.open_channel()

    def test_calls_are_answered_in_order(self) -> None:
        """Several calls may be under way; each gets its own answer."""
        first = self.channel.queue_declare(queue="a")
        second = self.channel.queue_declare(queue="b")
        self.peer.send(commands.Queue.DeclareOk("a", 1, 0), commands.Queue.DeclareOk("b", 2, 0))
        self.assertEqual(self.successResultOf(first).message_count, 1)
        self.assertEqual(self.successResultOf(second).message_count, 2)

    def test_a_call_that_was_given_up(self) -> None:
        """The answer to a cancelled call is not taken for that of the next one."""
        first = self.channel.queue_declare(queue="a")
        second = self.channel.queue_declare(queue="b")
        first.cancel()
        self.failureResultOf(first)
        self.peer.send(commands.Queue.DeclareOk("a", 1, 0), commands.Queue.DeclareOk("b", 2, 0))
        self.assertEqual(self.successResultOf(second).message_count, 2)

    def test_content_of_an_answer(self) -> None:
        """``basic.get`` brings its message along."""
        got = self.channel.basic_get(queue="q")
        self.peer.send(commands.Basic.GetOk(1, False, "e", "k", 0))
        self.peer.content(b"\xff", message_id="m")
        answer = self.successResultOf(got)
        self.assertEqual(answer.content.body, b"\xff")
        self.assertEqual(answer.content["message"].message_id, "m")

    def test_channel_closed(self) -> None:
        """The server closes a channel: its calls fail with the reason, other channels go on, its number is free."""
        other: Any = self.peer.open_channel()
        calls = [self.channel.queue_declare(queue="a"), self.channel.queue_declare(queue="b")]
        call = other.queue_declare(queue="c")
        closed: list[Closed] = []
        self.channel.on_closed = closed.append
        self.peer.written()
        self.peer.send(commands.Channel.Close(404, "NOT_FOUND - no queue 'a'", 50, 10))
        for each in calls:
            failure = self.failureResultOf(each, ChannelClosed)
            self.assertEqual(close_reason(failure.value), (404, "404 NOT_FOUND - no queue 'a'"))
        self.assertEqual(len(closed), 1)
        self.assertIsInstance(self.peer.written()[0], commands.Channel.CloseOk)
        self.failureResultOf(self.channel.queue_declare(queue="a"), ChannelClosed)
        self.assertNoResult(call)
        self.assertNotIn(1, self.peer.protocol.channels)

    def test_connection_closed(self) -> None:
        """The server closes the connection: every call fails with the reason, and close-ok is the last word."""
        call = self.channel.queue_declare(queue="a")
        self.peer.written()
        self.peer.send(commands.Connection.Close(320, "CONNECTION_FORCED - restart", 0, 0), channel=0)
        failure = self.failureResultOf(call, ConnectionClosed)
        self.assertEqual(close_reason(failure.value)[0], 320)
        self.assertIsInstance(self.peer.written()[-1], commands.Connection.CloseOk)
        self.assertTrue(self.peer.transport.disconnecting)

    def test_connection_lost(self) -> None:
        """A lost connection fails every call, and tells why."""
        call = self.channel.queue_declare(queue="a")
        told: list[str] = []
        self.peer.protocol.on_lost(told.append)
        self.peer.lose()
        self.failureResultOf(call, Closed)
        self.peer.protocol.on_lost(told.append)
        self.assertEqual(len(told), 2)
        self.assertIn("unplugged", told[0])

    def test_unasked_answer(self) -> None:
        """An answer that nobody awaits means that the two have lost each other: the connection is cut."""
        self.peer.send(commands.Queue.DeclareOk("a", 1, 0))
        self.assertTrue(self.peer.protocol.closed)

    def test_no_business_of_a_client(self) -> None:
        """A method that no server sends, or none that exists, cuts the connection."""
        self.peer.send(commands.Basic.Publish(0, "", "q"))
        self.assertTrue(self.peer.protocol.closed)

    def test_frames_for_a_closed_channel(self) -> None:
        """What was on its way to a channel when it was closed is dropped."""
        ended = self.channel.end()
        self.peer.send(commands.Channel.CloseOk())
        self.successResultOf(ended)
        self.peer.deliver(1)
        self.assertFalse(self.peer.protocol.closed)

    def test_close_overtakes_calls(self) -> None:
        """The broker need not answer what it had not come to when it read our close: those calls fail."""
        call = self.channel.queue_declare(queue="a")
        ended = self.channel.end()
        again = self.channel.end()
        self.assertEqual([one.name for one in self.peer.written()], ["Queue.Declare", "Channel.Close"])
        self.failureResultOf(self.channel.queue_declare(queue="b"), Closed)
        self.peer.send(commands.Channel.CloseOk())
        self.failureResultOf(call, Closed)
        self.successResultOf(ended)
        self.successResultOf(again)
        self.assertFalse(self.peer.protocol.closed)

    def test_cancelled_while_it_is_closed(self) -> None:
        """Whoever stops waiting for the end of a channel does not keep it from ending."""
        ended = self.channel.end()
        ended.cancel()
        self.failureResultOf(ended)
        self.peer.send(commands.Channel.CloseOk())
        self.assertNotIn(1, self.peer.protocol.channels)

    def test_cancelled_while_it_is_opened(self) -> None:
        """A channel whose opening was cancelled is closed, and its number is free again."""
        opening = Deferred.fromCoroutine(self.peer.protocol.open_channel())
        opening.cancel()
        self.failureResultOf(opening)
        self.assertEqual([one.name for one in self.peer.written()], ["Channel.Open", "Channel.Close"])
        self.peer.send(commands.Channel.OpenOk(), commands.Channel.CloseOk(), channel=2)
        self.assertNotIn(2, self.peer.protocol.channels)

    def test_oversized_frame(self) -> None:
        """A frame over the agreed size is refused before it is there."""
        peer = Peer()
        peer.log_in(frame_max=4096)
        peer.protocol.dataReceived(b"\x03\x00\x01\x00\x10\x00\x00")
        self.assertTrue(peer.protocol.closed)

    def test_blocked(self) -> None:
        """``connection.blocked`` and ``unblocked`` are passed on, with the reason."""
        told: list[str] = []
        self.peer.protocol.on_blocked = told.append
        self.peer.protocol.on_unblocked = lambda: told.append("unblocked")
        self.peer.send(commands.Connection.Blocked("low on memory"), commands.Connection.Unblocked(), channel=0)
        self.assertEqual(told, ["low on memory", "unblocked"])

    def test_delivery_goes_to_the_callback(self) -> None:
        """A delivery reaches its channel's callback in the turn in which it came, body and header as bytes."""
        got: list[tuple[bytes, bytes, bytes]] = []
        self.channel.on_deliver = lambda *parts: got.append(parts)
        header = encode_header(Message(body=b"\xff"))
        deliver = method_frame(1, DELIVER + b"\x00" + bytes(9) + b"\x00\x00")
        self.peer.protocol.dataReceived(deliver + content_frames(1, header, b"\xff", 4096))
        self.assertEqual(got, [(DELIVER + b"\x00" + bytes(9) + b"\x00\x00", header, b"\xff")])

    def test_all_channels_taken(self) -> None:
        """The agreed number of channels is kept to."""
        for _ in range(99):
            self.peer.open_channel()
        self.failureResultOf(Deferred.fromCoroutine(self.peer.protocol.open_channel()))


class EndTest(SynchronousTestCase):
    """Ways to end a connection."""

    def setUp(self) -> None:
        self.peer = Peer()
        self.peer.log_in()
        self.peer.written()

    def test_hang_up(self) -> None:
        """``connection.close`` comes after all that was to be written, and its answer ends the connection."""
        self.peer.protocol.before_flush(
            lambda: self.peer.protocol.write(method_frame(0, b"\x00\x3c\x00\x50" + bytes(9)))
        )
        ended = Deferred.fromCoroutine(self.peer.protocol.hang_up())
        self.assertEqual([one.name for one in self.peer.written()], ["Basic.Ack", "Connection.Close"])
        self.assertNoResult(ended)
        self.peer.send(commands.Connection.CloseOk(), channel=0)
        self.successResultOf(ended)
        self.assertTrue(self.peer.transport.disconnecting)

    def test_hang_up_on_a_deaf_broker(self) -> None:
        """A broker that does not answer is not waited for longer than :data:`CLOSE_S`."""
        ended = Deferred.fromCoroutine(self.peer.protocol.hang_up())
        self.peer.clock.advance(CLOSE_S)
        self.successResultOf(ended)
        self.assertTrue(self.peer.protocol.closed)

    def test_hang_up_cancelled(self) -> None:
        """Whoever cancels the goodbye is told so, and has the connection cut: the broker is not to blame."""
        reasons: list[str] = []
        self.peer.protocol.on_lost(reasons.append)
        ended = Deferred.fromCoroutine(self.peer.protocol.hang_up())
        ended.cancel()
        self.failureResultOf(ended, CancelledError)
        self.assertTrue(self.peer.protocol.closed)
        self.assertTrue(self.peer.transport.disconnecting)
        self.peer.lose()
        self.assertEqual(reasons, ["the goodbye was cut short"])

    def test_cut(self) -> None:
        """A cut says no word: what is left is written, our side closes, and the broker's end is awaited."""
        self.peer.protocol.before_flush(
            lambda: self.peer.protocol.write(method_frame(0, b"\x00\x3c\x00\x50" + bytes(9)))
        )
        ended = Deferred.fromCoroutine(self.peer.protocol.cut())
        self.assertEqual([one.name for one in self.peer.written()], ["Basic.Ack"])
        self.assertTrue(self.peer.transport.half_closed)
        self.assertNoResult(ended)
        self.peer.lose()
        self.successResultOf(ended)
        self.assertEqual(self.peer.clock.getDelayedCalls(), [])

    def test_one_write_a_turn(self) -> None:
        """Everything written in one turn leaves in one write."""
        before = self.peer.transport.writes
        for number in range(100):
            self.peer.protocol.write(b"%d" % number)
        self.peer.clock.advance(0)
        self.assertEqual(self.peer.transport.writes - before, 1)


class TogetherTest(SynchronousTestCase):
    """:func:`together`."""

    def test_first_error(self) -> None:
        """The first error is raised once all have ended; the others are not lost in the log."""
        calls: list[Deferred[None]] = [Deferred() for _ in range(3)]
        result = Deferred.fromCoroutine(together(calls))
        calls[2].errback(KeyError("later"))
        calls[1].errback(ValueError("first"))
        self.assertNoResult(result)
        calls[0].callback(None)
        self.failureResultOf(result, ValueError)

"""One SMTP connection against a server that is played by hand: what it says, and what becomes of a mail."""

from __future__ import annotations

from functools import partial
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.replies import Accepted, Dropped, Outcome, Refused, Step, Unclear
from msgd.services.mailer.smtp import Connection, Login, Unreachable, stuffed
from msgd.services.mailer.transaction import Envelope, SenderRefused

MAIL = Envelope(
    "news@sender.example", "anna@example.com", b"Subject: x\r\n\r\nHello\r\n.\r\nRCPT TO:<other@example.com>\r\n"
)


class Transport(StringTransport):
    """Remembers that it was aborted."""

    def abortConnection(self) -> None:
        self.aborting = True


class ConnectionCase(SynchronousTestCase):
    def connect(self, *extensions: str, **options: Any) -> Connection:
        """A connection that is ready."""
        self.clock = Clock()
        self.transport: Any = Transport()
        made = Connection(self.clock, "client.test", **options)
        self.connection = made
        made.makeConnection(self.transport)
        self.say("220 smtp.test ESMTP")
        self.say(*(f"250-{one}" for one in extensions), "250 HELP")
        self.transport.clear()
        return made

    def say(self, *lines: str) -> None:
        for line in lines:
            self.connection.dataReceived(line.encode() + b"\r\n")

    def said(self) -> bytes:
        found: bytes = self.transport.value()
        self.transport.clear()
        return found

    def lose(self) -> None:
        self.connection.connectionLost(Failure(ConnectionLost()))


class TransactionTests(ConnectionCase):
    """A mail, command by command."""

    def test_one_by_one(self) -> None:
        """Without pipelining each command waits for the answer to the last."""
        connection = self.connect()
        result = connection.send(MAIL)
        self.assertEqual(self.said(), b"MAIL FROM:<news@sender.example>\r\n")
        self.say("250 ok")
        self.assertEqual(self.said(), b"RCPT TO:<anna@example.com>\r\n")
        self.say("250 ok")
        self.assertEqual(self.said(), b"DATA\r\n")
        self.say("354 go on")
        self.assertTrue(connection.past_the_end)
        self.assertEqual(self.said(), stuffed(MAIL.message))
        self.say("250 2.0.0 taken")
        self.assertEqual(self.successResultOf(result), Accepted(250, "2.0.0 taken"))
        self.assertTrue(connection.usable)

    def test_pipelined(self) -> None:
        """With it three commands leave together, and a second mail needs no RSET."""
        connection = self.connect("PIPELINING", "SIZE 1000000")
        for _ in range(2):
            result = connection.send(MAIL)
            size = len(MAIL.message)
            self.assertEqual(
                self.said(),
                f"MAIL FROM:<news@sender.example> SIZE={size}\r\nRCPT TO:<anna@example.com>\r\nDATA\r\n".encode(),
            )
            self.say("250 ok", "250 ok", "354 go on")
            self.said()
            self.say("250 taken")
            self.assertIsInstance(self.successResultOf(result), Accepted)

    def test_refused(self) -> None:
        """What is refused says where; the connection is as good as before."""
        for extensions in ((), ("PIPELINING",)):
            connection = self.connect(*extensions)
            result = connection.send(MAIL)
            self.say("250 ok", "550 5.1.1 nobody")
            if extensions:
                self.say("503 no recipients")
            self.assertTrue(self.said().endswith(b"RSET\r\n"))
            self.say("250 reset")
            self.assertEqual(self.successResultOf(result), Refused(550, "5.1.1 nobody", Step.RECIPIENT))
            self.assertTrue(connection.usable)

    def test_refused_and_data_taken(self) -> None:
        """A server that takes DATA although it refused the recipient gets an empty message, not this one."""
        connection = self.connect("PIPELINING")
        result = connection.send(MAIL)
        self.said()
        self.say("250 ok", "550 nobody", "354 go on")
        self.assertEqual(self.said(), b".\r\n")
        self.say("554 no recipients")
        self.assertEqual(self.successResultOf(result), Refused(550, "nobody", Step.RECIPIENT))

    def test_sender_refused(self) -> None:
        """A refusal of the sender is no refusal of the recipient."""
        connection = self.connect()
        result = connection.send(MAIL)
        self.say("550 not you", "250 reset")
        self.failureResultOf(result, SenderRefused)
        self.assertTrue(connection.usable)

    def test_data_refused(self) -> None:
        """Refused after the data: said as that, and known whatever happens next."""
        connection = self.connect()
        result = connection.send(MAIL)
        self.say("250 ok", "250 ok", "354 go on", "554 5.7.1 spam")
        self.assertEqual(self.successResultOf(result), Refused(554, "5.7.1 spam", Step.END))

    def test_closing_server(self) -> None:
        """421 in the middle is known to be a refusal; over an old connection it is a reason to make a new one."""
        connection = self.connect()
        result = connection.send(MAIL)
        self.say("250 ok", "421 later")
        self.lose()
        self.assertEqual(self.successResultOf(result), Refused(421, "later", Step.RECIPIENT))
        connection = self.connect()
        connection.send(MAIL)
        self.say("250 ok", "250 ok", "354 go on", "250 taken")
        result = connection.send(MAIL)
        self.say("421 enough")
        self.lose()
        outcome = self.successResultOf(result)
        assert isinstance(outcome, Dropped)
        self.assertFalse(outcome.fresh)

    def test_lost(self) -> None:
        """Before the end of the data nothing was taken; after it nobody knows."""
        for replies, kind in (([], Dropped), (["250 ok"], Dropped), (["250 ok"] * 2, Dropped)):
            connection = self.connect()
            result = connection.send(MAIL)
            self.say(*replies)
            self.lose()
            self.assertIsInstance(self.successResultOf(result), kind)
        connection = self.connect()
        result = connection.send(MAIL)
        self.say("250 ok", "250 ok", "354 go on")
        self.lose()
        self.assertIsInstance(self.successResultOf(result), Unclear)

    def test_silence(self) -> None:
        """A server that does not answer is hung up on: before the end of the data that is harmless, after it not."""
        connection = self.connect(reply_s=10.0, end_s=20.0)
        connection.send(MAIL)
        self.clock.advance(11)
        self.assertTrue(self.transport.aborting)
        connection = self.connect(reply_s=10.0, end_s=20.0)
        result = connection.send(MAIL)
        self.say("250 ok", "250 ok", "354 go on")
        self.clock.advance(11)
        self.assertFalse(getattr(self.transport, "aborting", False))
        self.clock.advance(10)
        self.lose()
        self.assertIsInstance(self.successResultOf(result), Unclear)

    def test_limits_of_the_server(self) -> None:
        """What a server cannot take is not tried."""
        for envelope, extensions, code in (
            (Envelope("a@b.example", "jürgen@example.com", b"x"), ("8BITMIME",), 553),
            (Envelope("a@b.example", "c@example.com", "ü".encode()), ("SMTPUTF8",), 554),
            (Envelope("a@b.example", "c@example.com", b"x" * 2000), ("SIZE 1000",), 552),
        ):
            outcome = self.successResultOf(self.connect(*extensions).send(envelope))
            assert isinstance(outcome, Refused)
            self.assertEqual((outcome.code, self.said()), (code, b""))
        self.connect("SMTPUTF8", "8BITMIME").send(Envelope("a@b.example", "jürgen@example.com", "ü".encode()))
        self.assertEqual(self.said(), b"MAIL FROM:<a@b.example> BODY=8BITMIME SMTPUTF8\r\n")

    def test_nonsense(self) -> None:
        """Lines that are no replies, replies without end, lines without end: the connection is given up."""
        for nonsense in (["hello"], ["250-x"] * 200, ["2" * 10_000]):
            result = self.connect().send(MAIL)
            self.say(*nonsense)
            self.assertTrue(self.transport.aborting, nonsense[0][:20])
            self.lose()
            self.assertIsInstance(self.successResultOf(result), Dropped)


class FollowingTests(ConnectionCase):
    """A mail whose commands leave behind the content of another."""

    OTHER = Envelope("news@sender.example", "ben@example.com", b"Subject: y\r\n\r\nHello\r\n")
    COMMANDS = b"MAIL FROM:<news@sender.example>\r\nRCPT TO:<ben@example.com>\r\nDATA\r\n"

    def begin(self, *extensions: str, **options: Any) -> Deferred[Outcome]:
        """A first mail, whose data has left with the commands of another."""
        self.connect(*extensions or ("PIPELINING",), **options)
        first = self.connection.send(MAIL, pass_on=self.pass_on)
        self.said()
        self.say("250 ok", "250 ok", "354 go on")
        return first

    def pass_on(self) -> None:
        self.assertTrue(self.connection.usable)
        self.second = self.connection.send(self.OTHER)
        self.assertFalse(self.connection.usable)

    def test_in_one_write(self) -> None:
        """They leave together, and the second one's content when its DATA has been answered."""
        first = self.begin()
        self.assertEqual(self.said(), stuffed(MAIL.message) + self.COMMANDS)
        self.assertTrue(self.connection.past_the_end)
        self.say("250 taken")
        self.assertEqual(self.successResultOf(first), Accepted(250, "taken"))
        self.assertFalse(self.connection.past_the_end or self.connection.usable)
        self.say("250 ok", "250 ok")
        self.assertEqual(self.said(), b"")
        self.say("354 go on")
        self.assertEqual(self.said(), stuffed(self.OTHER.message))
        self.assertNoResult(self.second)
        self.say("250 too")
        self.assertEqual(self.successResultOf(self.second), Accepted(250, "too"))
        self.assertTrue(self.connection.usable)

    def test_answers_in_any_pieces(self) -> None:
        """However the answers are cut, they are answers to the same."""
        for size in (1, 7, 1000):
            first = self.begin()
            answers = b"250 taken\r\n250-2.1.0\r\n250 ok\r\n250 ok\r\n354 go on\r\n550 5.7.1 spam\r\n"
            for at in range(0, len(answers), size):
                self.connection.dataReceived(answers[at : at + size])
            self.assertEqual(self.successResultOf(first), Accepted(250, "taken"))
            self.assertEqual(self.successResultOf(self.second), Refused(550, "5.7.1 spam", Step.END))

    def test_first_refused(self) -> None:
        """What is said of the first is nothing of the second; and the other way round."""
        first = self.begin()
        self.say("554 spam", "250 ok", "550 5.1.1 nobody", "503 no recipients", "250 reset")
        self.assertEqual(self.successResultOf(first), Refused(554, "spam", Step.END))
        self.assertEqual(self.successResultOf(self.second), Refused(550, "5.1.1 nobody", Step.RECIPIENT))
        self.assertTrue(self.connection.usable)

    def test_no_third(self) -> None:
        """One follows one: within the call and after it no other is taken."""
        self.begin()
        self.assertFalse(self.connection.usable)
        self.say("250 taken", "250 ok", "250 ok", "354 go on", "250 too")
        self.assertTrue(self.connection.usable)

    def test_nobody_follows(self) -> None:
        """If there is none, or the server knows no pipelining, the first leaves alone."""
        asked: list[str] = []
        for extension in ("PIPELINING", "SIZE"):
            connection = self.connect(extension)
            first = connection.send(MAIL, pass_on=partial(asked.append, extension))
            self.say("250 ok", "250 ok", "354 go on")
            self.assertTrue(self.said().endswith(stuffed(MAIL.message)))
            self.say("250 taken")
            self.assertIsInstance(self.successResultOf(first), Accepted)
        self.assertEqual(asked, ["PIPELINING"])

    def test_lost(self) -> None:
        """Nobody knows of the first; of the second it is known that it was not taken, until its own end has left."""
        first = self.begin()
        self.lose()
        self.assertIsInstance(self.successResultOf(first), Unclear)
        outcome = self.successResultOf(self.second)
        assert isinstance(outcome, Dropped)
        self.assertFalse(outcome.fresh)
        first = self.begin()
        self.say("250 taken", "250 ok")
        self.lose()
        self.assertIsInstance(self.successResultOf(self.second), Dropped)
        first = self.begin()
        self.say("250 taken", "250 ok", "250 ok", "354 go on")
        self.lose()
        self.assertIsInstance(self.successResultOf(first), Accepted)
        self.assertIsInstance(self.successResultOf(self.second), Unclear)

    def test_closing_server(self) -> None:
        """421 to the first is its answer, and the end of the connection: nothing of the second is sent."""
        first = self.begin()
        self.said()
        self.connection.dataReceived(b"421 enough\r\n250 ok\r\n250 ok\r\n354 go on\r\n")
        self.assertEqual(self.successResultOf(first), Refused(421, "enough", Step.END))
        self.assertTrue(self.transport.aborting)
        self.assertFalse(self.connection.usable)
        self.assertEqual(self.said(), b"")
        self.lose()
        self.assertIsInstance(self.successResultOf(self.second), Dropped)

    def test_confused_server(self) -> None:
        """One that refuses the commands behind a message is given them again by themselves: it is no refusal of the
        sender."""
        first = self.begin()
        self.say("250 taken", "503 out of sequence", "503 no sender", "503 no recipients", "250 reset")
        self.assertIsInstance(self.successResultOf(first), Accepted)
        outcome = self.successResultOf(self.second)
        assert isinstance(outcome, Dropped)
        self.assertFalse(outcome.fresh)
        self.assertTrue(self.connection.misled and self.connection.usable)

    def test_forgetful_server(self) -> None:
        """One that loses what is behind a message does not answer; one that loses the message is something else."""
        first = self.begin(reply_s=10.0, end_s=20.0)
        self.say("250 taken")
        self.assertIsInstance(self.successResultOf(first), Accepted)
        self.clock.advance(11)
        self.assertTrue(self.transport.aborting and self.connection.misled)
        self.lose()
        self.assertIsInstance(self.successResultOf(self.second), Dropped)
        self.begin(reply_s=10.0, end_s=20.0)
        self.clock.advance(21)
        self.assertTrue(self.transport.aborting)
        self.assertFalse(self.connection.misled)

    def test_given_up(self) -> None:
        """Who gives up the second lets the first one be answered, and nothing more of the second is sent."""
        first = self.begin()
        self.said()
        self.connection.give_up(MAIL, hard=False)
        self.connection.give_up(self.OTHER, hard=False)
        self.assertFalse(getattr(self.transport, "aborting", False))
        self.connection.dataReceived(b"250 taken\r\n250 ok\r\n250 ok\r\n354 go on\r\n")
        self.assertEqual(self.successResultOf(first), Accepted(250, "taken"))
        self.assertTrue(self.transport.aborting)
        self.assertEqual(self.said(), b"")
        self.lose()
        self.assertIsInstance(self.successResultOf(self.second), Dropped)

    def test_given_up_hard(self) -> None:
        """In a hurry nobody is waited for."""
        self.begin()
        self.connection.give_up(self.OTHER, hard=True)
        self.assertTrue(self.transport.aborting)


class OpeningTests(ConnectionCase):
    """Greeting, TLS, login."""

    def open(self, *lines: str, **options: Any) -> Any:
        self.clock = Clock()
        self.transport = Transport()
        self.connection = Connection(self.clock, "client.test", **options)
        opened = self.connection.opened()
        self.connection.makeConnection(self.transport)
        self.say(*lines)
        return opened

    def test_unwilling(self) -> None:
        """A greeting that is none, or no STARTTLS where it is required: the reason is told."""
        for lines, options, reason in (
            (["554 go away"], {}, "554 go away"),
            (["220 hi", "250 HELP"], {"require_tls": True, "tls": object()}, "TLS"),
            (["220 hi", "250-AUTH PLAIN", "250 HELP"], {"login": Login("ann", "secret")}, "over TLS only"),
        ):
            opened = self.open(*lines, **options)
            self.assertTrue(getattr(self.transport, "aborting", False) or self.transport.disconnecting, reason)
            self.lose()
            self.assertIn(reason, self.failureResultOf(opened, Unreachable).value.message)
            self.assertNotIn(b"secret", self.said())

    def test_injected_before_tls(self) -> None:
        """What came with the answer to STARTTLS is not taken for what came through TLS."""
        opened = self.open("220 hi", "250-STARTTLS", "250 HELP", tls=object())
        self.connection.dataReceived(b"220 go on\r\n250-AUTH PLAIN\r\n250 HELP\r\n")
        self.assertTrue(self.transport.aborting)
        self.lose()
        self.failureResultOf(opened, Unreachable)

    def test_password_is_not_shown(self) -> None:
        """Not in a representation, which ends up in logs."""
        self.assertNotIn("secret", repr(Login("ann", "secret")))


class StuffingTests(SynchronousTestCase):
    """No message can end itself."""

    @given(st.lists(st.sampled_from([b".", b"\r", b"\n", b"\r\n", b"a", b"..", b"\r\n.\r\n", b"\n.\n"]), max_size=40))
    def test_roundtrip(self, pieces: list[bytes]) -> None:
        """A server that reads it as RFC 5321 says gets the lines of the message, and stops at its end alone."""
        message = b"".join(pieces)
        sent = stuffed(message)
        end = sent.index(b"\r\n.\r\n") if not sent.startswith(b".\r\n") else -2
        self.assertEqual(end + 5, len(sent))
        body = sent[: end + 2]
        self.assertNotIn(b"\n", body.replace(b"\r\n", b""))
        self.assertNotIn(b"\r", body.replace(b"\r\n", b""))
        lines = body.split(b"\r\n")[:-1]
        read = b"\r\n".join(line[1:] if line.startswith(b".") else line for line in lines) + b"\r\n"
        wanted = message.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")
        self.assertEqual(read, wanted if wanted.endswith(b"\r\n") else wanted + b"\r\n")

    def test_across_chunks(self) -> None:
        """The trap of stuffing chunk by chunk: a dot that begins the second chunk of 16 KiB."""
        message = b"x" * (2**14 - 2) + b"\r\n" + b".\r\nMAIL FROM:<evil@example.com>\r\n"
        self.assertEqual(stuffed(message).count(b"\r\n.\r\n"), 1)
        self.assertTrue(stuffed(message).endswith(b"\r\n.\r\n"))

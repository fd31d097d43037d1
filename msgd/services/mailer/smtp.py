"""One SMTP connection, used for one mail after the other.

Twisted's ESMTPClient says EHLO, STARTTLS and AUTH; the transactions are ours, since its own ones say neither which step
was refused nor whether a lost connection had carried the end of the message, and its dot-stuffing works chunk by chunk:
a ``CRLF . CRLF`` across a boundary would end the message, and what follows would run as commands.

Sources: RFC 5321; RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3207
(STARTTLS), RFC 4954 (AUTH).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ITCPTransport
from twisted.mail.smtp import ESMTPClient, LOGINAuthenticator, PLAINAuthenticator
from twisted.python.failure import Failure

from msgd.clock import Clock
from msgd.errors import PeerError
from msgd.services.mailer.replies import Accepted, Dropped, Outcome, Refused, Step, Unclear, shown
from msgd.services.mailer.silence import Silence
from msgd.sockets import plain, send_at_once

REPLY_S: Final = 300.0
"""For the answer to a command (RFC 5321 §4.5.3.2 asks for 5 minutes)."""

END_S: Final = 600.0
"""For the answer to the end of the data: 10 minutes there, as giving up early mails somebody twice, or not at all."""

REPLY_LINES: Final = 100
LINE_BYTES: Final = 4096
"""Of a server's reply: RFC 5321 has 512 octets a line, some write more."""

_REPLY: Final = re.compile(rb"[2-5]\d\d(?:[ -]|$)")
"""RFC 5321 §4.2.1; nothing else can be a reply to what we say."""

_BARE: Final = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class Envelope(Struct, frozen=True):
    """What the server is told: from whom, to whom, and the message in 7 or 8 bits."""

    sender: str  # a mailbox; "" for mail that wants no bounces
    recipient: str
    message: bytes

    @property
    def utf8(self) -> bool:
        """Whether it takes SMTPUTF8."""
        return not (self.sender.isascii() and self.recipient.isascii())


class Login(Struct, frozen=True):
    """An account at the server."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


class SenderRefused(PeerError):
    """The server takes no mail from us: no fault of the recipient."""


class Unreachable(PeerError):
    """No connection to the server can be had."""


def stuffed(message: bytes) -> bytes:
    """The whole message as it travels after DATA: lines end with CRLF, a dot that begins one is doubled, and the end
    of the data follows (RFC 5321 §4.5.2)."""
    if not message.count(b"\r") == message.count(b"\n") == message.count(b"\r\n"):
        message = _BARE.sub(b"\r\n", message)
    if not message.endswith(b"\r\n"):
        message += b"\r\n"
    if message.startswith(b"."):
        message = b"." + message
    return message.replace(b"\r\n.", b"\r\n..") + b".\r\n"


class _State(enum.Enum):
    OPENING = "opening"
    IDLE = "idle"
    ASKING = "asking"  # MAIL, RCPT, DATA
    ENDING = "ending"  # the end of the data is on its way
    GONE = "gone"


class Connection(ESMTPClient):
    """Call :meth:`opened` first, then :meth:`send` for one mail after the other."""

    debug = False  # keeps no log of lines
    # The base class warns of an attribute that nobody sets here, and takes half of a mail's time for it.
    __setattr__ = object.__setattr__
    transport: Any
    timeout: Any
    callLater: Any
    _expected: Any
    MAX_LENGTH = LINE_BYTES

    def __init__(
        self,
        clock: Clock,
        identity: str,
        *,
        login: Login | None = None,
        tls: Any = None,
        require_tls: bool = False,
        reply_s: float = REPLY_S,
        end_s: float = END_S,
        lost: Callable[[Connection], None] = lambda _: None,
    ) -> None:
        """``tls``: what makes STARTTLS connections, None to do without; ``lost`` is told when it is of no more use."""
        super().__init__(None, tls, identity)
        self.callLater = clock.callLater  # of the timeout's mixin
        self.timeout = reply_s
        self.requireTransportSecurity = require_tls
        self.requireAuthentication = login is not None
        self._login = login
        self._end_s = end_s
        self._reply_s = reply_s
        self._silence = Silence(clock, self.timeoutConnection)
        self._tcp: Any = None  # to be written to at once
        self._lines: list[bytes] = []  # of a reply, before its last
        self._lost = lost
        self._state = _State.OPENING
        self._why = ""
        self._opened: Deferred[None] = Deferred(lambda _: self.abort())
        self._extensions: dict[bytes, bytes | None] = {}
        self._envelope: Envelope | None = None
        self._waiting: Deferred[Outcome] | None = None
        self._steps: list[str] = []  # commands whose replies are awaited, in order
        self._refused: Refused | None = None
        self._sender_refused: str = ""
        self.mails = 0  # taken on so far

    # -- from outside -------------------------------------------------------------------------------------------------

    def opened(self) -> Deferred[None]:
        """Fires when it is ready; fails with Unreachable. Cancel it to give up."""
        return self._opened

    @property
    def usable(self) -> bool:
        """Whether a mail may be sent over it now."""
        return self._state is _State.IDLE

    @property
    def past_the_end(self) -> bool:
        """Whether the end of a message is on its way: only the server knows what became of it."""
        return self._state is _State.ENDING

    def send(self, envelope: Envelope) -> Deferred[Outcome]:
        """What became of it. Fails with SenderRefused. Cancelled, it ends the connection, and what became of it is not
        known; :meth:`abort` ends it too, and it is told."""
        assert self._state is _State.IDLE
        waiting: Deferred[Outcome] = Deferred(lambda _: self.abort())
        self._waiting = waiting
        self._envelope = envelope
        self._refused, self._sender_refused = None, ""
        self.mails += 1
        unable = self._unable(envelope)
        if unable is not None:
            self._finish(unable)
            return waiting
        self._state = _State.ASKING
        mail = f"MAIL FROM:<{envelope.sender}>{self._parameters(envelope)}".encode()
        recipient = f"RCPT TO:<{envelope.recipient}>".encode()
        self._silence.begin(self._reply_s)
        if b"PIPELINING" in self._extensions:
            self._steps = ["MAIL", "RCPT", "DATA"]
            self._write(b"%s\r\n%s\r\nDATA\r\n" % (mail, recipient))
        else:
            self._steps = ["MAIL"]
            self._write(mail + b"\r\n")
        return waiting

    def quit(self) -> None:
        """Say goodbye and close."""
        if self._state is _State.IDLE:
            self.sendLine(b"QUIT")
        self._state = _State.GONE
        self._silence.close()
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once."""
        if self.transport is not None:
            self.transport.abortConnection()

    def _unable(self, envelope: Envelope) -> Refused | None:
        """What this server cannot do, which is as good as its refusal (RFC 6531 §3.5, RFC 1870 §6)."""
        if envelope.utf8 and b"SMTPUTF8" not in self._extensions:
            return Refused(553, "5.6.7 the server takes no addresses with other characters than ASCII", Step.RECIPIENT)
        if not envelope.message.isascii() and b"8BITMIME" not in self._extensions:
            return Refused(554, "5.6.3 the server takes no mail in 8 bits", Step.DATA)
        size = (self._extensions.get(b"SIZE") or b"").strip()
        if size.isdigit() and 0 < int(size) < len(envelope.message):
            return Refused(
                552, f"5.3.4 the message has {len(envelope.message)} bytes, the server takes {int(size)}", Step.DATA
            )
        return None

    def _parameters(self, envelope: Envelope) -> str:
        parameters = ""
        if b"SIZE" in self._extensions:
            parameters += f" SIZE={len(envelope.message)}"
        if not envelope.message.isascii():
            parameters += " BODY=8BITMIME"
        if envelope.utf8:
            parameters += " SMTPUTF8"
        return parameters

    # -- opening ------------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            # A command waits for the last one's acknowledgement otherwise, which comes 40 ms later.
            self.transport.setTcpNoDelay(True)
        super().connectionMade()

    def esmtpState_starttls(self, code: int, resp: bytes) -> None:
        """What came before TLS must not be taken for what comes through it (CVE-2011-0411 and its kin)."""
        if self._buffer:
            self._fail("the server sent more than its answer to STARTTLS")
            return
        super().esmtpState_starttls(code, resp)

    def tryTLS(self, code: int, resp: bytes, items: dict[bytes, bytes | None]) -> None:
        self._extensions = {name.upper(): value for name, value in items.items()}
        super().tryTLS(code, resp, self._extensions)

    def authenticate(self, code: int, resp: bytes, items: dict[bytes, bytes | None]) -> None:
        if self._login is not None:
            if not self._tlsMode:
                self._fail("a password goes over TLS only, and the server offers no STARTTLS")
                return
            user = self._login.user.encode()
            self.secret = self._login.password.encode()
            self.authenticators = [PLAINAuthenticator(user), LOGINAuthenticator(user)]
        super().authenticate(code, resp, items)

    def smtpState_from(self, code: int, resp: bytes) -> None:
        """The connection is ready: from here on the replies are ours."""
        self.secret = None
        self._state = _State.IDLE
        self.setTimeout(None)
        self._tcp = plain(self.transport)
        opened, self._opened = self._opened, Deferred()
        opened.callback(None)

    def sendError(self, exc: Exception) -> None:
        """Something went wrong while the connection was opened, or the server talks nonsense."""
        code = getattr(exc, "code", -1)
        said = getattr(exc, "resp", str(exc))
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        self._fail(shown(f"{code} {text}" if isinstance(code, int) and code > 0 else text))

    def timeoutConnection(self) -> None:
        self._fail("the server did not answer in time")

    def lineLengthExceeded(self, line: bytes) -> None:
        self._fail("the server sent a line without end")

    def _fail(self, why: str) -> None:
        self._why = self._why or why
        self.abort()

    # -- a transaction ------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Once it is open, replies are read here."""
        if self._state is _State.OPENING:
            super().dataReceived(data)
            return
        *lines, self._buffer = (self._buffer + data).split(b"\r\n")
        for line in lines:
            self.lineReceived(line)
            if self._state is _State.GONE or self.transport.disconnecting:
                return
        if len(self._buffer) > LINE_BYTES:
            self.lineLengthExceeded(self._buffer)

    def lineReceived(self, line: bytes) -> None:
        if len(self.resp) > REPLY_LINES or len(self._lines) > REPLY_LINES:
            self._fail("the server sent a reply without end")
        elif self._state is _State.OPENING:
            super().lineReceived(line)
        elif len(line) > LINE_BYTES:
            self.lineLengthExceeded(line)
        elif not _REPLY.match(line):
            self._fail(shown(f"the server sent no reply, but {line[:100]!r}"))
        elif line[3:4] == b"-":
            self._lines.append(line[4:])
        elif self._lines:
            lines, self._lines = self._lines, []
            self._replied(int(line[:3]), b"\n".join([*lines, line[4:]]))
        else:
            self._replied(int(line[:3]), line[4:])

    def _replied(self, code: int, reply: bytes) -> None:
        if not self._steps:
            # Unasked for: a server that closes says 421 first.
            self._fail(shown(f"{code} {reply.decode('utf-8', 'replace')}"))
            return
        self._silence.begin(self._reply_s)
        step = self._steps.pop(0)
        text = shown(reply.decode("utf-8", "replace"))
        getattr(self, f"_after_{step}")(code, text)
        if code == 421 and self._state is not _State.ENDING:
            self._why = f"421 {text}"
            self.abort()

    def _after_MAIL(self, code: int, text: str) -> None:
        if not 200 <= code < 300:
            if code == 421 and self.mails > 1:
                pass  # enough for one connection: a new one will tell whether it is more than that
            elif code < 500:
                self._refused = Refused(code, text, Step.RECIPIENT)
            else:
                self._sender_refused = f"the server takes no mail from {self._shown_sender()}: {code} {text}"
        self._next("RCPT")

    def _after_RCPT(self, code: int, text: str) -> None:
        if not 200 <= code < 300 and self._refused is None and not self._sender_refused:
            self._refused = Refused(code, text, Step.RECIPIENT)
        self._next("DATA")

    def _next(self, step: str) -> None:
        """Without pipelining, ask the next; nothing, if the mail is refused already."""
        if self._steps:
            return
        if self._refused is not None or self._sender_refused:
            self._reset()
            return
        assert self._envelope is not None
        self._steps = [step]
        self._write(f"RCPT TO:<{self._envelope.recipient}>\r\n".encode() if step == "RCPT" else b"DATA\r\n")

    def _after_DATA(self, code: int, text: str) -> None:
        if code != 354:
            if self._refused is None and not self._sender_refused:
                self._refused = Refused(code, text, Step.DATA)
            self._reset()
            return
        assert self._envelope is not None
        if self._refused is not None or self._sender_refused:
            # A pipelined DATA that was taken although the recipient was not: an empty message ends it (RFC 2920 §3.1).
            self._steps = ["RSET"]
            self._write(b".\r\n")
            return
        self._state = _State.ENDING
        self._steps = ["END"]
        self._silence.begin(self._end_s)
        self._write(stuffed(self._envelope.message))

    def _reset(self) -> None:
        """End the transaction: the server may still have its sender in hand."""
        self._steps = ["RSET"]
        self._write(b"RSET\r\n")

    def _after_RSET(self, code: int, text: str) -> None:
        self._finish(self._refused)

    def _after_END(self, code: int, text: str) -> None:
        if 200 <= code < 300:
            self._finish(Accepted(code, text))
        else:
            self._finish(Refused(code, text, Step.END))
        if code == 421:
            self._fail(f"421 {text}")

    def _finish(self, outcome: Outcome | None) -> None:
        waiting, self._waiting = self._waiting, None
        self._envelope = None
        self._state = _State.IDLE
        self._silence.end()
        if waiting is None or waiting.called:
            return
        if outcome is None:
            waiting.errback(SenderRefused(self._sender_refused))
        else:
            waiting.callback(outcome)

    def _write(self, data: bytes) -> None:
        sent = send_at_once(self._tcp, data)
        if sent < len(data):
            self.transport.write(data[sent:])

    def _shown_sender(self) -> str:
        return self._envelope.sender if self._envelope is not None else ""

    # -- the end ------------------------------------------------------------------------------------------------------

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  # as in the base class
        super().connectionLost(reason)
        self._silence.close()
        state, self._state = self._state, _State.GONE
        why = self._why or f"the connection was lost: {reason.getErrorMessage()}"
        waiting, self._waiting = self._waiting, None
        self._lost(self)
        if state is _State.OPENING:
            if not self._opened.called:
                self._opened.errback(Unreachable(why))
        elif waiting is not None and not waiting.called:
            if state is _State.ENDING:
                waiting.callback(Unclear(shown(why)))
            elif self._refused is not None:
                waiting.callback(self._refused)
            elif self._sender_refused:
                waiting.errback(SenderRefused(self._sender_refused))
            else:
                waiting.callback(Dropped(shown(why), fresh=self.mails == 1))

"""One SMTP connection, used for one mail after the other.

Twisted's ESMTPClient says EHLO, STARTTLS and AUTH; the transactions are ours, since its own ones say neither which step
was refused nor whether a lost connection had carried the end of the message, and its dot-stuffing works chunk by chunk:
a ``CRLF . CRLF`` across a boundary would end the message, and what follows would run as commands.

A mail may follow another in the same write: RFC 2920 §3.1 lets the content of a message be the first of a group of
commands. Its own content waits for the answer to its DATA, which comes behind the one to the end of the first.

Sources: RFC 5321; RFC 2920 (PIPELINING), RFC 1870 (SIZE), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8), RFC 3207
(STARTTLS), RFC 4954 (AUTH).
"""

from __future__ import annotations

import enum
import re
from collections import deque
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
from msgd.services.mailer.transaction import Envelope, Transaction
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


class Login(Struct, frozen=True):
    """An account at the server."""

    user: str
    password: str

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


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
        self._mail: Transaction | None = None
        self._follower: Transaction | None = None
        self._aborted = False
        self._passing_on = False  # another mail may follow now
        self._commands = b""  # of the one that follows
        self._cut_off = False  # that one is not to be sent
        self._steps: deque[Callable[[int, bytes], None]] = deque()  # for the replies that are awaited, in order
        self._pipelining = False
        self.mails = 0  # taken on so far
        self.misled = False
        """Whether the server seems to lose, or to refuse, what comes behind the content of a message."""

    # -- from outside -------------------------------------------------------------------------------------------------

    def opened(self) -> Deferred[None]:
        """Fires when it is ready; fails with Unreachable. Cancel it to give up."""
        return self._opened

    @property
    def usable(self) -> bool:
        """Whether a mail may be sent over it now."""
        return not self._aborted and (self._state is _State.IDLE or self._passing_on)

    @property
    def past_the_end(self) -> bool:
        """Whether the end of a message is on its way: only the server knows what became of it."""
        return self._state is _State.ENDING

    def send(self, envelope: Envelope, *, pass_on: Callable[[], None] | None = None) -> Deferred[Outcome]:
        """What became of it. Fails with SenderRefused. Cancelled, it ends the connection, and what became of it is not
        known; :meth:`abort` ends it too, and it is told.

        ``pass_on`` is called when the end of its data is about to leave, if the server has PIPELINING. A mail that is
        sent over this connection within that call follows it, in the same write."""
        assert self.usable
        outcome: Deferred[Outcome] = Deferred(lambda _: self.abort())
        self.mails += 1
        unable = self._unable(envelope)
        if unable is not None:
            outcome.callback(unable)
            return outcome
        mail = Transaction(envelope, outcome, pass_on, fresh=self.mails == 1)
        begun = f"MAIL FROM:<{envelope.sender}>{self._parameters(envelope)}\r\n".encode()
        if self._pipelining:
            self._steps += (self._after_mail, self._after_rcpt, self._after_data)
            begun = b"%sRCPT TO:<%s>\r\nDATA\r\n" % (begun, envelope.recipient.encode())
        else:
            self._steps.append(self._after_mail)
        if self._passing_on:
            mail.follows = True
            self._follower, self._commands = mail, begun
            self._passing_on = False
        else:
            self._mail = mail
            self._state = _State.ASKING
            self._silence.begin(self._reply_s)
            self._write(begun)
        return outcome

    def give_up(self, envelope: Envelope, *, hard: bool) -> None:
        """Have done with a mail. Not ``hard``: unless the end of its data is on its way; and if that of the mail before
        it is, when that has been answered."""
        if hard or self._state is not _State.ENDING:
            self.abort()
        elif self._follower is not None and self._follower.envelope is envelope:
            self._cut_off = True

    def quit(self) -> None:
        """Say goodbye and close."""
        if self._state is _State.IDLE:
            self.sendLine(b"QUIT")
        self._state = _State.GONE
        self._silence.close()
        if self.transport is not None:
            self.transport.loseConnection()

    def abort(self) -> None:
        """Close at once: what the server has said and is not read yet does not count any more."""
        self._aborted = True
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
        self._pipelining = b"PIPELINING" in self._extensions
        opened, self._opened = self._opened, Deferred()
        opened.callback(None)

    def sendError(self, exc: Exception) -> None:
        """Something went wrong while the connection was opened, or the server talks nonsense."""
        code = getattr(exc, "code", -1)
        said = getattr(exc, "resp", str(exc))
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
        self._fail(shown(f"{code} {text}" if isinstance(code, int) and code > 0 else text))

    def timeoutConnection(self) -> None:
        if self._mail is not None and self._mail.follows and self._steps and self._steps[0] == self._after_mail:
            self.misled = True
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
            if line[3:4] == b" " and not self._lines and len(line) <= LINE_BYTES and _REPLY.match(line):
                self._replied(int(line[:3]), line[4:])
            else:
                self.lineReceived(line)
            if self._aborted or self._state is _State.GONE or self.transport.disconnecting:
                return
        if len(self._buffer) > LINE_BYTES:
            self.lineLengthExceeded(self._buffer)
        if self._state is _State.ASKING:
            self._silence.begin(self._reply_s)

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
            self._fail(_shown(b"%d %s" % (code, reply)))
            return
        self._steps.popleft()(code, reply)
        if code == 421 and self._state is not _State.ENDING and not self._aborted:
            self._why = f"421 {_shown(reply)}"
            self.abort()

    def _after_mail(self, code: int, reply: bytes) -> None:
        mail = self._mail
        assert mail is not None
        if not 200 <= code < 300:
            if code == 421 and not mail.fresh:
                pass  # enough for one connection: a new one will tell whether it is more than that
            elif code < 500:
                mail.refused = Refused(code, _shown(reply), Step.RECIPIENT)
            elif mail.follows:
                mail.misled = self.misled = True  # perhaps: without a mail before it, it will tell
            else:
                said = f"{code} {_shown(reply)}"
                mail.sender_refused = f"the server takes no mail from {mail.envelope.sender}: {said}"
        self._next(mail, self._after_rcpt)

    def _after_rcpt(self, code: int, reply: bytes) -> None:
        mail = self._mail
        assert mail is not None
        if not 200 <= code < 300 and not mail.over:
            mail.refused = Refused(code, _shown(reply), Step.RECIPIENT)
        self._next(mail, self._after_data)

    def _next(self, mail: Transaction, step: Callable[[int, bytes], None]) -> None:
        """Without pipelining, ask the next; nothing, if the mail is refused already."""
        if self._steps:
            return
        if mail.over:
            self._reset()
            return
        self._steps.append(step)
        rcpt = step == self._after_rcpt
        self._write(f"RCPT TO:<{mail.envelope.recipient}>\r\n".encode() if rcpt else b"DATA\r\n")

    def _after_data(self, code: int, reply: bytes) -> None:
        mail = self._mail
        assert mail is not None
        if code != 354:
            if not mail.over:
                mail.refused = Refused(code, _shown(reply), Step.DATA)
            self._reset()
            return
        if mail.over:
            # A pipelined DATA that was taken although the recipient was not: an empty message ends it (RFC 2920 §3.1).
            self._steps.append(self._after_rset)
            self._write(b".\r\n")
            return
        self._state = _State.ENDING
        self._steps.append(self._after_end)
        self._silence.begin(self._end_s)
        if self._pipelining and mail.pass_on is not None:
            self._passing_on = True
            mail.pass_on()
            self._passing_on = False
        commands, self._commands = self._commands, b""
        self._write(stuffed(mail.envelope.message) + commands)

    def _reset(self) -> None:
        """End the transaction: the server may still have its sender in hand."""
        self._steps.append(self._after_rset)
        self._write(b"RSET\r\n")

    def _after_rset(self, code: int, reply: bytes) -> None:
        mail = self._mail
        assert mail is not None
        self._finish(mail.known)

    def _after_end(self, code: int, reply: bytes) -> None:
        text = _shown(reply)
        if code == 421:
            self._fail(f"421 {text}")
        elif self._cut_off:
            self._fail("it was given up")
        self._finish(Accepted(code, text) if 200 <= code < 300 else Refused(code, text, Step.END))

    def _finish(self, outcome: Outcome | None) -> None:
        """The one that follows, if there is one, is next."""
        mail, self._mail, self._follower = self._mail, self._follower, None
        assert mail is not None
        if self._mail is None:
            self._state = _State.IDLE
            self._silence.end()
        else:
            self._state = _State.ASKING
        mail.tell(outcome)

    def _write(self, data: bytes) -> None:
        sent = send_at_once(self._tcp, data)
        if sent < len(data):
            self.transport.write(data[sent:])

    # -- the end ------------------------------------------------------------------------------------------------------

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  # as in the base class
        super().connectionLost(reason)
        self._silence.close()
        state, self._state = self._state, _State.GONE
        why = self._why or f"the connection was lost: {reason.getErrorMessage()}"
        mail, follower, self._mail, self._follower = self._mail, self._follower, None, None
        self._lost(self)
        if state is _State.OPENING:
            if not self._opened.called:
                self._opened.errback(Unreachable(why))
            return
        if mail is not None:
            if state is _State.ENDING:
                mail.tell(Unclear(shown(why)))
            elif mail.over:
                mail.tell(mail.known)
            else:
                mail.tell(Dropped(shown(why), fresh=mail.fresh))
        if follower is not None:
            follower.tell(Dropped(shown(why), fresh=False))


def _shown(reply: bytes) -> str:
    return shown(reply.decode("utf-8", "replace"))

"""One connection to an IMAP server, from its greeting to a folder that is selected, and what is asked of that.

Twisted's IMAP4Client reads lines and literals, and tags commands, in the reactor: there a connection that idles for
minutes takes no thread, and is cut off at once, which imaplib and what stands on it cannot. The rest is ours, as it
knows no IDLE, logs in over plain TCP, believes what came before TLS, and takes literals of any size.

Sources: RFC 3501 (IMAP4rev1); RFC 2177 (IDLE), RFC 4315 (UIDPLUS), RFC 6851 (MOVE), RFC 4616 (PLAIN), RFC 5530
(response codes).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from io import BytesIO
from typing import Any, Final

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.interfaces import ITCPTransport
from twisted.internet.protocol import Factory
from twisted.mail.imap4 import Command, IMAP4Client, IMAP4Exception
from twisted.python.failure import Failure

from msgd.clock import Clock, DelayedCall
from msgd.services.mailer.bounces.place import CommandRefused, FolderTrouble, LoginRefused, Place
from msgd.services.mailer.bounces.words import content_of, mailbox, quoted
from msgd.services.mailer.replies import shown

CONNECT_S: Final = 30.0
"""To the end of TCP's handshake; what is dropped on the way is sent again after 1, 3, 7, 15 seconds."""

ANSWER_S: Final = 60.0
"""For the greeting, and for each answer: a server that searches a large folder on a slow disk takes a while."""

CLOSE_S: Final = 2.0
"""For the server to end the connection after LOGOUT."""

LINE_BYTES: Final = 64 * 1024
"""Of an answer: two thousand UIDs of ten digits each."""

LITERAL_BYTES: Final = 256 * 1024
"""Twice what is asked for of a mail."""

_COUNT: Final = re.compile(rb"(\d{1,10}) (EXISTS|EXPUNGE)\b", re.IGNORECASE)
_VALIDITY: Final = re.compile(rb"OK \[UIDVALIDITY (\d{1,10})\]", re.IGNORECASE)
_FLAGS: Final = re.compile(rb"OK \[PERMANENTFLAGS \(([^)]*)\)\]", re.IGNORECASE)
_FOUND: Final = re.compile(rb"SEARCH\b([ \d]*)", re.IGNORECASE)
_PASSING: Final = re.compile(r"\[(?:UNAVAILABLE|INUSE|LIMIT|SERVERBUG)\]", re.IGNORECASE)
"""The login is not to blame (RFC 5530)."""

_WANTED: Final = re.compile(rb"CAPABILITY\b|\d+ FETCH\b")


class Session(IMAP4Client):
    """Call :meth:`open` first. Any error but CommandRefused ends the connection, and so does a cancel; after that of
    :meth:`idle` it can be closed in good order."""

    transport: Any
    MAX_LENGTH = LINE_BYTES

    def __init__(self, place: Place, clock: Clock, tls: Any) -> None:
        """``tls``: what makes STARTTLS connections."""
        super().__init__()
        self._place = place
        self._clock = clock
        self._tls = tls
        self._why = ""
        self._cut = False
        self._greeted: Deferred[None] = Deferred()
        self._gone: Deferred[None] = Deferred()
        self._idling = False
        self._found: list[int] = []
        self.capabilities: dict[bytes, Any] = {}
        self.lost = False
        self.exists = 0  # mails in the folder
        self.validity = 0  # UIDs mean the same as long as this number does
        self.keywords = False  # whether the folder keeps flags that are not of the standard
        self.news = False  # whether a mail has come since somebody set this to False

    @property
    def idles(self) -> bool:
        """Whether the server tells of new mails by itself."""
        return b"IDLE" in self.capabilities

    # -- opening ------------------------------------------------------------------------------------------------------

    async def open(self, password: str) -> None:
        """Greeting, TLS, login, folder. Raises FolderTrouble."""
        await self._answer(self._greeted, "greeting")
        await self._learn()
        if not self._place.tls and self._place.starttls != "off":
            await self._secure()
        await self._login(password)
        await self._learn()
        try:
            _, said = await self._ask(b"SELECT", mailbox(self._place.folder))
        except CommandRefused as error:
            raise FolderTrouble(
                f"the folder {self._place.folder!r} cannot be opened: {error.message}", where="mail.bounce_folder"
            ) from None
        if b"[READ-ONLY]" in said.upper():
            raise FolderTrouble(f"{self._place} can be read only, so that nothing can be marked as read there")
        if self._place.done:
            await self._look_for(self._place.done)

    async def _learn(self) -> None:
        """What the server can do, which changes with TLS and login; a greeting may have told something else."""
        self.capabilities = await self._answer(self.getCapabilities(useCache=0), "CAPABILITY")

    async def _secure(self) -> None:
        if b"STARTTLS" not in self.capabilities:
            if self._place.here:
                return
            raise FolderTrouble("the server offers no STARTTLS, and a password goes over TLS only: use imaps://")
        await self._ask(b"STARTTLS")
        if self._buffer:
            # What came before TLS must not be taken for what comes through it (CVE-2021-33515 and its kin).
            self.fail("the server sent more than its answer to STARTTLS")
            raise self._trouble(ConnectionDone())
        self.transport.startTLS(self._tls)
        await self._learn()

    async def _login(self, password: str) -> None:
        user = self._place.user
        try:
            if b"PLAIN" in (self.capabilities.get(b"AUTH") or ()):
                words = base64.b64encode(f"\0{user}\0{password}".encode())
                await self._ask(b"AUTHENTICATE", b"PLAIN", lambda _: self.sendLine(words))
            elif b"LOGINDISABLED" in self.capabilities:
                raise FolderTrouble("the server takes no password over this connection: use imaps://, or STARTTLS")
            else:
                await self._ask(b"LOGIN", quoted(user) + b" " + quoted(password))
        except CommandRefused as error:
            if _PASSING.search(error.message):
                raise FolderTrouble(f"the server lets {user} in later: {error.message}") from None
            raise LoginRefused(
                f"the server refuses the login of {user}: {error.message}; check the password in its file",
                where="mail.bounce_password_file",
            ) from None

    async def _look_for(self, folder: str) -> None:
        try:
            await self._ask(b"STATUS", mailbox(folder) + b" (MESSAGES)")
        except CommandRefused as error:
            raise FolderTrouble(
                f"there is no folder {folder!r} to move mails to: {error.message}", where="mail.bounce_done"
            ) from None

    # -- asking -------------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Have the server tell what is new."""
        await self._ask(b"NOOP")

    async def find(self, first: int, last: int, keys: bytes) -> list[int]:
        """The UIDs of the mails among these (by their places in the folder, from 1; past the end is no matter) to which
        ``keys`` apply."""
        end = b"%d" % last if last < self.exists else b"*"
        self._found = []
        await self._ask(b"UID SEARCH", b"%d:%s %s" % (first, end, keys))
        return sorted(self._found)

    async def fetch(self, uid: int, section: bytes, most: int) -> bytes | None:
        """The first ``most`` bytes of a section of a mail (empty: all of it), which stays as unread as it is; None if
        the mail is gone."""
        lines, _ = await self._ask(b"UID FETCH", b"%d (UID BODY.PEEK[%s]<0.%d>)" % (uid, section, most))
        for line in lines:
            content = content_of(line, uid)
            if content is not None:
                return content[:most]
        return None

    async def mark(self, uid: int, flags: bytes) -> None:
        await self._ask(b"UID STORE", b"%d +FLAGS.SILENT (%s)" % (uid, flags))

    async def move(self, uid: int, folder: str) -> None:
        """Into another folder. Where the server cannot do it in one step, the mail is copied first, and only this one
        expunged; what else is marked as deleted is its owner's matter."""
        where = b"%d " % uid + mailbox(folder)
        if b"MOVE" in self.capabilities:
            await self._ask(b"UID MOVE", where)
            return
        await self._ask(b"UID COPY", where)
        await self.mark(uid, rb"\Deleted")
        if b"UIDPLUS" in self.capabilities:
            await self._ask(b"UID EXPUNGE", b"%d" % uid)

    async def idle(self, seconds: float) -> None:
        """Returns when a mail has come, or after so long."""
        if self.news:
            return
        timer = self._clock.callLater(seconds, self._end_idle)
        try:
            idle = self.sendCommand(Command(b"IDLE", continuation=self._idle_begins))
            await self._answer(idle, "IDLE", seconds + ANSWER_S, cut=False)
        except CancelledError:
            self._end_idle()
            raise
        finally:
            self._idling = False
            if timer.active():
                timer.cancel()

    def _idle_begins(self, _: bytes) -> None:
        self._idling = True
        if self.news:
            self._end_idle()

    def _end_idle(self) -> None:
        if self._idling:
            self._idling = False
            self.sendLine(b"DONE")

    async def leave(self) -> None:
        """In good order, or after a while anyhow. Returns when the connection has ended."""
        if self.lost:
            return
        self.sendLine(b"last LOGOUT")
        self.transport.loseConnection()
        timer = self._clock.callLater(CLOSE_S, self.transport.abortConnection)
        try:
            await self._gone
        finally:
            if timer.active():
                timer.cancel()

    def fail(self, why: str) -> None:
        """End the connection at once, and hear nothing more."""
        self._why = self._why or why
        self._cut = True
        self.transport.abortConnection()

    async def _ask(
        self, command: bytes, args: bytes | None = None, continuation: Callable[[bytes], None] | None = None
    ) -> tuple[list[Any], bytes]:
        """The answers to a command that it is of use to have parsed, and the last line. Raises FolderTrouble."""
        if self.lost:
            raise self._trouble(ConnectionDone())
        answer = self.sendCommand(Command(command, args, continuation=continuation))
        found: tuple[list[Any], bytes] = await self._answer(answer, command.decode())
        return found

    async def _answer(self, answer: Deferred[Any], what: str, seconds: float = ANSWER_S, *, cut: bool = True) -> Any:
        """``cut``: a cancel ends the connection, for nobody would know whose the next answer is."""
        late = f"no answer within {seconds:.0f} s ({what})"
        timer: DelayedCall = self._clock.callLater(seconds, self.fail, late)
        try:
            return await answer
        except IMAP4Exception as error:
            words = error.args[0] if error.args else b""
            raise CommandRefused(shown(words.decode("utf-8", "replace") or f"{what} was refused")) from None
        except CancelledError:
            if cut:
                self.fail("it was given up")
            raise
        except Exception as error:  # why the connection ended: whatever TCP, TLS and Twisted's parser have to say
            raise self._trouble(error) from None
        finally:
            if timer.active():
                timer.cancel()

    def _trouble(self, error: BaseException) -> FolderTrouble:
        if self._why:
            return FolderTrouble(self._why)
        if isinstance(error, (SSL.Error, VerificationError, CertificateError)):
            parts = error.args[0] if isinstance(error, SSL.Error) and error.args else []
            said = "; ".join(str(part[-1]) for part in parts) or shown(str(error))
            return FolderTrouble(
                f"TLS failed ({said or 'the connection was closed'}): the certificate must be valid for "
                f"{self._place.host}, from an authority of this machine or of mail.bounce_ca_file"
            )
        return FolderTrouble(f"the connection was lost: {shown(str(error)) or type(error).__name__}")

    # -- hearing ------------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        super().connectionMade()

    def serverGreeting(self, caps: Any) -> None:
        if not self._greeted.called:
            self._greeted.callback(None)

    def lineReceived(self, line: bytes) -> None:
        if self._cut:
            return
        try:
            super().lineReceived(line)
        except Exception:  # the parser's: what is no word, or no number
            self.fail(f"the server says what is not IMAP: {shown(line[:100].decode('utf-8', 'replace'))!r}")

    def dispatchCommand(self, tag: bytes, rest: bytes) -> None:
        """Hear what is said without being asked. Only what Twisted has a use for is handed on to it: it collects the
        rest, however much that is, or logs it."""
        if tag == b"*" and rest[:3].upper() == b"BYE":
            self._why = self._why or f"the server ends the connection: {shown(rest[4:].decode('utf-8', 'replace'))}"
        elif self.state is None:
            if tag == b"*" and rest[:2].upper() == b"OK":
                super().dispatchCommand(tag, rest)
            else:  # PREAUTH too: there is no STARTTLS after it
                self.fail("it does not greet as an IMAP server that wants a login")
        elif tag == b"*":
            self._hear(rest)
            if _WANTED.match(rest) and not self._idling:
                super().dispatchCommand(tag, rest)
        else:
            super().dispatchCommand(tag, rest if b" " in rest else rest + b" done")  # Twisted insists on a text

    def _hear(self, rest: bytes) -> None:
        if counted := _COUNT.match(rest):
            if counted[2].upper() == b"EXPUNGE":
                self.exists -= 1
                return
            self.exists, before = int(counted[1]), self.exists
            if self.exists > before:
                self.news = True
                self._end_idle()
        elif found := _VALIDITY.match(rest):
            self.validity = int(found[1])
        elif found := _FLAGS.match(rest):
            self.keywords = rb"\*" in found[1].split()
        elif found := _FOUND.match(rest):
            self._found.extend(int(one) for one in found[1].split())

    def messageFile(self, octets: int) -> BytesIO:
        if octets > LITERAL_BYTES:
            self.fail(f"the server sends {octets} bytes at once, and was not asked for so many")
        return BytesIO()

    def lineLengthExceeded(self, line: bytes) -> None:
        self.fail(f"the server sends a line of more than {LINE_BYTES} bytes")

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008  # as in the base class
        self.lost = True
        super().connectionLost(reason)
        if not self._greeted.called:
            self._greeted.errback(reason)
        self._gone.callback(None)


class _Single(Factory):
    """Of one connection, which is there already."""

    noisy = False

    def __init__(self, session: Session) -> None:
        self._session = session

    def buildProtocol(self, addr: Any) -> Session:
        return self._session


async def open_session(reactor: Any, place: Place, password: str, tls: Any) -> Session:
    """A connection with the folder selected. ``tls``: what makes TLS connections. Raises FolderTrouble."""
    made = Session(place, reactor, tls)
    plain: Any = HostnameEndpoint(reactor, place.host, place.port, timeout=CONNECT_S)
    try:
        endpoint: Any = wrapClientTLS(tls, plain) if place.tls else plain
        await endpoint.connect(_Single(made))
    except (ConnectError, DNSLookupError) as error:
        raise FolderTrouble(f"{place.host}:{place.port} cannot be reached: {error}") from None
    try:
        await made.open(password)
    except BaseException:  # a cancellation too: nobody else would close it
        made.fail("it was given up")
        raise
    return made

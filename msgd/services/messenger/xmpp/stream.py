"""One connection: TCP, TLS, login, and a session, new or resumed (RFC 6120; XEP-0198).

The password is sent over TLS only, and only to a server whose certificate holds: Twisted knows no SCRAM.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.internet.error import ConnectError, ConnectionDone, DNSLookupError
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.words.protocols.jabber import client, sasl, xmlstream
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from msgd.errors import PeerError
from msgd.services.messenger.xmpp.login import Login
from msgd.work.once import Once

NS_SM: Final = "urn:xmpp:sm:3"
NS_BIND: Final = "urn:ietf:params:xml:ns:xmpp-bind"
STANZAS: Final = ("message", "presence", "iq")

CLOSE_S: Final = 2.0
"""For the server to close its side too: a stop leaves 10 s for all."""

LOGIN_S: Final = 30.0
"""From the connection to a session: some ten round trips, and a password check that is slow on purpose."""


class XmppTrouble(PeerError):
    """There is no connection to the XMPP server: the message says why."""

    code = "xmpp"


class Session(Struct, frozen=True):
    """What the server has given us."""

    jid: str  # with the resource
    resume: str  # the id under which the session can be resumed; empty: it cannot
    managed: bool  # whether the server acknowledges stanzas
    resumed: int | None  # of a resumed session: how many of our stanzas the server has handled; None: a new one


class Stream(xmlstream.XmlStream):
    """A connection. ``ready`` fires with its session; once it has ``ended``, ``trouble`` says why."""

    transport: Any
    trouble: XmppTrouble | None = None

    def __init__(self, authenticator: Any) -> None:
        self.ready: Deferred[Session] = Deferred()
        self.ended = Once()
        super().__init__(authenticator)
        self.addObserver(xmlstream.STREAM_AUTHD_EVENT, self._authenticated)
        self.addObserver(xmlstream.INIT_FAILED_EVENT, self._failed)
        self.addObserver(xmlstream.STREAM_ERROR_EVENT, self._failed)
        # A certificate that does not hold ends the connection, and nothing else is said.
        self.addObserver(xmlstream.STREAM_END_EVENT, self._over)

    def _authenticated(self, _: object) -> None:
        self.ready.callback(self.authenticator.session)

    def _failed(self, failure: Failure) -> None:
        self.trouble = self.trouble or _explained(failure.value, self.authenticator.login)
        self.transport.loseConnection()

    def _over(self, reason: Failure) -> None:
        self.trouble = self.trouble or _explained(reason.value, self.authenticator.login)
        if not self.ready.called:
            self.ready.errback(self.trouble)
        self.ended.happen()

    async def close(self, reactor: Any) -> None:
        """End it in good order: the server holds no session for us any more. Returns when it has ended."""
        self.sendFooter()
        self.transport.loseConnection()
        try:
            await self.ended.wait().addTimeout(CLOSE_S, reactor)
        except TimedOut:
            self.transport.abortConnection()
            await self.ended.wait()

    def cut(self, why: str) -> None:
        """End it at once: the server holds the session, so that it can be resumed."""
        self.trouble = self.trouble or XmppTrouble(why)
        self.transport.abortConnection()


class _Authenticator(xmlstream.ConnectAuthenticator):
    """The steps to a session."""

    namespace = "jabber:client"
    xmlstream: Any
    session: Session | None = None

    def __init__(self, login: Login, resource: str, before: Session | None, handled: Callable[[], int]) -> None:
        """``before``: the session to resume; ``handled``: how many of its stanzas we have handled."""
        self.login = login
        self.jid = JID(tuple=(login.address().user, login.address().host, resource))
        self.password = login.password()
        self._tls = login.tls()
        super().__init__(self.jid.host)
        self._before = before
        self._handled = handled

    def associateWithStream(self, xs: Any) -> None:
        super().associateWithStream(xs)
        xs.initializers = [
            client.CheckVersionInitializer(xs),
            xmlstream.TLSInitiatingInitializer(xs, required=True, configurationForTLS=self._tls),
            sasl.SASLInitiatingInitializer(xs, required=True),
            self,
        ]

    def initialize(self) -> Deferred[None]:
        """The last step: resume the session there was, or begin a new one."""
        return Deferred.fromCoroutine(self._begin())

    async def _begin(self) -> None:
        stream = self.xmlstream
        managed = (NS_SM, "sm") in stream.features
        if managed and self._before is not None and self._before.resume:
            asked = Element((NS_SM, "resume"))
            asked["previd"], asked["h"] = self._before.resume, str(self._handled())
            answer = await _asked(stream, asked, "resumed", "failed")
            if answer.name == "resumed":
                self.session = Session(self._before.jid, self._before.resume, True, int(answer.getAttribute("h", "0")))
                return
        jid = await self._bind()
        self.session = Session(jid, "", False, None)
        if managed:
            asked = Element((NS_SM, "enable"))
            asked["resume"] = "true"
            answer = await _asked(stream, asked, "enabled", "failed")
            if answer.name == "enabled":
                again = answer.getAttribute("id", "") if answer.getAttribute("resume") in ("true", "1") else ""
                self.session = Session(jid, again, True, None)

    async def _bind(self) -> str:
        asked = Element((None, "iq"))
        asked["type"], asked["id"] = "set", "bind"
        asked.addElement((NS_BIND, "bind")).addElement("resource", content=self.jid.resource)
        answer = await _asked(self.xmlstream, asked, "iq")
        if answer.getAttribute("type") != "result" or answer.bind is None:
            raise XmppTrouble(f"the server gives {self.login.jid} no session")
        return str(answer.bind.jid)


def _asked(stream: Any, element: Element, *answers: str) -> Deferred[Any]:
    """Send an element; fires with the first answer of one of these names."""
    answered: Deferred[Any] = Deferred()

    def came(answer: Element) -> None:
        for name in answers:
            stream.removeObserver(f"/{name}", came)
        answered.callback(answer)

    for name in answers:
        stream.addObserver(f"/{name}", came)
    stream.send(element)
    return answered


async def open_stream(
    reactor: Any, login: Login, resource: str, *, before: Session | None = None, handled: Callable[[], int] = lambda: 0
) -> tuple[Stream, Session]:
    """A connection with a session. Raises XmppTrouble, ConfigError. Cancelled, it hangs up."""
    authenticator = _Authenticator(login, resource, before, handled)
    endpoint = await login.endpoint(reactor)
    factory = Factory.forProtocol(lambda: Stream(authenticator))
    factory.noisy = False
    try:
        stream: Stream = await endpoint.connect(factory)
    except (ConnectError, DNSLookupError) as error:
        raise _explained(error, login) from None
    try:
        return stream, await stream.ready.addTimeout(LOGIN_S, reactor)
    except TimedOut:
        stream.cut("timed out")
        raise XmppTrouble(f"the server gave {login.jid} no session within {LOGIN_S:.0f} s") from None
    except CancelledError:
        stream.cut("given up")
        raise


def _explained(error: BaseException | None, login: Login) -> XmppTrouble:
    """What went wrong, and what to do."""
    where = login.server or login.address().host
    if isinstance(error, XmppTrouble):
        return error
    if isinstance(error, sasl.SASLAuthError):
        condition = str(error.args[0] if error.args else "")
        return XmppTrouble(
            f"the server refuses the login of {login.jid} ({condition}): check xmpp.jid and the password in "
            f"{login.password_file}"
        )
    if isinstance(error, xmlstream.FeatureNotAdvertized):
        return XmppTrouble(f"{where} offers no STARTTLS, or no login: no password is sent without TLS")
    if isinstance(error, sasl.SASLNoAcceptableMechanism):
        return XmppTrouble(f"{where} offers neither PLAIN nor DIGEST-MD5 over TLS, the logins that there are here")
    if isinstance(error, SSL.Error):
        said = "; ".join(str(part[-1]) for part in error.args[0]) if error.args else ""
        return XmppTrouble(
            f"TLS with {where} failed ({said or 'the connection was closed'}): its certificate must be valid for "
            f"{login.address().host}, from an authority of this machine or of xmpp.ca_file"
        )
    if error is None or isinstance(error, ConnectionDone):
        return XmppTrouble(f"{where} closed the connection")
    return XmppTrouble(f"{where}: {' '.join(str(error).split()) or type(error).__name__}")

"""The account's one connection, which lasts: reconnected with growing pauses, its session resumed where that works.

A stanza that is sent here is *acked* once the server has taken responsibility for it (XEP-0198); without that, or when
the connection is lost first, its sender is told by an error, and sends it again under the same id.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.xish.domish import Element

from msgd.clock import DelayedCall, sleep
from msgd.errors import MsgdError, Overloaded
from msgd.services.messenger.xmpp import stanzas
from msgd.services.messenger.xmpp.acks import Acks
from msgd.services.messenger.xmpp.login import Login
from msgd.services.messenger.xmpp.stream import NS_SM, STANZAS, Session, Stream, XmppTrouble, open_stream
from msgd.work.once import Once

_log = Logger()

PAUSES_S: Final = (0.5, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Between two tries to connect, with full jitter on the second half; the last one repeats."""

QUIET_S: Final = 60.0
"""After so long without anything from the server it is asked for a sign of life."""

ANSWER_S: Final = 20.0
"""For that sign; then the connection is taken for lost. Also for the answer to a request."""

UNACKED: Final = 1000
"""Stanzas under way: more are refused, as a server that acknowledges nothing has trouble of its own."""

Hear = Callable[[Element], None]


class _Sent:
    """A stanza under way, and who waits for it."""

    __slots__ = ("acked", "stanza")

    def __init__(self, stanza: Element) -> None:
        self.stanza = stanza
        self.acked: Deferred[None] | None = Deferred(lambda _: self._forget())

    def _forget(self) -> None:
        self.acked = None


class Account:
    """One account, connected from start to stop. A :class:`~msgd.work.parts.Part`; its start waits for nothing."""

    def __init__(
        self,
        reactor: Any,
        login: Login,
        *,
        jitter: Callable[[], float],
        quiet_s: float = QUIET_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        """``jitter``: from 0 to 1; ``quiet_s``: after which the server is asked for a sign of life, for which it has
        ``answer_s``."""
        self._reactor = reactor
        self._login = login
        self._jitter = jitter
        self._quiet_s = quiet_s
        self._answer_s = answer_s
        self._resource = f"msgd-{secrets.token_hex(4)}"
        self._loop: Deferred[None] | None = None
        self._stream: Stream | None = None
        self._session: Session | None = None
        self._up = Once()
        self._acks: Acks[_Sent] = Acks()
        self._asked: dict[str, Deferred[Element]] = {}
        self._heard_s = 0.0
        self._looking: DelayedCall | None = None
        self._hearers: list[Hear] = []
        self._renewed: list[Callable[[], None]] = []
        self.trouble = ""  # why there is no connection

    def hear(self, hearer: Hear, *, renewed: Callable[[], None] = lambda: None) -> None:
        """``hearer`` is called with each message and presence that comes; ``renewed`` when a new session has begun,
        which knows nothing of the one before."""
        self._hearers.append(hearer)
        self._renewed.append(renewed)

    @property
    def jid(self) -> str:
        """The address of this connection; empty while there has been none."""
        return self._session.jid if self._session is not None else ""

    # -- start and stop -----------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to connect."""
        self._loop = Deferred.fromCoroutine(self._keep_connected())
        self._loop.addErrback(self._broke)

    async def stop(self) -> None:
        """End the connection in good order."""
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.cancel()
        self._look_no_more()
        stream, self._stream = self._stream, None
        if stream is not None:
            await stream.close(self._reactor)
        self._lose_all("the messenger is stopping")

    def _broke(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("the XMPP connection is not kept up any more", failure)

    def connected(self) -> Deferred[None]:
        """Fires when there is a connection. Cancel it to stop waiting; ``trouble`` says why there is none."""
        return self._up.wait()

    # -- the connection -----------------------------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        failed = 0
        while True:
            try:
                stream, session = await open_stream(
                    self._reactor, self._login, self._resource, before=self._session, handled=lambda: self._acks.h
                )
            except MsgdError as error:
                if error.message != self.trouble:
                    _log.warn("no XMPP connection: {error}", error=error.message)
                self.trouble = error.message
            except CancelledError:
                raise
            except Exception as error:  # whatever DNS, TLS and parsing raise: the next try may do better
                _log.failure("no XMPP connection")
                self.trouble = f"{type(error).__name__}: {error}"
            else:
                failed = 0
                self._begin(stream, session)
                await stream.ended.wait()
                self._end(stream.trouble or XmppTrouble("the connection was lost"))
            await sleep(self._reactor, self._pause_s(failed))
            failed += 1

    def _pause_s(self, failed: int) -> float:
        longest = PAUSES_S[min(failed, len(PAUSES_S) - 1)]
        return longest * (1 + self._jitter()) / 2

    def _begin(self, stream: Stream, session: Session) -> None:
        self._stream, self._session = stream, session
        self._heard_s = self._reactor.seconds()
        self.trouble = ""
        for name in STANZAS:
            stream.addObserver(f"/{name}", self._came)
        stream.addObserver(f"/a[@xmlns='{NS_SM}']", self._acked)
        stream.addObserver(f"/r[@xmlns='{NS_SM}']", self._asked_for_ack)
        _log.info("connected to XMPP as {jid}", jid=session.jid)
        if session.resumed is None:
            self._lose_all("the connection was lost before the server acknowledged it")
            self._acks = Acks()
            for renewed in self._renewed:
                renewed()
            self.put(stanzas.presence())
        else:
            self._settle(session.resumed)
            for sent in self._acks.left(lambda one: one.acked is not None):
                stream.send(sent.stanza)
            self._ask_for_ack()
        self._up.happen()
        self._looking = self._reactor.callLater(self._quiet_s, self._look)

    def _end(self, why: XmppTrouble) -> None:
        self._look_no_more()
        self._stream = None
        self._up = Once()
        self.trouble = why.message
        _log.warn("the XMPP connection is lost: {why}", why=why.message)
        for answer in list(self._asked.values()):
            answer.errback(why)
        if self._session is None or not self._session.resume:
            self._session = None
            self._lose_all(why.message)

    def _look(self) -> None:
        """Whether the server is still there."""
        stream = self._stream
        if stream is None:
            return
        quiet_s = self._reactor.seconds() - self._heard_s
        if quiet_s >= self._quiet_s + self._answer_s:
            stream.cut(f"the server has said nothing for {quiet_s:.0f} s")
            return
        if quiet_s >= self._quiet_s:
            if self._session is not None and self._session.managed:
                self._ask_for_ack()
            else:
                ping = stanzas.query(self._login.address().host, f"ping-{secrets.token_hex(4)}")
                self.request(ping).addErrback(_unheard)
        self._looking = self._reactor.callLater(
            self._answer_s / 2 if quiet_s >= self._quiet_s else self._quiet_s, self._look
        )

    def _look_no_more(self) -> None:
        if self._looking is not None and self._looking.active():
            self._looking.cancel()

    # -- sending ------------------------------------------------------------------------------------------------------

    def send(self, stanza: Element) -> Deferred[None]:
        """Fires when the server has the stanza. Fails with XmppTrouble when that is not known. Cancelled, it is not
        sent again."""
        sent = self.put(stanza)
        assert sent.acked is not None
        return sent.acked

    def put(self, stanza: Element) -> _Sent:
        """Send a stanza that nobody waits for."""
        if self._stream is None or self._session is None:
            raise XmppTrouble(self.trouble or "there is no connection to the XMPP server")
        if len(self._acks) >= UNACKED:
            raise Overloaded(f"the XMPP server has {UNACKED} stanzas to acknowledge", retry_after=5.0)
        sent = _Sent(stanza)
        self._stream.send(stanza)
        if self._session.managed:
            self._acks.sent(sent)
            self._ask_for_ack()
        elif sent.acked is not None:  # all that is known of a server without XEP-0198
            sent.acked.callback(None)
        return sent

    def answer(self, stanza: Element) -> None:
        """Send what somebody has caused: dropped while too much is under way, as they can cause it again."""
        if self._stream is not None and len(self._acks) < UNACKED // 2:
            self.put(stanza)

    def request(self, stanza: Element) -> Deferred[Element]:
        """Send an ``iq``; fires with its answer, of whatever type. Fails with XmppTrouble."""
        id_ = stanza["id"]
        answered: Deferred[Element] = Deferred()
        self.put(stanza)
        self._asked[id_] = answered

        def over(result: Any) -> Any:
            self._asked.pop(id_, None)
            if isinstance(result, Failure) and result.check(TimedOut):
                raise XmppTrouble(f"{stanza['to']} did not answer within {self._answer_s:.0f} s")
            return result

        return answered.addTimeout(self._answer_s, self._reactor).addBoth(over)

    def _ask_for_ack(self) -> None:
        if self._stream is not None and self._session is not None and self._session.managed:
            self._stream.send(Element((NS_SM, "r")))

    # -- hearing ------------------------------------------------------------------------------------------------------

    def _came(self, stanza: Element) -> None:
        self._heard_s = self._reactor.seconds()
        self._acks.received()
        if stanza.name != "iq":
            for hearer in self._hearers:
                hearer(stanza)
        elif stanza.getAttribute("type") in ("get", "set"):
            self.answer(stanzas.no_such_query(stanza))
        elif stanza.getAttribute("id") in self._asked:
            self._asked[stanza["id"]].callback(stanza)

    def _acked(self, answer: Element) -> None:
        self._heard_s = self._reactor.seconds()
        h = answer.getAttribute("h", "")
        if h.isascii() and h.isdigit():
            self._settle(int(h[:10]))

    def _settle(self, h: int) -> None:
        for sent in self._acks.acked(h):
            if sent.acked is not None:
                sent.acked.callback(None)

    def _asked_for_ack(self, _: Element) -> None:
        self._heard_s = self._reactor.seconds()
        if self._stream is not None:
            answer = Element((NS_SM, "a"))
            answer["h"] = str(self._acks.h)
            self._stream.send(answer)

    def _lose_all(self, why: str) -> None:
        for sent in self._acks.left(lambda one: one.acked is not None):
            if sent.acked is not None:
                waiting, sent.acked = sent.acked, None
                waiting.addErrback(_unheard)
                waiting.errback(XmppTrouble(why))
        self._acks = Acks()


def _unheard(_: Failure) -> None:
    """Whoever waits has been told by now; of the rest nobody wants to hear."""

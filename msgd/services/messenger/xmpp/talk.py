"""Messages to people and to rooms, each until it has arrived as far as can be known.

To a person that is the server's acknowledgement; what the server cannot deliver at once it answers with an error before
that. To a room it is the room's reflection of the message to all who are in it, us too (XEP-0045 §7.4).
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from msgd.errors import MsgdError
from msgd.services.messenger.xmpp import stanzas
from msgd.services.messenger.xmpp.account import ANSWER_S, Account
from msgd.services.messenger.xmpp.stanzas import CHAT, GROUPCHAT, Heard, Trouble
from msgd.services.messenger.xmpp.stream import XmppTrouble

_log = Logger()

DOMAINS: Final = 1000
"""Of which it is remembered whether they are services of rooms."""

ROOMS: Final = 200
"""In which we are at a time; the one that was used least recently is left for another."""

CREATED: Final = "201"
SELF: Final = "110"
"""Status codes of a room's presence: it did not exist before; this is about us."""

NOT_IN: Final = "not-acceptable"
"""What a room says to whoever is not in it (XEP-0045 §7.4)."""

MAY_PASS: Final = frozenset({"internal-server-error", "resource-constraint", "remote-server-timeout"})
"""Conditions that say "perhaps later", whatever kind they are said to be."""


class Refused(MsgdError):
    """The message was answered by an error; ``passing``: a later try may help."""

    code = "refused"

    def __init__(self, trouble: Trouble, what: str) -> None:
        super().__init__(f"{what}: {trouble}")
        self.passing = trouble.kind == "wait" or trouble.condition in MAY_PASS


class Talk:
    """Who is spoken to, over one account."""

    def __init__(self, account: Account, reactor: Any, nick: str) -> None:
        """``nick``: our name in rooms."""
        self._account = account
        self._reactor = reactor
        self._nick = nick
        self._domains: dict[str, bool] = {}
        self._rooms: dict[str, list[Deferred[None]] | None] = {}  # None: we are in; else who waits for it
        self._reflections: dict[tuple[str, str], Deferred[None]] = {}  # by room and id
        self._troubles: dict[tuple[str, str], Trouble] = {}  # by person and id, of messages under way
        account.hear(self._heard, renewed=self._renewed)

    def in_room(self, jid: JID) -> bool:
        """Whether this is a room where we are, or somebody in it."""
        return jid.userhost() in self._rooms

    async def is_room(self, to: JID) -> bool:
        """Whether an address is a room's. Raises XmppTrouble."""
        if to.host not in self._domains:
            answer = await self._account.request(stanzas.query(to.host, f"q-{secrets.token_hex(4)}"))
            if len(self._domains) >= DOMAINS:
                self._domains.pop(next(iter(self._domains)))
            if answer.getAttribute("type") != "result":
                return False  # perhaps it cannot be reached now: the message itself will tell
            self._domains[to.host] = stanzas.is_rooms(answer)
        return self._domains[to.host]

    async def tell(self, to: JID, id_: str, body: str) -> None:
        """A message to a person. Raises XmppTrouble, Refused."""
        self._troubles.pop((to.userhost(), id_), None)
        await self._account.send(stanzas.message(to.full(), CHAT, id_, body))
        trouble = self._troubles.pop((to.userhost(), id_), None)
        if trouble is not None:
            raise Refused(trouble, f"{to.full()} cannot be reached")

    async def say(self, room: str, id_: str, body: str) -> None:
        """A message to a room, which is entered first. Raises XmppTrouble, Refused."""
        await self._enter(room)
        reflected: Deferred[None] = Deferred()
        self._reflections[room, id_] = reflected
        try:
            self._account.put(stanzas.message(room, GROUPCHAT, id_, body))
            await reflected.addTimeout(ANSWER_S, self._reactor)
        except TimedOut:
            self._rooms.pop(room, None)  # perhaps it has forgotten us
            raise XmppTrouble(f"the room {room} did not show the message within {ANSWER_S:.0f} s") from None
        finally:
            self._reflections.pop((room, id_), None)

    # -- rooms --------------------------------------------------------------------------------------------------------

    async def _enter(self, room: str) -> None:
        waiting = self._rooms.get(room, [])
        if waiting is None:
            self._rooms[room] = self._rooms.pop(room)  # the latest stand last
            return
        entered: Deferred[None] = Deferred()
        waiting.append(entered)
        if room not in self._rooms:
            self._leave_one()
            self._rooms[room] = waiting
            self._account.put(stanzas.join(room, self._nick))
        try:
            await entered.addTimeout(ANSWER_S, self._reactor)
        except TimedOut:
            self._rooms.pop(room, None)
            raise XmppTrouble(f"the room {room} did not answer within {ANSWER_S:.0f} s") from None

    def _leave_one(self) -> None:
        if len(self._rooms) >= ROOMS:
            room = next(iter(self._rooms))
            self._rooms.pop(room)
            self._account.answer(stanzas.presence("unavailable", f"{room}/{self._nick}"))

    def _entered(self, room: str, refusal: Refused | None) -> None:
        waiting = self._rooms.pop(room, None)
        if refusal is None:
            self._rooms[room] = None
        _tell(waiting or [], refusal)

    def _renewed(self) -> None:
        """A new session is in no room, and what was on its way there may be lost."""
        trouble = XmppTrouble("the connection was lost before the room answered")
        rooms, self._rooms = self._rooms, {}
        for waiting in rooms.values():
            _tell(waiting or [], trouble)
        _tell(list(self._reflections.values()), trouble)

    # -- hearing ------------------------------------------------------------------------------------------------------

    def _heard(self, stanza: Element) -> None:
        if stanza.name == "presence":
            self._present(stanza)
            return
        heard = stanzas.heard(stanza)
        if heard is None:
            return
        reflected = self._reflections.get((heard.sender.userhost(), heard.id))
        if heard.trouble is not None:
            self._complained(heard, heard.trouble, reflected)
        elif heard.type == GROUPCHAT and reflected is not None and not reflected.called:
            reflected.callback(None)

    def _complained(self, heard: Heard, trouble: Trouble, reflected: Deferred[None] | None) -> None:
        sender = heard.sender.userhost()
        if reflected is not None:
            if trouble.condition == NOT_IN:
                self._rooms.pop(sender, None)
                _tell([reflected], XmppTrouble(f"the room {sender} has forgotten us"))
            else:
                _tell([reflected], Refused(trouble, f"the room {sender} refuses the message"))
        elif heard.id:
            while len(self._troubles) >= DOMAINS:  # of messages that nobody waits for
                self._troubles.pop(next(iter(self._troubles)))
            self._troubles[sender, heard.id] = trouble
            _log.info("{sender}: {trouble}", sender=heard.sender.full(), trouble=str(trouble))

    def _present(self, stanza: Element) -> None:
        try:
            sender = JID(stanza.getAttribute("from", ""))
        except Exception:  # its kinds are several, all of them for what is no address
            return
        room, type_ = sender.userhost(), stanza.getAttribute("type")
        if room not in self._rooms or sender.resource not in (self._nick, None):
            return
        trouble = stanzas.trouble(stanza)
        codes = stanzas.statuses(stanza)
        if trouble is not None:
            self._entered(room, Refused(trouble, f"the room {room} cannot be entered"))
        elif type_ == "unavailable":
            self._rooms.pop(room)  # put out, or the room is gone
        elif type_ is None and CREATED in codes:
            # Nobody is in there: the message would be lost in a room that a slip of the pen made. Leaving unmakes it.
            self._account.answer(stanzas.presence("unavailable", f"{room}/{self._nick}"))
            gone = Trouble("cancel", "item-not-found", "")
            self._entered(room, Refused(gone, f"there is no room {room}"))
        elif type_ is None and SELF in codes:
            self._entered(room, None)


def _tell(waiting: Iterable[Deferred[None]], trouble: Exception | None) -> None:
    for one in waiting:
        if not one.called:
            one.callback(None) if trouble is None else one.errback(trouble)

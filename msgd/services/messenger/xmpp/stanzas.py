"""Stanzas as values: what is sent, and what is understood of what comes. Pure.

Sources: RFC 6120 and 6121; XEP-0045 (rooms), XEP-0203 (delay), XEP-0280 (carbons), XEP-0359 (origin-id).
"""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

NS_MUC: Final = "http://jabber.org/protocol/muc"
NS_MUC_USER: Final = "http://jabber.org/protocol/muc#user"
NS_DISCO: Final = "http://jabber.org/protocol/disco#info"
NS_DELAY: Final = ("urn:xmpp:delay", "jabber:x:delay")
NS_CARBONS: Final = "urn:xmpp:carbons:2"
NS_ORIGIN: Final = "urn:xmpp:sid:0"
NS_STANZAS: Final = "urn:ietf:params:xml:ns:xmpp-stanzas"

CHAT: Final = "chat"
GROUPCHAT: Final = "groupchat"
ERROR: Final = "error"


class Trouble(Struct, frozen=True):
    """A stanza error (RFC 6120 §8.3): ``kind`` says whether a later try may help (``wait``)."""

    kind: str  # auth, cancel, continue, modify, wait
    condition: str
    text: str

    def __str__(self) -> str:
        return f"{self.condition} ({self.text})" if self.text else self.condition


class Heard(Struct, frozen=True):
    """A message that came."""

    sender: JID
    type: str
    id: str
    body: str
    fresh: bool  # written to us, just now: no history, no copy of what went to or from another client of ours
    trouble: Trouble | None = None


def message(to: str, type_: str, id_: str, body: str) -> Element:
    """A message, under an id that its receiver sees again if it is sent again."""
    stanza = Element((None, "message"))
    stanza["to"], stanza["type"], stanza["id"] = to, type_, id_
    stanza.addElement("body", content=body)
    stanza.addElement((NS_ORIGIN, "origin-id"))["id"] = id_
    return stanza


def presence(type_: str = "", to: str = "") -> Element:
    """A presence: without arguments, that we are there."""
    stanza = Element((None, "presence"))
    if type_:
        stanza["type"] = type_
    if to:
        stanza["to"] = to
    return stanza


def join(room: str, nick: str) -> Element:
    """The wish to enter a room, without its history."""
    stanza = presence(to=f"{room}/{nick}")
    stanza.addElement((NS_MUC, "x")).addElement("history")["maxstanzas"] = "0"
    return stanza


def query(to: str, id_: str) -> Element:
    """What is at this address? (XEP-0030)"""
    stanza = Element((None, "iq"))
    stanza["to"], stanza["type"], stanza["id"] = to, "get", id_
    stanza.addElement((NS_DISCO, "query"))
    return stanza


def no_such_query(stanza: Element) -> Element:
    """The answer to a request that we do not understand (RFC 6120 §8.4)."""
    answer = Element((None, "iq"))
    answer["type"], answer["id"] = ERROR, stanza.getAttribute("id", "")
    if stanza.getAttribute("from"):
        answer["to"] = stanza["from"]
    error = answer.addElement("error")
    error["type"] = "cancel"
    error.addElement((NS_STANZAS, "service-unavailable"))
    return answer


def is_rooms(stanza: Element) -> bool:
    """Whether the answer to a query is that of a service of rooms."""
    found = _child(stanza, "query", NS_DISCO)
    return found is not None and any(
        one.name == "identity" and one.getAttribute("category") == "conference" for one in found.elements()
    )


def statuses(stanza: Element) -> set[str]:
    """The status codes of a room's presence (XEP-0045 §15.6)."""
    found = _child(stanza, "x", NS_MUC_USER)
    return (
        set() if found is None else {one.getAttribute("code", "") for one in found.elements() if one.name == "status"}
    )


def trouble(stanza: Element) -> Trouble | None:
    """The error in a stanza of type error."""
    if stanza.getAttribute("type") != ERROR:
        return None
    found = _child(stanza, "error")
    if found is None:
        return Trouble("cancel", "undefined-condition", "")
    words = {one.name: str(one) for one in found.elements() if one.uri == NS_STANZAS}
    text = " ".join(words.pop("text", "").split())[:200]
    return Trouble(found.getAttribute("type", "cancel"), next(iter(words), "undefined-condition"), text)


def heard(stanza: Element) -> Heard | None:
    """A message as a value; None if it has no sender that can be read."""
    try:
        sender = JID(stanza.getAttribute("from", ""))
    except Exception:  # its kinds are several, all of them for what is no address
        return None
    body = _child(stanza, "body")
    old = any(one.uri in (*NS_DELAY, NS_CARBONS) for one in stanza.elements())
    return Heard(
        sender=sender,
        type=stanza.getAttribute("type", "normal"),
        id=stanza.getAttribute("id", ""),
        body="" if body is None else str(body),
        fresh=not old,
        trouble=trouble(stanza),
    )


def _child(stanza: Element, name: str, uri: str = "") -> Any:
    for one in stanza.elements():
        if one.name == name and (not uri or one.uri == uri):
            return one
    return None

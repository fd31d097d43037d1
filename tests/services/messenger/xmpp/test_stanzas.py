"""What comes over XMPP, understood: errors, messages of every kind, and whatever else somebody sends."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from twisted.words.xish.domish import Element, elementStream

from msgd.services.messenger.xmpp import stanzas
from msgd.services.messenger.xmpp.stanzas import NS_CARBONS, NS_DELAY, NS_MUC_USER, NS_STANZAS, Trouble
from msgd.services.messenger.xmpp.talk import Refused


def parsed(xml: str) -> Element:
    """The stanza as it comes out of a stream."""
    found: list[Element] = []
    stream: Any = elementStream()
    stream.DocumentStartEvent = lambda root: None
    stream.ElementEvent = found.append
    stream.DocumentEndEvent = lambda: None
    stream.parse(f"<stream xmlns='jabber:client'>{xml}".encode())
    return found[0]


class StanzasTest(SynchronousTestCase):
    """Stanzas as values."""

    def test_errors(self) -> None:
        """An error's kind says whether a later try may help, and so do some conditions."""
        for kind, condition, passing in (
            ("wait", "resource-constraint", True),
            ("wait", "recipient-unavailable", True),
            ("cancel", "internal-server-error", True),
            ("cancel", "service-unavailable", False),
            ("auth", "forbidden", False),
            ("modify", "not-acceptable", False),
        ):
            said = f"<{condition} xmlns='{NS_STANZAS}'/><text xmlns='{NS_STANZAS}'>Sorry\n so</text>"
            found = stanzas.trouble(parsed(f"<message type='error'><error type='{kind}'>{said}</error></message>"))
            self.assertEqual(found, Trouble(kind, condition, "Sorry so"))
            assert found is not None
            self.assertEqual(Refused(found, "x").passing, passing, condition)

    def test_broken_errors(self) -> None:
        """An error that does not say what it is, is one all the same."""
        for xml in ("<message type='error'/>", "<message type='error'><error/></message>"):
            self.assertEqual(stanzas.trouble(parsed(xml)), Trouble("cancel", "undefined-condition", ""))
        self.assertIsNone(stanzas.trouble(parsed("<message type='chat'><error/></message>")))

    def test_messages(self) -> None:
        """A message has a sender and a text; what is history or a copy is not fresh."""
        found = stanzas.heard(parsed("<message from='ann@a/phone' id='1' type='chat'><body>jobs</body></message>"))
        assert found is not None
        self.assertEqual((found.sender.full(), found.id, found.type, found.body), ("ann@a/phone", "1", "chat", "jobs"))
        self.assertTrue(found.fresh)
        for uri, name in ((NS_DELAY[0], "delay"), (NS_DELAY[1], "x"), (NS_CARBONS, "sent"), (NS_CARBONS, "received")):
            copied = stanzas.heard(parsed(f"<message from='a@b'><body>jobs</body><{name} xmlns='{uri}'/></message>"))
            assert copied is not None
            self.assertFalse(copied.fresh, name)
        self.assertIsNone(stanzas.heard(parsed("<message from='@/'><body>jobs</body></message>")))

    def test_rooms(self) -> None:
        """A room's presence has codes."""
        codes = "<item/><status code='110'/><status code='201'/><status/>"
        found = stanzas.statuses(parsed(f"<presence><x xmlns='{NS_MUC_USER}'>{codes}</x></presence>"))
        self.assertEqual(found, {"110", "201", ""})
        self.assertEqual(stanzas.statuses(parsed("<presence/>")), set())

    @given(
        st.sampled_from(["from", "type", "id", "to"]).flatmap(
            lambda name: st.dictionaries(st.just(name), st.text(max_size=30), max_size=1)
        ),
        st.lists(st.sampled_from(["body", "error", "delay", "x", "query"]), max_size=4),
    )
    @settings(max_examples=200, deadline=None)
    def test_anything(self, attributes: dict[str, str], children: list[str]) -> None:
        """Whatever attributes and children a stanza has, it is understood or nothing."""
        stanza = Element((None, "message"))
        for name, value in attributes.items():
            stanza[name] = value
        for child in children:
            stanza.addElement((None, child), content="text")
        stanzas.heard(stanza)
        stanzas.trouble(stanza)
        stanzas.statuses(stanza)
        stanzas.is_rooms(stanza)

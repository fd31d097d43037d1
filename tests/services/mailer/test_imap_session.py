"""A connection to an IMAP server that says what servers should not, or cannot do much: each word is written here."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.bounces.imap import PAUSES_S, REFUSED_S, ImapFolder
from msgd.services.mailer.bounces.place import FolderTrouble, LoginRefused, Place, place
from msgd.services.mailer.bounces.reading import Unreadable, bounce_address
from msgd.services.mailer.bounces.session import ANSWER_S, LINE_BYTES, LITERAL_BYTES, Session
from msgd.services.mailer.bounces.words import content_of, mailbox, quoted

FAR = Place(host="mail.example", port=143, tls=False, user="ann")
SAFE = Place(host="mail.example", port=993, tls=True, user="ann", folder="Bounces")

GREETED = b"* OK [ALERT] hello\r\n"

ODD = (
    b"",
    b"*",
    b"+",
    b"* SEARCH {3}",
    b"* 1 FETCH {x}",
    b"* 1 FETCH {-5}",
    b"* 1 FETCH (((",
    b"* 1 FETCH (UID)",
    b"* 1 FETCH (UID 7 BODY[] NIL)",
    b"* CAPABILITY (",
    b"* 99999999999999999999 EXISTS",
    b"* BYE",
    b"0001 OK",
    b"0005 OK done",
    b"0005 NO",
    b"9999 OK who?",
)


class Transport(StringTransport):
    """What was written since somebody looked."""

    def taken(self) -> bytes:
        written = bytes(self.value())
        self.clear()
        return written

    def startTLS(self, _: Any) -> None:
        self.write(b"<TLS>")


class SessionCase(SynchronousTestCase):
    """One connection."""

    def connect(self, where: Place) -> Session:
        self.clock = Clock()
        self.transport = Transport()
        self.session = Session(where, self.clock, object())
        self.session.makeConnection(self.transport)
        return self.session

    def begin(self, where: Place) -> Deferred[None]:
        return Deferred.fromCoroutine(self.connect(where).open('secret "word"'))

    def says(self, *lines: bytes) -> bytes:
        """The server says this; what it is answered."""
        for line in lines:
            self.session.dataReceived(line + b"\r\n")
        return self.transport.taken()

    def logged_in(self, *capabilities: bytes, selected: bytes = b"", where: Place = SAFE) -> Session:
        """A session with the folder open; ``capabilities``: beside IMAP4rev1."""
        opening = self.begin(where)
        able = b" ".join([b"* CAPABILITY IMAP4rev1", *capabilities])
        self.says(GREETED.rstrip(), able, b"0001 OK")
        self.says(b"0002 OK in", able, b"0003 OK")
        asked = self.says(b"* OK [UIDVALIDITY 7] UIDs", b"* 3 EXISTS", *([selected] if selected else []))
        self.assertEqual(asked, b"")
        self.says(b"0004 OK [READ-WRITE] done")
        self.successResultOf(opening)
        return self.session

    def ask(self, question: Coroutine[Any, Any, Any]) -> tuple[Deferred[Any], bytes]:
        answer = Deferred.fromCoroutine(question)
        return answer, self.transport.taken()

    def lose(self) -> None:
        """The connection has ended."""
        from twisted.internet.error import ConnectionLost
        from twisted.python.failure import Failure

        self.session.connectionLost(Failure(ConnectionLost()))

    def trouble(self, opening: Deferred[Any], error: type[FolderTrouble] = FolderTrouble) -> str:
        """Why it failed; the connection is cut off, if it was not."""
        if self.transport.disconnecting or self.transport.disconnected:
            self.lose()
        return str(self.failureResultOf(opening, error).value.message)


class OpeningTest(SessionCase):
    """The way to a folder that is open."""

    def test_by_login(self) -> None:
        """A server that has LOGIN alone takes words in quotation marks; what it can is asked anew after the login."""
        opening = self.begin(SAFE)
        self.assertEqual(self.says(GREETED.rstrip()), b"0001 CAPABILITY\r\n")
        asked = self.says(b"* CAPABILITY IMAP4rev1", b"0001 OK")
        self.assertEqual(asked, b'0002 LOGIN "ann" "secret \\"word\\""\r\n')
        self.assertEqual(self.says(b"0002 OK in"), b"0003 CAPABILITY\r\n")
        asked = self.says(b"* CAPABILITY IMAP4rev1 IDLE", b"0003 OK")
        self.assertEqual(asked, b'0004 SELECT "Bounces"\r\n')
        self.says(
            b"* FLAGS (\\Seen)", b"* OK [PERMANENTFLAGS (\\Seen \\*)] ok", b"* OK [UIDVALIDITY 5] ok", b"* 2 EXISTS"
        )
        self.says(b"0004 OK [READ-WRITE] done")
        self.successResultOf(opening)
        session = self.session
        self.assertEqual((session.exists, session.validity, session.keywords), (2, 5, True))

    def test_busy(self) -> None:
        """A server that cannot look the password up just now has not refused it."""
        for code, error in (
            (b"[UNAVAILABLE] ", FolderTrouble),
            (b"[AUTHENTICATIONFAILED] ", LoginRefused),
            (b"", LoginRefused),
        ):
            opening = self.begin(SAFE)
            self.says(GREETED.rstrip(), b"* CAPABILITY IMAP4rev1", b"0001 OK", b"0002 NO " + code + b"no")
            self.assertEqual(type(self.failureResultOf(opening).value), error)

    def test_starttls(self) -> None:
        """No password is sent before TLS, and what the server could before it counts no more."""
        self.begin(FAR)
        self.says(GREETED.rstrip())
        self.assertEqual(self.says(b"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED", b"0001 OK"), b"0002 STARTTLS\r\n")
        self.assertEqual(self.says(b"0002 OK go"), b"<TLS>0003 CAPABILITY\r\n")
        asked = self.says(b"* CAPABILITY IMAP4rev1 AUTH=PLAIN", b"0003 OK")
        self.assertEqual(asked, b"0004 AUTHENTICATE PLAIN\r\n")
        self.assertEqual(self.says(b"+ "), b"AGFubgBzZWNyZXQgIndvcmQi\r\n")

    def test_what_came_before_tls(self) -> None:
        """Who is on the way puts in an answer before TLS: it is not taken for one that came through it."""
        opening = self.begin(FAR)
        self.says(GREETED.rstrip(), b"* CAPABILITY IMAP4rev1 STARTTLS", b"0001 OK")
        self.session.dataReceived(b"0002 OK go\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n0003 OK\r\n")
        self.assertIn("more than its answer to STARTTLS", self.trouble(opening))
        self.assertNotIn(b"AUTHENTICATE", self.transport.taken())

    def test_no_way_to_log_in(self) -> None:
        """Without TLS a password stays here, and where the server wants none without."""
        opening = self.begin(FAR)
        asked = self.says(GREETED.rstrip(), b"* CAPABILITY IMAP4rev1 AUTH=PLAIN", b"0001 OK")
        self.assertEqual(asked, b"0001 CAPABILITY\r\n")
        self.assertIn("offers no STARTTLS", self.trouble(opening))
        opening = self.begin(Place(host="mail.example", port=143, tls=False, user="ann", starttls="off"))
        self.says(GREETED.rstrip(), b"* CAPABILITY IMAP4rev1 LOGINDISABLED", b"0001 OK")
        self.assertIn("takes no password over this connection", self.trouble(opening))

    def test_no_such_greeting(self) -> None:
        """What does not greet as an IMAP server is none; one that is busy says so."""
        for greeting, said in (
            (b"SSH-2.0-OpenSSH", "does not greet"),
            (b"* PREAUTH welcome", "does not greet"),
            (b"220 mx.example ESMTP", "does not greet"),
            (b"", "what is not IMAP"),
            (b"* BYE too many connections", "the server ends the connection: too many connections"),
        ):
            opening = self.begin(SAFE)
            self.assertEqual(self.says(greeting), b"")
            if not self.transport.disconnecting:
                self.lose()
            self.assertIn(said, self.trouble(opening), greeting)

    def test_read_only(self) -> None:
        """A folder in which nothing can be marked is refused."""
        opening = self.begin(SAFE)
        self.says(GREETED.rstrip(), b"* CAPABILITY IMAP4rev1", b"0001 OK", b"0002 OK", b"* CAPABILITY", b"0003 OK")
        self.says(b"0004 OK [read-only] done")
        self.assertIn("can be read only", self.trouble(opening))

    def test_silence(self) -> None:
        """A server that does not answer is given up."""
        opening = self.begin(SAFE)
        self.clock.advance(ANSWER_S)
        self.assertTrue(self.transport.disconnecting)
        self.assertIn("no answer within 60 s (greeting)", self.trouble(opening))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AskingTest(SessionCase):
    """What is asked of a folder that is open."""

    def test_find(self) -> None:
        """Past the end of the folder a place is ``*``; what is told without being asked counts, and is kept nowhere."""
        session = self.logged_in()
        answer, asked = self.ask(session.find(1, 2000, b"UNSEEN"))
        self.assertEqual(asked, b"0005 UID SEARCH 1:* UNSEEN\r\n")
        told = (b"* OK still here", b"* 1 EXPUNGE", b"* 9 EXISTS", b"* 9 RECENT", b"* 2 FETCH (FLAGS (\\Seen))")
        self.says(*told, b"* SEARCH 12 5", b"* SEARCH", b"0005 OK")
        self.assertEqual(self.successResultOf(answer), [5, 12])
        self.assertEqual((session.exists, session.news), (9, True))
        self.assertEqual(self.ask(session.find(1, 9, b"ALL"))[1], b"0006 UID SEARCH 1:* ALL\r\n")

    def test_fetch(self) -> None:
        """The content of the mail that was asked for, whatever else is told of mails meanwhile; None if it is gone."""
        session = self.logged_in()
        answer, asked = self.ask(session.fetch(7, b"HEADER", 10))
        self.assertEqual(asked, b"0005 UID FETCH 7 (UID BODY.PEEK[HEADER]<0.10>)\r\n")
        self.says(b"* 1 FETCH (UID 7 FLAGS (\\Seen))", b"* 2 FETCH (UID 8 BODY[HEADER]<0> {2}", b"no)")
        self.says(b"* 1 FETCH (UID 7 BODY[HEADER]<0> {6}", b"To: x\n FLAGS (\\Seen))", b"0005 OK")
        self.assertEqual(self.successResultOf(answer), b"To: x\n")
        answer, _ = self.ask(session.fetch(7, b"", 10))
        self.says(b'* 1 FETCH (BODY[]<0> "a\\"b" UID 7)', b"0006 OK")
        self.assertEqual(self.successResultOf(answer), b'a"b')
        answer, _ = self.ask(session.fetch(7, b"", 10))
        self.says(b"0007 OK")
        self.assertIsNone(self.successResultOf(answer))

    def test_too_much(self) -> None:
        """A server that sends more than was asked for is left, before it is in memory."""
        session = self.logged_in()
        answer, _ = self.ask(session.fetch(7, b"", 10))
        self.says(b"* 1 FETCH (UID 7 BODY[]<0> {%d}" % (LITERAL_BYTES + 1))
        self.assertIn(f"the server sends {LITERAL_BYTES + 1} bytes at once", self.trouble(answer))
        session = self.logged_in()
        answer, _ = self.ask(session.find(1, 9, b"ALL"))
        self.says(b"* SEARCH" + b" 1" * LINE_BYTES)
        self.assertIn("a line of more than", self.trouble(answer))

    def test_idle(self) -> None:
        """It ends at the first news, or after its time; a mail that comes before it begins ends it at once."""
        session = self.logged_in(b"IDLE")
        session.news = False
        idling, asked = self.ask(session.idle(600))
        self.assertEqual(asked, b"0005 IDLE\r\n")
        self.assertEqual(self.says(b"+ idling", b"* OK still here", b"* 3 EXISTS"), b"")
        self.assertEqual(self.says(b"* 4 EXISTS", b"* 5 EXISTS"), b"DONE\r\n")
        self.says(b"0005 OK")
        self.successResultOf(idling)
        self.assertEqual(self.ask(session.idle(600))[1], b"", "there is news")
        session.news = False
        idling, _ = self.ask(session.idle(600))
        self.assertEqual(self.says(b"* 6 EXISTS", b"+ idling"), b"DONE\r\n")
        self.says(b"0006 OK")
        self.successResultOf(idling)
        session.news = False
        idling, _ = self.ask(session.idle(600))
        self.says(b"+ idling")
        self.clock.advance(600)
        self.assertEqual(self.transport.taken(), b"DONE\r\n")
        self.clock.advance(ANSWER_S)
        self.assertIn("no answer", self.trouble(idling))

    def test_stopped_while_idle(self) -> None:
        """Who stops takes leave."""
        session = self.logged_in(b"IDLE")
        session.news = False
        idling, _ = self.ask(session.idle(600))
        self.says(b"+ idling")
        idling.addErrback(lambda _: None)
        idling.cancel()
        leaving, _ = self.ask(session.leave())
        self.assertTrue(self.transport.disconnecting)
        self.lose()
        self.successResultOf(leaving)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class AnythingTest(SessionCase):
    """A server that says anything at all."""

    @given(st.lists(st.one_of(st.sampled_from(ODD), st.binary(max_size=20)), max_size=8), st.booleans())
    def test_said(self, lines: list[bytes], greeted: bool) -> None:
        """Nothing is raised where nobody would hear it, and whoever waits is told in the end."""
        if greeted:
            waiting, _ = self.ask(self.logged_in().fetch(7, b"", 10))
        else:
            waiting = self.begin(SAFE)
        for line in lines:
            self.session.dataReceived(line + b"\r\n")
        if not self.session.lost:
            self.lose()
        self.flushLoggedErrors()  # what Twisted's parser says of lines that make no sense
        waiting.addErrback(lambda failure: failure.trap(FolderTrouble))
        self.successResultOf(waiting)
        self.assertEqual(self.clock.getDelayedCalls(), [])


class FolderTest(SessionCase):
    """The folder on top of it."""

    def open_folder(self, session: Session) -> ImapFolder:
        async def connect() -> Session:
            return session

        return ImapFolder(
            SAFE, connect, bounce_address("b@a.example"), clock=self.clock, jitter=lambda: 1.0, pauses_s=(1.0,)
        )

    def test_no_keywords(self) -> None:
        """Where the server keeps no keywords, mails are marked as seen, and those that are not are looked for."""
        folder = self.open_folder(self.logged_in(selected=b"* OK [PERMANENTFLAGS (\\Seen \\Deleted)] ok"))
        found, asked = self.ask(folder.arrived())
        self.assertEqual(asked, b"0005 UID SEARCH 1:* UNDELETED UNSEEN\r\n")
        self.says(b"* SEARCH 4", b"0005 OK")
        self.assertEqual(self.successResultOf(found), [4])
        done, asked = self.ask(folder.done(4, ours=False))
        self.assertEqual(asked, b"0006 UID STORE 4 +FLAGS.SILENT (\\Seen)\r\n")
        self.says(b"0006 OK")
        self.successResultOf(done)

    def test_flags_forgotten(self) -> None:
        """A mail whose mark the server refuses, or forgets, is not read again."""
        folder = self.open_folder(self.logged_in())
        found, _ = self.ask(folder.arrived())
        self.says(b"* SEARCH 4 5", b"0005 OK")
        self.assertEqual(self.successResultOf(found), [4, 5])
        done, _ = self.ask(folder.done(4, ours=True))
        self.says(b"0006 NO not yours")
        self.assertIn("not yours", self.failureResultOf(done, Unreadable).value.message)
        done, _ = self.ask(folder.done(5, ours=True))
        self.says(b"0007 OK")
        found, _ = self.ask(folder.arrived())
        self.says(b"0008 OK", b"* SEARCH 4 5 6", b"0009 OK")
        self.assertEqual(self.successResultOf(found), [6])

    def test_unreadable(self) -> None:
        """A mail that the server cannot give out, or at which the connection ends three times, is left alone."""
        folder = self.open_folder(self.logged_in())
        reading, _ = self.ask(folder.read(4))
        self.says(b"0005 NO broken file")
        self.assertIn("broken file", self.failureResultOf(reading, Unreadable).value.message)
        for _ in range(3):
            folder._session = self.logged_in()
            reading, asked = self.ask(folder.read(5))
            self.assertIn(b"UID FETCH 5", asked)
            self.lose()
            self.failureResultOf(reading, FolderTrouble)
        folder._session = self.logged_in()
        reading, asked = self.ask(folder.read(5))
        self.assertEqual(asked, b"")
        self.failureResultOf(reading, Unreadable)
        found, _ = self.ask(folder.arrived())
        self.says(b"* SEARCH 4 5 6", b"0005 OK")
        self.assertEqual(self.successResultOf(found), [6])

    def test_pauses(self) -> None:
        """Tries to connect come more and more rarely; after a wrong password at most every seven minutes."""
        folder = ImapFolder(SAFE, lambda: None, bounce_address("b@a.example"), clock=Clock(), jitter=lambda: 0.0)
        pauses = [folder.pause_s(failed, refused=False) for failed in range(8)]
        self.assertEqual(pauses, [0.0, *(pause / 2 for pause in PAUSES_S), *[PAUSES_S[-1] / 2] * 2])
        self.assertEqual(folder.pause_s(1, refused=True), REFUSED_S / 2)

    def test_refused(self) -> None:
        """The password is not tried again soon."""
        self.clock = Clock()
        tries: list[float] = []

        async def connect() -> Session:
            tries.append(self.clock.seconds())
            raise LoginRefused("no")

        folder = ImapFolder(SAFE, connect, bounce_address("b@a.example"), clock=self.clock, jitter=lambda: 1.0)
        self.failureResultOf(Deferred.fromCoroutine(folder.arrived()), LoginRefused)
        again = Deferred.fromCoroutine(folder.arrived())
        self.clock.pump([60.0] * 14)
        self.assertNoResult(again)
        self.clock.advance(60)
        self.failureResultOf(again, LoginRefused)
        self.assertEqual(tries, [0.0, REFUSED_S])


class WordsTest(SynchronousTestCase):
    """What is written and read."""

    def test_places(self) -> None:
        """A URL with what is left out."""
        self.assertEqual(
            place("imaps://ann%40a.example@mail.example/Bounces%2Fread%20me", starttls="off"),
            Place(
                host="mail.example", port=993, tls=True, user="ann@a.example", folder="Bounces/read me", starttls="off"
            ),
        )
        near = place("imap://ann@a.example@[::1]", starttls="required")
        self.assertEqual((near.host, near.port, near.user, near.folder), ("::1", 143, "ann@a.example", "INBOX"))
        self.assertEqual(str(near), "INBOX of ann@a.example on [::1]:143")
        self.assertEqual([near.here, FAR.here], [True, False])

    @given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")))
    def test_any_folder(self, name: str) -> None:
        """Any name that the configuration takes is one word of ASCII, in quotation marks."""
        word = mailbox(name)
        self.assertRegex(word, rb'\A"(?:[^"\\\r\n\0\x80-\xff]|\\["\\])*"\Z')

    @given(st.text())
    def test_any_password(self, text: str) -> None:
        """What can be quoted comes back; the rest is refused."""
        try:
            word = quoted(text).decode()
        except FolderTrouble:
            self.assertTrue(not text.isascii() or set(text) & set("\r\n\0"))
        else:
            self.assertEqual(word[1:-1].replace('\\"', '"').replace("\\\\", "\\"), text)

    @given(st.recursive(st.one_of(st.binary(max_size=5), st.none()), lambda inner: st.lists(inner, max_size=5)))
    def test_any_answer(self, line: Any) -> None:
        """Whatever stands in an answer, what is read is bytes or nothing."""
        for words in ([b"1", b"FETCH", line], [b"1", b"FETCH", [b"UID", b"7", b"BODY", line]], line):
            if isinstance(words, list):
                self.assertIsInstance(content_of(words, 7), (bytes, type(None)))

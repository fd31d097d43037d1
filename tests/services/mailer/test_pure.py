"""What needs neither a server nor a database: addresses, replies, judgement, pace, signatures, CSV, bounce notices."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidParams
from msgd.messages import json
from msgd.services.mailer.addresses import Address, _parse, check_name, parse, parse_named
from msgd.services.mailer.bounces.notice import read_notice
from msgd.services.mailer.csv_rows import CsvError, CsvRows
from msgd.services.mailer.judging import Patience, judge
from msgd.services.mailer.ledger import NewRow, Row, RowState
from msgd.services.mailer.pace import Bucket, Domain
from msgd.services.mailer.params import MAIL
from msgd.services.mailer.replies import Accepted, Dropped, Refused, Step, Unclear
from msgd.services.mailer.signing import Signer

ROW = Row(
    row=7, email="a@b.example", key="a@b.example", name="", vars={}, state="queued", attempt=0, reply="", first_ms=None
)


class AddressTests(SynchronousTestCase):
    """RFC 5321's grammar, with RFC 6531's characters."""

    def test_taken(self) -> None:
        """Plain, quoted, international; domains in their ASCII form."""
        for text, mailbox in (
            ("anna@example.com", "anna@example.com"),
            (" Anna.B+x@EXAMPLE.com ", "Anna.B+x@example.com"),
            ('"a b"@example.com', '"a b"@example.com'),
            ("jürgen@müller.example", "jürgen@xn--mller-kva.example"),
            ("root@localhost", "root@localhost"),
        ):
            self.assertEqual(parse(text).mailbox, mailbox)
        self.assertEqual(parse("Anna@Example.COM").key, "anna@example.com")
        self.assertEqual(parse_named('"Bell, Anna" <a@b.example>').name, "Bell, Anna")

    def test_refused(self) -> None:
        """What could end a line or a command, and what is no address."""
        texts = ["", "anna", "@b.example", "a@", "a@b@c.example", "a b@c.example", "a@b..example", "a@-b.example"]
        texts += ["a@b.example.", "a@[127.0.0.1]", "a>@b.example", ".a@b.example", "<a@b.example>"]
        texts += ["a@b.example\r\nBcc: x@y.example", "a\r\nRCPT TO:<x@y>@b.example"]
        texts += [f'"{one}"@b.example' for one in ("\u2028", "\u0085", "\u00a0", "\t", "<", "\\>", "\u202e")]
        texts += ["a\u202e@b.example", "x" * 65 + "@b.example", "a@" + "x" * 64 + ".example", "a\ud800@b.example"]
        for text in texts:
            self.assertRaises(ValueError, parse, text)
        self.assertRaises(ValueError, check_name, "Anna\r\nBcc: x@y.example")

    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """Whatever is taken fits into a command."""
        try:
            mailbox = parse(text).mailbox
        except ValueError:
            return
        self.assertFalse(any(character in mailbox for character in "\r\n\0<>"), mailbox)

    @given(
        st.from_regex(r"[A-Za-z0-9_+.-]{1,66}@[a-zA-Z0-9.-]{0,66}(\.xn--mller-kva)?\.[a-z0-9-]{1,5}", fullmatch=True)
    )
    @example("a@xn--zzzzzzz.example")
    def test_plain(self, text: str) -> None:
        """Those that are known at a glance are the same as when looked at closely."""
        self.assertEqual(self.what_is(parse, text), self.what_is(_parse, text))

    def what_is(self, parsed: Callable[[str], Address], text: str) -> Address | str:
        try:
            return parsed(text)
        except ValueError as error:
            return str(error)


class ParamsTests(SynchronousTestCase):
    """What is wrong is told at the door, with the field."""

    def refusal(self, **params: object) -> str:
        given_ = {"to": [{"email": "a@b.example"}], "subject": "x", "text": "y", **params}
        error = self.assertRaises(InvalidParams, MAIL.decode, json.encode(given_))
        return f"{error.where} {error.message}"

    def test_refused(self) -> None:
        """Each by its name."""
        for params, named in (
            ({"to": []}, "to:"),
            ({"to": [{"email": "a@b.example"}, {"email": "x"}]}, "to[1] email:"),
            ({"to": {"upload": "../x"}}, "upload:"),
            ({"subject": "a\r\nBcc: x@y.example"}, "subject:"),
            ({"subject": " "}, "subject:"),
            ({"text": ""}, "text:"),
            ({"text": "{% for %}"}, "text: line 1"),
            ({"html": "{{ x | nosuchfilter }}"}, "html: line 1: there is no filter 'nosuchfilter'"),
            ({"text": "\n{% include 'x' %}"}, "text: line 2"),
            ({"text": "x" * 500_001}, "text"),
            ({"text": "{{" + "(" * 5000}, "text:"),
            ({"text": "{{ x }}" * 20_000}, "text: it has more than"),
            ({"from": "nobody"}, "from:"),
            ({"headers": {"Bcc": "x@y.example"}}, "headers: Bcc"),
            ({"headers": {"X-A": "a\r\nBcc: x@y.example"}}, "headers: the value of X-A"),
            ({"headers": {"X-A\r\nBcc": "x"}}, "headers:"),
            ({"headers": {"Content-Type": "x"}}, "headers: Content-Type"),
            ({"headers": {"x-a": "1", "X-A": "2"}}, "given twice"),
            ({"headers": {"Reply-To": "x, y"}}, "headers: Reply-To"),
            ({"attachments": ["a/b"]}, "attachments[0]:"),
            ({"template": "a", "text": "b"}, "template:"),
            ({"template": "../a", "text": ""}, "template:"),
            ({"to": [{"email": "a@b.example", "vars": {"email": 1}}]}, "vars:"),
            ({"to": [{"email": "a@b.example", "vars": {"a b": 1}}]}, "vars:"),
            ({"part": [1, 2]}, "part:"),
            ({"bcc": "x"}, "bcc"),
        ):
            self.assertIn(named, self.refusal(**params))

    def test_constants_are_not_worked_out(self) -> None:
        """A template whose constant would take ten gigabytes is taken at the door, in no time."""
        MAIL.decode(json.encode({"to": {"upload": "u"}, "subject": "x", "text": "{{ 'a' | center(9999999999) }}"}))


class JudgingTests(SynchronousTestCase):
    """Replies as fates."""

    def test_fates(self) -> None:
        """Each outcome, and whether the address is suppressed."""
        for outcome, state, suppressed in (
            (Accepted(250, "ok"), RowState.SENT, False),
            (Refused(451, "later", Step.RECIPIENT), RowState.DEFERRED, False),
            (Refused(421, "later", Step.DATA), RowState.DEFERRED, False),
            (Refused(550, "5.1.1 nobody", Step.RECIPIENT), RowState.BOUNCED, True),
            (Refused(550, "no such user", Step.RECIPIENT), RowState.BOUNCED, True),
            (Refused(550, "no such user", Step.END), RowState.BOUNCED, False),
            (Refused(550, "5.7.1 policy", Step.RECIPIENT), RowState.BOUNCED, False),
            (Refused(552, "5.2.2 full", Step.RECIPIENT), RowState.BOUNCED, False),
            (Refused(554, "5.1.10 null MX", Step.RECIPIENT), RowState.BOUNCED, True),
            (Dropped("gone", True), RowState.DEFERRED, False),
            (Unclear("gone"), RowState.UNKNOWN, False),
        ):
            ended = judge(ROW, outcome, 1000, 0.5, Patience())
            self.assertEqual((ended.state, ended.suppress is not None), (state, suppressed), outcome)
            self.assertEqual(ended.attempt, 1)

    def test_patience(self) -> None:
        """Pauses double up to four hours; after two days it is given up, and not suppressed."""
        later = Refused(451, "later", Step.RECIPIENT)
        pauses = []
        for attempt in range(10):
            row = Row(
                **{**{name: getattr(ROW, name) for name in ROW.__struct_fields__}, "attempt": attempt, "first_ms": 0}
            )
            next_ms = judge(row, later, 0, 0.5, Patience()).next_ms
            assert next_ms is not None
            pauses.append(next_ms / 1000)
        self.assertEqual(pauses[:3], [300, 600, 1200])
        self.assertEqual(pauses[-1], 4 * 3600)
        self.assertTrue(all(a <= b for a, b in pairwise(pauses)))
        ended = judge(row, later, 172_800_000, 0.5, Patience())
        self.assertEqual((ended.state, ended.suppress), (RowState.BOUNCED, None))


class PaceTests(SynchronousTestCase):
    """Slower when told so, faster again by itself."""

    def test_domain(self) -> None:
        """Halved at a push back, which counts once for those under way; grows with what is taken."""
        domain = Domain(8)
        for _ in range(8):
            self.assertEqual(domain.ready_s(0.0), 0.0)
            domain.begin(0.0)
        self.assertIsNone(domain.ready_s(0.0))
        for _ in range(8):
            domain.pushed_back(0.0)
            domain.end()
        held = domain.ready_s(0.0)
        assert held is not None
        self.assertEqual(held, 1.0)
        for _ in range(4):
            domain.begin(2.0)
        self.assertIsNone(domain.ready_s(2.0))
        for _ in range(200):
            domain.taken()
        for _ in range(4):
            domain.end()
        self.assertTrue(domain.unhindered)

    def test_one_at_a_time(self) -> None:
        """Where even one is too much, the pause between two grows, up to five minutes."""
        domain = Domain(1)
        now_s, pauses = 0.0, []
        for _ in range(12):
            domain.begin(now_s)
            domain.pushed_back(now_s)
            domain.end()
            ready_s = domain.ready_s(now_s)
            assert ready_s is not None
            pauses.append(ready_s - now_s)
            now_s = ready_s
        self.assertEqual(pauses[:4], [1, 2, 4, 8])
        self.assertEqual(pauses[-1], 300)

    def test_bucket(self) -> None:
        """A rate holds over time, with a second's worth at once."""
        bucket, now_s, taken = Bucket(10), 0.0, 0
        while now_s < 10:
            wait_s = bucket.wait_s(now_s)
            if wait_s > 0:
                now_s += wait_s + 1e-9
            else:
                bucket.take(now_s)
                taken += 1
        self.assertLessEqual(abs(taken - 110), 1)
        self.assertEqual(Bucket(0).wait_s(0), 0)


class SigningTests(SynchronousTestCase):
    """Words that only we can make."""

    def test_words(self) -> None:
        """Read back; not with another key, another address, another number."""
        signer = Signer(b"k" * 32)
        word = signer.unsubscribe("anna@example.com", "job1")
        self.assertEqual(signer.read_unsubscribe(word), ("anna@example.com", "job1"))
        verp = signer.verp(17, 4711)
        self.assertEqual(signer.read_verp(verp.upper()), (17, 4711))
        self.assertLessEqual(len(f"bounces+{verp}"), 64)
        for other in (Signer(b"x" * 32), Signer(b"")):
            self.assertIsNone(other.read_unsubscribe(word))
            self.assertIsNone(other.read_verp(verp))
        for forged in ("", ".", word[:-1], "x" + word, word.replace(".", ".A"), "ä.ö"):
            self.assertIsNone(signer.read_unsubscribe(forged))
        self.assertIsNone(signer.read_verp(verp.replace("11-", "12-", 1)))
        self.assertEqual(signer.message_id("j", 1), signer.message_id("j", 1))
        self.assertNotEqual(signer.message_id("j", 1), signer.message_id("j", 2))


CELLS = st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8), max_size=6)


class CsvTests(SynchronousTestCase):
    """Recipients out of bytes, however they are cut."""

    def read(self, data: bytes, *cuts: int) -> list[NewRow]:
        reader, at = CsvRows(), 0
        rows: list[NewRow] = []
        for cut in [*sorted(cuts), len(data)]:
            rows += reader.feed(data[at:cut])
            at = max(at, cut)
        return [*rows, *reader.end()]

    @given(CELLS, st.lists(st.integers(0, 300), max_size=5), st.sampled_from(["\r\n", "\n"]))
    def test_as_the_standard_library(self, cells: list[str], cuts: list[int], end: str) -> None:
        """What csv writes is read, wherever the chunks end."""
        file = io.StringIO(newline="")
        writer = csv.writer(file, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerow(["email", "x"])
        for number, cell in enumerate(cells):
            writer.writerow([f"p{number}@example.com", cell])
        data = file.getvalue().encode()
        rows = self.read(data, *(min(cut, len(data)) for cut in cuts))
        wanted = [(f"p{number}@example.com", cell) for number, cell in enumerate(cells)]
        self.assertEqual([(row.email, row.vars["x"]) for row in rows], wanted)

    def test_as_people_write_it(self) -> None:
        """A byte order mark, semicolons, other columns, empty lines, addresses that are none."""
        rows = self.read(
            "\ufeffName;E-Mail;EMAIL;Stadt\r\nAnna;;anna@example.com;Köln\r\n\r\nBen;;nobody;\r\nC;;c@d.example;;;\n".encode()
        )
        self.assertEqual([(row.row, row.key) for row in rows], [(1, "anna@example.com"), (2, ""), (3, "c@d.example")])
        self.assertEqual((rows[0].name, rows[0].vars), ("Anna", {"Stadt": "Köln"}))
        self.assertIn("nobody", rows[1].reply)

    def test_refused(self) -> None:
        """No head line, no column email, no UTF-8, a row without end: named."""
        for data, reason in (
            (b"", "empty"),
            (b"name,city\r\n", "no column email"),
            (b"email\r\n\xff\xfe\r\n", "UTF-8"),
            (b'email\r\n"a', "never closed"),
            (b"email\r\n" + b"x" * 200_000, "more than"),
            (b"email,x,x\r\n", "two columns"),
            # A limit that is looked at first: to look for twins among so many would take seconds.
            (",".join(["email", *(f"c{number}" for number in range(14_000))]).encode() + b"\r\n", "14001 columns"),
            (b"email\r\na\0b\r\n", "U+0000"),
        ):
            error = self.assertRaises(CsvError, self.read, data)
            self.assertIn(reason, str(error))


NOTICE = """\
From: MAILER-DAEMON@mx.example
To: bounces+11-1267-aaaaaaaaaaaaaaaa@sender.example
Content-Type: multipart/report; report-type=delivery-status; boundary=b

--b
Content-Type: text/plain

Sorry.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; anna@example.com
Action: {action}
Status: {status}
Diagnostic-Code: smtp; {diagnostic}

--b--
"""


class NoticeTests(SynchronousTestCase):
    """RFC 3464."""

    def test_read(self) -> None:
        """Failed is told with its code; delayed, delivered and the mails of people are not."""
        notice = read_notice(NOTICE.format(action="failed", status="5.1.1", diagnostic="550 5.1.1 nobody").encode())
        assert notice is not None
        self.assertEqual((notice.code, notice.permanent, notice.no_such_user), (550, True, True))
        self.assertEqual(notice.addresses, ("bounces+11-1267-aaaaaaaaaaaaaaaa@sender.example",))
        full = read_notice(NOTICE.format(action="failed", status="5.2.2", diagnostic="552 5.2.2 full").encode())
        assert full is not None
        self.assertFalse(full.no_such_user)
        self.assertIsNone(read_notice(NOTICE.format(action="delayed", status="4.0.0", diagnostic="x").encode()))
        self.assertIsNone(read_notice(b"Subject: I am away\r\n\r\nuntil Monday\r\n"))

    @given(st.binary(max_size=200))
    def test_anything(self, content: bytes) -> None:
        """Whatever arrives, nothing breaks."""
        read_notice(content)
        read_notice(
            b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n"
            + content
        )

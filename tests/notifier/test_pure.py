"""Small pure parts: routes, origins, results as files, frames, the latest progress."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidInput, NotFound
from msgd.messages.live import LiveEvent
from msgd.notifier.calls import token_in
from msgd.notifier.interface import Answer, Asked, Call, Route
from msgd.notifier.items import Item, text_frame
from msgd.notifier.latest import TOPICS, Latest
from msgd.notifier.origins import Origins
from msgd.notifier.problems import MethodNotAllowed
from msgd.notifier.results import COLUMNS, CsvWriter, JsonWriter, NdjsonWriter, add_columns, cell
from msgd.notifier.router import Router

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
records = st.lists(st.dictionaries(st.text(max_size=8), values, max_size=4), max_size=5)


async def nothing(call: Call) -> Answer:
    return Answer()


def route(method: str, path: str) -> Route:
    return Route(method=method, path=path, endpoint=nothing)


class RouterTest(SynchronousTestCase):
    """Which route is meant."""

    router = Router([route("GET", "/a/{x}"), route("GET", "/a/b"), route("POST", "/a/{x}"), route("GET", "/")])

    def test_fixed_words_first(self) -> None:
        """A fixed path wins over one with a variable."""
        self.assertEqual(self.router.find("GET", "/a/b").route.path, "/a/b")
        self.assertEqual(self.router.find("GET", "/a/c").words, {"x": "c"})

    def test_decoding(self) -> None:
        """Words are decoded after the split: an encoded slash stays within its word."""
        self.assertEqual(self.router.find("GET", "/a/b%2Fc%C3%A9").words, {"x": "b/cé"})

    def test_nul(self) -> None:
        """U+0000 is in no name, and PostgreSQL cannot even be asked for it."""
        for path in ("/a/%00", "/a/x%00y", "/%00"):
            self.assertRaises(InvalidInput, self.router.find, "GET", path)

    def test_methods(self) -> None:
        """HEAD goes where GET goes; other methods name those that there are."""
        self.assertEqual(self.router.find("HEAD", "/").route.method, "GET")
        error = self.assertRaises(MethodNotAllowed, self.router.find, "PUT", "/a/c")
        self.assertEqual(error.allowed, "GET, HEAD, OPTIONS, POST")
        self.assertRaises(NotFound, self.router.find, "GET", "/a/c/d")

    def test_one_route_each(self) -> None:
        """Two routes of one method and path are a mistake of ours, found at the start."""
        self.assertRaises(ValueError, Router, [route("GET", "/a"), route("GET", "/a")])

    @given(st.text())
    def test_any_path(self, path: str) -> None:
        """Whatever is asked for is found, or is not, or cannot be asked for."""
        try:
            self.router.find("GET", path)
        except (InvalidInput, NotFound):
            pass


class OriginsTest(SynchronousTestCase):
    """Whose pages may call."""

    def test_own(self) -> None:
        """The page's host and port must be those asked; ports that go without saying are said."""
        origins = Origins(own=["https://dash.example.com"])
        for origin, host, own in (
            ("http://a.example", "a.example", True),
            ("http://a.example", "a.example:80", True),
            ("https://a.example:443", "a.example:443", True),
            ("http://A.Example", "a.example", True),
            ("http://a.example:8080", "a.example:8080", True),
            ("http://[::1]:8080", "[::1]:8080", True),
            ("http://a.example", "a.example:8080", False),
            ("http://a.example.evil", "a.example", False),
            ("null", "null", False),
            ("file://", "a.example", False),
            ("http://a.example:x", "a.example", False),
            ("https://dash.example.com", "10.0.0.1:8080", True),
        ):
            self.assertEqual(
                origins.is_own(origin, Asked(address="", host=host, secure=False)), own, f"{origin} at {host}"
            )

    def test_tokens(self) -> None:
        """The header wins over the cookie, of which only ours counts."""
        self.assertEqual(token_in("Bearer abc", "msgd=def"), ("abc", False))
        self.assertEqual(token_in("", "x=1; msgd=def; y=2"), ("def", True))
        self.assertEqual(token_in("Basic abc", "msgdx=def"), ("", False))


class ResultsTest(SynchronousTestCase):
    """Results as files."""

    @given(st.text())
    def test_no_formulas(self, text: str) -> None:
        """No cell begins as a formula does, unless it is a plain number."""
        shown = cell(text)
        if shown[:1] in tuple("=+-@\t\r＝＋－＠"):
            float(shown.replace(",", "."))

    def test_cells(self) -> None:
        """Numbers, also signed ones in text, stay numbers; all else that looks like a formula is marked as text."""
        for value, wanted in (
            ("=1+1", "'=1+1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" =1", "' =1"),
            ("-5", "-5"),
            ("+49,5", "+49,5"),
            ("-5+1", "'-5+1"),
            (-5, "-5"),
            (1.5, "1.5"),
            (True, "true"),
            (None, ""),
            ({"a": 1}, '{"a":1}'),
            ("a\nb", "a\nb"),
            ("\0", "\ufffd"),
        ):
            self.assertEqual(cell(value), wanted)

    @given(records)
    def test_table(self, rows: list[dict[str, Any]]) -> None:
        """A table read back has a row for each result and a column for each key, in the order of their coming."""
        columns: dict[str, None] = {}
        add_columns(columns, rows)
        writer = CsvWriter(list(columns))
        text = (writer.head() + writer.rows(rows) + writer.tail()).decode()
        back = list(csv.reader(io.StringIO(text, newline="")))
        self.assertEqual(back[0], [cell(name) for name in columns])
        self.assertEqual(len(back), len(rows) + 1)
        for row, found in zip(rows, back[1:], strict=True):
            self.assertEqual(found, [cell(row.get(name)) for name in columns])

    @given(st.lists(records, max_size=3))
    def test_json(self, pages: list[list[dict[str, Any]]]) -> None:
        """The array and the lines hold the results of all pages, whatever their number."""
        whole = [row for page in pages for row in page]
        writer = JsonWriter()
        array = writer.head() + b"".join(writer.rows(page) for page in pages if page) + writer.tail()
        self.assertEqual(msgspec.json.decode(array), whole)
        lines = b"".join(NdjsonWriter().rows(page) for page in pages)
        self.assertEqual([msgspec.json.decode(line) for line in lines.split(b"\n") if line], whole)

    def test_columns_are_bounded(self) -> None:
        """Results that each have keys of their own do not make a table without bound."""
        columns: dict[str, None] = {}
        add_columns(columns, ({f"k{n}": 1} for n in range(2 * COLUMNS)))
        self.assertEqual(len(columns), COLUMNS)


class FrameTest(SynchronousTestCase):
    """Frames made by ourselves (RFC 6455 §5.2)."""

    @given(st.sampled_from((0, 1, 125, 126, 127, 65535, 65536, 70000)))
    def test_lengths(self, size: int) -> None:
        """The three forms of the length."""
        frame = text_frame(b"x" * size)
        self.assertEqual(frame[0], 0x81)
        short = frame[1]
        at = {126: 4, 127: 10}.get(short, 2)
        self.assertEqual(int.from_bytes(frame[2:at], "big") if at > 2 else short, size)
        self.assertEqual(frame[at:], b"x" * size)
        self.assertEqual(short < 126, size < 126)
        self.assertEqual(short == 127, size > 65535)

    def test_made_once(self) -> None:
        """All readers of one subscription share one frame; those of a pattern are told which."""
        item = Item("e", LiveEvent("room.a", 1, 7, "i", "said", "ann", 0, Raw(b'{"a": 1}')))
        self.assertIs(item.frame("room.a"), item.frame("room.a"))
        plain = msgspec.json.decode(item.frame("room.a")[4:])
        self.assertEqual((plain["op"], plain["cursor"], plain["data"]), ("event", "e-7", {"a": 1}))
        self.assertEqual(plain["time"], "1970-01-01T00:00:00.000Z")
        self.assertNotIn("subscription", plain)
        self.assertEqual(msgspec.json.decode(item.frame("room.*")[4:])["subscription"], "room.*")


class LatestTest(SynchronousTestCase):
    """Progress in order."""

    @given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), st.integers(0, 5)), max_size=30))
    def test_rises(self, places: list[tuple[int, int, int]]) -> None:
        """What is accepted rises strictly, and each new highest is accepted."""
        latest = Latest()
        top = (0, 0, -1)
        for run, token, n in places:
            event = LiveEvent("job.1", None, None, "", "progress", "", 0, Raw(b"null"), run, token, n)
            self.assertEqual(latest.accepts(event), (run, token, n) > top)
            top = max(top, (run, token, n))

    def test_bounded(self) -> None:
        """Topics are forgotten, the longest unseen first."""
        latest = Latest()
        for number in range(TOPICS + 5):
            latest.accepts(LiveEvent(f"job.{number}", None, None, "", "progress", "", 0, Raw(b"null"), 1, 1, 1))
        self.assertEqual(len(latest._seen), TOPICS)

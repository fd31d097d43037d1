"""Reading HTTP/1.1 responses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler.http1 import CHUNK_LINE_BYTES, END, HEAD_BYTES, BadResponse, Event, Head, ResponseReader

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: "
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def read(data: bytes, *cuts: int) -> list[Event]:
    """The events of a response that comes in pieces; the pieces of its body joined."""
    return _read(ResponseReader(), data, *cuts)


def _read(reader: ResponseReader, data: bytes, *cuts: int) -> list[Event]:
    events: list[Event] = []
    ends = [*sorted(cuts), len(data)]
    for begin, end in zip([0, *ends], ends, strict=False):
        for event in reader.receive(data[begin:end]):
            if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                events[-1] += event
            else:
                events.append(event)
    return events


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    return CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


_bodies = st.lists(st.binary(min_size=1, max_size=30), max_size=5)
_responses = st.one_of(
    _bodies.map(lambda chunks: chunked(*chunks)),
    _bodies.map(lambda chunks: chunked(*chunks, trailers=b"X: y\r\nZ: z\r\n")),
    st.binary(max_size=60).map(lambda body: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)),
    st.just(b"HTTP/1.1 204 No Content\r\n\r\n"),
    st.just(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
)


class ReaderTests(SynchronousTestCase):
    @given(_responses, st.lists(st.integers(0, 200), max_size=6))
    def test_cuts(self, response: bytes, cuts: list[int]) -> None:
        """A response means the same however it is cut on the way, and then the reader is ready for the next."""
        whole = read(response)
        self.assertIs(whole[-1], END)
        reader = ResponseReader()
        self.assertEqual(_read(reader, response, *(min(cut, len(response)) for cut in cuts)), whole)
        self.assertTrue(reader.reusable)
        reader.next_response()
        self.assertEqual(_read(reader, response), whole)

    def test_endless_interim_responses(self) -> None:
        """A server that promises an answer again and again is not listened to for ever."""
        promises = b"HTTP/1.1 103 Early Hints\r\n\r\n" * (HEAD_BYTES // 24 + 2)
        self.assertRaises(BadResponse, read, promises)
        self.assertRaises(BadResponse, read, promises, *range(0, len(promises), 100))

    @given(_bodies)
    def test_chunked(self, chunks: list[bytes]) -> None:
        """The chunks of a body are put together."""
        events = read(chunked(*chunks))
        self.assertEqual(b"".join(event for event in events if isinstance(event, bytes)), b"".join(chunks))

    def test_head(self) -> None:
        """Names are lower case; repeated headers are a list, but for those that are single; folded lines are joined."""
        (head, *_) = read(
            b"HTTP/1.1 404 Not\xe9 Found\r\nX-Robots-Tag: a\r\nLOCATION: /x\r\nx-robots-tag:  b \r\nLocation: /y\r\n"
            b"Folded: one\r\n  two\r\nnonsense\r\n: empty\r\nContent-Length: 0\r\n\r\n"
        )
        assert isinstance(head, Head)
        self.assertEqual((head.status, head.length, head.keeps), (404, 0, True))
        self.assertEqual(
            head.headers, {"x-robots-tag": "a, b", "location": "/x", "folded": "one two", "content-length": "0"}
        )

    def test_line_feeds(self) -> None:
        """Line feeds alone end lines, too."""
        self.assertEqual(read(b"HTTP/1.0 200 OK\nContent-Length: 2\n\nok")[1:], [b"ok", END])

    def test_to_close(self) -> None:
        """Without a length a body goes on until the connection ends, which then is its end."""
        reader = ResponseReader()
        self.assertEqual(_read(reader, b"HTTP/1.1 200 OK\r\n\r\nsome", 10)[1:], [b"some"])
        self.assertTrue(reader.closed())
        self.assertFalse(reader.reusable)

    def test_broken_off(self) -> None:
        """A connection that ends before its response does has broken it off."""
        for part in (
            b"",
            b"HTTP/1.1 2",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nsome",
            CHUNKED + b"5\r\nab",
            CHUNKED,
        ):
            reader = ResponseReader()
            _read(reader, part)
            self.assertFalse(reader.closed(), part)
            self.assertEqual(reader.begun, bool(part))

    def test_keeps(self) -> None:
        """A connection may be used again unless either side of the exchange says no."""
        for head, keeps in (
            (b"HTTP/1.1 200 OK\r\n", True),
            (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", False),
            (b"HTTP/1.0 200 OK\r\n", False),
            (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n", True),
        ):
            reader = ResponseReader()
            _read(reader, head + b"Content-Length: 1\r\n\r\nx")
            self.assertEqual(reader.reusable, keeps, head)

    def test_too_much(self) -> None:
        """Bytes after the end belong to no request: the connection is not used again."""
        reader = ResponseReader()
        self.assertEqual(_read(reader, LENGTH + b"1\r\n\r\nxHTTP/1.1 200 OK\r\n")[1:], [b"x", END])
        self.assertFalse(reader.reusable)

    def test_no_response(self) -> None:
        """What cannot be understood, or could be in two ways, is refused."""
        for data in (
            b"SSH-2.0-OpenSSH_9.2\r\n",
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1 20 OK\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            CHUNKED + b"x\r\n",
            CHUNKED + b"-1\r\n",
            CHUNKED + b"2\r\nabc\r\n",
            CHUNKED + b"1;" + b"x" * CHUNK_LINE_BYTES,
            CHUNKED + b"0\r\n" + b"x: y\r\n" * HEAD_BYTES,
            b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * HEAD_BYTES,
        ):
            self.assertRaises(BadResponse, read, data)

    def test_same_length_twice(self) -> None:
        """A length said twice alike is that length; with chunks it does not count."""
        self.assertEqual(read(LENGTH + b"2, 2\r\nContent-Length: 2\r\n\r\nok")[1:], [b"ok", END])
        both = CHUNKED[:-2] + b"Content-Length: 99\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        self.assertEqual(read(both)[1:], [b"x", END])

    @given(st.binary(max_size=300))
    def test_anything(self, data: bytes) -> None:
        """Any bytes are a beginning, or are refused."""
        for prefix in (b"", b"HTTP/1.1 200 OK\r\n", CHUNKED):
            try:
                read(prefix + data)
            except BadResponse:
                pass

"""Content codings, and the bombs in them."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.crawler.coding import BrokenCoding, TooBig, decoded, pieces

MIB = 1024 * 1024


def chunked(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def raw_deflate(body: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(body) + deflater.flush()


CODINGS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "DEFLATE": raw_deflate,
}


class CodingTests(SynchronousTestCase):
    @given(st.binary(max_size=3000), st.sampled_from(sorted(CODINGS)), st.integers(1, 500))
    def test_round_trip(self, body: bytes, coding: str, size: int) -> None:
        """A body comes out as it went in, however it is cut on the way."""
        self.assertEqual(decoded(chunked(CODINGS[coding](body), size), coding, 3000), body)

    @given(st.binary(min_size=1, max_size=500), st.integers(1, 100))
    def test_members(self, body: bytes, size: int) -> None:
        """A gzip body may have several members, and padding after them."""
        coded = gzip.compress(body) + gzip.compress(b"more")
        self.assertEqual(decoded(chunked(coded, len(coded)), "gzip", 3000), body + b"more")
        self.assertEqual(decoded([gzip.compress(body) + b"\0" * size], "gzip", 3000), body)

    def test_plain(self) -> None:
        """Without a coding, or with identity, a body is what it is."""
        for coding in ("", "identity", " Identity "):
            self.assertEqual(decoded([b"a", b"b"], coding, 2), b"ab")

    def test_nothing(self) -> None:
        """An empty body is empty in any coding."""
        self.assertEqual(decoded([], "gzip", 10), b"")

    def test_bomb(self) -> None:
        """A body that grows beyond the bound is given up early."""
        bomb = gzip.compress(b"\0" * (64 * MIB))
        seen = 0
        for piece in pieces([bomb], "gzip"):
            self.assertLessEqual(len(piece), 64 * 1024)
            seen += len(piece)
            if seen > MIB:
                break
        error = self.assertRaises(TooBig, decoded, [bomb], "gzip", MIB)
        self.assertIn("1 MiB", str(error))

    def test_exact_bound(self) -> None:
        """A body of just the bound is taken."""
        self.assertEqual(len(decoded([gzip.compress(b"x" * MIB)], "gzip", MIB)), MIB)

    def test_broken(self) -> None:
        """What is not what it says it is, is broken: garbage, cut off, damaged, twice coded, unknown."""
        coded = gzip.compress(b"hello world" * 100)
        for chunks, coding in (
            ([b"this is no gzip"], "gzip"),
            ([coded[:-9]], "gzip"),
            ([coded[:20] + b"\xff\xff\xff" + coded[23:]], "gzip"),
            ([gzip.compress(coded)], "gzip, gzip"),
            ([b"x"], "br"),
            ([b"x"], "zstd"),
        ):
            self.assertRaises(BrokenCoding, decoded, chunks, coding, MIB)

    @given(st.binary(max_size=100))
    def test_anything(self, body: bytes) -> None:
        """Any bytes either decode or are broken."""
        try:
            decoded([body], "gzip", MIB)
        except BrokenCoding:
            pass

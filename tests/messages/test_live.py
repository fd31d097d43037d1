"""Live messages, as whoever may write to the exchange can have made them."""

from __future__ import annotations

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.live import Head, decode_head, encode_head


class HeadTest(SynchronousTestCase):
    """:func:`decode_head`."""

    def test_places(self) -> None:
        """A head that names a place that no journal has is refused: whoever took it would wait for it for ever."""
        for last in (-1, 1 << 63, 10**30):
            body = encode_head(Head("e", 1, last, {}))
            self.assertRaises(msgspec.DecodeError, decode_head, body)
        head = Head("e", 1, (1 << 63) - 1, {7: 1})
        self.assertEqual(decode_head(encode_head(head)), head)

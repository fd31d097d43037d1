"""Messages of foreign clients, as jobs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidInput
from msgd.messages.envelope import Message
from msgd.messages.jobs import HIGH, NORMAL
from msgd.messages.wire import message_to_job

_scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just("high")
_values = st.recursive(_scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
_names = st.sampled_from(["msgd-slice", "msgd-priority", "traceparent", "x-death"]) | st.text()


class JobTest(SynchronousTestCase):
    """:func:`message_to_job`."""

    def test_priority(self) -> None:
        """There are two priorities; a message with another one is refused, naming the header."""
        for given_one, taken in (({}, NORMAL), ({"msgd-priority": "high"}, HIGH), ({"msgd-priority": b"high"}, HIGH)):
            job = message_to_job("crawl", Message(body=b"{}", headers=given_one), new_id="n")
            self.assertEqual(job.priority, taken)
        error = self.assertRaises(
            InvalidInput,
            message_to_job,
            "crawl",
            Message(body=b"{}", headers={"msgd-priority": "a\0b"}),
            new_id="n",
        )
        self.assertEqual(error.where, "msgd-priority")

    @given(st.builds(Message, body=st.binary(), message_id=st.text(), headers=st.dictionaries(_names, _values)))
    def test_anything(self, message: Message) -> None:
        """Whatever comes is a job of known form, or refused as invalid."""
        try:
            job = message_to_job("crawl", message, new_id="n")
        except InvalidInput:
            return
        self.assertIn(job.priority, (NORMAL, HIGH))
        self.assertTrue(job.slice is None or 0 <= job.slice < 1 << 63)

"""Messages of foreign clients, as jobs and as events."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidInput, NotJson
from msgd.messages.envelope import Message
from msgd.messages.jobs import HIGH, NORMAL
from msgd.messages.wire import format_time, message_to_event, message_to_job

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

    def test_body(self) -> None:
        """A submission is JSON; what the body of a call is nobody asks, as the database has the params."""
        self.assertRaises(NotJson, message_to_job, "crawl", Message(body=b"{"), new_id="n")
        job = message_to_job("crawl", Message(body=b"{", headers={"msgd-slice": 3}), new_id="n")
        self.assertEqual((job.id, job.slice), ("n", 3))

    @given(st.builds(Message, body=st.binary(), message_id=st.text(), headers=st.dictionaries(_names, _values)))
    def test_anything(self, message: Message) -> None:
        """Whatever comes is a job of known form, or refused as invalid."""
        try:
            job = message_to_job("crawl", message, new_id="n")
        except InvalidInput:
            return
        self.assertIn(job.priority, (NORMAL, HIGH))
        self.assertTrue(job.slice is None or 0 <= job.slice < 1 << 63)


class EventTest(SynchronousTestCase):
    """:func:`message_to_event`."""

    def refused(self, **properties: Any) -> str:
        message = Message(body=b"1", type="said", **properties)
        error = self.assertRaises(InvalidInput, message_to_event, "room.a", message, now_ms=0, new_id="n")
        return str(error.where)

    def test_times_that_cannot_be_shown(self) -> None:
        """A time beyond the year 9999, such as milliseconds taken for seconds, is refused: stored, it would break every
        page and stream that the event is in."""
        self.assertEqual(self.refused(timestamp=1_763_700_000_000), "timestamp")
        self.assertEqual(self.refused(timestamp=(1 << 64) - 1), "timestamp")
        for time in ("9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00"):
            self.assertEqual(self.refused(headers={"msgd-time": time}), "msgd-time")

    @given(
        st.none() | st.integers(0, (1 << 64) - 1),
        st.just("") | st.datetimes(timezones=st.timezones()).map(lambda time: time.isoformat()),
    )
    def test_any_time(self, timestamp: int | None, time: str) -> None:
        """Every event that is taken has a time that can be shown."""
        message = Message(body=b"1", type="said", timestamp=timestamp, headers={"msgd-time": time} if time else {})
        try:
            event = message_to_event("room.a", message, now_ms=0, new_id="n")
        except InvalidInput:
            return
        self.assertIn("T", format_time(event.time_ms))

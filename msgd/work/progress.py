"""How far an attempt is: shown live and never journaled, the latest wins."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
from twisted.python.failure import Failure

from msgd.broker.interface import Broker
from msgd.broker.topology import LIVE, live_key
from msgd.clock import Clock, DelayedCall
from msgd.jobs.interface import Claim, Job
from msgd.messages import json
from msgd.messages.envelope import Message
from msgd.messages.events import PROGRESS, Event, event_id
from msgd.messages.live import encode_batch, live_event
from msgd.messages.topics import job_topic
from msgd.messages.wire import event_to_message

INTERVAL_S: Final = 0.25
"""Four a second look like motion; more would only be drawn over each other."""

NO_EPOCH: Final = ""
"""The epoch of a live message without recorded events: it says nothing about the journal."""


class Progress:
    """The progress of one attempt. Each message carries (run, token, n), so that receivers can drop what is older
    than what they have shown."""

    def __init__(self, broker: Broker, clock: Clock, now_ms: Callable[[], int], job: Job, claim: Claim) -> None:
        self._broker = broker
        self._clock = clock
        self._now_ms = now_ms
        self._job = job
        self._claim = claim
        self._latest: bytes | None = None
        self._n = 0
        self._again: DelayedCall | None = None  # the end of the interval after a message
        self._unsent = False

    @property
    def latest(self) -> bytes | None:
        """As JSON, for the heartbeat."""
        return self._latest

    def show(self, fields: dict[str, Any]) -> None:
        """Publish this now, or at the end of the present interval if nothing newer comes by then."""
        self._latest = json.encode(fields)
        self._unsent = True
        if self._again is None:
            self._send()

    def end(self) -> None:
        """Show nothing more: an end is not followed by progress."""
        self._unsent = False
        if self._again is not None:
            self._again.cancel()
            self._again = None

    def _interval_over(self) -> None:
        self._again = None
        if self._unsent:
            self._send()

    def _send(self) -> None:
        assert self._latest is not None
        self._unsent = False
        self._again = self._clock.callLater(INTERVAL_S, self._interval_over)
        self._n += 1
        topic = job_topic(self._job.id)
        event = Event(
            topic=topic,
            type=PROGRESS,
            id=event_id(self._job.id, self._claim.run, PROGRESS, f"{self._claim.token}.{self._n}"),
            source=self._job.type,
            time_ms=self._now_ms(),
            data=self._latest,
            run=self._claim.run,
            token=self._claim.token,
            n=self._n,
        )
        live = Message(body=encode_batch(NO_EPOCH, [live_event(event)]), persistent=False)
        self._broker.publish(LIVE, live_key(topic), live).addErrback(_not_shown)
        if self._job.reply_to:
            reply = msgspec.structs.replace(event_to_message(event), correlation_id=self._job.correlation_id)
            self._broker.publish("", self._job.reply_to, reply).addErrback(_not_shown)


def _not_shown(_: Failure) -> None:
    """Lost progress is made up for by the next, and by the heartbeat."""

"""The one way in: lock the head, check the lease, drop stale and known events, number and store the others.

Whoever holds the lease knows what it will find: it was the last to write. So on PostgreSQL a batch is numbered before
the head is asked, and all of it sent at once, in one round trip instead of two: see :func:`append_ahead`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, TypeVar

from msgspec import structs

from msgd.database import Transaction
from msgd.database.failures import sqlstate
from msgd.errors import LeaseLost
from msgd.journal import statements
from msgd.journal.interface import Appended, Lease
from msgd.journal.numbering import Numbered, TopicState, check, event_key, new_topics, number
from msgd.journal.statements import EventRow, Head
from msgd.messages.events import Event, Recorded

W = TypeVar("W")

Within = Callable[[Transaction, Sequence[Event], Sequence[Recorded]], W]

TOPICS_REMEMBERED: Final = 20_000
"""Topics whose numbers the writer keeps in memory: some 10 MB, and more than are busy at a time."""


def lock_head(transaction: Transaction) -> Head:
    """The head row, locked until the transaction ends."""
    head, _, _ = statements.lock_head(transaction)
    return head


def check_lease(head: Head, lease: Lease) -> None:
    """Raise LeaseLost unless ``lease`` is the latest one given. The number alone decides, never a clock: a recorder
    that was slow goes on unless somebody else has taken over."""
    if head.lease_number != lease.number or head.lease_holder != lease.holder:
        raise LeaseLost(
            f"recorder {lease.holder} has lost the journal's lease {lease.number}: "
            f"{head.lease_holder or 'nobody'} has number {head.lease_number}"
        )


class Memory:
    """What this process has written under one lease: nobody else changes these numbers while it lasts."""

    def __init__(self) -> None:
        self._lease: Lease | None = None
        self._topics: dict[str, TopicState] = {}
        self._head: Head | None = None

    def under(self, lease: Lease) -> Mapping[str, TopicState]:
        """The topics remembered; none of another lease."""
        if lease != self._lease:
            self._lease = lease
            self.forget()
        return self._topics

    def ahead(self, lease: Lease, events: Sequence[Event]) -> Head | None:
        """The head as it must be, if nothing more need be known to number these events; None: ask."""
        topics = self.under(lease)
        return self._head if events and all(event.topic in topics for event in events) else None

    def remember(self, lease: Lease, topics: Mapping[str, TopicState], head: Head | None) -> None:
        """Take in what a transaction has found and changed, after its commit. ``head``: None if the next batch had
        better ask."""
        if lease != self._lease:
            return
        self._head = head
        for name, state in topics.items():
            self._topics.pop(name, None)  # those that stay quiet come to stand first
            self._topics[name] = state
        for name in list(self._topics)[: max(0, len(self._topics) - TOPICS_REMEMBERED)]:
            del self._topics[name]

    def doubt(self, error: BaseException) -> None:
        """After a batch that :func:`was_in_vain`: an event was known, or nothing is as it was."""
        self._head = None
        if sqlstate(error) != statements.KNOWN:
            self._topics = {}

    def forget(self) -> None:
        """After a failure it is open what was committed."""
        self._topics = {}
        self._head = None


def append(
    transaction: Transaction,
    lease: Lease,
    events: Sequence[Event],
    remembered: Mapping[str, TopicState],
    live_pos: int | None,
    within: Within[W] | None,
) -> tuple[Appended[W], dict[str, TopicState], Head]:
    """Store a batch; what came of it, and the topics and the head to remember if it is committed.

    ``remembered``: topics as they are under this lease; it is not changed. Raises LeaseLost, InvalidInput.
    """
    for event in events:
        check(event)
    # The keys of events on topics that are remembered can be looked for at once, behind the lock.
    early = [_key(event, remembered[event.topic]) if event.topic in remembered else None for event in events]
    missing = list(dict.fromkeys(event.topic for event in events if event.topic not in remembered))
    head, known, found = statements.lock_head(transaction, [key for key in early if key is not None], missing)
    check_lease(head, lease)
    live_pos = max(live_pos or 0, head.live_pos)
    there = found | {event.topic: remembered[event.topic] for event in events if event.topic in remembered}
    numbered, topics, head = _store(transaction, events, early, there, head, known, live_pos)
    companion = within(transaction, events, numbered.recorded) if within is not None else None
    return Appended(head.epoch, numbered.recorded, numbered.known, numbered.stale, companion), topics, head


def append_ahead(
    transaction: Transaction,
    lease: Lease,
    events: Sequence[Event],
    remembered: Mapping[str, TopicState],
    head: Head,
    live_pos: int | None,
    within: Within[W] | None,
) -> tuple[Appended[W], dict[str, TopicState], Head]:
    """The same without a question, on PostgreSQL: it stands or falls as a whole, in one round trip.

    ``head``: as it was left; all topics are remembered. Raises an error that :func:`was_in_vain` if the head is another
    one, the lease is lost, or an event is known: then nothing is stored, and :func:`append` is to look.
    """
    for event in events:
        check(event)
    keys = [_key(event, remembered[event.topic]) for event in events]
    topics = {event.topic: remembered[event.topic] for event in events}
    numbered = number(events, keys, topics, (), head.pos)
    moved = structs.replace(
        head,
        pos=numbered.recorded[-1].pos if numbered.recorded else head.pos,
        live_pos=max(live_pos or 0, head.live_pos),
    )
    statements.move_head(transaction, head, moved)
    _write(transaction, numbered, {**topics, **numbered.topics})
    if numbered.topics:
        statements.update_topics(transaction, list(numbered.topics.values()))
    companion = within(transaction, events, numbered.recorded) if within is not None else None
    appended = Appended(head.epoch, numbered.recorded, numbered.known, numbered.stale, companion)
    return appended, {**topics, **numbered.topics}, moved


def was_in_vain(error: BaseException) -> bool:
    """Whether this says that :func:`append_ahead` was wrong about what it would find."""
    return sqlstate(error) in (statements.MOVED, statements.KNOWN)


def _store(
    transaction: Transaction,
    events: Sequence[Event],
    early: Sequence[bytes | None],
    topics: dict[str, TopicState],
    head: Head,
    known: set[bytes],
    live_pos: int,
) -> tuple[Numbered, dict[str, TopicState], Head]:
    """Number the events and write them, and how far the journal is then; also the topics they are on. ``early``: the
    keys of those that were looked for; ``known``: those of them that there are; ``topics``: those that there are."""
    new = new_topics(events, topics, head.last_topic)
    topics = topics | new
    keys = [key or _key(event, topics[event.topic]) for key, event in zip(early, events, strict=True)]
    # Of a topic that begins here nothing is known.
    late = {
        key for key, looked, event in zip(keys, early, events, strict=True) if looked is None and event.topic not in new
    }
    known |= statements.known_keys(transaction, late)
    numbered = number(events, keys, topics, known, head.pos)
    begun = [(name, numbered.topics[name]) for name in new]
    changed = [state for name, state in numbered.topics.items() if name not in new]
    pos = numbered.recorded[-1].pos if numbered.recorded else head.pos
    last_topic = max((state.id for state in new.values()), default=head.last_topic)
    _write(transaction, numbered, topics)
    if begun:
        statements.insert_topics(transaction, begun)
    if changed:
        statements.update_topics(transaction, changed)
    if (pos, live_pos, last_topic) != (head.pos, head.live_pos, head.last_topic):
        statements.update_head(transaction, head.id, pos, live_pos, last_topic)
    return (
        numbered,
        {**topics, **numbered.topics},
        structs.replace(head, pos=pos, live_pos=live_pos, last_topic=last_topic),
    )


def _write(transaction: Transaction, numbered: Numbered, topics: Mapping[str, TopicState]) -> None:
    """The events that are recorded, and their keys."""
    if numbered.recorded:
        statements.insert_events(transaction, list(_event_rows(numbered.recorded, topics)))
        statements.insert_keys(transaction, numbered.keys)


def _key(event: Event, topic: TopicState) -> bytes:
    return event_key(topic.id, event.source, event.id)


def _event_rows(recorded: Iterable[Recorded], topics: Mapping[str, TopicState]) -> Iterable[EventRow]:
    for one in recorded:
        event = one.event
        yield (
            one.pos,
            topics[event.topic].id,
            one.seq,
            event.id,
            event.type,
            event.source,
            event.time_ms,
            event.run,
            event.token,
            event.data,
        )

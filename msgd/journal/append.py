"""The one way in: lock the head, check the lease, drop stale and known events, number and store the others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeVar

from sqlalchemy import Row, select, update
from sqlalchemy.exc import DataError

from msgd.database import Transaction
from msgd.errors import InvalidInput, LeaseLost
from msgd.journal import statements, tables
from msgd.journal.interface import Appended, Lease
from msgd.journal.numbering import Numbered, TopicState, check, event_key, new_topics, number
from msgd.journal.statements import EventRow
from msgd.messages.events import Event, Recorded

W = TypeVar("W")

Within = Callable[[Transaction, Sequence[Event], Sequence[Recorded]], W]

TOPICS_REMEMBERED: Final = 20_000
"""Topics whose numbers the writer keeps in memory: some 10 MB, and more than are busy at a time."""

_HEAD: Final = select(tables.head).with_for_update()


def lock_head(transaction: Transaction) -> Row[Any]:
    """The head row, locked until the transaction ends (SQLite has a writer at most one at a time anyway)."""
    return transaction.execute(_HEAD).one()


def check_lease(head: Row[Any], lease: Lease) -> None:
    """Raise LeaseLost unless ``lease`` is the latest one given. The number alone decides, never a clock: a recorder
    that was slow goes on unless somebody else has taken over."""
    if head.lease_number != lease.number or head.lease_holder != lease.holder:
        raise LeaseLost(
            f"recorder {lease.holder} has lost the journal's lease {lease.number}: "
            f"{head.lease_holder or 'nobody'} has number {head.lease_number}"
        )


class KnownTopics:
    """The topics that this process has written under one lease: nobody else changes their numbers while it lasts."""

    def __init__(self) -> None:
        self._lease: Lease | None = None
        self._topics: dict[str, TopicState] = {}

    def under(self, lease: Lease) -> Mapping[str, TopicState]:
        """What is remembered; nothing of another lease."""
        if lease != self._lease:
            self._lease = lease
            self._topics = {}
        return self._topics

    def remember(self, lease: Lease, topics: Mapping[str, TopicState]) -> None:
        """Take in what a transaction has found and changed, after its commit."""
        if lease != self._lease:
            return
        for name, state in topics.items():
            self._topics.pop(name, None)  # those that stay quiet come to stand first
            self._topics[name] = state
        for name in list(self._topics)[: max(0, len(self._topics) - TOPICS_REMEMBERED)]:
            del self._topics[name]

    def forget(self) -> None:
        """After a failure it is open what was committed."""
        self._topics = {}


def append(
    transaction: Transaction,
    lease: Lease,
    events: Sequence[Event],
    remembered: Mapping[str, TopicState],
    live_pos: int | None,
    within: Within[W] | None,
) -> tuple[Appended[W], dict[str, TopicState]]:
    """Store a batch; what came of it, and the topics to remember if it is committed.

    ``remembered``: topics as they are under this lease; it is not changed. Raises LeaseLost, InvalidInput.
    """
    head = lock_head(transaction)
    check_lease(head, lease)
    for event in events:
        check(event)
    numbered, topics, last_topic = _store(transaction, events, remembered, head) if events else _NOTHING
    companion = within(transaction, events, numbered.recorded) if within is not None else None
    values: dict[str, int] = {}
    if numbered.recorded:
        values["pos"] = numbered.recorded[-1].pos
    if last_topic:
        values["last_topic"] = last_topic
    if live_pos is not None and live_pos > head.live_pos:
        values["live_pos"] = live_pos
    if values:
        transaction.execute(update(tables.head).values(values))
    return Appended(head.epoch, numbered.recorded, numbered.known, numbered.stale, companion), topics


_NOTHING: Final[tuple[Numbered, dict[str, TopicState], int]] = (Numbered((), (), (), (), {}), {}, 0)


def _store(
    transaction: Transaction, events: Sequence[Event], remembered: Mapping[str, TopicState], head: Row[Any]
) -> tuple[Numbered, dict[str, TopicState], int]:
    """Number the events and write them; also the topics they are on, and the last topic id given, 0 if none was."""
    topics, new = _topics_of(transaction, events, remembered, head.last_topic)
    keys = [event_key(topics[event.topic].id, event.source, event.id) for event in events]
    # Of a topic that begins here nothing is known.
    old = {key for key, event in zip(keys, events, strict=True) if event.topic not in new}
    known = statements.known_keys(transaction, old) if old else set()
    numbered = number(events, keys, topics, known, head.pos)
    try:
        if numbered.recorded:
            statements.insert_events(transaction, list(_event_rows(numbered.recorded, topics)))
            statements.insert_keys(transaction, numbered.keys)
        begun = [(name, numbered.topics[name]) for name in new]
        if begun:
            statements.insert_topics(transaction, begun)
        changed = [state for name, state in numbered.topics.items() if name not in new]
        if changed:
            statements.update_topics(transaction, changed)
    except DataError as error:
        raise InvalidInput(f"the database refuses an event of the batch: {error.orig}") from error
    topics.update(numbered.topics)
    return numbered, topics, max((state.id for state in new.values()), default=0)


def _topics_of(
    transaction: Transaction, events: Sequence[Event], remembered: Mapping[str, TopicState], last_topic: int
) -> tuple[dict[str, TopicState], dict[str, TopicState]]:
    """The topics of the events by name, and those among them that begin with this batch."""
    topics: dict[str, TopicState] = {}
    missing: dict[str, None] = {}
    for event in events:
        state = remembered.get(event.topic)
        if state is None:
            missing[event.topic] = None
        else:
            topics[event.topic] = state
    if missing:
        topics.update(statements.find_topics(transaction, list(missing)))
    new = new_topics(events, topics, last_topic)
    topics.update(new)
    return topics, new


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

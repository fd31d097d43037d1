"""The journal against a model: any interleaving of appends, copies, takeovers, trims and erases."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from msgd.database import Database
from msgd.errors import LeaseLost
from msgd.journal.interface import Lease, Retention
from msgd.journal.sql import SQLJournal
from msgd.messages.cursors import Cursor
from msgd.messages.events import Event
from msgd.messages.topics import matches
from tests.database.deterministic import Stepped, same_thread
from tests.servers.postgres import cluster

T = TypeVar("T")

TOPICS: Final = ("job.a", "job.b", "room.a", "room.a.b")
PATTERNS: Final = (*TOPICS, "job.*", "room.#", "*.a", "#")
DAY_MS: Final = 24 * 3600 * 1000

events = st.builds(
    lambda topic, id_, token, outbox: Event(
        topic=topic, id=id_, type="said", source="", time_ms=0, token=token, outbox=1 if outbox else None
    ),
    st.sampled_from(TOPICS),
    st.text("0123456789", max_size=2),
    st.none() | st.integers(0, 3),
    st.booleans(),
)


class JournalMachine(RuleBasedStateMachine):
    """Two recorders' journals over one database, and beside them what ought to be in it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="msgd-journal-"))
        self.steps = Stepped()
        self.database = Database(self.url(), reactor=same_thread, workers=self.steps)
        self.now(self.database.start())
        self.time_ms = 10**12
        self.journals = [SQLJournal(self.database, now_ms=lambda: self.time_ms) for _ in range(2)]
        self.leases: list[Lease | None] = [None, None]
        # the model
        self.all: list[tuple[int, int, Event]] = []  # pos, seq and event of all that was ever recorded
        self.gone: dict[str, int] = {}  # by topic, up to which seq
        self.known: dict[tuple[str, str], int | None] = {}  # kept (None), or when it went
        self.fences: dict[str, int] = {}
        self.forgotten: set[str] = set()  # topics of which ids have been forgotten

    def url(self) -> str:
        return f"sqlite:///{self.folder / 'test.sqlite3'}"

    def teardown(self) -> None:
        self.now(self.database.stop())
        shutil.rmtree(self.folder)

    def now(self, work: Coroutine[Deferred[Any], Any, T]) -> T:
        """The result of ``work``, the database doing all that is asked of it."""
        results: list[T] = []
        failures: list[BaseException] = []
        done = Deferred.fromCoroutine(work)
        done.addCallbacks(results.append, lambda failure: failures.append(failure.value))
        self.steps.run()
        if failures:
            raise failures[0]
        return results[0]

    # -- what happens -------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.take_over(0)

    def take_over(self, who: int) -> None:
        """One of the two recorders takes the lease, whoever had it."""
        self.time_ms += 1
        lease = self.now(self.journals[who].acquire(str(who), ttl_ms=0))
        assert lease is not None
        assert all(old is None or old.number < lease.number for old in self.leases)
        self.leases[who] = lease
        self.holder = who

    @rule(who=st.integers(0, 1), takes=st.booleans(), batch=st.lists(events, max_size=8))
    def append(self, who: int, takes: bool, batch: list[Event]) -> None:
        """One of the two appends, or takes over before it does; whoever has lost the lease is refused."""
        if takes and who != self.holder:
            self.take_over(who)
        lease = self.leases[who]
        if lease is None:
            return
        if who != self.holder:
            try:
                self.now(self.journals[who].append(lease, batch))
            except LeaseLost:
                return
            raise AssertionError("a lease that was lost was good for an append")
        expected = self.expect(batch)
        appended = self.now(self.journals[who].append(lease, batch))
        assert [(one.pos, one.seq, one.event) for one in appended.recorded] == expected
        assert len(expected) + len(appended.known) + len(appended.stale) == len(batch)

    def expect(self, batch: list[Event]) -> list[tuple[int, int, Event]]:
        """What the model records of a batch."""
        found = []
        for event in batch:
            fence = self.fences.get(event.topic, -1)
            if event.topic.startswith("job.") and event.token is not None:
                if event.token < fence and event.outbox is None:
                    continue
                self.fences[event.topic] = max(fence, event.token)
            key = (event.topic, event.id)
            if key in self.known:
                continue
            self.known[key] = None
            seq = 1 + sum(one.topic == event.topic for _, _, one in self.all)
            self.all.append((len(self.all) + 1, seq, event))
            found.append(self.all[-1])
        return found

    @rule(pattern=st.sampled_from(PATTERNS), keep=st.integers(1, 5))
    def trim(self, pattern: str, keep: int) -> None:
        rules = [Retention("room.a.b"), Retention(pattern, keep=keep)]
        trimmed = self.now(self.journals[0].trim(rules))
        counts = {topic: sum(one.topic == topic for _, _, one in self.all) for topic in TOPICS}
        gone = 0
        for topic, count in counts.items():
            if matches(pattern, topic) and topic != "room.a.b":
                gone += self.drop(topic, count - keep)
        assert trimmed == gone
        self.forget()

    @rule(topic=st.sampled_from(TOPICS))
    def erase(self, topic: str) -> None:
        count = sum(one.topic == topic for _, _, one in self.all)
        assert self.now(self.journals[1].erase(topic)) == self.drop(topic, count)

    def drop(self, topic: str, upto: int) -> int:
        """Drop the events of a topic up to a seq; how many there were."""
        kept = [event for _, seq, event in self.all if event.topic == topic and self.gone.get(topic, 0) < seq <= upto]
        for event in kept:
            self.known[topic, event.id] = self.time_ms
        self.gone[topic] = max(self.gone.get(topic, 0), upto)
        return len(kept)

    def forget(self) -> None:
        """A trim forgets what went a day ago."""
        old = [key for key, went in self.known.items() if went is not None and went <= self.time_ms - DAY_MS]
        for key in old:
            del self.known[key]
            self.forgotten.add(key[0])

    @rule(hours=st.integers(1, 30))
    def wait(self, hours: int) -> None:
        self.time_ms += hours * 3600 * 1000

    # -- what is seen -------------------------------------------------------------------------------------------------

    def kept(self, pattern: str) -> list[tuple[int, int, Event]]:
        return [one for one in self.all if matches(pattern, one[2].topic) and one[1] > self.gone.get(one[2].topic, 0)]

    @rule(pattern=st.sampled_from(PATTERNS), size=st.integers(1, 6))
    def read(self, pattern: str, size: int) -> None:
        """Paging from the beginning gives what is kept, in order."""
        found: list[tuple[int, int, str]] = []
        after, more = 0, True
        while more:
            page = self.now(self.journals[0].read([pattern], after=after, limit=size))
            found.extend((one.pos, one.seq, one.event.id) for one in page.events)
            after, more = page.upto, page.more
        assert found == [(pos, seq, event.id) for pos, seq, event in self.kept(pattern)]

    @rule(pattern=st.sampled_from(PATTERNS), number=st.integers(0, 60))
    def resume(self, pattern: str, number: int) -> None:
        """A reader at any cursor is told of every topic that lost something since, and how much, or that it is open."""
        journal = self.journals[1]
        head = self.now(journal.head())
        pos = number % (head.pos + 1)
        resume = self.now(journal.resume([pattern], Cursor(head.epoch, pos)))
        lost = {
            topic: count
            for topic in TOPICS
            if matches(pattern, topic)
            and (
                count := sum(
                    at > pos and event.topic == topic and seq <= self.gone.get(topic, 0) for at, seq, event in self.all
                )
            )
        }
        assert resume.after == pos
        assert {gap.topic for gap in resume.gaps} == set(lost)
        for gap in resume.gaps:
            assert gap.first == self.gone[gap.topic] + 1
            assert gap.lost == lost[gap.topic] or (gap.lost is None and gap.topic in self.forgotten)

    @invariant()
    def numbers(self) -> None:
        """The head is where the last event is; topics know their first and last."""
        assert self.now(self.journals[0].head()).pos == len(self.all)
        for info in self.now(self.journals[0].topics("#")):
            last = max(seq for _, seq, event in self.all if event.topic == info.topic)
            assert (info.first_seq, info.last_seq) == (max(0, self.gone.get(info.topic, 0)) + 1, last)


class OnPostgreSQL(JournalMachine):
    """Where a batch is numbered before the head is asked."""

    def url(self) -> str:
        self.name = cluster().create_database()
        return cluster().url(self.name)

    def teardown(self) -> None:
        super().teardown()
        cluster().drop_database(self.name)


class ModelTests(SynchronousTestCase):
    """Seqs are contiguous, positions increase, nothing is there twice, nothing lost goes unsaid."""

    def run_machine(self, machine: type[JournalMachine], examples: int) -> None:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=30,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )

    def test_sqlite(self) -> None:
        """On SQLite."""
        self.run_machine(JournalMachine, 30)

    def test_postgresql(self) -> None:
        """On PostgreSQL."""
        self.run_machine(OnPostgreSQL, 6)

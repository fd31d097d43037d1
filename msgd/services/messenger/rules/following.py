"""What the messenger does for rules: it follows the journal, and acts on what they ask for.

Any number of messengers follow under one name. Each reads on from the stored place, makes up its mind, and then, in
one transaction, moves the place and writes all that comes of it: jobs with their calls in the outbox, events collected
for digests, what the rules remember. Whoever finds the place moved by another rolls back and reads anew. So each event
is acted on once for each rule, whoever is killed when; what was committed is published by the outbox.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from msgd.broker.interface import Broker, Delivery, ReplyQueue
from msgd.broker.topology import CONTROL, HEAD_KEY, LIVE, wake_key
from msgd.clock import Clock, milliseconds, sleep
from msgd.errors import InvalidInput, Unavailable
from msgd.jobs.interface import Jobs, OutboxRow, Submission
from msgd.journal.interface import Journal, Page
from msgd.services.messenger.rules import store
from msgd.services.messenger.rules.acting import (
    DIGEST_EVENTS,
    Wanted,
    of_digest,
    wanted,
)
from msgd.services.messenger.rules.pace import next_ms, refilled
from msgd.services.messenger.rules.rule import FOLLOWER, Rule

_log = Logger()

PACE_S: Final = 0.2
"""Between two looks: each asks the database several questions, and at thousands of events a second finds few new ones
otherwise."""

POLL_S: Final = 1.0
"""Between two looks, where nobody says that something has happened; and after trouble."""

PAGE: Final = 200
"""Events at a time: their jobs stand in one transaction."""

PATTERNS_READ: Final = 32
"""Patterns that the journal is asked for; with more of them everything is read, and sorted here."""

DIGESTS: Final = 50
"""Digests at a time."""

ERROR_CHARACTERS: Final = 500

Readers = Callable[[store.Transaction, Collection[str]], Mapping[str, Collection[str]]]
"""Of topics, those that take membership to read, each with the subs that may (private rooms)."""


class _Moved(Exception):
    """Another messenger was faster, or somebody has changed a rule meanwhile: nothing is written, look again."""


class RulesFollower:
    """Acts on rules. A :class:`~msgd.work.parts.Part`."""

    def __init__(
        self,
        *,
        database: store.Database,
        journal: Journal,
        jobs: Jobs,
        broker: Broker,
        readers: Readers,
        reactor: Any,
        clock: Clock | None = None,
    ) -> None:
        """``reactor`` has the threads that render templates; ``clock`` tells the time, by default the reactor."""
        self._database = database
        self._journal = journal
        self._jobs = jobs
        self._broker = broker
        self._readers = readers
        self._reactor = reactor
        self._clock: Clock = clock or reactor
        self._place: int | None = None
        self._queue: ReplyQueue | None = None
        self._running: Deferred[None] | None = None
        self._nap: Deferred[None] | None = None
        self._news = False
        self._waits_for_news = False
        self._stopping = False

    # -- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to follow."""
        bindings = [(LIVE, HEAD_KEY), (CONTROL, wake_key(FOLLOWER))]
        self._queue = await self._broker.reply_queue(self._told, bindings=bindings, lost=self._wake)
        self._running = Deferred.fromCoroutine(self._run())

    async def stop(self) -> None:
        """Finish what is under way."""
        self._stopping = True
        self._wake()
        queue, self._queue = self._queue, None
        if queue is not None:
            await queue.close()
        running, self._running = self._running, None
        if running is not None:
            await running

    def _told(self, _: Delivery) -> None:
        self._wake()

    def _wake(self) -> None:
        self._news = True
        if self._nap is not None and (self._waits_for_news or self._stopping):
            self._nap.cancel()

    async def _run(self) -> None:
        while not self._stopping:
            self._news = False
            more = False
            try:
                more = await self.act()
            except _Moved:
                more = True
            except Unavailable as error:
                _log.warn("rules cannot be followed now, trying on: {error}", error=error)
                await sleep(self._clock, 0 if self._stopping else POLL_S)
                more = True  # it was waited already
            except Exception:  # nobody cancels this, only its nap: what is journaled must be acted on in the end
                _log.failure("rules could not be followed, trying on")
                await sleep(self._clock, 0 if self._stopping else POLL_S)
                more = True  # it was waited already
            if not more and not self._stopping:
                await self._rest(PACE_S)
                if not self._news and not self._stopping:
                    self._waits_for_news = True
                    await self._rest(POLL_S)
                    self._waits_for_news = False

    async def _rest(self, seconds: float) -> None:
        self._nap = sleep(self._clock, seconds)
        try:
            await self._nap
        except CancelledError:
            pass  # woken up
        self._nap = None

    # -- acting -------------------------------------------------------------------------------------------------------

    async def act(self) -> bool:
        """Act on the next events, and send the digests that are due; whether there is more at once. Raises
        Unavailable; _Moved, having written nothing."""
        await self._send_digests()
        if self._place is None:
            self._place = await self._journal.follower(FOLLOWER)
        head = await self._journal.head()
        if head.pos <= self._place:
            return False
        rules = await self._database.read(store.enabled)
        patterns = sorted({topic for rule in rules for topic in rule.topics})
        page = Page((), head.pos, False)
        if patterns:
            asked = patterns if len(patterns) <= PATTERNS_READ else ["#"]
            try:
                page = await self._journal.read(asked, after=self._place, limit=PAGE)
            except InvalidInput:  # one of them was saved when patterns could be otherwise
                page = await self._journal.read(["#"], after=self._place, limit=PAGE)
        found = await self._in_thread(wanted, rules, page.events)
        found = await self._readable(found)
        expected, self._place = self._place, None  # unknown, until the transaction has told
        rows = await self._database.write(partial(self._write, found, expected, page.upto))
        self._place = page.upto
        self._jobs.post(rows)
        return page.more

    async def _readable(self, found: Sequence[Wanted]) -> Sequence[Wanted]:
        """Without the events that the owners of their rules may not read (any more)."""
        topics = {one.recorded.event.topic for one in found}
        closed = await self._database.read(lambda transaction: self._readers(transaction, topics)) if topics else {}

        def may(one: Wanted) -> bool:
            topic, who = one.recorded.event.topic, one.rule.principal
            members = closed.get(topic)
            return who.may_read(topic) and (members is None or who.sub in members or who.administers(topic))

        return [one for one in found if may(one)]

    def _write(
        self, found: Sequence[Wanted], expected: int, pos: int, transaction: store.Transaction
    ) -> Sequence[OutboxRow]:
        """All that comes of a page of events, with the move of the place."""
        if not self._journal.advance(transaction, FOLLOWER, expected, pos):
            raise _Moved
        now_ms = milliseconds(self._clock)
        rules = store.locked(transaction, {one.rule.id for one in found})
        ordered: list[Submission] = []
        for one in found:
            rule = rules.get(one.rule.id)
            if rule is None or not rule.enabled:
                continue
            if rule.version != one.rule.version:
                raise _Moved
            rules[rule.id] = self._one(transaction, rule, one, ordered, now_ms)
        for rule in rules.values():
            store.change(transaction, rule)
        return self._jobs.submit_within(transaction, ordered)

    def _one(
        self, transaction: store.Transaction, rule: Rule, one: Wanted, ordered: list[Submission], now_ms: int
    ) -> Rule:
        """A locked rule after one more event."""
        if one.error:
            return replace(rule, error=one.error[:ERROR_CHARACTERS], error_ms=now_ms)
        if one.kept is not None:
            if rule.digest_count < DIGEST_EVENTS:
                store.collect(transaction, rule.id, one.recorded.pos, one.kept)
            due_ms = rule.digest_due_ms or now_ms + round(rule.digest_s * 1000)
            return replace(rule, digest_count=rule.digest_count + 1, digest_due_ms=due_ms)
        return sent(rule, one.jobs, ordered, now_ms)

    # -- digests ------------------------------------------------------------------------------------------------------

    async def _send_digests(self) -> None:
        now_ms = milliseconds(self._clock)
        for id_ in await self._database.read(partial(store.due, now_ms=now_ms, limit=DIGESTS)):
            await self._send_digest(id_)

    async def _send_digest(self, id_: str) -> None:
        def look(transaction: store.Transaction) -> tuple[Rule | None, Sequence[tuple[int, bytes]]]:
            return store.find(transaction, id_), store.collection(transaction, id_)

        rule, kept = await self._database.read(look)
        if rule is None or rule.digest_due_ms is None:
            return
        jobs: Sequence[Submission] = ()
        problem = ""
        if rule.enabled and kept:
            jobs, problem = await self._in_thread(of_digest, rule, kept)
        rows = await self._database.write(partial(self._write_digest, rule, jobs, problem))
        self._jobs.post(rows)

    def _write_digest(
        self, seen: Rule, jobs: Sequence[Submission], problem: str, transaction: store.Transaction
    ) -> Sequence[OutboxRow]:
        rule = store.find(transaction, seen.id, lock=True)
        if rule is None or rule.digest_due_ms is None:
            return []  # another messenger has sent it
        if (rule.version, rule.digest_count) != (seen.version, seen.digest_count):
            raise _Moved
        now_ms = milliseconds(self._clock)
        ordered: list[Submission] = []
        wait_ms = next_ms(rule.tokens, rule.tokens_ms, now_ms, rule.hourly)
        if jobs and wait_ms:
            # It has sent its hour's worth: what it has collected is told with what comes until then.
            store.change(transaction, replace(rule, digest_due_ms=now_ms + wait_ms))
            return []
        store.forget(transaction, rule.id)
        rule = replace(rule, digest_due_ms=None, digest_count=0)
        if problem:
            rule = replace(rule, error=problem[:ERROR_CHARACTERS], error_ms=now_ms)
        elif jobs:
            rule = sent(rule, jobs, ordered, now_ms)
        store.change(transaction, rule)
        return self._jobs.submit_within(transaction, ordered)

    def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call, *arguments)


def sent(rule: Rule, jobs: Sequence[Submission], ordered: list[Submission], now_ms: int) -> Rule:
    """A rule after one more message, whose ``jobs`` are added to ``ordered``, unless it has sent too many."""
    tokens = refilled(rule.tokens, rule.tokens_ms, now_ms, rule.hourly)
    if tokens < 1:
        return replace(rule, tokens=tokens, tokens_ms=now_ms, held_back=rule.held_back + 1)
    ordered += jobs
    return replace(
        rule,
        tokens=tokens - 1,
        tokens_ms=now_ms,
        fired=rule.fired + 1,
        fired_ms=now_ms,
        error="",
        error_ms=None,
    )

"""Dead letters: messages that nothing could be done with, and what becomes of the jobs they called for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import delete, select
from sqlalchemy import insert as plain_insert

from msgd.broker.topology import EVENTS, JOBS, job_type
from msgd.database import Transaction
from msgd.errors import InvalidInput, InvalidParams, InvalidTopic, NotFound, NotJson, Poison, TooLarge, UnknownType
from msgd.jobs import submitting, transitions
from msgd.jobs.asking import again
from msgd.jobs.batch import Batch, Step
from msgd.jobs.core import Core, raced
from msgd.jobs.interface import DeadLetter, Job, OutboxRow, Problem, Submission
from msgd.jobs.postings import OUTBOX_HEADER, Posting, kept, storable
from msgd.jobs.tables import dead_letters, job_types, outbox
from msgd.jobs.transitions import HELD, Input
from msgd.messages import json
from msgd.messages.dead_letters import without_traces
from msgd.messages.envelope import Message, from_bytes, to_bytes
from msgd.messages.topics import is_word
from msgd.messages.wire import RESERVED_REPLY

_INPUT_CODES: Final = frozenset(
    kind.code for kind in (InvalidInput, InvalidParams, InvalidTopic, NotJson, TooLarge, UnknownType)
)
"""What the reason begins with that a process gives for a message that could not become a job."""

SAME_WITHIN_MS: Final = 24 * 3600 * 1000
"""A letter with the same queue, id and slice is the same one come again: the broker redelivers for as long as it likes,
but a day is longer than any recorder stands still."""

NO_QUEUE_MS: Final = 5_000
"""After which a call that found no queue is tried again: its workers have only just been announced, or the broker was
emptied and they are about to declare their queues anew."""

_SLICE_HEADER: Final = "msgd-slice"


class _Dead(Struct, frozen=True):
    """A message to bury, as both databases can hold it."""

    message: Message
    reason: str
    queue: str  # empty: no queue took it
    exchange: str
    key: str

    @property
    def slice(self) -> int | None:
        return _number(self.message, _SLICE_HEADER)

    @property
    def called(self) -> str:
        """The job that it called for; empty if it called for none, or for one that nobody can name."""
        return self.message.message_id if self.exchange == JOBS and is_word(self.message.message_id) else ""


class DeadLetters(Core):
    """The part of :class:`~msgd.jobs.interface.Jobs` about dead letters."""

    async def bury(self, message: Message, *, reason: str, queue: str, exchange: str, key: str) -> None:
        dead = _Dead(message, *map(storable, (reason, queue, exchange, key)))

        def act(batch: Batch) -> None:
            job = self._settle(batch, dead) if exchange == JOBS else ""
            _keep(batch, dead, job)
            row = _number(message, OUTBOX_HEADER)
            if exchange == EVENTS and row is not None:  # else it would be published, and die, again and again
                batch.transaction.execute(delete(outbox).where(outbox.c.id == row, outbox.c.exchange == EVENTS))

        step = Step((dead.called,) if dead.called else (), act)

        def change(transaction: Transaction) -> Sequence[OutboxRow]:
            return self._perform(transaction, [step])[0].rows

        self._tell(await raced(lambda: self._database.write(change)))

    def _settle(self, batch: Batch, dead: _Dead) -> str:
        """Post the job again, or end it; its id, or an empty one if there is no job."""
        job = batch.get(dead.called)
        if job is None:
            # With a slice it was a job of ours, forgotten since: nobody waits for it.
            return self._failed_job(batch, dead) if dead.slice is None else ""
        if job.state not in HELD or job.slice != dead.slice:
            return job.id  # nothing depends on this message any more
        if not dead.queue:
            if _announced(batch.transaction, job.type):
                later_ms = batch.now_ms + NO_QUEUE_MS
                batch.apply(transitions.move(job, Input.REPOST, batch.now_ms, not_before_ms=later_ms))
            else:
                batch.apply(transitions.move(job, Input.REFUSE, batch.now_ms, error=_unknown_type(job.type)))
        elif transitions.is_poison(job):
            problem = kept(Problem(Poison.code, f"its message was given up: {dead.reason}"))
            batch.apply(transitions.move(job, Input.POISON, batch.now_ms, error=problem))
        else:
            batch.apply(transitions.move(job, Input.BURIED, batch.now_ms))
        return job.id

    def _failed_job(self, batch: Batch, dead: _Dead) -> str:
        """A job for a foreign client's message that could not become one, so that it is told, and shown."""
        type_ = job_type(dead.key)
        try:
            params = json.check(dead.message.body)
        except InvalidInput:
            params = b"null"
        reply_to = dead.message.reply_to
        submission = Submission(
            type=type_,
            params=params,
            id=dead.called,
            reply_to="" if reply_to.startswith(RESERVED_REPLY) else storable(reply_to),
            correlation_id=storable(dead.message.correlation_id),
        )
        submitted = submitting.submit(batch.transaction, [submission], batch.now_ms, self._make_id)[0]
        job: Job = submitted.job
        if submitted.created:
            batch.add(job)
            unknown = not dead.queue and not _announced(batch.transaction, type_)
            problem = _unknown_type(type_) if unknown else kept(_problem(dead.reason))
            batch.apply(transitions.move(job, Input.REFUSE, batch.now_ms, error=problem))
        return job.id

    async def dead_letters(self, *, before: int | None = None, limit: int = 50) -> Sequence[DeadLetter]:
        query = select(dead_letters).order_by(dead_letters.c.id.desc()).limit(limit)
        if before is not None:
            query = query.where(dead_letters.c.id < before)
        found = await self._database.read(lambda transaction: transaction.execute(query).all())
        return [_letter(row) for row in found]

    async def requeue_dead(self, letter: int) -> None:
        def change(transaction: Transaction) -> Sequence[OutboxRow]:
            dead = _taken(transaction, letter)

            def act(batch: Batch) -> None:
                job = batch.get(dead.job)
                if job is None:
                    batch.post(Posting("", dead.exchange, dead.key, _without_traces(dead.message)))
                elif job.ended:
                    again(batch, job.id)
                else:
                    batch.apply(transitions.move(job, Input.REPOST, batch.now_ms))

            return self._perform(transaction, [Step((dead.job,) if dead.job else (), act)])[0].rows

        self._tell(await self._database.write(change))

    async def drop_dead(self, letter: int) -> None:
        await self._database.write(lambda transaction: _taken(transaction, letter))


def _number(message: Message, header: str) -> int | None:
    value = message.headers.get(header)
    # Foreign clients write what they like; more than 63 bits no column holds.
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return value
    return None


def _problem(reason: str) -> Problem:
    """The problem in the reason that a worker process gave: ``<code>: <what is wrong>``."""
    code, separator, message = reason.partition(": ")
    if separator and code in _INPUT_CODES:
        return Problem(code, message)
    return Problem(InvalidInput.code, reason)


def _unknown_type(type_: str) -> Problem:
    return kept(Problem(UnknownType.code, f"no worker performs jobs of the type {type_!r}"))


def _announced(transaction: Transaction, type_: str) -> bool:
    found = transaction.execute(select(job_types.c.name).where(job_types.c.name == type_))
    return found.one_or_none() is not None


def _keep(batch: Batch, dead: _Dead, job: str) -> None:
    """Keep a letter, unless it is there already."""
    message_id = storable(dead.message.message_id)
    if message_id:
        same = select(dead_letters.c.id).where(
            dead_letters.c.message_id == message_id,
            dead_letters.c.queue == dead.queue,
            dead_letters.c.slice.is_not_distinct_from(dead.slice),
            dead_letters.c.time_ms > batch.now_ms - SAME_WITHIN_MS,
        )
        if batch.transaction.execute(same.limit(1)).one_or_none() is not None:
            return
    batch.transaction.execute(
        plain_insert(dead_letters).values(
            time_ms=batch.now_ms,
            reason=dead.reason,
            queue=dead.queue,
            exchange=dead.exchange,
            key=dead.key,
            message_id=message_id,
            slice=dead.slice,
            job=job,
            message=to_bytes(dead.message),
        )
    )


def _taken(transaction: Transaction, letter: int) -> DeadLetter:
    """Take a letter out of the table. Raises NotFound."""
    row = transaction.execute(delete(dead_letters).where(dead_letters.c.id == letter).returning(dead_letters))
    found = row.one_or_none()
    if found is None:
        raise NotFound(f"there is no dead letter {letter}", where="id")
    return _letter(found)


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(
        id=row.id,
        time_ms=row.time_ms,
        reason=row.reason,
        queue=row.queue,
        exchange=row.exchange,
        key=row.key,
        message=from_bytes(row.message),
        job=row.job,
    )


def _without_traces(message: Message) -> Message:
    headers = without_traces(message.headers)
    headers.pop(OUTBOX_HEADER, None)  # it gets a row of its own
    return replace(message, headers=headers)

"""One slice of mailing to a stretch of rows: some mails in hand, their events on the way, and the ledger kept.

Mails are made ready in batches: rows are read, their messages made, and all of a batch saved as *sending* in one step.
Each then waits for its turn, which is taken only for the time that a server has it. What came of it is told and saved
behind, in batches too, while the next one has the turn.

The order of effects, for each mail, and what a death in between leaves:

==========================================  ==========================================================================
message made, row saved as *sending*        queued as before / *sending*: made *unknown* by whoever comes next
handed over; the answer comes               *unknown*, sent or not
event emitted and confirmed                 *unknown*; its ``sent`` stands in the journal, before an ``unknown``
row saved with what came of it              final, or deferred
==========================================  ==========================================================================

A row that was *sending* is never handed over again, so nobody gets a mail twice; a row leaves *queued* and *deferred*
by being *sending* only, so nobody is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from msgd.database import Transaction
from msgd.errors import PeerError
from msgd.services.mailer.bell import Bell
from msgd.services.mailer.composing import Composed, Copy
from msgd.services.mailer.holding import call_if_resumed
from msgd.services.mailer.judging import judge
from msgd.services.mailer.ledger import Ended, Row, RowState
from msgd.services.mailer.means import Means, Saved, Stretch
from msgd.services.mailer.pace import EARLY_S
from msgd.services.mailer.pen import Pen
from msgd.services.mailer.ready import Mail, Ready
from msgd.services.mailer.replies import Accepted, Dropped, Outcome, Refused
from msgd.services.mailer.smtp import Unreachable
from msgd.services.mailer.store import closing, due, opening
from msgd.services.mailer.tally import Tally
from msgd.services.mailer.telling import Telling
from msgd.services.mailer.templates import ContentError, MailingError
from msgd.services.mailer.transaction import Envelope
from msgd.services.mailer.waiting import Waiting
from msgd.work import interface as work
from msgd.work.interface import Context, Continue, Done, Failed
from msgd.work.outage import wait_out

_log = Logger()

READ: Final = 200
"""Rows read at once, when fewer than half as many wait whose domain may be sent to."""

BATCH: Final = 50
"""Mails made ready together: some 5 ms of the process that makes them."""

PATIENCE_S: Final = 6.0
"""For mails in hand when the slice is over, before those whose end has not been sent are given up: they are put back,
and tried again. The others are waited for as long as there is time."""

HURRY_S: Final = 0.3
"""The same when the job is cancelled, whose worker has 0.7 s in all."""

PAUSED_S: Final = (0.5, 5.0)
"""Between two looks whether a paused mailing goes on, at first and at most; doubled each time. Who resumes it calls it:
the looks are for a pause that ends in another way, such as a database that is restored."""

HELD_S: Final = 2.0
"""A slice that has nothing to do for longer than that ends, and begins again then."""

AGAIN_S: Final = 5.0
"""After which a slice that got something done goes on, when its server went away meanwhile."""

AWAY_S: Final = (5.0, 600.0)
"""Between two tries to reach a server that is away, the first and the longest: a quarter of the time it is away."""


class Sending:
    """A slice. Call :meth:`run` once. A :class:`~msgd.services.mailer.hands.Hand`."""

    def __init__(self, context: Context[Any], stretch: Stretch, means: Means) -> None:
        self._context = context
        self._stretch = stretch
        self._means = means
        self._pen = Pen(
            context, stretch.id, stretch.job, means.clock, means.now_ms, means.writing, settled=self._settled
        )
        self._telling = Telling(context, means.telling, told=self._pen.end, failed=self._untold)
        self._bell = Bell(means.clock)
        self._waiting = Waiting(means.pace)
        self._making = 0  # mails that are being made ready
        self._ready = Ready()
        self._under_way: dict[str, Mail] = {}  # being handed over, by name
        self._followed: set[str] = set()  # of these, those whose place another has already
        self._unsettled = 0  # rows whose end is being saved
        self._cut_off: frozenset[str] = frozenset()  # names
        self._after = (0, 0)  # which queued and which deferred row reading goes on
        self._reading: Deferred[None] | None = None
        self._exhausted = False
        self._stopping = False
        self._trouble: Exception | None = None
        self._saved = Saved.of(context.state)
        self._number = 0
        self._tally = Tally({})
        self._ended = 0  # in this slice

    async def run(self) -> work.Outcome:
        """Mail until the slice is over or there is nothing left to do now. Raises SenderRefused.

        A server that cannot be reached is waited for, as long as a recipient is tried (``give_up``).
        """
        stretch, means = self._stretch, self._means
        over = self._context.over()
        over.addCallback(lambda _: self._stop()).addErrback(_ignore_cancel)
        means.hands.join(self)
        try:
            self._number = await means.press.open(stretch.mailing, f"{stretch.job}/{stretch.run}")
            await self._take_over()
            await means.way.ready()
            self._saved = Saved(tried=True)
            await self._go_on()
            await self._finish(PATIENCE_S, hard=False)
        except Unreachable as error:
            return self._away(error)
        except CancelledError:
            self._stop()
            await self._finish(HURRY_S, hard=True)
            raise
        finally:
            over.cancel()
            if self._reading is not None:
                self._reading.cancel()
            means.hands.leave(self)
            means.press.close(self._number)
        return await self._outcome()

    async def _outcome(self) -> work.Outcome:
        now_s, now_ms = self._means.clock.seconds(), self._means.now_ms()
        if self._pen.error is not None:
            raise self._pen.error
        if self._trouble is not None:
            if isinstance(self._trouble, PeerError) and self._ended:
                _log.info("{job} goes on later: {error}", job=self._context.job.id, error=self._trouble)
                return Continue(self._saved.state(), after_s=AGAIN_S)
            if isinstance(self._trouble, Unreachable):
                return self._away(self._trouble)
            raise self._trouble
        if self._pen.paused:
            return look_again(Saved(tried=True), partial(call_if_resumed, jobs=self._means.jobs, job=self._context.job))
        if self._stopping:
            return Continue(self._saved.state())
        left, found = await self._read(closing, now_ms=now_ms)
        if left.now:
            return Continue(self._saved.state(), after_s=self._waiting.later_s(now_s) - now_s)
        if left.deferred:
            return Continue(self._saved.state(), after_s=max(0.0, (left.next_ms - now_ms) / 1000))
        return Done(found)

    def _away(self, error: Unreachable) -> work.Outcome:
        """The server cannot be reached: nobody's fault, and no attempt of the job or of a recipient."""
        means = self._means
        now_ms = means.now_ms()
        since_ms = now_ms if self._saved.away_ms is None else self._saved.away_ms
        away_s = (now_ms - since_ms) / 1000
        if away_s >= means.patience.give_up_s:
            return Failed(error.code, f"the server cannot be reached since {away_s / 3600:.0f} hours: {error.message}")
        self._show_progress(waiting=error.message)
        pause_s = min(max(AWAY_S[0], away_s / 4), AWAY_S[1])
        return Continue(Saved(tried=True, away_ms=since_ms).state(), after_s=pause_s * (0.75 + means.jitter() / 2))

    # -- the loop -----------------------------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """What somebody had in hand who died: nobody knows whether it was sent."""
        found, rows = await self._read(opening)
        self._tally = Tally(found)
        self._show_progress()
        self._means.hands.take(len(rows))
        self._means.hands.pass_over(len(rows))
        for row in rows:
            self._end(row, Ended(row.row, RowState.UNKNOWN, row.attempt, None, "the mailer died while it was sending"))
        while self._unsettled:
            await self._bell.wait()
        if self._pen.error is not None:
            raise self._pen.error

    async def _go_on(self) -> None:
        means = self._means
        while not self._stopping:
            self._read_on()
            self._make_ready()
            means.hands.give_turns()
            if self._stopping or (self._exhausted and not self._waiting and not self._busy):
                return
            now_s = means.clock.seconds()
            soonest_s = self._soonest_s(now_s)
            wait_s = None if soonest_s is None else max(0.0, soonest_s - now_s)
            if self._exhausted and not self._busy and wait_s is not None and wait_s > HELD_S:
                return
            await self._bell.wait(wait_s)

    @property
    def _busy(self) -> bool:
        """Whether there is something in hand."""
        return bool(self._making or self._ready or self._under_way or self._unsettled)

    @property
    def _is_idle(self) -> bool:
        """Whether nothing is ahead of its turn."""
        return not (self._making or self._ready)

    @property
    def wanting(self) -> int:
        return len(self._waiting)

    def offer(self) -> None:
        self._bell.ring()

    def _read_on(self) -> None:
        if self._reading is None and not self._exhausted and self._waiting.open < READ // 2:
            self._reading = Deferred.fromCoroutine(self._read_more())
            self._reading.addErrback(self._broken).addBoth(self._have_read)

    async def _read_more(self) -> None:
        queued, deferred = self._after
        rows = await self._read(due, after=queued, after_deferred=deferred, now_ms=self._means.now_ms(), limit=READ)
        for row in rows:
            if row.state == RowState.QUEUED:
                queued = row.row
            else:
                deferred = row.row
        self._after = queued, deferred
        self._exhausted = not rows
        self._waiting.add(rows)

    def _have_read(self, _: object) -> None:
        self._reading = None
        self._bell.ring()

    def _soonest_s(self, now_s: float) -> float | None:
        """When there is something to do, if that is a matter of time, and not of something that rings the bell."""
        pace = self._means.pace
        times: list[float | None] = []
        if self._ready:
            times.append(self._ready.soonest_s(now_s))
            times.append(now_s + pace.overall.wait_s(now_s))
        if self._waiting:
            times.append(self._waiting.soonest_s(now_s))
            times.append(now_s + pace.overall.wait_s(now_s) - EARLY_S)
        return min((time for time in times if time is not None and time > now_s), default=None)

    def _broken(self, failure: Failure) -> None:
        """Not one mail but the slice has failed."""
        if not failure.check(CancelledError) and self._trouble is None and failure.value is not self._pen.error:
            self._trouble = failure.value if isinstance(failure.value, Exception) else RuntimeError(str(failure.value))
        self._stop()

    def _stop(self) -> None:
        """Begin nothing more. What is ready is put back at once: it may be the next slice's."""
        self._stopping = True
        self._put_back_ready(self._ready.take_all())
        self._bell.ring()

    async def _finish(self, patience_s: float, *, hard: bool) -> None:
        """Wait for what is in hand. ``hard``: give up in the end also what may be sent already, as unknown."""
        clock, way = self._means.clock, self._means.way
        hurried = False
        until_s = clock.seconds() + patience_s
        while self._busy:
            left_s = until_s - clock.seconds()
            if left_s <= 0:
                if hard and hurried:
                    return  # the database does not answer: rows stay *sending*, and become unknown
                self._cut_off = frozenset(self._under_way)
                way.hurry(self._cut_off, hard=hard)
                hurried = True
                until_s = clock.seconds() + patience_s
            else:
                await self._bell.wait(left_s)

    # -- made ready ----------------------------------------------------------------------------------------------------

    def _make_ready(self) -> None:
        """Take as many in hand as may be and are worth it."""
        means = self._means
        while not self._stopping and self._waiting and (free := means.hands.free_for(idle=self._is_idle)) > 0:
            now_s = means.clock.seconds()
            if means.pace.overall.wait_s(now_s) > EARLY_S:
                return
            rows = self._waiting.choose(min(BATCH, free), now_s)
            if not rows:
                return
            means.hands.take(len(rows))
            self._making += len(rows)
            Deferred.fromCoroutine(self._make(rows)).addErrback(self._broken)

    async def _make(self, rows: Sequence[Row]) -> None:
        """Make mails, and save their rows as *sending*."""
        left = {row.row: row for row in rows}  # of which nothing has become yet
        clock, hands = self._means.clock, self._means.hands
        began_s = clock.seconds()
        try:
            made = await self._messages(left)
            if self._stopping:
                return
            begun = await self._pen.begin([row for row, _, _ in made])
            hands.made_ready(clock.seconds() - began_s)
            for row, message, name in made:
                if row.row in begun.suppressed:
                    reason = begun.suppressed[row.row]
                    self._end_unsent(left, row, Ended(row.row, RowState.SUPPRESSED, row.attempt + 1, None, reason))
                elif row.row in begun.rows:  # else another job has it: a part that was run again by itself
                    del left[row.row]
                    envelope = Envelope(self._stretch.sender(row), row.key, message)
                    self._ready.put(Mail(row, envelope, name, self._means.pace.domain(row.domain)))
                    self._making -= 1
            if self._stopping:
                self._stop()
        finally:
            self._let_go(left.values())
            hands.give(len(left))
            hands.give_turns()
            self._bell.ring()

    async def _messages(self, left: dict[int, Row]) -> list[tuple[Row, bytes, str]]:
        """The messages of these rows, and their names; rows without one are ended, and ``left`` no more."""
        asked = []
        for row in list(left.values()):
            if row.mailable:
                copy = self._stretch.copy(row)
                asked.append((row, copy.message_id.partition("@")[0], self._message(copy)))
            else:
                self._end_unsent(left, row, _not_sent(row, row.reply))
        made = []
        trouble: Exception | None = None
        for row, name, message in asked:
            try:
                made.append((row, await message, name))
            except MailingError as error:  # of all of them: they stay queued
                trouble = error
            except ContentError as error:
                self._end_unsent(left, row, _not_sent(row, str(error)))
            except Exception as error:  # a fault of one, with which the slice ends
                trouble = error
        if trouble is not None:
            raise trouble
        return made

    def _message(self, copy: Copy) -> Deferred[bytes]:
        made = self._means.press.made(self._number, copy).addCallback(_message_of)
        return made if self._means.sign is None else made.addCallback(self._means.sign)

    def _end_unsent(self, left: dict[int, Row], row: Row, ended: Ended) -> None:
        self._let_go([left.pop(row.row)])
        self._end(row, ended)

    def _let_go(self, rows: Collection[Row]) -> None:
        """These will have no turn."""
        for row in rows:
            self._means.pace.domain(row.domain).ready -= 1
        self._making -= len(rows)
        self._means.hands.pass_over(len(rows))

    def _put_back_ready(self, mails: Sequence[Mail]) -> None:
        for mail in mails:
            mail.domain.ready -= 1
        self._means.hands.pass_over(len(mails))
        self._put_back([mail.row for mail in mails])

    # -- handed over ---------------------------------------------------------------------------------------------------

    def begin_one(self) -> bool:
        means = self._means
        if not self._ready:
            return False
        now_s = means.clock.seconds()
        if means.pace.overall.wait_s(now_s) > 0:
            self._bell.ring()  # it looks how long
            return False
        mail = self._ready.take(now_s)
        if mail is None:
            held = self._ready.take_held(now_s)
            self._put_back_ready(held)
            for one in reversed(held):
                self._waiting.put_back(one.row)
            self._bell.ring()
            return False
        mail.domain.ready -= 1
        mail.domain.begin(now_s)
        means.pace.overall.take(now_s)
        means.hands.begin()
        self._under_way[mail.name] = mail
        delivery = means.way.deliver(mail.envelope, mail.name, pass_on=partial(self._pass_on, mail))
        delivery.addCallbacks(self._delivered, self._undelivered, callbackArgs=(mail,), errbackArgs=(mail,))
        delivery.addErrback(self._broken)
        return True

    def _pass_on(self, mail: Mail) -> None:
        """A mail needs only its answer: the next one may follow it, in its place."""
        mail.domain.end()
        if self._means.hands.pass_on():
            self._followed.add(mail.name)
        else:
            mail.domain.go_on()

    def _delivered(self, outcome: Outcome, mail: Mail) -> None:
        means = self._means
        if isinstance(outcome, Accepted):
            mail.domain.taken()
        elif isinstance(outcome, Refused) and outcome.pushes_back:
            mail.domain.pushed_back(means.clock.seconds())
        if isinstance(outcome, Dropped) and mail.name in self._cut_off:
            self._put_back([mail.row])
        else:
            self._end(mail.row, judge(mail.row, outcome, means.now_ms(), means.jitter(), means.patience))
        self._over(mail)

    def _undelivered(self, failure: Failure, mail: Mail) -> None:
        """The server is away, or takes nothing from us: nothing of this recipient's."""
        self._broken(failure)
        if failure.check(PeerError):
            self._put_back([mail.row])
        else:  # who knows: it stays *sending*
            self._means.hands.give(1)
        self._over(mail)

    def _over(self, mail: Mail) -> None:
        del self._under_way[mail.name]
        followed = mail.name in self._followed
        if followed:
            self._followed.remove(mail.name)
        else:
            mail.domain.end()
        self._means.hands.end(followed=followed)
        if self._stopping:
            self._bell.ring()

    # -- what came of it ----------------------------------------------------------------------------------------------

    def _end(self, row: Row, ended: Ended) -> None:
        """Tell what came of it, then save it."""
        self._tally.move(row.state, ended.state)
        self._ended += 1
        self._unsettled += 1
        self._telling.tell(row, ended)

    def _untold(self, failure: Failure, count: int) -> None:
        """The rows stay *sending*."""
        self._broken(failure)
        self._settled(count)

    def _put_back(self, rows: Sequence[Row]) -> None:
        if rows:
            self._unsettled += len(rows)
            self._pen.put_back(rows)

    def _settled(self, count: int) -> None:
        """So many have ended, or are put back, and it is saved."""
        self._unsettled -= count
        self._means.hands.give(count)
        self._show_progress()
        if (self._pen.paused or self._pen.error is not None) and not self._stopping:
            self._stop()
        if self._stopping or not self._unsettled:
            self._bell.ring()

    def _show_progress(self, **more: Any) -> None:
        self._context.progress(**self._tally.progress, **more)

    async def _read(self, query: Callable[..., Any], **more: Any) -> Any:
        """What ``query`` says of the rows of this slice, if the claim is still current."""
        stretch = self._stretch
        asked = partial(query, mailing=stretch.id, first=stretch.first, last=stretch.last, **more)
        return await wait_out(self._means.clock, partial(self._context.checkpoint, asked, confirmed=True))


def look_again(saved: Saved, write: Callable[[Transaction], object]) -> Continue:
    """The mailing is paused: put off until it is resumed (what that needs is in ``write``), or to look for itself."""
    pause_s = min(PAUSED_S[0] * 2.0 ** min(saved.looks, 10), PAUSED_S[1])
    return Continue(saved.state(looks=saved.looks + 1), write=write, after_s=pause_s)


def _not_sent(row: Row, why: str) -> Ended:
    return Ended(row.row, RowState.BOUNCED, row.attempt + 1, None, f"not sent: {why}")


def _message_of(composed: Composed) -> bytes:
    return composed.message


def _ignore_cancel(failure: Failure) -> None:
    failure.trap(CancelledError)

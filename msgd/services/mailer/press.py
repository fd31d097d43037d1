"""Has messages made in a process of its own, which is killed and replaced when one of them takes too long.

What the process was at when it ended is tried once more, alone, in a new one: it may not have been at fault. Only what
ends a process again is given up; the others never notice. Mailings take turns (``turns``), and one that has taken the
process with it several times is given up as a whole.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger

from msgd.clock import DelayedCall
from msgd.errors import Unavailable
from msgd.services.mailer.composing import Composed, Copy, Mailing
from msgd.services.mailer.press_life import Life
from msgd.services.mailer.press_process import (
    TURN_S,
    Answer,
    Begun,
    Drop,
    Later,
    Made,
    Make,
    Missing,
    Ready,
    Set,
    Wrong,
)
from msgd.services.mailer.templates import ContentError, MailingError
from msgd.services.mailer.turns import Line, Turns

_log = Logger()

PATIENCE_S: Final = 5.0
"""For one message, which takes a millisecond: also on a machine with everything else to do."""

AT_ONCE: Final = 32
"""Messages of one request: a fraction of a turn, unless they are slow ones."""

AHEAD: Final = 2
"""Requests under way: the process has the next one when it has done with one."""

FAULTS: Final = 3
"""Recipients of a mailing that may take the process with them, each twice: it is not they who are at fault then."""

HOLD_S: Final = 2.0
"""For others to have the press to themselves, after a mailing has ended a process twice: they ask for a few messages at
a time, and would wait for all that it does in between."""

REMEMBERED: Final = 1000
"""Mailings whose faults are remembered, the latest."""

STARTS: Final = 3
"""Processes that may end one after the other before they have begun."""

PROGRAM: Final = (sys.executable, "-m", "msgd.services.mailer.press_process")

_FAULT: Final = "the template takes too long, or too much memory"
_FAULTY: Final = f"{_FAULT}, for {FAULTS} recipients already: mend it, then run the job again"


class _Order(Struct):
    """Something to be made, and who waits for it."""

    copy: Raw | None  # None: the mailing itself is to be taken in hand
    made: Deferred[Any]
    suspected: bool = False  # a process has ended over it


class _Work(Line[_Order]):
    """A mailing in hand."""

    def __init__(self, number: int, name: str, mailing: Raw) -> None:
        super().__init__()
        self.number = number
        self.name = name
        self.mailing = mailing
        self.users = 0  # who have opened it
        self.is_set = False  # in the process that there is
        self.failed = ""  # why nothing of it can be made


class _Request(Struct):
    """A request under way, and what has not been answered of it."""

    work: _Work
    orders: deque[_Order]


class Press:
    """The process, started when it is first needed. A :class:`~msgd.work.parts.Part`."""

    def __init__(self, reactor: Any, *, patience_s: float = PATIENCE_S, program: Sequence[str] = PROGRAM) -> None:
        self._reactor = reactor
        self._patience_s = patience_s
        self._program = program
        self._life: Life | None = None
        self._begun = False
        self._starts = 0  # in vain, one after the other
        self._works: dict[int, _Work] = {}
        self._turns: Turns[_Work] = Turns()
        self._requests: deque[_Request] = deque()
        self._suspect: tuple[_Work, _Order] | None = None
        self._faults: OrderedDict[str, int] = OrderedDict()  # by the name of the mailing
        self._number = 0
        self._stopped = False
        self._timer: DelayedCall | None = None  # of who is held

    async def start(self) -> None:
        """Nothing to start yet."""

    async def stop(self) -> None:
        """End the process, and tell whoever waits."""
        self._stopped = True
        life, self._life = self._life, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._fail_all(Unavailable("the mailer is stopping"))
        if life is not None:
            await life.end()

    async def open(self, mailing: Mailing, name: str = "") -> int:
        """Take a mailing in hand; the number under which its messages are made. Raises ContentError, Unavailable.

        ``name``: what is opened under the same name shares one turn, and its faults are counted together. :meth:`close`
        it, once for each time it was opened, when nothing more is to be made.
        """
        if self._faults.get(name, 0) >= FAULTS:
            raise MailingError(_FAULTY)
        encoded = _encoded(mailing, "the mail")
        work = next((one for one in self._works.values() if name and one.name == name and not one.failed), None)
        if work is None or work.mailing != encoded:
            self._number += 1
            work = self._works[self._number] = _Work(self._number, name, encoded)
            self._turns.join(work)
        work.users += 1
        try:
            await self._ask(work, None)
        except BaseException:  # a cancellation too: nobody else would close it
            self.close(work.number)
            raise
        return work.number

    def close(self, number: int) -> None:
        """Forget a mailing, unless somebody else has it open too. Harmless for one that is forgotten."""
        work = self._works.get(number)
        if work is None:
            return
        work.users -= 1
        if work.users > 0:
            return
        del self._works[number]
        self._turns.leave(work)
        if work.is_set and self._life is not None:
            self._life.send(Drop(number))
        _fail(work.abandon(), Unavailable("the mailing was closed"))

    async def make(self, number: int, copy: Copy) -> Composed:
        """The message of one recipient. Raises ContentError, MailingError if nobody's can be made, Unavailable."""
        return await self.made(number, copy)

    def made(self, number: int, copy: Copy) -> Deferred[Composed]:
        """The same, asked for at once, for who makes many."""
        work = self._works.get(number)
        if work is None:
            return fail(Unavailable("the mailing is closed"))
        if work.failed:
            return fail(MailingError(work.failed))
        try:
            encoded = _encoded(copy, f"the variables of row {copy.row}")
        except ContentError as error:
            return fail(error)
        return self._ask(work, encoded)

    # -- what is next -------------------------------------------------------------------------------------------------

    def _ask(self, work: _Work, copy: Raw | None) -> Deferred[Any]:
        made: Deferred[Any] = Deferred(lambda _: None)  # when it is cancelled, the answer is dropped
        if self._stopped:
            made.errback(Unavailable("the mailer is stopping"))
        else:
            self._turns.put(work, _Order(copy, made))
            self._go_on()
        return made

    def _go_on(self) -> None:
        """Give the process what is next."""
        if self._stopped:
            return
        if self._life is None:
            if self._suspect is not None or self._next() is not None:
                self._life = Life(
                    self._reactor,
                    self._program,
                    answered=self._answered,
                    ended=self._ended,
                    patience_s=self._patience_s,
                )
        elif self._begun and self._suspect is not None:
            if not self._requests:
                self._give(self._suspect[0], [self._suspect[1]])
        elif self._begun:
            while len(self._requests) < AHEAD and (work := self._next()) is not None:
                self._give(work, work.take(AT_ONCE, TURN_S))

    def _next(self) -> _Work | None:
        """Whose turn it is; if only held ones wait, it is looked again when they may."""
        now_s = self._reactor.seconds()
        found = self._turns.next(now_s)
        until_s = self._turns.held_until_s
        if found is None and until_s is not None and self._timer is None:
            self._timer = self._reactor.callLater(max(0.0, until_s - now_s), self._hold_no_more)
        return found

    def _hold_no_more(self) -> None:
        self._timer = None
        self._go_on()

    def _give(self, work: _Work, orders: Sequence[_Order]) -> None:
        """Ask the process for these, which have been taken."""
        copies = []
        for order in orders:
            if order.made.called:  # cancelled
                work.drop()
            elif order.copy is not None:
                copies.append(order)
            elif work.is_set:
                work.drop()
                order.made.callback(None)
            else:
                self._set(work, order)
        if copies:
            if not work.is_set:  # in this process: it was in others
                work.take_more()
                self._set(work, _Order(None, Deferred(lambda _: None)))
            self._send(work, Make(work.number, [order.copy for order in copies if order.copy is not None]), copies)

    def _set(self, work: _Work, order: _Order) -> None:
        work.is_set = True
        self._send(work, Set(work.number, work.mailing), [order])

    def _send(self, work: _Work, request: Set | Make, orders: Sequence[_Order]) -> None:
        assert self._life is not None
        self._requests.append(_Request(work, deque(orders)))
        self._life.send(request)

    # -- what comes back ----------------------------------------------------------------------------------------------

    def _answered(self, answers: Sequence[Answer]) -> None:
        later: list[tuple[_Work, _Order]] = []
        for answer in answers:
            if isinstance(answer, Begun):
                self._begun, self._starts = True, 0
                continue
            request = self._requests[0]
            order = request.orders.popleft()
            if not request.orders:
                self._requests.popleft()
            if self._suspect is not None and self._suspect[1] is order:
                self._suspect = None
            if isinstance(answer, Later | Missing):
                request.work.is_set = request.work.is_set and isinstance(answer, Later)
                later.append((request.work, order))
            else:
                self._settle(request.work, order, answer)
        _put_back(later)
        self._go_on()

    def _settle(self, work: _Work, order: _Order, answer: Ready | Made | Wrong) -> None:
        work.took(answer.took_s, usual=order.copy is not None)
        if isinstance(answer, Wrong):
            if not order.made.called:
                order.made.errback(ContentError(answer.reason))
            if order.copy is None:
                self._spoil(work, answer.reason)
        elif not order.made.called:
            order.made.callback(answer.composed if isinstance(answer, Made) else None)

    def _spoil(self, work: _Work, reason: str) -> None:
        """Nothing of a mailing can be made, whoever asks."""
        work.failed = reason
        orders = [order for request in self._requests if request.work is work for order in request.orders]
        _fail([*orders, *work.abandon()], MailingError(reason))

    # -- when the process ends ----------------------------------------------------------------------------------------

    def _ended(self, life: Life, reason: str) -> None:
        """Before its time: what it was at is tried once more, the rest is made by the next process."""
        if life is not self._life:
            return
        _log.warn("the process that makes messages ended: {reason}", reason=reason)
        begun, self._begun, self._life = self._begun, False, None
        for work in self._works.values():
            work.is_set = False
        left = [(request.work, order) for request in self._requests for order in request.orders]
        self._requests.clear()
        if not begun:
            self._starts += 1
            if self._starts >= STARTS:
                self._starts = 0
                self._fail_all(Unavailable(f"the process that makes messages cannot be started: {reason}"))
                return
        blamed = self._judge(*left[0], life.at_it_s) if left else None
        _put_back(left[1:])
        self._go_on()
        # Last: whoever is told may ask for more at once.
        if blamed is not None:
            self._blame(*blamed)

    def _judge(self, work: _Work, order: _Order, seconds: float) -> tuple[_Work, _Order] | None:
        """What the process was at when it ended: to be tried once more, or at fault."""
        self._suspect = None
        if order.suspected or order.made.called:
            work.took(seconds, usual=order.copy is not None)
            return None if order.made.called else (work, order)
        work.had_s += seconds
        order.suspected = True
        self._suspect = (work, order)
        return None

    def _blame(self, work: _Work, order: _Order) -> None:
        if order.copy is None:
            order.made.errback(ContentError(_FAULT))
            self._spoil(work, _FAULT)
            return
        if work.name:
            self._faults[work.name] = self._faults.get(work.name, 0) + 1
            self._faults.move_to_end(work.name)
            if len(self._faults) > REMEMBERED:
                self._faults.popitem(last=False)
        if self._faults.get(work.name, 0) >= FAULTS:
            order.made.errback(MailingError(_FAULTY))
            self._spoil(work, _FAULTY)
        else:
            work.held_until_s = self._reactor.seconds() + HOLD_S
            order.made.errback(ContentError(_FAULT))

    def _fail_all(self, error: Unavailable) -> None:
        orders = [order for request in self._requests for order in request.orders]
        self._requests.clear()
        if self._suspect is not None:
            orders.append(self._suspect[1])
            self._suspect[0].drop()
            self._suspect = None
        for work in self._works.values():
            orders += work.abandon()
        _fail(orders, error)


def _encoded(what: Mailing | Copy, words: str) -> Raw:
    """As it travels to the process. Raises ContentError."""
    try:
        return Raw(msgspec.msgpack.encode(what))
    except (ValueError, OverflowError, RecursionError) as error:  # half a character, a number of more than 64 bits
        raise ContentError(f"{words} cannot be used: {error}") from None


def _put_back(orders: Sequence[tuple[_Work, _Order]]) -> None:
    """They are the next of their mailings again, in this order."""
    for work, order in reversed(orders):
        if work.failed:
            work.drop()
        else:
            work.put_back(order)


def _fail(orders: Sequence[_Order], error: Exception) -> None:
    for order in orders:
        if not order.made.called:
            order.made.errback(error)

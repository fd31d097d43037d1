"""What is released is offered to all whom it concerns: in order, and a while at a time, as thousands of sockets take
longer than the reactor may be held."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Set
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary

from msgspec import Struct
from twisted.logger import Logger

from msgd.clock import Clock, DelayedCall
from msgd.notifier.audience import Group
from msgd.notifier.direct import Cork
from msgd.notifier.items import Item, Stretch
from msgd.notifier.squads import Squad, Squads, Straight

_log = Logger()

TURN_S: Final = 0.02
"""After which others have their turn: enough for a thousand sockets, and well below the 50 ms that nothing may take."""

ROUNDS: Final = 1000
"""That may wait: one each of recorded events, if transient ones are between them."""

BETWEEN_LOOKS: Final = 64
"""Listeners between two looks at the time."""


class Listener(Protocol):
    """Someone to whom live events are offered."""

    @property
    def patterns(self) -> tuple[str, ...]:
        """What it listens to: topics and patterns; they stay the same."""

    @property
    def label(self) -> str:
        """How its outlet knows it."""

    squad: Squad[Any] | None

    def offer(self, items: Stretch) -> Straight | None:
        """Recorded events that match, each once, in order. Returns its outlet, if what comes next may be sent straight
        to that, together with what is for others who have been shown these."""

    def stands(self, pos: int, seq: int) -> None:
        """It has left its squad, and has been shown everything up to here."""

    def broke(self) -> None:
        """It is open what it was sent: it shows no more."""

    def show_transient(self, items: Stretch) -> None:
        """Events that are not kept."""

    def renewed(self) -> None:
        """The journal has another epoch, or has gone back: ask it where to go on."""


Offers = dict[Group[Listener], list[Item]]


class _Round(Struct, frozen=True):
    """What is offered to each group. ``after``: until that has been done, only what lies up to there is known to have
    been offered to all; None: transient events, which have no place."""

    offers: Offers
    after: int | None


class Showing:
    """The rounds that are under way, or wait."""

    def __init__(
        self,
        cork: Cork,
        clock: Clock,
        waiting: Callable[[], Set[int]],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """``waiting`` tells to which descriptors something is still to be written; ``now_s`` measures how long a turn
        takes."""
        self._cork = cork
        self._clock = clock
        self._waiting = waiting
        self._now_s = now_s
        self._rounds: deque[_Round] = deque()
        self._rest: Iterator[None] = iter(())  # of the first round
        self._forgotten = 0  # times
        self._next: DelayedCall | None = None
        self._squads: WeakKeyDictionary[Group[Listener], Squads[Listener]] = WeakKeyDictionary()

    def forget(self) -> None:
        """What has not been offered yet is not to be: all ask the journal where to go on, or the process stops."""
        self._rounds.clear()
        self._forgotten += 1
        if self._next is not None and self._next.active():
            self._next.cancel()
        self._next = None

    def recorded(self, offers: Offers, after: int) -> None:
        """Offer recorded events, all of which lie behind ``after``. What waits already is joined, so that it leaves in
        one write a connection: the slower the rounds, the more each takes."""
        waiting = self._rounds[-1] if len(self._rounds) > 1 else None
        if waiting is None or waiting.after is None:
            self._add(_Round(offers, after))
            return
        for group, items in offers.items():
            waiting.offers.setdefault(group, []).extend(items)

    def transient(self, offers: Offers) -> None:
        """Show events that are not kept, after all that was to be offered before; or lose them, if that is much."""
        if len(self._rounds) < ROUNDS:
            self._add(_Round(offers, None))

    def offered(self, released: int) -> int:
        """Of what has been released up to there: up to where it has been offered to everybody."""
        return next((one.after for one in self._rounds if one.after is not None), released)

    # -- turns --------------------------------------------------------------------------------------------------------

    def _add(self, round_: _Round) -> None:
        if not round_.offers:
            return
        self._rounds.append(round_)
        if len(self._rounds) == 1:
            self._rest = self._serve(round_)
            self._turn()

    def _turn(self) -> None:
        self._next = None
        until_s = self._now_s() + TURN_S
        corked = any(len(one.offers) > 1 for one in self._rounds)
        if corked:
            self._cork.hold()  # a connection may have readers in several groups
        try:
            while self._rounds:
                forgotten = self._forgotten
                for _ in self._rest:
                    if self._now_s() >= until_s:
                        self._next = self._clock.callLater(0, self._turn)
                        return
                if self._forgotten != forgotten:
                    return  # by one of those who were served; what has come since is under way
                self._rounds.popleft()
                if self._rounds:
                    self._rest = self._serve(self._rounds[0])
        finally:
            if corked:
                self._cork.release()

    def _serve(self, round_: _Round) -> Iterator[None]:
        """Offer to one after the other, pausing now and then."""
        forgotten = self._forgotten
        served = 0
        for group, some in round_.offers.items():
            items = Stretch(some)
            squads = self._squads_of(group, round_)
            for squad in squads or ():
                if self._forgotten != forgotten:
                    return
                try:
                    squad.advance(items, self._waiting())
                except Exception:  # it has told its members; those of others must not lose their events
                    _log.failure("readers of {patterns} could not be served", patterns=group.patterns)
                yield
            apart = list(group.listeners) if squads is None else squads.apart(group.listeners)
            for listener in apart:
                if self._forgotten != forgotten:
                    return
                if listener in group.listeners:  # it may have gone in the meantime
                    try:
                        if round_.after is None:
                            listener.show_transient(items)
                        else:
                            outlet = listener.offer(items)
                            if outlet is not None and squads is not None:
                                squads.join(listener, outlet, items)
                    except Exception:  # one reader's mistake must not cost the others their events
                        _log.failure("a reader of {patterns} could not be served", patterns=group.patterns)
                served += 1
                if not served % BETWEEN_LOOKS:
                    yield

    def _squads_of(self, group: Group[Listener], round_: _Round) -> Squads[Listener] | None:
        """The squads to which this round may be offered as such. There are none in one of several groups, or in a turn
        that has one: what those are due leaves in one write a connection, which may have readers in each."""
        if round_.after is None:
            return None
        if len(round_.offers) > 1 or self._cork.held:
            squads = self._squads.pop(group, None)
            if squads is not None:
                squads.dissolve()
            return None
        return self._squads.setdefault(group, Squads())

"""Who is present where, merged over all notifiers. Pure: messages in, messages out, time passed in.

Every incarnation is the one writer of its own pairs (topic, sub). It numbers its changes and says each at once; its
beat carries the number, and a digest of what stands. Whoever finds another number or digest than the own asks, and is
told everything anew. So what a lost message does is mended at the next beat; an incarnation that is silent for three
beats is gone, with all its pairs. There is nothing to agree on: a topic's members are the union of what all say.

A leave is told after :data:`DEBOUNCE_S`, unless the same comes back; a notifier that says goodbye keeps its members so
long, in which they turn up elsewhere. Reloads, short cuts and rolling restarts show no leave, so.

Within :data:`SETTLED_S` of the last lost message, killed notifier or leave all views are the same, and true.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, TypeVar

from msgspec import Struct

from msgd.notifier.presence.said import AnySaid, Ask, Beat, Bye, Change, Pair, Said, State

T = TypeVar("T")

TICK_S: Final = 1.0
"""How often :meth:`Roster.tick` is to be called."""

BEAT_TICKS: Final = 2
"""Ticks between two beats: a beat every 2 s costs nothing, and three of them are seconds."""

SILENT_S: Final = 6.5
"""After which a silent incarnation is gone: three beats, and half a second for the fourth to be late."""

DEBOUNCE_S: Final = 5.0
"""For which a leave is not told: a reload, or a phone that changes its network, is back by then."""

SETTLED_S: Final = 12.0
"""The bound: silence is noticed (8 s), or a leave told (6 s); the next beat, question and answer follow (2 s)."""

LONGEST_TICK_S: Final = 2 * TICK_S
"""What one tick counts at most: a clock that was set, or a process that stood still, is no silence of others."""

PAIRS: Final = 2000
"""In one message: some 100 KB, with names as they are."""

MEMBERS_SHOWN: Final = 1000
"""Names in one answer: no page shows more, and a count says how many there are."""


class Output(Struct, frozen=True):
    """What follows from the calls since the last one: messages to send, in order, and topics whose members changed."""

    messages: Sequence[AnySaid]
    topics: frozenset[str]


class _Peer:
    """Another incarnation, as far as it has told."""

    __slots__ = ("asked_s", "bye_s", "digest", "heard_s", "here", "n", "parts")

    def __init__(self, now_s: float) -> None:
        self.n = 0
        self.digest = 0
        self.here: set[Pair] = set()
        self.heard_s = now_s
        self.asked_s = float("-inf")
        self.bye_s: float | None = None
        self.parts: list[State] = []


class Roster:
    """One notifier's view of everybody."""

    def __init__(self, me: str, now_s: float) -> None:
        """``me``: the name of this incarnation, unlike any other that ever was."""
        self.me = me
        self._clock_s = now_s
        self._time_s = 0.0  # what ticks have counted: never jumps
        self._ticks = 0
        self._doors: dict[Pair, int] = {}  # how many of our doors each has open
        self._leaving: dict[Pair, float] = {}  # when each had its last one closed; in order of time
        self._mine: set[Pair] = set()  # what we say: with a door, or leaving
        self._n = 0
        self._digest = 0
        self._peers: dict[str, _Peer] = {}
        self._members: dict[str, dict[str, int]] = {}  # topic, sub: how many incarnations say so
        self._pending: dict[Pair, bool] = {}  # not said yet: True a join, False a leave
        self._messages: list[AnySaid] = [Ask(me=me), self._beat()]
        self._topics: set[str] = set()
        self._to_state = False
        self._stated_s = float("-inf")

    # -- what is asked ------------------------------------------------------------------------------------------------

    def count(self, topic: str) -> int:
        """How many are present."""
        return len(self._members.get(topic, ()))

    def members(self, topic: str) -> Iterable[str]:
        """Who is, in no order."""
        return self._members.get(topic, {}).keys()

    @property
    def topics(self) -> Iterable[str]:
        """Where somebody is."""
        return self._members.keys()

    @property
    def peers(self) -> int:
        """How many other incarnations are known."""
        return len(self._peers)

    # -- our own doors ------------------------------------------------------------------------------------------------

    def enter(self, topic: str, sub: str) -> None:
        """``sub`` reads ``topic`` by one door more."""
        pair = (topic, sub)
        self._doors[pair] = self._doors.get(pair, 0) + 1
        self._leaving.pop(pair, None)
        if pair not in self._mine:
            self._mine.add(pair)
            self._say_change(pair, joined=True)

    def leave(self, topic: str, sub: str) -> None:
        """By one door less; every call follows its own :meth:`enter`."""
        pair = (topic, sub)
        left = self._doors[pair] - 1
        if left:
            self._doors[pair] = left
            return
        del self._doors[pair]
        self._leaving[pair] = self._time_s

    def _say_change(self, pair: Pair, *, joined: bool) -> None:
        if pair in self._pending:
            del self._pending[pair]  # the opposite, not said yet
        else:
            self._pending[pair] = joined
        self._digest ^= _hash(pair)
        if joined:
            self._add(pair)
        else:
            self._remove(pair)

    # -- time ---------------------------------------------------------------------------------------------------------

    def tick(self, now_s: float, *, hears: bool = True) -> None:
        """Time has passed. ``hears`` False: we are cut off, so silence says nothing about others."""
        passed_s = min(max(0.0, now_s - self._clock_s), LONGEST_TICK_S)
        self._clock_s = now_s
        self._time_s += passed_s
        self._ticks += 1
        while self._leaving:
            pair, since_s = next(iter(self._leaving.items()))
            if self._time_s - since_s < DEBOUNCE_S:
                break
            del self._leaving[pair]
            self._mine.remove(pair)
            self._say_change(pair, joined=False)
        for name, peer in list(self._peers.items()):
            if not hears:
                peer.heard_s += passed_s
            if self._time_s - peer.heard_s >= SILENT_S or (
                peer.bye_s is not None and self._time_s - peer.bye_s >= DEBOUNCE_S
            ):
                del self._peers[name]
                for pair in peer.here:
                    self._remove(pair)
        if self._ticks % BEAT_TICKS == 0:
            self._say_pending()
            self._messages.append(self._beat())

    def missed(self) -> None:
        """Messages may have been lost, in both directions: make up for them at once."""
        self._say_pending()
        self._messages += (self._beat(), Ask(me=self.me))

    def stop(self) -> None:
        """Say goodbye."""
        self._messages.append(Bye(me=self.me))

    # -- what others say ----------------------------------------------------------------------------------------------

    def heard(self, said: AnySaid) -> None:
        """A message of any incarnation, also of this one."""
        if said.me == self.me:
            return
        if isinstance(said, Ask):
            self._to_state = self._to_state or said.of in ("", self.me)
            return
        peer = self._peers.get(said.me)
        if isinstance(said, Bye):
            if peer is not None:
                peer.bye_s = self._time_s
            return
        if peer is None:
            peer = self._peers[said.me] = _Peer(self._time_s)
        peer.heard_s = self._time_s
        if isinstance(said, Beat):
            if (said.n, said.digest) != (peer.n, peer.digest):
                self._ask(said, peer)
        elif isinstance(said, Change):
            if said.n == peer.n + 1:
                self._apply(peer, said)
            elif said.n > peer.n:
                self._ask(said, peer)
        else:
            self._take_part(peer, said)

    def _ask(self, said: Said, peer: _Peer) -> None:
        if self._time_s - peer.asked_s >= TICK_S:  # the answer may be under way
            peer.asked_s = self._time_s
            self._messages.append(Ask(me=self.me, of=said.me))

    def _apply(self, peer: _Peer, said: Change) -> None:
        peer.n = said.n
        peer.parts.clear()
        for pair in said.joins:
            self._came(peer, pair)
        for pair in said.leaves:
            self._went(peer, pair)

    def _take_part(self, peer: _Peer, said: State) -> None:
        if said.part == 0:
            peer.parts.clear()
        if said.part != len(peer.parts) or (peer.parts and peer.parts[0].n != said.n):
            peer.parts.clear()  # one is lost: the next beat has us ask again
            return
        peer.parts.append(said)
        if len(peer.parts) < said.parts:
            return
        here = {pair for part in peer.parts for pair in part.here}
        peer.parts.clear()
        for pair in peer.here - here:
            self._went(peer, pair)
        for pair in here - peer.here:
            self._came(peer, pair)
        peer.n = said.n

    def _came(self, peer: _Peer, pair: Pair) -> None:
        if pair not in peer.here:
            peer.here.add(pair)
            peer.digest ^= _hash(pair)
            self._add(pair)

    def _went(self, peer: _Peer, pair: Pair) -> None:
        if pair in peer.here:
            peer.here.remove(pair)
            peer.digest ^= _hash(pair)
            self._remove(pair)

    # -- the union ----------------------------------------------------------------------------------------------------

    def _add(self, pair: Pair) -> None:
        topic, sub = pair
        members = self._members.setdefault(topic, {})
        members[sub] = members.get(sub, 0) + 1
        if members[sub] == 1:
            self._topics.add(topic)

    def _remove(self, pair: Pair) -> None:
        topic, sub = pair
        members = self._members[topic]
        members[sub] -= 1
        if not members[sub]:
            del members[sub]
            self._topics.add(topic)
            if not members:
                del self._members[topic]

    # -- out ----------------------------------------------------------------------------------------------------------

    def output(self) -> Output:
        """What has to be said and told; to be called after whatever else was."""
        self._say_pending()
        if self._to_state and self._time_s - self._stated_s >= TICK_S:  # several may ask at once: one answer for all
            self._to_state = False
            self._stated_s = self._time_s
            self._say_state()
        messages, self._messages = self._messages, []
        topics, self._topics = frozenset(self._topics), set()
        return Output(messages, topics)

    def _beat(self) -> Beat:
        return Beat(me=self.me, n=self._n, digest=self._digest)

    def _say_pending(self) -> None:
        pairs = list(self._pending.items())
        self._pending.clear()
        for some in _portions(pairs):
            self._n += 1
            joins = tuple(pair for pair, joined in some if joined)
            leaves = tuple(pair for pair, joined in some if not joined)
            self._messages.append(Change(me=self.me, n=self._n, joins=joins, leaves=leaves))

    def _say_state(self) -> None:
        portions = _portions(list(self._mine)) or [[]]
        for part, some in enumerate(portions):
            self._messages.append(State(me=self.me, n=self._n, part=part, parts=len(portions), here=tuple(some)))


def _portions(items: list[T]) -> list[list[T]]:
    return [items[at : at + PAIRS] for at in range(0, len(items), PAIRS)]


def _hash(pair: Pair) -> int:
    """63 bits: a number that any reader of the message can hold."""
    return int.from_bytes(blake2b("\0".join(pair).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big") >> 1

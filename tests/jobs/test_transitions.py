"""The table of transitions, and a job's whole life with workers, copies, losses and cancels."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace
from twisted.trial.unittest import SynchronousTestCase

from msgd.jobs import transitions
from msgd.jobs.interface import ENDED, Claim, ClaimRequest, Job, Problem, Refusal, State
from msgd.jobs.transitions import FRESH_MS, HELD, POISON_CLAIM, TABLE, Count, Input, Move
from msgd.messages.events import ENDS

OUTSIDE_ENDS = frozenset({Input.CANCEL, Input.POISON, Input.REFUSE})


def job(state: State = State.QUEUED, **fields: Any) -> Job:
    """A job of which every number is different."""
    numbers = {"run": 2, "slice": 30, "token": 400, "attempt": 5, "claims": 4}
    return Job(**{"id": "j", "type": "crawl", "params": b"{}", "state": state, "created_ms": 0, **numbers, **fields})


class TableTests(SynchronousTestCase):
    """What must hold of every line."""

    def test_every_input_has_a_line(self) -> None:
        """Nothing can happen that the table does not know."""
        self.assertEqual(set(TABLE), set(Input))

    def test_ends_are_final(self) -> None:
        """Only "run again" leaves an end, and only it counts a run."""
        for cause, line in TABLE.items():
            if line.sources & ENDED or line.run is not Count.KEEP:
                self.assertIs(cause, Input.RUN_AGAIN)

    def test_an_end_has_its_event(self) -> None:
        """A line to an end posts that end's event, and no call; no other line posts one."""
        for cause, line in TABLE.items():
            self.assertEqual(line.event in ENDS, line.to in ENDED, cause)
            if line.to in ENDED:
                self.assertEqual(line.event, line.to, cause)
                self.assertFalse(line.calls, cause)

    def test_whoever_becomes_queued_is_called(self) -> None:
        """No line leaves a job queued without a call, or running or waiting with one."""
        for cause, line in TABLE.items():
            if line.to is not None:
                self.assertEqual(line.calls, line.to is State.QUEUED, cause)

    def test_ends_from_outside_void_the_claim(self) -> None:
        """An end from outside and "run again" raise the token, and so does a claim; nobody else does."""
        raising = {cause for cause, line in TABLE.items() if line.token is Count.NEXT}
        self.assertEqual(raising, OUTSIDE_ENDS | {Input.CLAIM, Input.RECLAIM, Input.RUN_AGAIN})

    def test_nothing_that_fences_restarts(self) -> None:
        """Run, slice and token are never set back."""
        for line in TABLE.values():
            self.assertNotIn(Count.ZERO, (line.run, line.slice, line.token))

    @given(st.sampled_from(list(Input)), st.sampled_from(list(State)))
    def test_moves_follow_the_table(self, cause: Input, state: State) -> None:
        """A move does to every number what its line says, and there is none from a state it does not name."""
        before, line = job(state, heartbeat_ms=1, worker="w"), TABLE[cause]
        moved = transitions.move(before, cause, 7)
        if state not in line.sources:
            self.assertIsNone(moved)
            return
        assert moved is not None
        for name in ("run", "slice", "token", "attempt", "claims"):
            was, count = getattr(before, name), getattr(line, name)
            expected = {Count.KEEP: was, Count.NEXT: was + 1, Count.ZERO: 0}[count]
            self.assertEqual(getattr(moved.job, name), expected, name)
        self.assertEqual(moved.job.state, line.to or state)
        self.assertEqual(moved.job.ended_ms, 7 if line.to in ENDED else None)
        self.assertEqual((moved.event, moved.calls), (line.event, line.calls))


class GuardTests(SynchronousTestCase):
    """What the table cannot say."""

    def claim(self, before: Job, *, slice_: int = 30, redelivered: bool = False, now_ms: int = 100_000) -> Any:
        return transitions.claim(before, ClaimRequest("j", slice_, "w", redelivered), now_ms)

    def test_refusals(self) -> None:
        """Each kind of message that is not to be performed, with what it does to the job."""
        fresh = job(State.RUNNING, heartbeat_ms=100_000 - FRESH_MS + 1)
        self.assertEqual(self.claim(fresh), (None, Refusal.HELD))
        self.assertEqual(self.claim(job(), slice_=29), (None, Refusal.STALE))
        self.assertEqual(self.claim(job(), slice_=31), (None, Refusal.STALE))
        self.assertEqual(self.claim(job(State.WAITING)), (None, Refusal.STALE))
        for state in ENDED:
            self.assertEqual(self.claim(job(state), redelivered=True), (None, Refusal.STALE))
        for before, refusal, state in (
            (job(cancel_requested=True), Refusal.CANCELLED, State.CANCELLED),
            (job(claims=POISON_CLAIM - 1), Refusal.POISON, State.FAILED),
        ):
            move, refused = self.claim(before)
            self.assertEqual((refused, move.job.state, move.job.token), (refusal, state, 401))

    def test_claims(self) -> None:
        """A redelivery, a stale heartbeat and a queued job are claimed; a first start is kept."""
        fresh, stale = 100_000 - 1, 100_000 - FRESH_MS
        for before, redelivered in (
            (job(State.RUNNING, heartbeat_ms=fresh), True),
            (job(State.RUNNING, heartbeat_ms=stale), False),
            (job(State.RUNNING, heartbeat_ms=None), False),
            (job(started_ms=7), False),
        ):
            move, refused = self.claim(before, redelivered=redelivered)
            self.assertIsNone(refused)
            self.assertEqual((move.job.token, move.job.heartbeat_ms, move.job.worker), (401, 100_000, "w"))
            self.assertEqual(move.job.started_ms, before.started_ms or 100_000)

    @given(st.sampled_from(list(State)), st.integers(1, 3), st.integers(29, 31), st.integers(399, 401))
    def test_current(self, state: State, run: int, slice_: int, token: int) -> None:
        """A claim is current if run, slice and token are the job's and the job is neither ended nor waiting."""
        current = transitions.is_current(job(state), Claim("j", run, slice_, token))
        self.assertEqual(current, state in HELD and (run, slice_, token) == (2, 30, 400))
        self.assertFalse(transitions.is_current(None, Claim("j", run, slice_, token)))


class Life(RuleBasedStateMachine):
    """One job, two workers, a broker that copies, loses and redelivers, and people who cancel and run again."""

    def __init__(self) -> None:
        super().__init__()
        self.now_ms = 1_000_000
        self.job = Job(
            id="j", type="t", params=b"{}", state=State.QUEUED, run=1, slice=0, token=0, created_ms=self.now_ms
        )
        self.outbox: list[int] = [0]  # slices called for, still to be published
        self.queue: list[tuple[int, bool]] = []  # messages: slice, redelivered
        self.workers: dict[str, tuple[Claim, int]] = {}  # who believes to hold which claim, from which message
        self.ends: dict[int, list[str]] = {}

    def apply(self, move: Move | None) -> bool:
        if move is None:
            return False
        before, self.job = self.job, move.job
        assert (self.job.run, self.job.slice, self.job.token) >= (before.run, before.slice, before.token)
        if move.clears:
            self.outbox.clear()
        if move.calls:
            self.outbox.append(self.job.slice)
        if move.event in ENDS:
            self.ends.setdefault(self.job.run, []).append(move.event)
        return True

    def holders(self) -> list[str]:
        return [name for name, (claim, _) in self.workers.items() if transitions.is_current(self.job, claim)]

    @rule(seconds=st.sampled_from([1, 5, 11]))
    def time_passes(self, seconds: int) -> None:
        self.now_ms += seconds * 1000

    @precondition(lambda self: self.outbox)
    @rule(confirmed=st.booleans())
    def publish(self, confirmed: bool) -> None:
        """A message goes out; if its confirm is lost it will go out again."""
        self.queue.append((self.outbox[0], False))
        if confirmed:
            self.outbox.pop(0)

    @precondition(lambda self: self.queue)
    @rule(worker=st.sampled_from(["one", "two"]), data=st.data())
    def deliver(self, worker: str, data: st.DataObject) -> None:
        slice_, redelivered = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        before = self.holders()
        move, refusal = transitions.claim(self.job, ClaimRequest("j", slice_, worker, redelivered), self.now_ms)
        self.apply(move)
        if refusal is None:
            claim = Claim("j", self.job.run, self.job.slice, self.job.token)
            self.workers[f"{worker} {self.job.token}"] = (claim, slice_)
            assert not [name for name in before if name in self.holders()], "two go on"
        # A refused message is acknowledged, and gone.

    @precondition(lambda self: self.workers)
    @rule(data=st.data(), cause=st.sampled_from(["beat", "save", "retry", "done", "fail", "stop"]))
    def work(self, data: st.DataObject, cause: str) -> None:
        name = data.draw(st.sampled_from(sorted(self.workers)))
        claim, _ = self.workers[name]
        if not transitions.is_current(self.job, claim):
            del self.workers[name]  # it is told that it is superseded, and acknowledges
            return
        if cause == "beat":
            self.job = replace(self.job, state=State.RUNNING, heartbeat_ms=self.now_ms)
            return
        done = {"save": Input.SAVE, "retry": Input.RETRY, "done": Input.DONE, "fail": Input.FAIL, "stop": Input.STOP}
        self.apply(transitions.perform(self.job, claim, done[cause], self.now_ms, error=Problem("a", "b")))
        del self.workers[name]

    @precondition(lambda self: self.workers)
    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        """A worker is killed; the broker hands its message to somebody else."""
        _, slice_ = self.workers.pop(data.draw(st.sampled_from(sorted(self.workers))))
        self.queue.append((slice_, True))

    @rule()
    def cancel(self) -> None:
        self.apply(transitions.cancel(self.job, self.now_ms))

    @precondition(lambda self: self.job.cancel_requested)
    @rule()
    def end_cancelled(self) -> None:
        self.apply(transitions.move(self.job, Input.CANCEL, self.now_ms))

    @precondition(lambda self: self.job.ended)
    @rule()
    def run_again(self) -> None:
        assert self.apply(transitions.run_again(self.job, self.now_ms))

    @rule()
    def revive(self) -> None:
        self.apply(transitions.revive(self.job, self.now_ms))

    @rule()
    def the_broker_is_wiped(self) -> None:
        """It loses all messages, and is refilled; what workers have in hand is not given to others any more."""
        self.queue.clear()
        if not self.outbox:
            self.apply(transitions.move(self.job, Input.REPOST, self.now_ms))

    @invariant()
    def at_most_one_goes_on(self) -> None:
        assert len(self.holders()) <= 1

    @invariant()
    def at_most_one_call_in_the_outbox(self) -> None:
        assert len(self.outbox) <= 1

    @invariant()
    def each_run_ends_once(self) -> None:
        for run in range(1, self.job.run + 1):
            ended = run < self.job.run or self.job.ended
            assert len(self.ends.get(run, [])) == (1 if ended else 0), self.ends

    @invariant()
    def an_unfinished_job_is_never_forgotten(self) -> None:
        """Somebody goes on with it, a message calls for it, or its silence will be noticed."""
        if not self.job.ended:
            called = self.job.slice in self.outbox or any(slice_ == self.job.slice for slice_, _ in self.queue)
            assert called or self.holders() or self.job.state is State.RUNNING, self.job


class LifeTests(SynchronousTestCase):
    def test_life(self) -> None:
        """Whatever happens in whatever order: one goes on, each run ends once, nothing unfinished is forgotten."""
        run_state_machine_as_test(Life, settings=settings(max_examples=200, stateful_step_count=60, deadline=None))

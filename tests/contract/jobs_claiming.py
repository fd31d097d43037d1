"""The contract of ``msgd.jobs.interface.Jobs``: claims and signs of life."""

from __future__ import annotations

from msgd.errors import Superseded
from msgd.jobs.interface import (
    Beat,
    BeatAnswer,
    Claimed,
    ClaimRequest,
    Refusal,
    State,
)
from tests.contract.jobs_base import JobsBase


class ClaimingContract(JobsBase):
    """The part about claims and signs of life."""

    # -- claims -------------------------------------------------------------------------------------------------------

    async def test_claim(self) -> None:
        """A claim gives the job its next token, and says who performs it since when."""
        job = await self.submitted()
        claimed = await self.claimed(job)
        self.assertEqual((claimed.claim.run, claimed.claim.slice, claimed.claim.token), (1, 0, 1))
        self.assertFalse(claimed.alone)
        self.assertEqual(
            (claimed.job.state, claimed.job.worker, claimed.job.started_ms, claimed.job.heartbeat_ms),
            (State.RUNNING, "w1", self.now_ms, self.now_ms),
        )
        self.assertEqual(claimed.job.params, job.params)
        self.assertEqual(await self.jobs.get(job.id), claimed.job)

    async def test_claim_unknown(self) -> None:
        """A message of a job without a row is told from all others."""
        answer = await self.jobs.claim(ClaimRequest("nothing", 0, "w", redelivered=False))
        self.assertIs(answer, Refusal.UNKNOWN)

    async def test_claim_stale(self) -> None:
        """A copy for a slice that is over, or of a job that ended or waits, is stale."""
        claimed = await self.claimed()
        request = ClaimRequest(claimed.job.id, 0, "w2", redelivered=True)
        await self.jobs.save(claimed.claim, None)
        self.assertIs(await self.jobs.claim(request), Refusal.STALE)
        claimed = await self.claimed(claimed.job)
        await self.jobs.end(claimed.claim, State.DONE)
        ended = ClaimRequest(claimed.job.id, 1, "w2", redelivered=True)
        self.assertIs(await self.jobs.claim(ended), Refusal.STALE)

    async def test_claim_held(self) -> None:
        """A copy that is not marked redelivered is refused while the heartbeat is younger than 10 s, and no longer."""
        claimed = await self.claimed()
        request = ClaimRequest(claimed.job.id, 0, "w2", redelivered=False)
        self.clock.advance(9.9)
        self.assertIs(await self.jobs.claim(request), Refusal.HELD)
        self.clock.advance(0.2)
        second = await self.jobs.claim(request)
        assert isinstance(second, Claimed)
        self.assertEqual(second.claim.token, 2)
        await self.raises(Superseded, self.jobs.save(claimed.claim, None))

    async def test_claim_redelivered(self) -> None:
        """A redelivered message claims at once: the broker has noticed that its consumer is gone."""
        claimed = await self.claimed()
        second = await self.claimed(claimed.job, worker="w2", redelivered=True)
        self.assertEqual((second.claim.token, second.job.worker), (2, "w2"))
        self.assertEqual(second.job.started_ms, claimed.job.started_ms)

    async def test_claims_of_many_at_once(self) -> None:
        """Of many workers with copies of one message, one goes on."""
        job = await self.submitted()
        workers = [self.jobs, self.make_jobs()]
        answers = await self.all(
            *(workers[n % 2].claim(ClaimRequest(job.id, 0, f"w{n}", redelivered=False)) for n in range(10))
        )
        self.assertEqual(sum(isinstance(answer, Claimed) for answer in answers), 1)
        self.assertEqual(answers.count(Refusal.HELD), 9)

    async def test_poison(self) -> None:
        """From its third claim without a save a slice runs alone; after three of those the next claim ends the job."""
        job = await self.submitted()
        claims = [await self.claimed(job, worker=f"w{n}", redelivered=True) for n in range(5)]
        self.assertEqual([claimed.alone for claimed in claims], [False, False, True, True, True])
        answer = await self.jobs.claim(ClaimRequest(job.id, 0, "w", redelivered=True))
        self.assertIs(answer, Refusal.POISON)
        ended = await self.jobs.get(job.id)
        assert ended.error is not None
        self.assertEqual((ended.state, ended.token, ended.error.code), (State.FAILED, 6, "poison"))
        [(type_, token, data)] = self.said()
        self.assertEqual((type_, token, data["code"]), ("failed", 6, "poison"))
        await self.raises(Superseded, self.jobs.end(claims[-1].claim, State.DONE))

    async def test_a_lost_broker_is_no_suspicion(self) -> None:
        """A process that claims again what it performs already is alive: that is not held against the slice."""
        job = await self.submitted()
        claims = [await self.claimed(job, redelivered=True) for _ in range(9)]
        self.assertEqual([claimed.claim.token for claimed in claims], list(range(1, 10)))
        self.assertFalse(claims[-1].alone)
        self.clock.advance(60)
        self.assertEqual((await self.claimed(job, redelivered=True)).job.claims, 2, "it had been silent")

    async def test_a_save_clears_the_suspicion(self) -> None:
        """Claims are counted since the last save."""
        job = await self.submitted()
        for number in range(4):
            claimed = await self.claimed(job, worker=f"w{number}", redelivered=True)
        await self.jobs.save(claimed.claim, None)
        claimed = await self.claimed(job)
        self.assertEqual((claimed.job.claims, claimed.alone), (1, False))

    # -- signs of life ------------------------------------------------------------------------------------------------

    async def test_beat(self) -> None:
        """A beat renews its jobs and keeps their latest progress; each is answered, in order."""
        first, second = await self.claimed(), await self.claimed()
        await self.claimed(second.job, worker="w2", redelivered=True)
        self.clock.advance(2)
        beats = [Beat(second.claim, b'{"n":9}'), Beat(first.claim, b'{"done":1}')]
        self.assertEqual(await self.jobs.beat(beats), [BeatAnswer.SUPERSEDED, BeatAnswer.GO_ON])
        job = await self.jobs.get(first.job.id)
        self.assertEqual((job.heartbeat_ms, job.progress), (self.now_ms, b'{"done":1}'))
        self.assertIsNone((await self.jobs.get(second.job.id)).progress)
        await self.jobs.beat([Beat(first.claim, None)])
        self.assertEqual((await self.jobs.get(first.job.id)).progress, b'{"done":1}')
        self.assertEqual(await self.jobs.beat([]), [])

    async def test_beat_hears_of_a_cancel(self) -> None:
        """A worker that missed the signal is told to stop by its next beat."""
        claimed = await self.claimed()
        await self.jobs.cancel(claimed.job.id)
        self.assertEqual(await self.jobs.beat([Beat(claimed.claim, None)]), [BeatAnswer.CANCEL])

    async def test_beat_after_the_end(self) -> None:
        """A beat neither revives a job nor says that its claim is good."""
        claimed = await self.claimed()
        await self.jobs.end(claimed.claim, State.DONE)
        self.assertEqual(await self.jobs.beat([Beat(claimed.claim, None)]), [BeatAnswer.SUPERSEDED])
        self.assertEqual((await self.jobs.get(claimed.job.id)).state, State.DONE)

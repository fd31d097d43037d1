"""How jobs are performed, and how they fail, on every broker and database."""

from __future__ import annotations

from typing import Any

from msgd.broker import topology
from msgd.broker.interface import Delivery
from msgd.database import Transaction
from msgd.errors import InvalidInput, PeerError
from msgd.jobs.interface import State, Submission
from msgd.messages.events import event_id
from msgd.messages.wire import message_to_event
from msgd.work import Context, Continue, Done, Failed, Outcome, Retry, Wait, job
from msgd.work.once import Once
from tests.contract.worker_ground import Count, Gate, WorkerBase
from tests.work.world import BEGIN_S


class PerformingContract(WorkerBase):
    """From a message to an outcome."""

    async def test_done(self) -> None:
        """A job is performed: started, its results, done, in that order; its message is acknowledged."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            for number in range(context.params.upto):
                context.emit("result", number, key=str(number))
            return Done({"counted": context.params.upto})

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 3})
        done = await world.ended(id_)
        self.assertEqual(world.types(id_), ["started", "result", "result", "result", "done"])
        self.assertEqual([event.data for event in world.of(id_)[1:4]], [b"0", b"1", b"2"])
        self.assertEqual(world.of(id_)[1].id, event_id(id_, 1, "result", "0"))
        self.assertEqual({(event.source, event.run, event.token) for event in world.of(id_)}, {("count", 1, 1)})
        self.assertEqual(done.result, b'{"counted":3}')
        self.assertEqual(await world.left("count"), 0)

    async def test_slices(self) -> None:
        """A job goes on from slice to slice with the state it gave; started is told once."""
        seen: list[tuple[int, Any]] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            at = context.state or 0
            seen.append((context.job.slice, at))
            await context.emit("result", at, key=str(at))
            return Done() if at == context.params.upto else Continue(at + 1)

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 3})
        await world.ended(id_)
        self.assertEqual(seen, [(0, 0), (1, 1), (2, 2), (3, 3)])
        self.assertEqual(world.types(id_), ["started", "result", "result", "result", "result", "done"])
        self.assertEqual(await world.left("count"), 0)

    async def test_continue_later(self) -> None:
        """A job may put itself off: it is called when its pause is over, by whoever is there then, and takes no slot
        until then."""
        seen: list[float] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            seen.append(world.clock.seconds() - BEGIN_S)
            return Done() if context.state or context.params.upto == 0 else Continue("paused", after_s=60)

        world = await self.opened()
        first = await world.runner(count, concurrency=1)
        id_ = await world.submit("count", {"upto": 1})
        await world.until(self.counts(lambda: len(seen), 1))
        await world.ended(await world.submit("count", {"upto": 0}))
        self.assertIs((await world.jobs.get(id_)).shown_state, State.RUNNING)
        await world.passing(first.stop())
        await world.runner(count)
        await world.until(self.counts(lambda: len(seen), 3), passing_s=0.5)
        self.assertGreaterEqual(seen[2] - seen[0], 60)
        await world.ended(id_)
        self.assertEqual(world.types(id_), ["started", "done"])

    async def test_continue_later_than_ever(self) -> None:
        """A pause that is none fails the job, as what the worker gave back is no outcome."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            return Continue(after_s=float("nan"))

        world = await self.opened()
        await world.runner(count)
        failed = await world.ended(await world.submit("count"), State.FAILED)
        assert failed.error is not None
        self.assertEqual(failed.error.code, "invalid")

    async def test_emit_all(self) -> None:
        """Events that are emitted together come in their order, among those emitted before and after, each under the id
        that it has alone; a repeat of the step adds nothing."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            await context.emit_all([])
            for _ in range(2):
                context.emit("result", 0, key="0")
                await context.emit_all([("result", {"n": number}, str(number)) for number in range(1, 250)])
            context.emit("result", 250, key="250")
            return Done()

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 3})
        await world.ended(id_)
        results = [event for event in world.of(id_) if event.type == "result"]
        ids = [event_id(id_, 1, "result", str(number)) for number in range(251)]
        self.assertEqual([event.id for event in results], [*ids[:250], *ids])
        self.assertEqual([event.data for event in results[248:251]], [b'{"n":248}', b'{"n":249}', b"0"])
        self.assertEqual({(event.run, event.source) for event in results}, {(1, "count")})

    async def test_emit_all_of_what_cannot_be(self) -> None:
        """If one of several events cannot be, none is emitted."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            for wrong in (("done", 1, ""), ("a\0b", 1, ""), ("result", object(), "")):
                try:
                    await context.emit_all([("result", 1, "1"), wrong])
                except InvalidInput as error:
                    refused.append(error.where)
            return Done()

        refused: list[str] = []
        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count")
        await world.ended(id_)
        self.assertEqual(refused, ["type", "type", "result"])
        self.assertEqual(world.types(id_), ["started", "done"])

    async def test_publish(self) -> None:
        """A worker publishes on other topics too: from its type, under an id of its choice, without run and token, and
        in one order with what it emits."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            for number in range(context.params.upto):
                context.publish("app.counted", "counted", {"n": number}, id_=f"n{number}")
                context.emit("result", number, key=str(number))
            return Done()

        world = await self.opened()
        heard: list[Delivery] = []
        await world.broker.consume(topology.TALK_QUEUE, heard.append, prefetch=10)
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 3})
        await world.ended(id_)
        await world.until(self.counts(lambda: len(heard), 3))
        events = [message_to_event(one.key, one.message, now_ms=0, new_id="") for one in heard]
        self.assertEqual([(event.topic, event.type, event.id) for event in events],
                         [("app.counted", "counted", f"n{number}") for number in range(3)])  # fmt: skip
        self.assertEqual({(event.source, event.run, event.token, event.outbox) for event in events},
                         {("count", None, None, None)})  # fmt: skip
        self.assertEqual(events[1].data, b'{"n":1}')
        self.assertEqual(world.types(id_), ["started", "result", "result", "result", "done"])
        for one in heard:
            one.ack()

    async def test_publish_what_cannot_be(self) -> None:
        """What is no topic, type or id, or speaks for a job, is refused, and nothing of it is published."""
        refused: list[str] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            for topic, type_, id_ in (
                (f"job.{context.job.id}", "result", "a"),
                ("job", "result", "a"),
                ("no topic", "said", "a"),
                ("app.x", "progress", "a"),
                ("app.x", "", "a"),
                ("app.x", "x" * 101, "a"),
                ("app.x", "said", ""),
                ("app.x", "said", "a\0"),
                ("app.x", "said", "\ud800"),
                ("app.x", "said\ud800", "a"),
                ("app.x", "said", "a" * 201),
            ):
                try:
                    await context.publish(topic, type_, 1, id_=id_)
                except InvalidInput as error:
                    refused.append(error.where)
            return Done()

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count")
        await world.ended(id_)
        self.assertEqual(refused, ["topic"] * 3 + ["type"] * 3 + ["id"] * 3 + ["type", "id"])
        self.assertEqual(world.types(id_), ["started", "done"])
        self.assertEqual((await world.broker.depths([topology.TALK_QUEUE]))[topology.TALK_QUEUE], 0)

    async def test_slice_over(self) -> None:
        """After its seconds a slice is over, and whoever waits for that is told."""
        over: list[bool] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            if context.job.slice == 1:
                return Done()
            over.append(context.slice_over)
            began.happen()
            await context.over()
            over.append(context.slice_over)
            return Continue()

        began = Once()
        world = await self.opened()
        await world.runner(count, slice_s=20.0)
        id_ = await world.submit("count")
        await began.wait()
        await world.advance(19.5)
        self.assertEqual(over, [False])
        await world.advance(0.5)
        await world.ended(id_)
        self.assertEqual(over, [False, True])

    async def test_concurrency(self) -> None:
        """No more slices than slots at a time; when one ends the next begins."""
        world, gate = await self.opened(), Gate()
        await world.runner(job("count", Count)(gate), concurrency=2)
        ids = [await world.submit("count") for _ in range(4)]
        await gate.has_begun(2)
        await world.advance(1.0)
        self.assertEqual(len(gate.begun), 2)
        gate.go.happen()
        for id_ in ids:
            await world.ended(id_)

    async def test_children(self) -> None:
        """A job that waits goes on, with its state, when its children have ended."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            if context.params.upto == 0 or context.state == "waited":
                return Done()
            children = [Submission(type="count", params=b'{"upto": 0}') for _ in range(context.params.upto)]
            return Wait(children, "waited")

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count", {"upto": 2})
        await world.ended(id_)
        self.assertEqual(len([event for event in world.events if event.type == "done"]), 3)

    async def test_retry(self) -> None:
        """What passes is tried again after a while: the same slice of work, under the same event ids."""
        attempts: list[int] = []

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            attempts.append(context.job.attempt)
            await context.emit("result", 1, key="a")
            if len(attempts) == 1:
                raise PeerError("the host is away", retry_after=30)
            if len(attempts) == 2:
                return Retry("away", "the host is away again")
            return Done()

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count")
        await world.event(id_, "retrying")
        self.assertEqual((await world.jobs.get(id_)).not_before_ms, int(world.clock.seconds() * 1000) + 30_000)
        await world.until(self.counts(lambda: len(attempts), 3), passing_s=0.2)
        await world.ended(id_)
        self.assertEqual(attempts, [0, 1, 2])
        results = [event.id for event in world.of(id_) if event.type == "result"]
        self.assertEqual((len(results), len(set(results))), (3, 1))

    async def test_attempts(self) -> None:
        """An error that nobody expected is tried again, until the attempts are used up; then the job has failed."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            raise ZeroDivisionError("by nothing")

        world = await self.opened()
        await world.runner(count, attempts=2)
        id_ = await world.submit("count")
        await world.until(self.counts(lambda: world.types(id_).count("failed"), 1), passing_s=0.2)
        failed = await world.ended(id_, State.FAILED)
        assert failed.error is not None
        self.assertEqual((failed.error.code, failed.error.message), ("internal", "ZeroDivisionError: by nothing"))
        self.assertEqual(world.types(id_).count("retrying"), 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 3)

    async def test_failed(self) -> None:
        """A job fails at once if its outcome says so, its params do not fit, or its result is no JSON."""

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            return Done(object()) if context.params.upto == 1 else Failed("odd", "it cannot be counted")

        world = await self.opened()
        await world.runner(count)
        cases = [
            ({"upto": 2}, "odd"),
            ({"upto": "x"}, "invalid-params"),
            ({"up": 1}, "invalid-params"),
            ({}, "invalid"),
        ]
        for params, code in cases:
            failed = await world.ended(await world.submit("count", params), State.FAILED)
            assert failed.error is not None
            self.assertEqual(failed.error.code, code)
        self.assertEqual(await world.left("count"), 0)

    async def test_a_write_that_raises(self) -> None:
        """An outcome whose write raises is not taken: nothing is written, and the slice is tried again."""

        def refuse(transaction: Transaction) -> None:
            raise ZeroDivisionError

        @job("count", Count)
        async def count(context: Context[Count]) -> Outcome:
            return Done(write=refuse if context.job.attempt == 0 else None)

        world = await self.opened()
        await world.runner(count)
        id_ = await world.submit("count")
        await world.until(self.counts(lambda: world.types(id_).count("done"), 1), passing_s=0.2)
        self.assertEqual(world.types(id_), ["started", "retrying", "done"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

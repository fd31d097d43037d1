"""Mail jobs into a real SMTP server: each recipient once, whatever the server says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from email import message_from_string, policy
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred

from msgd.database import Transaction
from msgd.errors import DatabaseUnavailable
from msgd.jobs.interface import Job, OutboxRow, State, Submission
from msgd.messages import json
from msgd.services.mailer import sending
from msgd.services.mailer.holding import hold
from msgd.services.mailer.judging import Patience
from msgd.services.mailer.ledger import Begun
from msgd.services.mailer.smtp import Connection
from msgd.work.context import AttemptContext
from tests.services.mailer.mails import MailCase
from tests.services.mailer.test_press import ENDLESS


class MailingTests(MailCase):
    """One mailer, one server."""

    async def test_mailed(self) -> None:
        """Each recipient gets its own message, and the ledger and the events say so."""
        await self.open()
        job = await self.mail(
            [{"email": "anna@example.com", "name": "Anna", "vars": {"city": "Köln"}}, "ben@example.org"],
            subject="Hello {{ name or 'you' }}",
            text="In {{ city | default('town') }}.",
        )
        received = {one["to"]: one for one in self.server.received()}
        self.assertEqual(set(received), {"anna@example.com", "ben@example.org"})
        message: Any = message_from_string(received["anna@example.com"]["message"], policy=policy.default)
        self.assertEqual((message["subject"], message["to"]), ("Hello Anna", "Anna <anna@example.com>"))
        self.assertEqual(message.get_content().strip(), "In Köln.")
        self.assertEqual(received["ben@example.org"]["sender"], "news@sender.example")
        self.assertEqual(set((await self.states(job.id)).values()), {"sent"})
        self.assertEqual(sorted(type_ for type_, _ in self.events(job.id)), ["sent", "sent"])
        result = self.result(job)
        self.assertEqual((result["recipients"], result["sent"], result["unknown"]), (2, 2, 0))

    async def test_replies(self) -> None:
        """Refusals bounce, and only those of unknown users are suppressed; what passes is deferred and tried again."""
        await self.open("--pipelining")
        to = ["r550.a@x.example", "r550-5-7-1.b@x.example", "d554.c@x.example", "r451x1.d@y.example", "e@z.example"]
        id_ = await self.submit(to)
        await self.world.event(id_, "deferred")
        await self.late(id_)
        self.assertEqual(
            await self.states(id_), dict(zip(to, ["bounced", "bounced", "bounced", "sent", "sent"], strict=True))
        )
        self.assertEqual(sorted(self.server.recipients()), ["e@z.example", "r451x1.d@y.example"])
        ledger = await self.ledger(id_)
        self.assertEqual((ledger[to[0]].code, ledger[to[3]].attempt), (550, 2))
        again = await self.mail(to[:2])
        self.assertEqual(await self.states(again.id), {to[0]: "suppressed", to[1]: "bounced"})

    async def test_lost_connections(self) -> None:
        """A connection that ends before the data is harmless; one that ends after their end leaves *unknown*."""
        await self.open()
        await self.check_lost_connections()

    async def test_lost_connections_pipelined(self) -> None:
        """The same where the commands go out together."""
        await self.open("--pipelining")
        await self.check_lost_connections()

    async def check_lost_connections(self) -> None:
        to = ["dropx1.a@x.example", "midx1.b@x.example", "lostx1.c@x.example"]
        id_ = await self.submit(to)
        await self.late(id_)
        self.assertEqual(await self.states(id_), dict(zip(to, ["sent", "unknown", "unknown"], strict=True)))
        self.assertEqual(sorted(self.server.recipients()), [to[0], to[2]])

    async def test_one_behind_another(self) -> None:
        """Over one connection, where the commands of a mail leave behind the content of the last: whatever becomes of
        one, the others are mailed, each once."""
        await self.open("--pipelining", connections=1)
        following: list[bool] = []
        send = Connection.send

        def noting(connection: Connection, *given: Any, **more: Any) -> Any:
            following.append(connection.past_the_end)
            return send(connection, *given, **more)

        self.patch(Connection, "send", noting)
        ends = {"": "sent", "r550.": "bounced", "d554.": "bounced", "slowx1.": "sent"}
        ends |= {"dropx1.": "sent", "lostx1.": "unknown", "midx1.": "unknown"}
        scripts = ["", "", *ends, "", *reversed(ends), *ends, ""]
        expected = {f"{script}p{number}@x.example": ends[script] for number, script in enumerate(scripts)}
        id_ = await self.submit(list(expected))
        await self.late(id_)
        self.assertEqual(await self.states(id_), expected)
        taken = [one for one, end in expected.items() if end == "sent" or one.startswith("lost")]
        self.assertEqual(sorted(self.server.recipients()), sorted(taken))
        self.assertIn(True, following)

    async def test_lost_answer_of_the_database(self) -> None:
        """What became *sending* in a step whose answer was lost is mailed all the same, once."""
        await self.open()
        jobs = self.world.jobs
        lost: list[int] = []
        checkpoint = jobs.checkpoint

        async def losing(claim: Any, write: Any) -> Any:
            found = await checkpoint(claim, write)
            if isinstance(found, Begun) and found.rows and not lost:
                lost.extend(found.rows)
                raise DatabaseUnavailable("the connection was lost before the answer came")
            return found

        self.patch(jobs, "checkpoint", losing)
        to = [f"p{number}@example.com" for number in range(5)]
        job = await self.mail(to)
        self.assertTrue(lost)
        self.assertEqual(set((await self.states(job.id)).values()), {"sent"})
        self.assertEqual(sorted(self.server.recipients()), to)

    async def test_an_error_where_it_is_told(self) -> None:
        """The slice ends with it, whatever it is, and the next one takes over what was in hand."""
        await self.open()
        emit_all = AttemptContext.emit_all
        raised: list[int] = []

        def broken(context: AttemptContext[Any], events: Any) -> Deferred[None]:
            if context.job.type == "mail" and not raised:
                raised.append(1)
                raise ZeroDivisionError
            return emit_all(context, events)

        self.patch(AttemptContext, "emit_all", broken)
        id_ = await self.submit(["a@x.example"])
        await self.late(id_)
        self.assertEqual(
            (self.server.recipients(), await self.states(id_)), (["a@x.example"], {"a@x.example": "unknown"})
        )
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    test_an_error_where_it_is_told.timeout = 30  # type: ignore[attr-defined]  # trial's; it would wait for ever

    async def test_server_away(self) -> None:
        """An outage of the server costs no attempt: the job waits and says for what, and goes on."""
        await self.open(attempts=1)
        there, self.port = self.port, self.closed_port()
        id_ = await self.submit(["anna@example.com"])
        await self.world.until(partial(self.waits, id_))
        job = await self.world.jobs.get(id_)
        self.assertEqual((job.shown_state, job.attempt), (State.RUNNING, 0))
        self.assertIn("refused", json.decode(job.progress or b"", dict[str, Any])["waiting"])
        self.assertEqual(set((await self.states(id_)).values()), {"queued"})
        self.port = there
        await self.late(id_)
        self.assertEqual(self.server.recipients(), ["anna@example.com"])

    async def waits(self, id_: str) -> bool:
        job = await self.world.jobs.get(id_)
        return job.ended or b'"waiting"' in (job.progress or b"")

    async def test_server_away_for_too_long(self) -> None:
        """After ``give_up`` the job fails, its recipients as they were; run again, it goes on."""
        await self.open(patience=Patience(give_up_s=600.0))
        there, self.port = self.port, self.closed_port()
        id_ = await self.submit(["anna@example.com"])
        job = await self.late(id_, State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.code, "peer")
        self.assertEqual(set((await self.states(id_)).values()), {"queued"})
        self.port = there
        await self.world.jobs.run_again(id_)
        await self.late(id_)
        self.assertEqual(self.server.recipients(), ["anna@example.com"])

    async def submit_paused(self, id_: str) -> None:
        """A mailing that is paused before anybody performs it."""
        params = json.encode({"to": [{"email": "anna@example.com"}], "subject": "x", "text": "y"})
        jobs = self.world.jobs

        def write(transaction: Transaction) -> Sequence[OutboxRow]:
            rows = jobs.submit_within(transaction, [Submission(id=id_, type="mail", params=params, owner="ann")])
            hold(transaction, jobs, id_, paused=True, now_ms=self.now_ms())
            return rows

        jobs.post(await self.world.database.write(write))

    async def resume(self, id_: str) -> None:
        write = partial(hold, jobs=self.world.jobs, job=id_, paused=False, now_ms=self.now_ms())
        self.world.jobs.post(await self.world.database.write(write))

    async def test_resumed(self) -> None:
        """A paused mailing that is resumed goes on, though no time passes."""
        await self.open()
        await self.submit_paused("j1")

        async def put_off() -> bool:
            return (await self.world.jobs.get("j1")).not_before_ms is not None

        await self.world.until(put_off)
        await self.resume("j1")
        await self.world.ended("j1")
        self.assertEqual(self.server.recipients(), ["anna@example.com"])

    async def test_resumed_while_it_is_put_off(self) -> None:
        """A pause that ends after the slice has looked, and before it is put off, puts off nothing."""
        await self.open()
        jobs, save = self.world.jobs, self.world.jobs.save
        saved: list[tuple[float, Job]] = []

        async def late(*given: Any, **more: Any) -> None:
            if not saved:
                await self.resume("j1")
            await save(*given, **more)
            saved.append((more["delay_s"], await jobs.get("j1")))

        self.patch(jobs, "save", late)
        await self.submit_paused("j1")

        async def put_off() -> bool:
            return bool(saved)

        await self.world.until(put_off)
        [(delay_s, job)] = saved
        self.assertGreater(delay_s, 0)
        self.assertEqual((job.between_slices, job.not_before_ms), (True, None))

    async def test_cut_off_by_the_end_of_the_slice(self) -> None:
        """A delivery that had not come to the end of its data is put back, and costs no attempt; the content, which was
        tried already, is not tried once more."""
        self.patch(sending, "PATIENCE_S", 0.1)
        await self.open(slice_s=5.0)
        tried: list[str] = []
        try_first = self.mailer._try_first

        async def trying(context: Any, job: Any, *given: Any) -> None:
            tried.append(job.id)
            await try_first(context, job, *given)

        self.patch(self.mailer, "_try_first", trying)
        id_ = await self.submit(["hangx1.a@x.example", "b@y.example"])
        await self.world.event(id_, "sent")
        self.world.clock.advance(6.0)
        await self.late(id_)
        ledger = await self.ledger(id_)
        self.assertEqual({(row.state, row.attempt) for row in ledger.values()}, {("sent", 1)})
        self.assertEqual((sorted(self.server.recipients()), tried), (["b@y.example", "hangx1.a@x.example"], [id_]))

    async def test_a_held_domain_does_not_hold_up_the_others(self) -> None:
        """However many of its recipients come first: those behind them have their mail while it waits."""
        await self.open("--pipelining", part=1000)
        others = [f"p{number}@open.example" for number in range(20)]
        id_ = await self.submit([*(f"r450.p{number}@held.example" for number in range(500)), *others])

        async def sent() -> bool:
            return set(self.server.recipients()) == set(others)

        await self.world.until(sent)
        states = Counter((await self.states(id_)).values())
        self.assertGreater(states["queued"], 400)
        self.assertLess(states["deferred"], 50)
        await self.world.jobs.cancel(id_)
        await self.late(id_, State.CANCELLED)

    async def test_csv(self) -> None:
        """Recipients in a CSV: columns are variables, bad rows bounce, the same address counts once."""
        await self.open(part=10)
        rows = "".join(f"p{number}@example.com,Pat,{number}\r\n" for number in range(1, 36))
        upload = await self.upload(f"email,name,number\r\n{rows}nobody,,\r\nP1@example.com,,\r\n".encode())
        job = await self.mail({"upload": upload}, text="Number {{ number }}")
        result = self.result(job)
        self.assertEqual((result["recipients"], result["sent"], result["bounced"], result["repeated"]), (36, 35, 1, 1))
        self.assertEqual(len(set(self.server.recipients())), 35)
        self.assertEqual(len(self.server.recipients()), 35)

    async def test_a_template_at_fault(self) -> None:
        """One that takes too long for all but the first fails the job, and who has not been tried stays queued."""
        await self.open(patience_s=1.5, part=6)
        for count, code in ((6, "content"), (9, "parts")):
            to = [f"p{number}@example.com" for number in range(1, count + 1)]
            job = await self.mail(to, text="{% if row > 1 %}" + ENDLESS + "{% endif %}x", state=State.FAILED)
            assert job.error is not None
            self.assertEqual(job.error.code, code)
            self.assertIn("for 3 recipients already: mend it", job.error.message)
            states = Counter(list((await self.states(job.id)).values())[1:])
            self.assertEqual(states, {"bounced": 2, "queued": count - 3})

    async def test_others_go_on_meanwhile(self) -> None:
        """A mailing whose messages take long to make does not keep another one: that is over first."""
        await self.open()
        slow = "{% for a in range(9999) %}{% for b in range(400) %}{% endfor %}{% endfor %}x"
        id_ = await self.submit([f"p{number}@example.com" for number in range(30)], text=slow)
        await self.mail([f"q{number}@example.com" for number in range(30)])
        self.assertFalse((await self.world.jobs.get(id_)).ended)
        await self.world.ended(id_)

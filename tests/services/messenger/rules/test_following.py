"""Rules act on each event once, whoever follows, whoever is killed; with their owners' rights, at their pace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase

from msgd.broker.topology import JOBS
from msgd.jobs.interface import State
from msgd.services.messenger.rules import acting
from msgd.services.messenger.rules.following import _Moved
from msgd.services.messenger.rules.form import RuleChange
from tests.servers import postgres
from tests.services.messenger.rules.following import TYPES, FollowingBase, principal

_BROKEN = (("refused", 0), ("digest", 60), ("pattern", 0))


class FollowingContract(FollowingBase):
    """What rules do."""

    async def test_acts(self) -> None:
        """An event that a rule asks for becomes its job, with the call in the outbox; others become nothing."""
        rule = await self.rule(topics=["app.invoice.*"], types=["created"])
        await self.happen("app.invoice.paid", "app.client.new", data={"title": "Hi", "text": "there"})
        await self.happen("app.invoice.paid", type_="deleted")
        await self.act()
        [job] = await self.ordered()
        self.assertEqual((job.type, job.owner, job.state, job.id[:5]), ("webhook", "ann", State.QUEUED, "rule-"))
        params = msgspec.json.decode(job.params)
        self.assertEqual((params["url"], params["event"]), ("https://a.example/hook", "created"))
        self.assertEqual((params["data"]["subject"], params["data"]["text"]), ("Hi", "there"))
        self.assertEqual(params["data"]["event"]["data"], {"title": "Hi", "text": "there"})
        self.assertEqual([(row.job, row.exchange) for row in self.posted], [(job.id, JOBS)])
        now = await self.now(rule)
        self.assertEqual((now.fired, now.fired_ms, now.error), (1, self.now_ms(), ""))

    async def test_once_with_many_followers(self) -> None:
        """Of several messengers one acts on an event; whoever was slower writes nothing."""
        await self.rule()
        second = self.make_follower()
        for number in range(5):
            await self.happen(f"app.a{number}", f"app.b{number}")

        async def act(follower: Any) -> int:
            moved = 0
            for _ in range(20):
                try:
                    if not await follower.act():
                        return moved
                except _Moved:
                    moved += 1
            raise AssertionError("it never comes to the end")

        await gatherResults([Deferred.fromCoroutine(act(one)) for one in (self.follower, second)])
        self.assertEqual(len(await self.told()), 10)
        self.assertEqual(len({row.job for row in self.posted}), 10)

    async def test_all_or_nothing(self) -> None:
        """What is thrown away before the commit is done anew; what was committed never again."""
        rule = await self.rule()
        await self.happen("app.x")
        submit = self.jobs.submit_within

        def spoiled(*arguments: Any) -> Any:
            submit(*arguments)
            raise ZeroDivisionError

        self.patch(self.jobs, "submit_within", spoiled)
        await self.assertFailure(Deferred.fromCoroutine(self.follower.act()), ZeroDivisionError)
        self.assertEqual((await self.told(), (await self.now(rule)).fired), ([], 0))
        self.patch(self.jobs, "submit_within", submit)
        await self.act()
        await self.act(self.make_follower())
        self.assertEqual((await self.told(), (await self.now(rule)).fired), (["app.x"], 1))

    async def test_catches_up(self) -> None:
        """After a long absence it goes through what there is page by page; nobody's place is lost."""
        await self.rule(hourly=3600)
        await self.happen(*(f"app.n{number}" for number in range(450)))
        pages = 1
        while await self.follower.act():
            pages += 1
        self.assertEqual((pages, len(await self.told())), (3, 450))

    async def test_rights(self) -> None:
        """A rule acts on what its owner could read when it was saved; a private room's members may change."""
        await self.rule(principal("ann", "subscribe:#", "submit:*"), topics=["#"])
        self.members["room.den"] = {"ben"}
        await self.happen("room.den", "room.hall", "user.ann")
        await self.act()
        self.assertEqual(sorted(await self.told()), ["room.hall", "user.ann"])
        self.members["room.den"] = {"ann"}
        await self.happen("room.den")
        await self.act()
        self.assertEqual((await self.told())[-1:], ["room.den"])

    async def test_its_own_jobs(self) -> None:
        """What the jobs of rules tell of themselves is nobody's business: a rule on all jobs does not feed itself."""
        await self.rule(principal("ann", "admin:#"), topics=["#"])
        await self.happen("app.x")
        await self.act()
        [job] = await self.ordered()
        await self.happen(f"job.{job.id}", type_="started")
        await self.happen("job.another", type_="started")
        await self.act()
        self.assertEqual(sorted(await self.told()), ["app.x", "job.another"])

    async def test_pace(self) -> None:
        """So many messages an hour; what is more is counted, and the hour goes on."""
        rule = await self.rule(hourly=2)
        for _ in range(2):
            await self.happen("app.a", "app.b", "app.c")
            await self.act()
        now = await self.now(rule)
        self.assertEqual((now.fired, now.held_back), (2, 4))
        self.clock.advance(1800)
        await self.happen("app.d", "app.e")
        await self.act()
        self.assertEqual((await self.told())[-1], "app.d")
        self.assertEqual((await self.now(rule)).held_back, 5)

    async def test_conditions(self) -> None:
        """A condition looks into the data; one that cannot be answered is the rule's error, which goes on."""
        rule = await self.rule(condition="event.data.total > 100")
        for topic, total in (("app.a", 50), ("app.b", 150), ("app.c", "many")):
            await self.happen(topic, data={"total": total})
        await self.act()
        self.assertEqual(await self.told(), ["app.b"])
        now = await self.now(rule)
        self.assertIn("not supported", now.error)
        self.assertTrue(now.enabled)
        await self.happen("app.d", data={"total": 200})
        await self.act()
        self.assertEqual((await self.told(), (await self.now(rule)).error), (["app.b", "app.d"], ""))

    async def test_broken_rules(self) -> None:
        """A stored rule that today's language refuses, or that nobody can work out, stops nobody but itself."""
        first, second, third = [await self.rule(name=name, digest=digest) for name, digest in _BROKEN]
        well = await self.rule(name="well")
        broken: dict[str, dict[str, Any]] = {
            first.id: {"condition": "gone(1)"},
            second.id: {"text": "{% gone %}"},
            third.id: {"topics": b'["a..b"]'},
        }
        for id_, values in broken.items():
            await self.stored(id_, **values)
        await self.happen("app.x", data={"title": "Hi"})
        await self.act()
        self.assertEqual(await self.told(), ["app.x"])
        self.clock.advance(61)
        await self.act()
        await self.happen("app.y")
        await self.act()
        self.assertEqual(await self.told(), ["app.x", "app.y"])
        self.assertIn("invalid: condition: line 1", (await self.now(first)).error)
        self.assertIn("invalid: text: line 1", (await self.now(second)).error)
        self.assertEqual((await self.now(well)).fired, 2)

    async def test_unforeseen(self) -> None:
        """What nobody has thought of is the error of one rule with one event, and logged."""
        first, well = await self.rule(), await self.rule()
        spoiled = iter([RecursionError("too\0deep")])

        def shown(*arguments: Any) -> Any:
            for error in spoiled:
                raise error
            return keep(*arguments)

        keep = acting.show
        self.patch(acting, "show", shown)
        await self.happen("app.x")
        await self.act()
        self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 1)
        self.assertEqual((await self.told(), (await self.now(well)).fired), (["app.x"], 1))
        self.assertEqual((await self.now(first)).error, "RecursionError: toodeep")

    async def test_trouble(self) -> None:
        """While something is out of order it is tried again, but not without a pause; then nothing is missing."""
        await self.rule()
        await self.happen("app.x")
        tries = []

        async def act() -> bool:
            tries.append(1)
            self.follower._wake()  # there is news all the time
            raise ZeroDivisionError

        self.patch(self.follower, "act", act)
        running = Deferred.fromCoroutine(self.follower._run())
        self.assertEqual(len(tries), 1)
        self.clock.advance(1)
        self.assertEqual(len(tries), 2)
        self.follower._stopping = True
        self.clock.advance(1)
        await running
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    async def test_mail(self) -> None:
        """Mail to several is one job; what an event says is not taken for a template of the mailer."""
        await self.rule(action="mail", to=["a@example.com", "b@example.com"], subject="{{ event.data.title }}")
        await self.happen("app.x", data={"title": "{{ unsubscribe_url }}\r\nBcc: x@example.com", "text": "{% raw"})
        await self.act()
        [job] = await self.ordered()
        params = msgspec.json.decode(job.params)
        self.assertEqual([one["email"] for one in params["to"]], ["a@example.com", "b@example.com"])
        self.assertEqual((params["subject"], params["text"]), ("{{ rule_subject }}", "{{ rule_text }}"))
        said = {"rule_subject": "{{ unsubscribe_url }} Bcc: x@example.com", "rule_text": "{% raw"}
        self.assertEqual(params["to"][0]["vars"], said)

    async def test_message(self) -> None:
        """A message goes to each of those named, in a job of its own; what XML cannot hold is left out."""
        to = ["ann@chat.example", "room@rooms.chat.example"]
        await self.rule(principal("ann", "subscribe:app.#", "submit:*"), action="message", to=to)
        await self.happen("app.x", data={"title": "Hi \x0b\x00", "text": "there\x1b"})
        await self.act()
        told = [msgspec.json.decode(job.params) for job in await self.ordered()]
        self.assertEqual(sorted(params["to"] for params in told), to)
        self.assertEqual({params["body"] for params in told}, {"Hi\nthere"})
        for job in await self.ordered():
            TYPES["message"].decode(job.params)

    async def test_changed_meanwhile(self) -> None:
        """A rule that is switched off while its event is looked at sends nothing."""
        rule = await self.rule()
        await self.happen("app.x")
        found = self.follower._readable

        async def slow(wanted: Any) -> Any:
            await self.rules.change(principal(), rule.id, RuleChange(enabled=False))
            return await found(wanted)

        self.patch(self.follower, "_readable", slow)
        await self.act()
        self.assertEqual(await self.told(), [])

    # -- digests ------------------------------------------------------------------------------------------------------

    async def test_digest(self) -> None:
        """Events are collected, and told in one message when its time has come, once."""
        rule = await self.rule(digest=600)
        await self.happen("app.a", data={"title": "A"})
        await self.act()
        self.clock.advance(400)
        await self.happen("app.b", data={"title": "B"})
        await self.act()
        self.assertEqual((await self.told(), (await self.now(rule)).digest_count), ([], 2))
        self.clock.advance(201)
        await self.act(self.make_follower())
        await self.act()
        [job] = await self.ordered()
        params = msgspec.json.decode(job.params)
        self.assertEqual((params["event"], params["data"]["count"]), ("digest", 2))
        self.assertEqual(params["data"]["subject"], "R: 2 events")
        self.assertIn("app.a: A\n", params["data"]["text"])
        now = await self.now(rule)
        self.assertEqual((now.fired, now.digest_count, now.digest_due_ms), (1, 0, None))
        await self.happen("app.c")
        await self.act()
        self.assertEqual((await self.now(rule)).digest_count, 1)

    async def test_long_digest(self) -> None:
        """Of very many events the first hundred are shown, and all are counted."""
        await self.rule(digest=60)
        await self.happen(*(f"app.n{number}" for number in range(150)), data={"title": "x" * 10_000})
        await self.act()
        self.clock.advance(61)
        await self.act()
        [job] = await self.ordered()
        data = msgspec.json.decode(job.params)["data"]
        self.assertEqual((data["count"], len(data["events"]), data["events"][0]["data"]), (150, 100, None))
        self.assertIn("150 events in all", data["text"])

    async def test_digest_over_the_rate(self) -> None:
        """A digest that would be one message too many waits for its turn, and nothing that it has collected is lost."""
        rule = await self.rule(digest=60, hourly=1)
        for _ in range(2):
            await self.happen("app.a")
            await self.act()
            self.clock.advance(61)
            await self.act()
        now = await self.now(rule)
        self.assertEqual((len(await self.ordered()), now.fired, now.digest_count, now.held_back), (1, 1, 1, 0))
        await self.happen("app.b")
        await self.act()
        self.clock.advance(3600)
        await self.act()
        counts = [msgspec.json.decode(job.params)["data"]["count"] for job in await self.ordered()]
        self.assertEqual(sorted(counts), [1, 2])

    async def test_digest_of_two(self) -> None:
        """Two messengers that come to a digest at the same time send it once."""
        await self.rule(digest=60)
        await self.happen("app.a")
        await self.act()
        self.clock.advance(61)
        followers = [self.make_follower() for _ in range(4)]
        await gatherResults([Deferred.fromCoroutine(one.act()) for one in followers], consumeErrors=True)
        self.assertEqual(await self.told(), [1])


class SQLiteTests(FollowingContract, TestCase):
    def url(self) -> str:
        return f"sqlite:///{Path(self.mktemp()).absolute()}.sqlite3"


class PostgreSQLTests(FollowingContract, TestCase):
    def url(self) -> str:
        return postgres.fresh_database(self)

"""``/msgd.js`` in a real Chromium against a real msgd that is killed and restarted, through a gate that blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.notifier.browser_page import Gate, Page, reactor
from tests.servers.chromium import browser
from tests.stories.deployment import ALL_IN_ONE, Deployment, until


class LineTest(TestCase):
    """What becomes of a connection."""

    timeout = 600

    async def begin(self, *blocked: str) -> tuple[Deployment, Gate, Page]:
        """A server that runs, a gate before it that blocks, and a page that has no connection yet."""
        server = Deployment(ALL_IN_ONE)
        self.addCleanup(server.close)
        await deferToThread(server.start)
        self.token = await deferToThread(server.token)
        gate = Gate(server.port)
        url = gate.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(gate.stop()))
        gate.block(*blocked)
        return server, gate, Page(await browser(self, reactor), url)

    async def say(self, server: Deployment, *values: Any) -> None:
        """Publish past the gate."""
        for value in values:
            await deferToThread(server.call, "POST", "/api/events", event(value))

    def thread(self, work: Callable[[], Any]) -> Deferred[Any]:
        return deferToThread(work)

    async def kill_and_restart(self, server: Deployment, page: Page, during: str = "") -> None:
        """kill -9, then start again; what the page does meanwhile."""
        server.kill("msgd")
        await page.until("msgd.status !== 'online'")
        if during:
            await page.run(during)
        await self.thread(server.start)

    async def test_killed_server(self) -> None:
        """A server that is killed and restarted: the page goes on from its cursors, with what came before it did."""
        server, _, page = await self.begin()
        await page.begin(token=self.token)
        await page.run("watch('room.a')")
        await self.say(server, 1, 2)
        await page.until_seen([1, 2])
        await self.kill_and_restart(server, page)
        await self.say(server, 3)
        await page.until_seen([1, 2, 3])
        statuses = await page.run("return statuses.map(({ status }) => status)")
        self.assertEqual(statuses[0], "online")
        self.assertIn("waiting", statuses)
        self.assertEqual(await page.run("return gaps"), [])

    async def test_outbox(self) -> None:
        """What is published and submitted while the server is gone, or is under way when it dies, arrives once."""
        server, _, page = await self.begin()
        await page.begin(token=self.token)
        await page.run("await watch('room.a').ready")
        await page.run("for (let n = 0; n < 100; n += 1) msgd.publish('room.a', 'said', n)")
        await self.kill_and_restart(
            server,
            page,
            """
            for (let n = 100; n < 120; n += 1) msgd.publish('room.a', 'said', n);
            window.job = msgd.submit('crawl', { url: 'http://127.0.0.1:9/', match: [{ text: 'x' }] });
            """,
        )
        await page.until("msgd.pending === 0")
        await page.until("seen.length >= 120")
        self.assertEqual(await page.run("return seen"), list(range(120)))
        self.assertEqual(len(await self.thread(lambda: server.events("room.a"))), 120)
        job = await page.run("return job")
        self.assertEqual((await self.thread(lambda: server.job(job["id"])))["id"], job["id"])

    async def test_lost_answers(self) -> None:
        """What arrived, and whose answer was lost with the connection, is sent again and counts once."""
        server, gate, page = await self.begin()
        for transport in ("websocket", "longpoll"):
            await page.begin(token=self.token, transports=[transport])
            topic = f"room.{transport}"
            await page.run("await watch(given[0]).ready", topic)
            gate.muted = True
            await page.run("for (let n = 0; n < 10; n += 1) msgd.publish(given[0], 'said', n)", topic)
            await self.thread(partial(until, partial(server.events, topic), "an event arrived"))
            gate.cut()
            gate.muted = False
            await page.until_seen(list(range(10)))
            await page.until("msgd.pending === 0")
            self.assertEqual(len(await self.thread(partial(server.events, topic))), 10)

    async def test_fallback(self) -> None:
        """Without WebSockets it comes by server-sent events, from the same cursors; when they pass again, by them."""
        server, gate, page = await self.begin("socket")
        await page.begin(token=self.token, upgradeAfter=1000)
        await page.run(
            "window.all = []; watch('room.a'); watch('room.*', { onEvent: (event) => all.push(event.data) })"
        )
        await page.until("msgd.transport === 'sse'")
        await page.run("await msgd.publish('room.a', 'said', 1)")
        await page.until_seen([1])
        await self.kill_and_restart(server, page)
        await self.say(server, 2)
        await page.until_seen([1, 2])
        self.assertEqual(await page.run("return msgd.transport"), "sse")
        gate.blocked = {}
        await page.until("msgd.transport === 'websocket'")
        await self.say(server, 3)
        await page.until_seen([1, 2, 3])
        gate.block("socket")  # again, after it has worked
        await self.say(server, 4)
        await page.until_seen([1, 2, 3, 4])
        self.assertEqual(await page.run("return msgd.transport"), "sse")
        await page.until("all.length >= 4")
        self.assertEqual(await page.run("return all"), [1, 2, 3, 4])

    async def test_held_back(self) -> None:
        """A proxy that says nothing to WebSockets, and holds streams back, is found out too."""
        server, gate, page = await self.begin()
        gate.hold_back("socket", "stream")
        await page.begin(token=self.token)
        await page.run("watch('room.a')")
        await self.say(server, 1)
        await page.until_seen([1])
        await page.until("msgd.transport === 'longpoll'")

    async def test_many_topics(self) -> None:
        """Over HTTP as many topics are watched as over a WebSocket, and one more is refused."""
        server, _, page = await self.begin("socket")
        await page.begin(token=self.token)
        await page.run("for (let n = 0; n < 129; n += 1) watch(`room.r${n}`, { since: n % 3 ? '0' : undefined })")
        await page.until("ready.length >= 129 && errors.length === 1")
        self.assertEqual(await page.run("return [errors, msgd.transport]"), [["overloaded"], "sse"])
        topics = [0, 40, 70, 127]
        for number in topics:
            topic = f"room.r{number}"
            await deferToThread(server.call, "POST", "/api/events", event(topic, topic))
            await page.until(f"seen.includes('{topic}')")
        self.assertEqual(await page.run("return seen"), [f"room.r{number}" for number in topics])

    async def test_renewal_of_a_stream(self) -> None:
        """A token near its end is renewed for streams and polls as well, and one that is revoked ends them."""
        server, _, page = await self.begin("socket")
        short = await self.thread(lambda: server.command("token", "--sub", "ann", "--can", "admin:#", "--ttl", "4s"))
        await page.begin(tokens=[short.stdout.strip(), self.token])
        await page.run("watch('room.a')")
        await page.until("tokens.length === 0", "a new token to be asked for")
        await page.until(f"Date.now() > {(reactor.seconds() + 5) * 1000}", "the old token's end")
        await self.say(server, 1)
        await page.until_seen([1])
        self.assertEqual(await page.run("return msgd.transport"), "sse")
        refused = await page.another()
        await refused.begin(token=short.stdout.strip())
        await refused.until("msgd.status === 'refused'")

    async def test_long_poll(self) -> None:
        """Without streams either it comes by long-poll; publishing, jobs and history go by requests."""
        server, _, page = await self.begin("socket", "stream")
        await page.begin(token=self.token)
        await page.run("watch('room.a')")
        await page.until("msgd.transport === 'longpoll'")
        await page.run("await msgd.publish('room.a', 'said', 1)")
        await page.until_seen([1])
        await self.kill_and_restart(server, page)
        await self.say(server, 2)
        await page.run("await msgd.publish('room.a', 'said', 3)")
        await page.until_seen([1, 2, 3])
        job = await page.run("return msgd.submit('crawl', { url: 'http://127.0.0.1:9/', match: [{ text: 'x' }] })")
        await page.run("window.states = []; watch(given[0], { onState: (one) => states.push(one.id) })", job["topic"])
        await page.until("states.length > 0")
        self.assertEqual((await page.run("return msgd.cancel(given[0])", job["id"]))["id"], job["id"])
        # Another topic joins, from its own place; the first goes on from its.
        await page.run("window.late = watch('room.*', { since: undefined }); await late.ready")
        await self.say(server, 4)
        await page.until("seen.filter((one) => one === 4).length === 2")
        self.assertEqual(await page.run("return seen.filter((one) => one > 0)"), [1, 2, 3, 4, 4])

    async def test_shared(self) -> None:
        """Tabs share one connection; when the one that has it is closed, another goes on with nothing lost."""
        server, gate, page = await self.begin()
        await page.begin(token=self.token, share=True)
        await page.until("msgd.status === 'online'")
        others = [await page.another(), await page.another()]
        for other in others:
            await other.begin(token=self.token, share=True)
            await other.until("msgd.status === 'online'")
        for one in (page, *others):
            await one.run("await watch('room.a').ready")
        await self.say(server, 1)
        await others[0].run("await msgd.publish('room.a', 'said', 2)")
        for one in (page, *others):
            await one.until_seen([1, 2])
        self.assertEqual(gate.sockets, 1)
        self.assertTrue(await others[0].run("return statuses.at(-1).shared"))

        await page.close()
        await self.say(server, 3)
        for one in others:
            await one.until_seen([1, 2, 3])
        await others[1].run("await msgd.publish('room.a', 'said', 4)")
        for one in others:
            await one.until_seen([1, 2, 3, 4])
        self.assertEqual(gate.sockets, 2)

        await self.kill_and_restart(server, others[1], "msgd.publish('room.a', 'said', 5)")
        for one in others:
            await one.until_seen([1, 2, 3, 4, 5])

    async def test_shared_and_refused(self) -> None:
        """Tabs that share and are refused: a tab that gets a good token has a connection, and the others share it."""
        _, gate, page = await self.begin()
        bad = self.token[:-4] + "AAAA"  # of the same principal, and not signed
        await page.begin(token=bad, share=True)
        other = await page.another()
        await other.begin(token=bad, share=True)
        for tab in (page, other):
            await tab.until("msgd.status === 'refused'")
        tried = gate.sockets
        await other.run("msgd.reconnect(given[0]); await watch('room.a').ready", self.token)
        await page.run("msgd.reconnect(given[0]); await watch('room.a').ready", self.token)
        await page.run("await msgd.publish('room.a', 'said', 1)")
        for tab in (page, other):
            await tab.until_seen([1])
        self.assertEqual(gate.sockets, tried + 1)

    async def test_not_shared(self) -> None:
        """Tabs of different principals have a connection each."""
        server, gate, page = await self.begin()
        await page.begin(token=self.token, share=True)
        await page.until("msgd.status === 'online'")
        other = await page.another()
        await other.begin(token=await self.thread(lambda: server.token("bob", "subscribe:room.*")), share=True)
        await other.until("msgd.status === 'online'")
        self.assertEqual(gate.sockets, 2)
        self.assertEqual(await other.run("return statuses.at(-1).sub"), "bob")

    async def test_drain(self) -> None:
        """A server that stops says when to come back, and the page waits for that moment."""
        server, _, page = await self.begin()
        await page.begin(token=self.token)
        await page.run("watch('room.a')")
        await page.until("msgd.status === 'online'")
        await self.thread(lambda: server.stop("msgd"))
        await page.until("statuses.some(({ status, code }) => status === 'waiting' && code === 4000)")
        await self.thread(server.start)
        await self.say(server, 1)
        await page.until_seen([1])

    async def test_weather(self) -> None:
        """Whatever the network does, in two tabs that share and one that does not: each event once, in order."""
        server, gate, page = await self.begin()
        await page.begin(token=self.token, share=True, upgradeAfter=200)
        follower, single = await page.another(), await page.another()
        await follower.begin(token=self.token, share=True, upgradeAfter=200)
        await single.begin(token=self.token, upgradeAfter=200)
        tabs = (page, follower, single)
        for tab in tabs:
            await tab.run(
                """
                window.looped = [];
                watch('room.a');
                const all = msgd.subscribe('room.*', { since: '0' });
                (async () => { for await (const { data } of all) looped.push(data); })();
                """
            )
        chance = Random(20)
        for number in range(30):
            await self.say(server, number)
            gate.block(*chance.choice([(), (), (), ("socket",), ("socket", "stream")]))
            if number % 10 == 5:
                for tab in tabs:
                    await tab.run("msgd.publish('room.b', 'said', given[0])", f"{tabs.index(tab)}-{number}")
        gate.block()
        await self.say(server, "end")
        for tab in tabs:
            await tab.until_seen([*range(30), "end"])
            await tab.until("looped.length === 40")
            looped = await tab.run("return looped")
            self.assertEqual([one for one in looped if "-" not in str(one)], [*range(30), "end"])
            self.assertEqual(len(set(map(str, looped))), 40)


def event(data: Any, topic: str = "room.a") -> dict[str, Any]:
    return {"topic": topic, "type": "said", "data": data}

"""``/msgd.js`` in a real Chromium: what a page can do with a connection."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import Site
from twisted.web.static import Data

from msgd.config.settings import Limits
from msgd.config.settings import Notifier as Settings
from msgd.notifier import doors
from tests.notifier.browser_page import Page, Refused
from tests.notifier.socket import Client
from tests.notifier.world import World, WorldCase, header, reactor, token
from tests.servers.chromium import browser


class ClientTest(WorldCase):
    """One page, one connection."""

    timeout = 600

    async def page(self, world: World, **options: Any) -> Page:
        """A page with a connection; of ann, who may do everything, unless a token is given."""
        if not {"token", "tokens"} & set(options):
            options["token"] = token()
        return await Page(await browser(self, reactor), world.url).begin(**options)

    async def begin(self, **options: Any) -> tuple[World, Page]:
        """A world that records what is published, and a page."""
        world = await self.world()
        await world.scribe.listen()
        return world, await self.page(world, **options)

    async def say(self, world: World, *values: Any, topic: str = "room.a") -> None:
        await world.scribe.record([world.event(topic, data=value) for value in values])

    def cut(self, world: World) -> None:
        """Break all WebSockets."""
        for connection in world.doors():
            connection.transport.abortConnection()

    async def test_subscribe_and_publish(self) -> None:
        """History, then live, in order; ``ready`` and ``cursor`` say where one is; ``publish`` gives the id."""
        world, page = await self.begin()
        await self.say(world, 1, 2)
        await page.run("window.subscription = watch('room.a'); await subscription.ready;")
        answer = await page.run("return msgd.publish('room.a', 'said', 3, { id: 'three' })")
        self.assertEqual(answer, {"id": "three"})
        await page.until_seen([1, 2, 3])
        cursor = await page.run("return subscription.cursor")
        self.assertEqual(cursor.rpartition("-")[2], "3")
        self.assertEqual(
            await page.run("return [msgd.status, msgd.transport, msgd.pending]"), ["online", "websocket", 0]
        )
        await page.run("subscription.close()")
        page_of = await page.run("return msgd.history('room.a', { limit: 2 })")
        self.assertEqual([event["data"] for event in page_of["events"]], [2, 3])
        older = await page.run("return msgd.history('room.a', { before: given[0] })", page_of["events"][0]["cursor"])
        self.assertEqual([event["data"] for event in older["events"]], [1])

    async def test_jobs(self) -> None:
        """``submit`` answers with the job, once for a key; its topic begins with its state; ``cancel`` ends it."""
        _, page = await self.begin()
        job = await page.run("return msgd.submit('paint', { colour: 'red' }, { key: 'k' })")
        self.assertEqual(set(job), {"id", "topic", "state"})
        again = await page.run("return msgd.submit('paint', { colour: 'red' }, { key: 'k' })")
        self.assertEqual(again["id"], job["id"])
        await page.run(
            "window.states = []; watch(given[0], { onState: (job) => states.push(job.state) })", job["topic"]
        )
        await page.until("states.length === 1")
        self.assertEqual((await page.run("return msgd.cancel(given[0])", job["id"]))["id"], job["id"])
        with self.assertRaises(Refused) as caught:
            await page.run("return msgd.submit('paint', { colour: 5 })")
        self.assertEqual(caught.exception.code, "invalid-params")

    async def test_several_subscribers(self) -> None:
        """Each subscriber of a topic has a place of its own: none is shown what it has seen, or misses what is new."""
        world, page = await self.begin()
        await self.say(world, 1, 2)
        await page.run("await watch('room.a').ready;")
        await page.until_seen([1, 2])
        await page.run(
            """
            window.first = []; window.fresh = [];
            window.late = watch('room.a', { onEvent: (event) => first.push(event.data) });
            const now = watch('room.a', { since: undefined, onEvent: (event) => fresh.push(event.data) });
            await Promise.all([late.ready, now.ready]);
            """
        )
        await self.say(world, 3)
        await page.until_seen([1, 2, 3])
        await page.until("first.length === 3 && fresh.length === 1")
        self.assertEqual(await page.run("return [first, fresh]"), [[1, 2, 3], [3]])
        await page.run("late.close()")
        self.cut(world)
        await self.say(world, 4)
        await page.until_seen([1, 2, 3, 4])
        await page.until("fresh.length === 2")
        self.assertEqual(await page.run("return first"), [1, 2, 3])

    async def test_late_subscribers(self) -> None:
        """Who joins while the history still comes is shown what lies after its own place, and no more."""
        world, page = await self.begin()
        for start in range(0, 3000, 500):
            await self.say(world, *range(start, start + 500))
        middle = (await world.call("GET", "/api/events?topics=room.a&since=0&limit=1000"))[1]["cursor"]
        await page.until("msgd.status === 'online'")
        await page.run(
            """
            window.fresh = []; window.half = [];
            watch('room.a');
            const now = watch('room.a', { since: undefined, onEvent: (event) => fresh.push(event.data) });
            watch('room.a', { since: given[0], onEvent: (event) => half.push(event.data) });
            await now.ready;
            """,
            middle,
        )
        await self.say(world, "end")
        await page.until_seen([*range(3000), "end"])
        await page.until("fresh.includes('end') && half.includes('end')")
        self.assertEqual(await page.run("return fresh"), ["end"])
        self.assertEqual(await page.run("return half"), [*range(1000, 3000), "end"])

    async def test_loop(self) -> None:
        """``for await`` reads what a slow page can take, however much waits, and ``break`` ends the subscription."""
        world, page = await self.begin()
        numbers = list(range(2500))
        for start in range(0, 2500, 500):
            await self.say(world, *numbers[start : start + 500])
        await page.run(
            """
            window.read = []; window.ended = false;
            window.loop = msgd.subscribe('room.a', { since: '0' });
            (async () => {
              for await (const event of loop) {
                read.push(event.data);
                if (read.length === 1) await new Promise((go) => window.go = go);
                if (event.data === 'end') break;
              }
              ended = true;
            })();
            """
        )
        await page.until("read.length === 1")
        await self.say(world, "end")
        self.assertIsNone(await page.run("go()"))
        await page.until("ended")
        self.assertEqual(await page.run("return read"), [*numbers, "end"])

    async def test_closed(self) -> None:
        """``close`` ends all: loops, what waits to be granted, and what waits to be sent."""
        _, page = await self.begin(token="nonsense")
        await page.run(
            """
            window.ended = [];
            window.loop = msgd.subscribe('room.a');
            (async () => { for await (const event of loop) seen.push(event); ended.push('loop'); })();
            loop.ready.catch((error) => ended.push(`ready ${error.code}`));
            msgd.publish('room.a', 'said', 1).catch((error) => ended.push(`publish ${error.code}`));
            await Promise.resolve();
            msgd.close();
            """
        )
        await page.until("ended.length === 3")
        self.assertEqual(sorted(await page.run("return ended")), ["loop", "publish closed", "ready closed"])
        with self.assertRaises(Refused) as caught:
            await page.run("msgd.subscribe('room.a')")
        self.assertEqual(caught.exception.code, "closed")

    async def test_gap(self) -> None:
        """What is not kept any more is told, over each transport, before what follows it."""
        world = await self.world()
        await self.say(world, 1, 2)
        first = (await world.call("GET", "/api/topics/room.a/events"))[1]["events"][0]["cursor"]
        page = await self.page(world)
        await world.journal.erase("room.a")
        await self.say(world, 3)
        for number, transport in enumerate(("websocket", "sse", "longpoll"), 1):
            await page.begin(token=token(), transports=[transport])
            await page.run("watch('room.a', { since: given[0] })", first)
            await page.until_seen([3])
            gaps = await page.run("return gaps")
            self.assertEqual([(gap["topic"], gap["reason"]) for gap in gaps], [("room.a", "erased")], number)

    async def test_refused_subscription(self) -> None:
        """A refusal ends the subscription, by ``onError``, ``ready`` and the loop; the connection goes on."""
        world = await self.world()
        page = await self.page(world, token=token("ann", "subscribe:room.*"))
        await page.run("await watch('room.a').ready; window.other = watch('secret')")
        await page.until("errors.length === 1")
        self.assertEqual(await page.run("return errors"), ["forbidden"])
        for script in ("await other.ready", "for await (const event of msgd.subscribe('secret')) seen.push(event)"):
            with self.assertRaises(Refused) as caught:
                await page.run(script)
            self.assertEqual(caught.exception.code, "forbidden")
        await self.say(world, 1)
        await page.until_seen([1])

    async def test_refused_token(self) -> None:
        """A token that is no good ends it: ``refused``, no reconnecting; another token mends it."""
        world = await self.world()
        page = await self.page(world, token="nonsense")
        await page.until("msgd.status === 'refused'")
        self.assertEqual(await page.run("return statuses.at(-1).code"), 4101)
        await page.run("watch('room.a'); msgd.reconnect(given[0])", token())
        await self.say(world, 1)
        await page.until_seen([1])

    async def test_one_connection_too_many(self) -> None:
        """Sent away because there are too many, it waits as long as it is told, and comes again in the same way."""
        self.patch(doors, "CROWDED_S", 3600.0)
        world = await self.world(limits=Limits(connections=1))
        other = await Client().connect(world)
        await other.next("welcome")
        page = await self.page(world)
        await page.until("msgd.status === 'waiting'")
        status, left_ms = await page.run("return [statuses.at(-1), msgd.retryAt - Date.now()]")
        self.assertEqual(status["code"], 4002)
        self.assertGreater(left_ms, 3_000_000)
        await other.close()
        await page.run("msgd.reconnect()")
        await page.until("msgd.status === 'online'")
        self.assertEqual(await page.run("return msgd.transport"), "websocket")

    async def test_renewal(self) -> None:
        """A token, be it with a line break, is renewed in band near its end; the connection stays, and is good."""
        world = await self.world()
        page = await self.page(world, tokens=[token(ttl_s=4) + "\n", token("ann", "subscribe:room.*")])
        await page.run("await watch('room.a').ready")
        await page.until("tokens.length === 0", "a new token to be asked for")
        (connection,) = world.doors()
        await page.until(f"Date.now() > {world.now_ms() + 5000}", "the old token's end")
        await self.say(world, 1)
        await page.until_seen([1])
        self.assertEqual(world.doors(), [connection])

    async def test_reload(self) -> None:
        """With ``keep`` a reloaded page goes on where it was: what came meanwhile, and nothing twice."""
        world, page = await self.begin(keep="ann")
        await self.say(world, 1, 2)
        await page.run("await watch('room.a').ready")
        await page.until_seen([1, 2])
        await page.chromium.reload()
        await self.say(world, 3)
        await page.begin(token=token(), keep="ann")
        await page.run("watch('room.a')")
        await page.until_seen([3])

    async def test_outbox_over_reloads(self) -> None:
        """What could not be sent is kept where one wants it: the next page sends it, once."""
        _, page = await self.begin(keep="ann", outbox={"keep": True}, token="nonsense")
        await page.until("msgd.status === 'refused'")
        await page.run("for (const n of [1, 2, 3]) msgd.publish('room.a', 'said', n)")
        await page.begin(token=token(), keep="ann", outbox={"keep": True})
        await page.run("watch('room.a')")
        await page.until_seen([1, 2, 3])
        await page.until("msgd.pending === 0")
        await page.until("sessionStorage.length === 1", "nothing but the cursor to be kept")

    async def test_outbox_is_bounded(self) -> None:
        """An outbox that is full refuses at once, and says so."""
        _, page = await self.begin(token="nonsense", outbox={"count": 2})
        await page.run("for (const n of [1, 2]) msgd.publish('room.a', 'said', n).catch(() => {})")
        with self.assertRaises(Refused) as caught:
            await page.run("await msgd.publish('room.a', 'said', 3)")
        self.assertEqual(caught.exception.code, "overloaded")

    async def test_presence_and_typing(self) -> None:
        """``onPresence`` tells who is there, now and when that changes; ``typing`` shows to who is live."""
        _, page = await self.begin()
        other = await page.another()
        await other.begin(token=token("bob"))
        await page.run(
            """
            window.there = []; window.types = [];
            await watch('room.a', { since: undefined, onPresence: ({ members }) => there.push(members.join()),
              onEvent: (event) => types.push([event.type, event.cursor]) }).ready;
            """
        )
        await page.until("there.at(-1) === 'ann'")
        await other.run("await watch('room.a').ready")
        await page.until("there.at(-1) === 'ann,bob'")
        self.assertEqual((await page.run("return msgd.presence('room.a')"))["count"], 2)
        await other.run("await msgd.typing('room.a')")
        await page.until("types.length > 0")
        self.assertEqual(await page.run("return types[0]"), ["typing", None])

    async def test_large_event(self) -> None:
        """What does not fit a WebSocket message of the server's goes by a request."""
        world, page = await self.begin()
        await page.until("msgd.status === 'online'")
        await page.run("watch('room.a', { onEvent: (event) => seen.push(event.data.length) })")
        await page.run("await msgd.publish('room.a', 'said', 'x'.repeat(500000))")
        await page.until_seen([500000])
        self.assertEqual(len(world.doors()), 1)

    async def test_worker(self) -> None:
        """A module worker can use it as a page does."""
        world, page = await self.begin()
        await self.say(world, 1)
        await page.run(
            """
            const code = `import { Connection } from "${location.origin}/msgd.js";
              new Connection({ token: "${given[0]}" }).subscribe("room.a", {
                since: "0", onEvent: (event) => postMessage(event.data) });`;
            const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
            const worker = new Worker(address, { type: "module" });
            worker.onmessage = ({ data }) => seen.push(data);
            """,
            token(),
        )
        await page.until_seen([1])

    async def test_other_origin(self) -> None:
        """A page of an origin in ``notifier.cors`` imports the module from here, and is served here."""
        page_world = await self.world()
        world = await self.world(Settings(cors=(page_world.url,)))
        page = Page(await browser(self, reactor), page_world.url)
        await page.begin(token=token())
        await page.run(
            """
            const { Connection } = await import(`${given[0]}/msgd.js`);
            window.there = new Connection({ token: given[1] });
            there.subscribe('room.a', { since: '0', onEvent: (event) => seen.push(event.data) });
            """,
            world.url,
            token(),
        )
        await self.say(world, 1)
        await page.until_seen([1])
        self.assertEqual(await page.run("return (await there.history('room.a')).events.length"), 1)

    async def test_chat_of_the_docs(self) -> None:
        """The chat in ``docs/javascript.rst`` works as it stands there, on a page of another origin."""
        text = (Path(__file__).parents[2] / "docs" / "javascript.rst").read_text()
        html = dedent(text.partition("prints::\n\n")[2].partition("\n\nA page of another")[0])
        root: Any = Resource()
        site = reactor.listenTCP(0, Site(root), interface="127.0.0.1")
        self.addCleanup(site.stopListening)
        origin = f"http://127.0.0.1:{site.getHost().port}"
        world = await self.world(Settings(cors=(origin,)))
        await world.scribe.listen()
        root.putChild(b"", Data(html.replace("https://push.example.com", world.url).encode(), "text/html"))
        root.putChild(b"msgd-token", Data(token("anna", "subscribe:room.*", "publish:room.*").encode(), "text/plain"))
        chromium = await browser(self, reactor)
        await chromium.open(origin)
        await chromium.wait_for_texts("#status", lambda texts: list(texts) == ["online"])
        await chromium.wait_for_texts("#who", lambda texts: list(texts) == ["Here: anna"])
        await chromium.fill("#text", "Hello <b>all</b>")
        await chromium.click("button")
        await chromium.wait_for_texts("#log li", lambda texts: list(texts) == ["anna: Hello <b>all</b>"])

    async def test_types(self) -> None:
        """The types are served beside the module."""
        world = await self.world()
        status, body, response = await world.call("GET", "/msgd.d.ts", who=None)
        self.assertEqual((status, header(response, "content-type")), (200, "application/typescript; charset=utf-8"))
        self.assertIn(b"export class Connection", body)
        _, _, response = await world.call("GET", "/msgd.js", who=None)
        self.assertEqual(header(response, "x-typescript-types"), "./msgd.d.ts")

"""How much one principal and one stranger may ask for, whose word is taken for where they are, and what the cookie is
good for."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from msgd.config.settings import Limits
from msgd.config.settings import Notifier as Settings
from msgd.errors import RateLimited
from msgd.notifier import operations as ops
from msgd.notifier.allowances import BURST_S
from msgd.notifier.proxies import Proxies
from msgd.notifier.quotas import Held, Rate, refuse
from tests.notifier.socket import Client
from tests.notifier.world import World, WorldCase, header, pause, token

PROXY = Settings(trusted_proxies=("127.0.0.0/8",))

moves = st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5), st.floats(0.1, 5)), max_size=60)


class RateTest(SynchronousTestCase):
    """Token buckets."""

    @given(moves, st.floats(0.1, 10), st.floats(1, 20))
    def test_bound(self, moves: list[tuple[str, float, float]], rate: float, burst: float) -> None:
        """In any stretch of time no key gets more than a burst and the rate allow, and what is one key's is not
        another's; who waits as long as he is told gets in."""
        buckets, now_s = Rate(rate, burst), 0.0
        taken: dict[str, list[tuple[float, float]]] = {"a": [], "b": []}
        for key, pause_s, amount in moves:
            now_s += pause_s
            amount = min(amount, burst)
            wait_s = buckets.take(key, now_s, amount)
            if wait_s > 0:
                now_s += wait_s + 1e-6
                self.assertEqual(buckets.take(key, now_s, amount), 0.0)
            taken[key].append((now_s, amount))
        for takes in taken.values():
            for first in range(len(takes)):
                total = 0.0
                for at_s, amount in takes[first:]:
                    total += amount
                    self.assertLessEqual(total, burst + rate * (at_s - takes[first][0]) + 1e-3)

    def test_more_than_a_burst(self) -> None:
        """What is larger than a burst is let through at a full bucket, and paid off."""
        buckets = Rate(1.0, 10.0)
        self.assertEqual(buckets.take("a", 0.0, 30), 0.0)
        self.assertEqual(buckets.take("a", 0.0), 21.0)
        self.assertEqual(buckets.take("a", 21.0), 0.0)

    def test_no_limit(self) -> None:
        """0 is none, and keeps nothing."""
        buckets = Rate(0.0, 1.0)
        self.assertEqual([buckets.take("a", 0.0, 1e9) for _ in range(5)], [0.0] * 5)
        self.assertEqual(len(buckets), 0)

    def test_forgotten(self) -> None:
        """Buckets that are full again are dropped; one that is not stays."""
        buckets = Rate(1.0, 10.0)
        for number in range(1000):
            buckets.take(f"{number}", 0.0)
        buckets.take("busy", 0.0, 10)
        buckets.take("late", 10.0, 10)
        buckets.take("late", 11.0)
        self.assertLessEqual(len(buckets), 2)
        self.assertGreater(buckets.take("late", 11.0), 0.0)

    def test_bounded(self) -> None:
        """However many keys there are, memory is bounded, and who is at the limit stays known."""
        buckets = Rate(1.0, 10.0, most=100)
        buckets.take("busy", 0.0, 10)
        for number in range(10_000):
            buckets.take(f"{number}", 0.001 * number)
            self.assertLessEqual(len(buckets), 101)
            if number == 5_000:
                self.assertGreater(buckets.take("busy", 5.0, 10), 0.0)

    def test_clock_set_back(self) -> None:
        """Time that goes back gives nothing and locks nobody out for longer."""
        buckets = Rate(1.0, 2.0)
        buckets.take("a", 1000.0, 2)
        self.assertEqual(buckets.take("a", 10.0), 1.0)
        self.assertEqual(buckets.take("a", 1001.0), 0.0)

    def test_refuse(self) -> None:
        """The time is told, rounded so that whoever comes then is let in."""
        refuse(0.0, "requests")
        error = self.assertRaises(RateLimited, refuse, 0.42, "requests")
        self.assertEqual(error.retry_after, 0.5)

    @given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), max_size=50), st.integers(0, 3))
    def test_held(self, steps: list[tuple[str, bool]], most: int) -> None:
        """Nobody holds more than the most, and what is given back is nobody's."""
        held, counts = Held(most), {"a": 0, "b": 0}
        for key, take in steps:
            if take:
                may = most == 0 or counts[key] < most
                self.assertEqual(held.take(key), may)
                counts[key] += may
            elif counts[key]:
                held.give_back(key)
                counts[key] -= 1
        self.assertEqual(len(held), sum(count > 0 for count in counts.values()))


class ProxiesTest(SynchronousTestCase):
    """Whose word is taken."""

    def look(self, peer: str, *trusted: str, secure: bool = False, **headers: str) -> tuple[str, str, bool]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        asked = Proxies(trusted).look(peer, lambda name: given.get(name, ""), secure=secure)
        return asked.address, asked.host, asked.secure

    def test_strangers(self) -> None:
        """What anybody writes into a request counts for nothing."""
        lies: dict[str, Any] = {
            "x_forwarded_for": "1.2.3.4",
            "x_forwarded_host": "evil",
            "x_forwarded_proto": "https",
            "host": "us",
        }
        self.assertEqual(self.look("9.9.9.9", **lies), ("9.9.9.9", "us", False))
        self.assertEqual(self.look("9.9.9.9", "10.0.0.0/8", **lies), ("9.9.9.9", "us", False))
        self.assertEqual(self.look("127.0.0.1", "unix", **lies), ("", "us", False))

    def test_known(self) -> None:
        """Of the hops the last that is none of ours counts: those before it are hearsay."""
        for hops, address in (
            ("1.2.3.4", "1.2.3.4"),
            ("6.6.6.6, 1.2.3.4", "1.2.3.4"),
            ("6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4"),
            ("1.2.3.4:5678,10.0.0.7:1", "1.2.3.4"),
            ("[2001:db8::1]:443", "2001:db8::/64"),
            ("2001:db8:0:0:1:2:3:4", "2001:db8::/64"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("1.2.3.4, unknown", "10.0.0.1"),
            ("", "10.0.0.1"),
            ("10.0.0.9", "10.0.0.9"),
        ):
            self.assertEqual(self.look("10.0.0.1", "10.0.0.0/8", x_forwarded_for=hops)[0], address, hops)

    def test_host_and_scheme(self) -> None:
        """A proxy tells what the browser asked for; our own TLS counts where it says nothing."""
        more: dict[str, Any] = {
            "host": "inner:8080",
            "x_forwarded_host": "dash.example.com",
            "x_forwarded_proto": "https",
        }
        self.assertEqual(self.look("", "unix", **more), ("", "dash.example.com", True))
        self.assertEqual(self.look("9.9.9.9", secure=True, host="us"), ("9.9.9.9", "us", True))
        self.assertEqual(self.look("::1", "::1/128", secure=True, x_forwarded_proto="http")[2], False)

    @given(st.text(), st.text())
    def test_anything(self, peer: str, hops: str) -> None:
        """Nothing that is written there breaks anything."""
        self.look(peer, "0.0.0.0/0", "::/0", x_forwarded_for=hops)


class LimitsCase(WorldCase):
    """A test with worlds and clients."""

    async def client(self, world: World, who: str | None = "", address: str = "") -> Client:
        headers = {"X-Forwarded-For": address} if address else {}
        client = await Client().connect(world, who=who, headers=headers)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client


class PrincipalTest(LimitsCase):
    """What one principal may ask for, whatever token and transport it uses."""

    async def test_requests(self) -> None:
        """Beyond its rate 429, with the time to come again; nobody else notices."""
        world = await self.world(limits=Limits(requests=0.5))
        world.stop_time()
        statuses = [(await world.call("GET", "/api/jobs"))[0] for _ in range(int(0.5 * BURST_S))]
        self.assertEqual(set(statuses), {200})
        status, problem, response = await world.call("GET", "/api/jobs", who=token("ann", "subscribe:#", ttl_s=50))
        self.assertEqual((status, problem["code"]), (429, "rate-limited"))
        self.assertIn(header(response, "retry-after"), ("1", "2"))
        self.assertEqual((await world.call("GET", "/api/jobs", who=token("bob")))[0], 200)
        self.assertEqual((await world.call("GET", "/healthz", who=None))[0], 200)

    async def test_operations(self) -> None:
        """On WebSockets an error says so; the connection stays, and all of them count together."""
        world = await self.world(limits=Limits(operations=1))
        world.stop_time()
        clients = [await self.client(world) for _ in range(2)]
        answers = [await clients[number % 2].answer("ping") for number in range(int(BURST_S) + 4)]
        refused = [answer for answer in answers if answer["op"] == "error"]
        self.assertGreater(len(refused), 0)
        self.assertEqual(refused[0]["code"], "rate-limited")
        self.assertGreater(refused[0]["retry_after"], 0)
        self.assertTrue(all(client.open for client in clients))

    async def test_publishes(self) -> None:
        """Events are counted, not requests, by whatever transport they come."""
        world = await self.world(limits=Limits(publishes=1))
        world.stop_time()
        client = await self.client(world)
        events = [{"topic": "room.a", "type": "said"}] * int(BURST_S)
        self.assertEqual((await world.call("POST", "/api/events", events))[0], 202)
        self.assertEqual((await world.call("POST", "/api/events", events))[0], 429)
        self.assertEqual((await client.answer("publish", topic="room.a", type="said"))["code"], "rate-limited")

    async def test_connections(self) -> None:
        """WebSockets, event streams and long-polls count together; one more is told when to come again."""
        world = await self.world(limits=Limits(connections=3))
        first = await self.client(world)
        second = await self.client(world, who=None)
        second.say("hello", token=token())
        await second.next("welcome")
        poll = Deferred.fromCoroutine(world.call("GET", "/api/topics/room.a/events?wait=20"))
        while len(world.doors()) < 3:
            await pause(0.01)
        status, _, response = await world.call("GET", "/api/topics/room.a/events?wait=1")
        self.assertEqual(status, 429)
        self.assertTrue(response.headers.hasHeader("retry-after"))
        # A browser that is answered otherwise than by 200 never opens its event stream again.
        status, body, _ = await world.call("GET", "/api/topics/room.a/events", headers={"Accept": "text/event-stream"})
        self.assertEqual(status, 200)
        for said in (b"event: error", b'"rate-limited"', b"retry: 30000", b"event: drain"):
            self.assertIn(said, body)
        for how in ("handshake", "hello"):
            third = await self.client(world, who="" if how == "handshake" else None)
            if how == "hello":
                third.say("hello", token=token())
            error = await third.next("error")
            self.assertEqual(error["code"], "rate-limited")
            self.assertGreater(error["retry_after"], 0)
            self.assertEqual((await third.ended)[0], ops.CROWDED)
        other = await self.client(world, who=token("bob"))
        await other.next("welcome")
        await first.close()
        again = await self.client(world)
        await again.next("welcome")
        await world.scribe.record([world.event("room.a")])
        self.assertEqual((await poll)[0], 200)

    async def test_subscriptions(self) -> None:
        """Those of all its WebSockets count together, until they are over, however that comes."""
        world = await self.world(limits=Limits(subscriptions=100))
        first, second = [await self.client(world) for _ in range(2)]
        for number in range(60):
            self.assertEqual((await first.subscribe(f"room.a{number}"))["op"], "subscribed")
        for number in range(40):
            self.assertEqual((await second.subscribe(f"room.b{number}"))["op"], "subscribed")
        self.assertEqual((await second.subscribe("room.c"))["code"], "rate-limited")
        await second.answer("unsubscribe", topic="room.b1")
        self.assertEqual((await second.subscribe("room.c"))["op"], "subscribed")
        await first.close()
        while len(world.doors()) > 1:
            await pause(0.01)
        for number in range(60):
            self.assertEqual((await second.subscribe(f"room.d{number}"))["op"], "subscribed")

    async def test_nothing_stays(self) -> None:
        """After thousands of subscriptions, operations, refusals and connections everything is as it was."""
        world = await self.world(PROXY)
        before = len(world.notifier.allowances)
        for round_ in range(5):
            clients = [await self.client(world, token(f"u{number}"), "1.2.3.4") for number in range(20)]
            for client in clients:
                for number in range(20):
                    client.say("subscribe", topic=f"room.r{number}", ref=number)
                    client.say("subscribe", topic=f"job.none{number}", ref=number)
                    client.say("unsubscribe" if number % 2 else "ping", topic=f"room.r{number}", ref=number)
            strangers = [await self.client(world, None, "1.2.3.4") for _ in range(10)]
            for client in strangers:
                client.say("hello", token="x")
            for client in clients:
                await client.answer("ping")
                await client.close()
            for client in strangers:
                await client.ended
            while world.doors():
                await pause(0.01)
            self.assertEqual(len(world.notifier.allowances._subscriptions), 0, round_)
            self.assertEqual(len(world.notifier.allowances._strangers), 0, round_)
        ahead_s = world.notifier.allowances._now_s() + 2 * BURST_S
        for rate in (world.notifier.allowances._requests, world.notifier.allowances._operations,
                     world.notifier.allowances._bad_tokens):  # fmt: skip
            rate.take("last", ahead_s)
            self.assertEqual(len(rate), 1)
        self.assertEqual(before, 0)


class StrangersTest(LimitsCase):
    """What is counted by address."""

    async def test_bad_tokens(self) -> None:
        """Who tries bad tokens is told to wait before the next is looked at; a token that was good before, one that has
        merely expired, and other addresses are not concerned."""
        world = await self.world(PROXY, limits=Limits(bad_tokens=0.5))
        world.stop_time()
        bad, other = {"X-Forwarded-For": "6.6.6.6, 1.2.3.4"}, {"X-Forwarded-For": "1.2.3.4, 5.6.7.8"}
        good = token()
        self.assertEqual((await world.call("GET", "/api/jobs", who=good, headers=bad))[0], 200)
        for _ in range(10):
            self.assertEqual((await world.call("GET", "/api/jobs", who=token(ttl_s=-60), headers=bad))[0], 401)
        statuses = [(await world.call("GET", "/api/jobs", who=f"x{n}", headers=bad))[0] for n in range(8)]
        self.assertEqual(statuses[:5], [401] * 5)
        self.assertEqual(statuses[-1], 429)
        status, _, response = await world.call("POST", "/api/session", {"token": token("eve")}, who=None, headers=bad)
        self.assertEqual(status, 429)
        self.assertTrue(response.headers.hasHeader("retry-after"))
        client = await self.client(world, None, "1.2.3.4")
        client.say("hello", token=token("eve"))
        self.assertEqual((await client.next("error"))["code"], "rate-limited")
        self.assertEqual((await client.ended)[0], ops.CROWDED)
        self.assertEqual((await world.call("GET", "/api/jobs", who=good, headers=bad))[0], 200)
        self.assertEqual((await world.call("GET", "/api/jobs", who="x", headers=other))[0], 401)
        self.assertEqual((await world.call("GET", "/api/jobs", who=token("eve"), headers=other))[0], 200)
        # Programs on this machine are no strangers.
        statuses = [(await world.call("GET", "/api/jobs", who="x"))[0] for _ in range(10)]
        self.assertEqual(set(statuses), {401})

    async def test_silent_connections(self) -> None:
        """So many WebSockets of an address may keep silent about whom they speak for."""
        world = await self.world(PROXY, limits=Limits(strangers=2))
        first, _ = [await self.client(world, None, "1.2.3.4") for _ in range(2)]
        third = await self.client(world, None, "1.2.3.4")
        self.assertEqual((await third.next("error"))["code"], "rate-limited")
        self.assertEqual((await third.ended)[0], ops.CROWDED)
        known = await self.client(world, token(), "1.2.3.4")
        await known.next("welcome")
        first.say("hello", token=token())
        await first.next("welcome")
        fourth = await self.client(world, None, "1.2.3.4")
        fourth.say("hello", token=token())
        await fourth.next("welcome")


class CookieTest(LimitsCase):
    """What travels by itself."""

    async def login(self, world: World, **headers: str) -> tuple[dict[str, str], str]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        status, _, response = await world.call("POST", "/api/session", {"token": token()}, who=None, headers=given)
        self.assertEqual(status, 201)
        cookie = header(response, "set-cookie")
        return {"Cookie": cookie.partition(";")[0]}, cookie

    async def test_behind_a_proxy(self) -> None:
        """Behind a proxy that we know the browser's own host and TLS count; a stranger's word does not."""
        forwarded = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "dash.example.com"}
        world = await self.world(PROXY)
        cookie, text = await self.login(world, X_Forwarded_Proto="https")
        self.assertIn("; Secure", text)
        for origin, status in (
            ("https://dash.example.com", 200),
            ("http://dash.example.com", 403),
            (world.url, 403),
            ("https://evil.example", 403),
        ):
            made: Any = {**cookie, **forwarded, "Origin": origin}
            self.assertEqual((await world.call("DELETE", "/api/topics/room.a", who=None, headers=made))[0], status)
        world = await self.world()
        cookie, text = await self.login(world, X_Forwarded_Proto="https")
        self.assertNotIn("Secure", text)
        made = {**cookie, **forwarded, "Origin": "https://dash.example.com"}
        self.assertEqual((await world.call("DELETE", "/api/topics/room.a", who=None, headers=made))[0], 403)

    async def test_json_only(self) -> None:
        """With the cookie a body says that it is JSON, which no form of a foreign page can."""
        world = await self.world()
        cookie, _ = await self.login(world)
        body = b'{"topic":"room.a","type":"said"}'
        for kind, status in (
            ("application/json", 202),
            ("application/cloudevents+json; charset=utf-8", 400),
            ("text/plain", 415),
            ("application/x-www-form-urlencoded", 415),
            ("multipart/form-data; boundary=x", 415),
            ("", 415),
        ):
            headers = {**cookie, "Origin": world.url} | ({"Content-Type": kind} if kind else {})
            got, _, _ = await world.call("POST", "/api/events", who=None, headers=headers, raw=body)
            self.assertEqual(got, status, kind)

    async def test_foreign_sockets(self) -> None:
        """A foreign page gets no WebSocket; a page of CORS gets one, but not by the cookie."""
        world = await self.world(Settings(cors=("https://app.example.com",)))
        cookie, _ = await self.login(world)
        refused = await Client().connect(world, who=None, headers={**cookie, "Origin": "https://evil.example"})
        self.assertIsNone(refused.protocol)
        for headers in ({"Origin": "https://app.example.com"}, {}, {"Sec-Fetch-Site": "same-site"}):
            client = await Client().connect(world, who=None, headers={**cookie, **headers})
            self.assertEqual((await client.answer("subscribe", topic="room.a"))["code"], "unauthenticated")
            self.assertEqual((await client.ended)[0], ops.BAD_TOKEN)


class RenewalTest(LimitsCase):
    """A token that replaces another."""

    async def test_fewer_rights(self) -> None:
        """Subscriptions that it does not cover end, and each is told; the others go on."""
        world = await self.world()
        client = await self.client(world, token("ann", "subscribe:room.*", "subscribe:app.#"))
        job = await world.job("ann")
        for topic in ("room.a", "room.*", "app.x", "user.ann", f"job.{job}"):
            self.assertEqual((await client.subscribe(topic))["op"], "subscribed", topic)
        client.say("token", token=token("ann", "subscribe:app.x"), ref="renewal")
        ended = [await client.next("error") for _ in range(2)]
        self.assertEqual({one["topic"] for one in ended}, {"room.a", "room.*"})
        self.assertEqual({one["code"] for one in ended}, {"forbidden"})
        self.assertEqual((await client.next("ok"))["ref"], "renewal")
        await world.scribe.record([world.event("room.a"), world.event("app.x"), world.event("user.ann")])
        self.assertEqual([event["topic"] for event in await client.events(2)], ["app.x", "user.ann"])

    async def test_bad_renewal(self) -> None:
        """A bad token is no renewal: the connection ends, as it does with somebody else's."""
        world = await self.world()
        for renewal, code in ((token("bob"), ops.FORBIDDEN), (token(ttl_s=-1), ops.BAD_TOKEN), ("x", ops.BAD_TOKEN)):
            client = await self.client(world)
            client.say("token", token=renewal)
            self.assertEqual((await client.ended)[0], code)

"""Rooms and presence on two notifiers, with RabbitMQ and PostgreSQL: seen together, left in time, closed at once."""

from __future__ import annotations

import sys
import time
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from msgd.notifier.presence.roster import DEBOUNCE_S, SETTLED_S
from tests.notifier.socket import Client
from tests.notifier.world import forget_timers
from tests.stories.deployment import Deployment, another, distributed, logs_on_failure, until

RIGHTS = ("subscribe:room.*", "publish:room.*")
BUSY_S = 5.0
"""What a busy machine may add to a bound."""

CLOSED_S = 1.0
"""Within which a removed member reads no more, on every notifier."""


class PresenceStory(TestCase):
    """Ann at one notifier, the others at another."""

    timeout = 600

    def setUp(self) -> None:
        self.tokens: dict[str, str] = {}

    async def test_two_notifiers(self) -> None:
        """Everybody is seen from both; a short absence is none; a killed notifier's members are gone within seconds,
        and back when they are; who is put out of a private room by one notifier reads no more at the other."""
        one = await deferToThread(distributed, self)
        other = another(self, one, "notifier")
        with logs_on_failure(one, other):
            await deferToThread(one.start, "recorder", "notifier")
            await deferToThread(other.start)
            await self.go(one, other)

    async def token(self, made: Deployment, sub: str) -> str:
        """One a principal: both notifiers trust it."""
        if sub not in self.tokens:
            self.tokens[sub] = await deferToThread(made.token, sub, *RIGHTS)
        return self.tokens[sub]

    async def client(self, made: Deployment, sub: str) -> Client:
        token = await self.token(made, sub)
        place: Any = made  # it has a port
        client = await Client().connect(place, who=token)
        self.addCleanup(forget_timers)
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    async def told(self, client: Client, *members: str, within_s: float) -> None:
        """Returns when the client is told of these members."""
        began_s = time.monotonic()
        await client.next(lambda one: one["op"] == "presence" and one["members"] == list(members))
        self.assertLess(time.monotonic() - began_s, within_s + BUSY_S)

    async def call(self, made: Deployment, method: str, path: str, body: Any = None, *, sub: str = "ann") -> Any:
        token = await self.token(made, sub)
        status, answer = await deferToThread(made.call, method, path, body, token=token)
        self.assertIn(status, (200, 201, 204), answer)
        return answer

    async def go(self, one: Deployment, other: Deployment) -> None:
        await self.call(one, "POST", "/api/rooms", {"name": "kitchen", "private": True, "members": ["bob", "cyd"]})
        ann = await self.client(one, "ann")
        await ann.subscribe("room.kitchen")
        await ann.answer("presence", topic="room.kitchen")
        bob, cyd = await self.client(other, "bob"), await self.client(other, "cyd")
        for client in (bob, cyd):
            self.assertEqual((await client.subscribe("room.kitchen"))["op"], "subscribed")
        await self.told(ann, "ann", "bob", "cyd", within_s=2.0)

        # Bob changes his network, and comes back by the other notifier.
        heard = len(ann.messages)
        await bob.close()
        bob = await self.client(one, "bob")
        await bob.subscribe("room.kitchen")
        await self.told_nothing(ann, heard, "bob")
        page = await self.call(other, "GET", "/api/topics/room.kitchen/presence", sub="bob")
        self.assertEqual(page, {"topic": "room.kitchen", "members": ["ann", "bob", "cyd"], "count": 3})

        # Its members go with a notifier that is killed, and come back with them.
        killed_s = time.monotonic()
        await deferToThread(other.kill, "notifier")
        await cyd.ended
        await self.told(ann, "ann", "bob", within_s=SETTLED_S)
        sys.stdout.write(f"[a killed notifier's members were gone after {time.monotonic() - killed_s:.1f} s] ")
        await deferToThread(other.start)
        cyd = await self.client(other, "cyd")
        await cyd.subscribe("room.kitchen")
        await self.told(ann, "ann", "bob", "cyd", within_s=2.0)

        # Put out at one notifier, Cyd reads no more at the other.
        asked_s = time.monotonic()
        await self.call(one, "DELETE", "/api/rooms/kitchen/members/cyd")
        error = await cyd.next("error")
        took_s = time.monotonic() - asked_s
        self.assertEqual((error["code"], error["topic"]), ("forbidden", "room.kitchen"))
        sys.stdout.write(f"[a removed member's subscription ended after {took_s:.2f} s] ")
        self.assertLess(took_s, CLOSED_S + BUSY_S)
        self.assertEqual((await cyd.answer("publish", topic="room.kitchen", type="said"))["code"], "forbidden")

        # What PostgreSQL keeps of rooms is what was asked for.
        room = await self.call(other, "PUT", "/api/rooms/kitchen", {"title": "The kitchen", "members": ["dan"]})
        self.assertEqual((room["title"], room["members"]), ("The kitchen", ["ann", "dan"]))
        await self.call(other, "PUT", "/api/rooms/kitchen", {"private": False})
        await self.call(one, "PUT", "/api/rooms/kitchen/members/cyd", sub="cyd")
        page = await self.call(one, "GET", "/api/rooms", sub="cyd")
        self.assertEqual([(each["name"], each["member"]) for each in page["rooms"]], [("kitchen", True)])
        types = await deferToThread(until, lambda: self.types(one, 2), "they are recorded")
        self.assertEqual(types[:2], ["room.created", "room.left"])
        await self.call(other, "DELETE", "/api/rooms/kitchen")
        self.assertEqual(await deferToThread(one.events, "room.kitchen"), [])

    def types(self, made: Deployment, least: int) -> list[str]:
        """The types of the room's events, if there are as many by now."""
        types = [event["type"] for event in made.events("room.kitchen")]
        return types if len(types) >= least else []

    async def told_nothing(self, client: Client, since: int, sub: str) -> None:
        """Returns after the debounce, during which nobody was told that ``sub`` was away."""
        end_s = time.monotonic() + DEBOUNCE_S + 2.0
        while time.monotonic() < end_s:
            await client.answer("ping")
        away = [one for one in client.messages[since:] if one["op"] == "presence" and sub not in one["members"]]
        self.assertEqual(away, [])

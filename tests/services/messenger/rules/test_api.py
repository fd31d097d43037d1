"""``/api/rules``: whose rules one sees, what is refused, what trying out shows."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from msgd.jobs.interface import JobFilter
from tests.notifier.world import forget_timers, token
from tests.services.messenger.rules.world import RULE, RulesWorld

ANN = token("ann", "subscribe:app.#", "submit:webhook", "submit:mail")
BOB = token("bob", "subscribe:app.#", "submit:webhook")
ADMIN = token("root", "admin:#")


class ApiTest(TestCase):
    """Rules over HTTP."""

    timeout = 300

    async def opened(self) -> RulesWorld:
        world = RulesWorld()
        self.addCleanup(forget_timers)
        self.addCleanup(lambda: Deferred.fromCoroutine(world.stop()))
        await world.start()
        return world

    async def make(self, world: RulesWorld, who: str = ANN, **more: Any) -> dict[str, Any]:
        status, made, _ = await world.call("POST", "/api/rules", RULE | more, who=who)
        self.assertEqual(status, 201, made)
        return dict(made)

    async def test_create_and_show(self) -> None:
        """A rule is shown as it was made, with what became of it."""
        world = await self.opened()
        made = await self.make(world, digest=60, hourly=5)
        self.assertEqual(
            (made["owner"], made["topics"], made["digest"], made["hourly"]), ("ann", RULE["topics"], 60, 5)
        )
        self.assertEqual(
            (made["enabled"], made["fired"], made["last_fired"], made["last_error"]), (True, 0, None, None)
        )
        self.assertNotIn("grants", made)
        status, shown, _ = await world.call("GET", f"/api/rules/{made['id']}", who=ANN)
        self.assertEqual((status, shown), (200, made))
        _, listed, _ = await world.call("GET", "/api/rules", who=ANN)
        self.assertEqual(listed, {"rules": [made], "next": None})

    async def test_change(self) -> None:
        """What is given is changed, what is left out stays; a bad change changes nothing."""
        world = await self.opened()
        path = f"/api/rules/{(await self.make(world))['id']}"
        status, changed, _ = await world.call("PUT", path, {"text": "{{ event.id }}", "enabled": False}, who=ANN)
        self.assertEqual((status, changed["text"], changed["enabled"]), (200, "{{ event.id }}", False))
        self.assertEqual((changed["name"], changed["to"]), (RULE["name"], RULE["to"]))
        status, problem, _ = await world.call("PUT", path, {"text": "{{", "name": "x"}, who=ANN)
        self.assertEqual((status, problem["where"]), (400, "text"))
        self.assertEqual((await world.call("GET", path, who=ANN))[1]["name"], RULE["name"])
        self.assertEqual((await world.call("DELETE", path, who=ANN))[0], 204)
        self.assertEqual((await world.call("GET", path, who=ANN))[0], 404)

    async def test_others(self) -> None:
        """Of another's rule one learns nothing; who administers all users sees it, switches it off and deletes it."""
        world = await self.opened()
        path = f"/api/rules/{(await self.make(world))['id']}"
        for method, at, given in (("GET", path, None), ("PUT", path, {"name": "x"}), ("DELETE", path, None),
                                  ("POST", f"{path}/test", None)):  # fmt: skip
            self.assertEqual((await world.call(method, at, given, who=BOB))[0], 404)
        self.assertEqual((await world.call("GET", "/api/rules", who=BOB))[1]["rules"], [])
        self.assertEqual(len((await world.call("GET", "/api/rules", who=ADMIN))[1]["rules"]), 1)
        self.assertEqual((await world.call("GET", "/api/rules?mine=1", who=ADMIN))[1]["rules"], [])
        changes: list[dict[str, Any]] = [
            {"name": "x"},
            {"enabled": True},
            {"enabled": False, "to": ["https://b.example"]},
        ]
        for body in changes:
            self.assertEqual((await world.call("PUT", path, body, who=ADMIN))[0], 403)
        status, changed, _ = await world.call("PUT", path, {"enabled": False}, who=ADMIN)
        self.assertEqual((status, changed["enabled"]), (200, False))
        self.assertEqual((await world.call("DELETE", path, who=ADMIN))[0], 204)

    async def test_owner_is_revoked(self) -> None:
        """When the tokens of its owner are revoked a rule is off, in the same moment, with the reason and without what
        it had collected; a new token of the owner switches it on. One token alone, and other owners, are not it."""
        world = await self.opened()
        await world.follower.act()
        made, collecting = await self.make(world), await self.make(world, digest=60)
        others = await self.make(world, who=BOB)
        await world.scribe.record([world.event("app.invoice.paid")])
        await world.follower.act()
        self.assertEqual((await world.call("POST", "/api/revoke", {"jti": "one"}, who=ADMIN))[0], 200)
        self.assertEqual(await self.state(world, made), (True, "", 0))
        self.assertEqual(await self.state(world, collecting), (True, "", 1))
        self.assertEqual((await world.call("POST", "/api/revoke", {"sub": "ann"}, who=ADMIN))[0], 200)
        for rule in (made, collecting):
            enabled, reason, collected = await self.state(world, rule)
            self.assertEqual((enabled, collected), (False, 0))
            self.assertIn("tokens of its owner were revoked", reason)
        self.assertEqual(await self.state(world, others), (True, "", 0))
        await world.scribe.record([world.event("app.invoice.paid")])
        await world.follower.act()
        owners = [job.owner for job in await world.jobs.list(JobFilter())]
        self.assertEqual(sorted(owners), ["ann", "bob", "bob"])
        path = f"/api/rules/{made['id']}"
        self.assertEqual((await world.call("PUT", path, {"enabled": True}, who=ANN))[0], 401)
        self.assertEqual((await world.call("PUT", path, {"enabled": True}, who=ADMIN))[0], 403)
        new = token("ann", "subscribe:app.#", "submit:webhook", ahead_s=2)
        self.assertEqual((await world.call("PUT", path, {"enabled": True}, who=new))[0], 200)
        self.assertEqual(await self.state(world, made), (True, "", 0))

    async def state(self, world: RulesWorld, rule: dict[str, Any]) -> tuple[bool, str, int]:
        _, now, _ = await world.call("GET", f"/api/rules/{rule['id']}", who=ADMIN)
        return now["enabled"], now["reason"], now["collected"]

    async def test_refusals(self) -> None:
        """What cannot be a rule is told with its field; what one may not, with the right."""
        world = await self.opened()
        for more, status, where in (
            ({"name": " "}, 400, "name"),
            ({"name": "a\0"}, 400, "name"),
            ({"topics": []}, 400, "topics"),
            ({"topics": ["app.x", "a..b"]}, 400, "topics[1]"),
            ({"types": [""]}, 400, "types[0]"),
            ({"condition": "1 }}"}, 400, "condition"),
            ({"condition": "event.x("}, 400, "condition"),
            ({"subject": "{% set x = 1 %}"}, 400, "subject"),
            ({"text": "{{ ''.join(x) }}"}, 400, "text"),
            ({"action": "call"}, 400, "action"),
            ({"action": "message", "to": ["nobody"]}, 400, "to"),
            ({"to": ["ftp://a.example/"]}, 400, "to"),
            ({"to": ["https://a.example/", "https://b.example/"]}, 400, "to[1]"),
            ({"action": "mail", "to": ["no address"]}, 400, "to"),
            ({"to": []}, 400, "to"),
            ({"digest": 1}, 400, "digest"),
            ({"digest": 1e9}, 400, "digest"),
            ({"hourly": 0}, 400, "hourly"),
            ({"colour": "red"}, 400, ""),
            ({"topics": ["room.kitchen"]}, 403, ""),
            ({"topics": ["#"]}, 403, ""),
            ({"topics": ["user.bob"]}, 403, ""),
        ):
            for path in ("/api/rules", "/api/rules/test"):
                got, problem, _ = await world.call("POST", path, RULE | more, who=ANN)
                self.assertEqual(
                    (got, problem.get("where", "").removeprefix("body").lstrip(".")), (status, where), more
                )
        status, problem, _ = await world.call("POST", "/api/rules", RULE, who=token("eve", "subscribe:app.#"))
        self.assertEqual(status, 403)
        self.assertIn("submit:webhook", problem["detail"])

    async def test_try_out(self) -> None:
        """The latest event that a rule asks for goes through its templates; nothing is sent, stored or not."""
        world = await self.opened()
        made = await self.make(world, types=["created"], text="{{ event.data.n }} of {{ rule.name }}")
        path = f"/api/rules/{made['id']}/test"
        self.assertEqual((await world.call("POST", path, who=ANN))[1]["event"], None)
        for type_, number in (("created", 1), ("created", 2), ("deleted", 3)):
            await world.scribe.record([world.event("app.invoice.paid", type_, {"n": number})])
        status, trial, _ = await world.call("POST", path, who=ANN)
        self.assertEqual((status, trial["text"], trial["event"]["data"]), (200, "2 of Invoices", {"n": 2}))
        self.assertEqual(trial["jobs"][0]["params"]["data"]["text"], "2 of Invoices")
        for more, text, error in (
            ({"condition": "event.data.n < 2", "text": "{{ event.data.n }}"}, "1", ""),
            ({"digest": 60, "text": "{{ count }}"}, "3", ""),
            ({"text": "{% if event.data > 1 %}{% endif %}"}, "", "TypeError"),
        ):
            _, trial, _ = await world.call("POST", "/api/rules/test", RULE | more, who=ANN)
            self.assertEqual((trial["text"], trial["error"].partition(":")[0]), (text, error))
        self.assertEqual(await world.jobs.list(JobFilter()), [])

    async def test_followed(self) -> None:
        """A follower that runs acts on what is published, as soon as it is told live."""
        world = await self.opened()
        await world.scribe.listen()
        await world.follower.start()
        made = await self.make(world)
        await world.follower.act()  # where it begins
        body = {"topic": "app.invoice.paid", "type": "created", "data": {"title": "Hi"}}
        self.assertEqual((await world.call("POST", "/api/events", body, who=ADMIN))[0], 202)
        while not await world.jobs.list(JobFilter()):
            turned: Deferred[None] = Deferred()
            world.notifier._reactor.callLater(0.01, turned.callback, None)
            await turned
        _, now, _ = await world.call("GET", f"/api/rules/{made['id']}", who=ANN)
        self.assertEqual(now["fired"], 1)

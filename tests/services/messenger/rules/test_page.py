"""The page of the rules, in a real browser."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from tests.notifier.pages import HOSTILE, PagesCase
from tests.notifier.world import forget_timers, token
from tests.servers.chromium import Chromium
from tests.services.messenger.rules.world import RULE, RulesWorld

RIGHTS = ("subscribe:app.#", "submit:webhook", "publish:app.#")


class RulesPageTest(PagesCase):
    """What people do with rules."""

    async def opened(self) -> RulesWorld:
        world = RulesWorld()
        self.addCleanup(forget_timers)
        self.addCleanup(lambda: Deferred.fromCoroutine(world.stop()))
        await world.start()
        return world

    async def happened(self, world: RulesWorld, title: str) -> None:
        event = world.event("app.invoice.paid", "created", {"title": title, "text": "Invoice 17 was paid."})
        await world.scribe.record([event])

    async def value(self, chromium: Chromium, selector: str, value: str) -> None:
        """Choose from a list, or write into a field, as a person's change would."""
        script = (
            "const one = document.querySelector(arguments[0]); one.value = arguments[1];"
            "one.dispatchEvent(new Event('change', { bubbles: true }));"
        )
        await self.script(chromium, script, selector, value)

    async def texts(self, chromium: Chromium, selector: str, *words: str) -> None:
        """Wait until an element's text holds all of these."""
        await chromium.wait_for_texts(selector, lambda texts: all(word in " ".join(texts) for word in words))

    async def test_made_tried_and_switched(self) -> None:
        """A rule is made, its mistakes told where they are, tried out on the latest event, switched off and deleted."""
        world = await self.opened()
        await self.happened(world, HOSTILE)
        ann = await self.visitor(world, "ann", *RIGHTS)
        await self.go(ann, world, "/rules")
        await self.texts(ann, ".empty", "No rules yet")
        await ann.click("#new-rule")
        self.assertEqual(await self.script(ann, "return document.activeElement.id"), "rule-name")
        await ann.click("dialog button[type=submit]")
        await self.texts(ann, "#rule-name-wrong", "Give the rule a name.")
        self.assertEqual(await self.script(ann, "return document.activeElement.id"), "rule-name")
        await ann.fill("#rule-name", "Paid")
        await ann.wait_for_texts("dialog .wrong", lambda texts: not texts)
        self.assertIs(await self.script(ann, "return document.querySelector('dialog [aria-invalid]')"), None)
        await ann.click("dialog button[type=submit]")
        await self.texts(ann, "#rule-topics-wrong", "Give a topic or a pattern")
        await ann.fill("#rule-topics", "app.invoice.*")
        await self.value(ann, "#rule-action", "webhook")
        await ann.fill("#rule-to", "https://a.example/hook")
        await ann.fill("#rule-text", "{{ event.data.text ")
        await ann.click("#rule-try")
        await self.texts(ann, "#rule-text-wrong", "Line 1")
        self.assertEqual(await self.script(ann, "return document.activeElement.id"), "rule-text")
        await ann.fill("#rule-text", "{{ event.data.text }} Hurrah.")
        await ann.click("#rule-try")
        await self.texts(ann, ".rule-trial", "nothing was sent", "Invoice 17 was paid. Hurrah.", HOSTILE)
        await ann.click("dialog button[type=submit]")
        await self.texts(ann, ".rule", "Paid", "app.invoice.*", "webhook to https://a.example/hook", "nothing sent yet")
        await ann.click(".rule input[role=switch]")
        await self.texts(ann, ".rule", "Off")
        _, listed, _ = await world.call("GET", "/api/rules")
        self.assertEqual([rule["enabled"] for rule in listed["rules"]], [False])
        await ann.click(".rule button:last-child")
        await ann.click("dialog .danger")
        await self.texts(ann, ".empty", "No rules yet")
        self.assertIs(await self.script(ann, "return window.ran ?? null"), None)
        complaints = await ann.complaints()
        self.assertEqual([one for one in complaints if "400" not in one], [], "beside the mistakes above")

    async def test_edited(self) -> None:
        """A rule is changed; what went wrong with it is shown until it is saved anew; of another's one only the switch
        can be used."""
        world = await self.opened()
        await world.follower.act()
        made = await self.make(world, text="{% if event.data > 1 %}{% endif %}")
        await self.happened(world, "Hi")
        await world.follower.act()
        root = await self.visitor(world, "root")
        await self.go(root, world, "/rules")
        await self.texts(root, ".rule", "Invoices", "of ann", "TypeError")
        self.assertEqual(await self.script(root, "return document.querySelectorAll('.rule-do button').length"), 1)
        ann = await self.visitor(world, "ann", *RIGHTS)
        await self.go(ann, world, "/rules")
        await self.texts(ann, ".rule", "TypeError")
        await ann.click(".rule-do button")
        await ann.fill("#rule-text", "well")
        await ann.click("dialog button[type=submit]")
        await ann.wait_for_texts(".rule .wrong", lambda texts: not texts)
        _, now, _ = await world.call("GET", f"/api/rules/{made['id']}")
        self.assertEqual((now["text"], now["last_error"]), ("well", None))
        self.assertEqual((await world.call("POST", "/api/revoke", {"sub": "ann"}))[0], 200)
        await self.go(root, world, "/rules")
        await self.texts(root, ".rule .wrong", "Off: the tokens of its owner were revoked")

    async def make(self, world: RulesWorld, **more: Any) -> dict[str, Any]:
        status, made, _ = await world.call("POST", "/api/rules", RULE | more, who=token("ann", *RIGHTS))
        self.assertEqual(status, 201, made)
        return dict(made)

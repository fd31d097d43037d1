"""``/api/rules``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgd.journal.interface import Journal
from msgd.messages.ids import IdMaker, new_id
from msgd.notifier.interface import Answer, Call, Route, answer
from msgd.services.messenger import owned
from msgd.services.messenger.rules import store
from msgd.services.messenger.rules.commands import Rules
from msgd.services.messenger.rules.following import Readers
from msgd.services.messenger.rules.form import RuleChange, RuleForm
from msgd.services.messenger.rules.rule import view
from msgd.work.interface import JobType


class RulesApi:
    """Rules: list, create, try out, show, change, delete."""

    def __init__(
        self,
        *,
        database: store.Database,
        journal: Journal,
        types: Mapping[str, JobType[Any]],
        readers: Readers,
        reactor: Any,
        now_ms: Callable[[], int],
        new_id: IdMaker = new_id,
    ) -> None:
        self._rules = Rules(database, journal, types, readers, reactor, now_ms=now_ms, new_id=new_id)

    def routes(self) -> Sequence[Route]:
        one = "/api/rules/{id}"
        return (
            Route(method="GET", path="/api/rules", endpoint=self.list),
            Route(method="POST", path="/api/rules", endpoint=self.create),
            Route(method="POST", path="/api/rules/test", endpoint=self.test_form),
            Route(method="GET", path=one, endpoint=self.show),
            Route(method="PUT", path=one, endpoint=self.change),
            Route(method="DELETE", path=one, endpoint=self.delete),
            Route(method="POST", path=f"{one}/test", endpoint=self.test),
        )

    async def list(self, call: Call) -> Answer:
        """A page of rules."""
        return await owned.page(call, self._rules.page, view, "rules")

    async def create(self, call: Call) -> Answer:
        """A new rule."""
        rule = await self._rules.create(call.principal, call.json(RuleForm))
        return answer(view(rule), status=201, headers={"location": f"/api/rules/{rule.id}"})

    async def show(self, call: Call) -> Answer:
        """One rule."""
        return answer(view(await self._rules.show(call.principal, call.words["id"])))

    async def change(self, call: Call) -> Answer:
        """Change, disable or enable a rule; the answer shows it."""
        return answer(view(await self._rules.change(call.principal, call.words["id"], call.json(RuleChange))))

    async def delete(self, call: Call) -> Answer:
        """Delete a rule."""
        await self._rules.remove(call.principal, call.words["id"])
        return Answer(status=204, content_type="")

    async def test(self, call: Call) -> Answer:
        """What a rule would send for the latest event that it asks for; nothing is sent."""
        rule = await self._rules.show(call.principal, call.words["id"])
        return answer(await self._rules.try_out(call.principal, rule))

    async def test_form(self, call: Call) -> Answer:
        """The same for a rule that is not stored."""
        rule = await self._rules.made(call.principal, call.json(RuleForm))
        return answer(await self._rules.try_out(call.principal, rule))

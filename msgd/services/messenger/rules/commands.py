"""What can be asked of rules, and who may: their owner; whoever administers all users sees, stops and deletes them.

A rule takes the right to submit the jobs that come of it, and to read all that its topics name. It keeps the rights for
reading that the owner's token has when it is saved, and acts with them until it is saved again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool

from msgd.errors import Conflict, InvalidInput
from msgd.journal.interface import Journal
from msgd.messages.events import Recorded
from msgd.messages.ids import IdMaker
from msgd.notifier.interface import ADMIN, SUBSCRIBE, Principal
from msgd.services.messenger.owned import owner_listed, theirs
from msgd.services.messenger.rules import store
from msgd.services.messenger.rules.acting import (
    DIGEST_EVENTS,
    Shown,
    event_values,
    holds,
    is_own,
    job_params,
    show,
    show_digest,
)
from msgd.services.messenger.rules.following import Readers
from msgd.services.messenger.rules.form import RuleChange, RuleForm, changed_form
from msgd.services.messenger.rules.rule import Rule
from msgd.services.messenger.rules.template import TemplateFailed
from msgd.work.interface import JobType

WHAT: Final = "rule"

LOOKED_BACK: Final = 200
"""Events in which a rule that is tried out looks for one that it asks for."""

GRANTS: Final = 100
"""Rights that a rule keeps; a token has a few."""

_END: Final = 1 << 62
"""After the last place of any journal."""


class Trial(Struct, frozen=True, kw_only=True):
    """What a rule would do with the latest event that it asks for."""

    event: dict[str, Any] | None  # None: there is none among the last
    subject: str = ""
    text: str = ""
    jobs: Sequence[dict[str, Any]] = ()  # {type, params}
    error: str = ""


class Rules:
    """The commands, for any principal."""

    def __init__(
        self,
        database: store.Database,
        journal: Journal,
        types: Mapping[str, JobType[Any]],
        readers: Readers,
        reactor: Any,
        *,
        now_ms: Callable[[], int],
        new_id: IdMaker,
    ) -> None:
        """``types``: the job types of actions; ``reactor`` has the threads in which templates are compiled."""
        self._database = database
        self._journal = journal
        self._types = types
        self._readers = readers
        self._reactor = reactor
        self._now_ms = now_ms
        self._new_id = new_id

    # -- looking ------------------------------------------------------------------------------------------------------

    async def page(self, who: Principal, after: str, limit: int, mine: bool) -> Sequence[Rule]:
        """The next of one's own, or of all for whoever administers them, in the order in which they were made."""
        query = partial(store.page, owner=owner_listed(who, mine), after=after, limit=limit)
        return await self._database.read(query)

    async def show(self, who: Principal, id_: str) -> Rule:
        """Raises NotFound, also for one that is not theirs to know of."""
        return theirs(who, await self._database.read(partial(store.find, id_=id_)), WHAT, id_)

    async def try_out(self, who: Principal, rule: Rule) -> Trial:
        """What a rule would do with the latest event that it asks for; nothing is sent."""
        _check_rights(who, rule.action, rule.topics)
        rule = replace(rule, owner=who.sub, grants=_kept_grants(who))
        page = await self._journal.read_back(rule.topics, before=_END, limit=LOOKED_BACK)
        topics = {recorded.event.topic for recorded in page.events}
        closed = await self._database.read(lambda transaction: self._readers(transaction, topics))

        def may(topic: str) -> bool:
            members = closed.get(topic)
            return who.may_read(topic) and (members is None or who.sub in members or who.administers(topic))

        trial: Trial = await self._in_thread(_tried, rule, [one for one in page.events if may(one.event.topic)])
        return trial

    # -- changing -----------------------------------------------------------------------------------------------------

    async def create(self, who: Principal, form: RuleForm) -> Rule:
        """A new rule of ``who``."""
        rule = await self.made(who, form)
        await self._database.write(partial(store.create, rule=rule))
        return rule

    async def made(self, who: Principal, form: RuleForm) -> Rule:
        """A rule that is not stored; raises InvalidInput naming the field, or Forbidden."""
        await self._in_thread(form.check, self._types)
        _check_rights(who, form.action, form.topics)
        now_ms = self._now_ms()
        return Rule(
            id=self._new_id(now_ms),
            owner=who.sub,
            grants=_kept_grants(who),
            version=1,
            created_ms=now_ms,
            changed_ms=now_ms,
            tokens=float(form.hourly),
            tokens_ms=now_ms,
            **_fields(form),
        )

    async def change(self, who: Principal, id_: str, change: RuleChange) -> Rule:
        """Change what is given. Who is not the owner can switch a rule off, and no more."""
        rule = await self.show(who, id_)
        fields: dict[str, Any] = {}
        if change.given == {"enabled": False}:
            fields = {"enabled": False}
        else:
            who.require(rule.owner == who.sub, "changing the rule of another: only switching it off, or deleting it")
            form = changed_form(rule, change)
            await self._in_thread(form.check, self._types)
            _check_rights(who, form.action, form.topics)
            fields = {**_fields(form), "grants": _kept_grants(who), "error": "", "error_ms": None}

        def write(transaction: store.Transaction) -> Rule:
            present = theirs(who, store.find(transaction, id_, lock=True), WHAT, id_)
            if present.version != rule.version:
                raise Conflict("the rule was changed by somebody else meanwhile: look again", where="id")
            changed = replace(present, **fields, version=present.version + 1, changed_ms=self._now_ms())
            if changed.enabled:
                changed = replace(changed, reason="")
            changed = replace(changed, tokens=min(changed.tokens, float(changed.hourly)))
            if changed.enabled and not present.enabled:
                store.check_room(transaction, changed)
            if not changed.enabled or not changed.digest_s:
                store.forget(transaction, id_)
                changed = replace(changed, digest_due_ms=None, digest_count=0)
            store.change(transaction, changed)
            return changed

        return await self._database.write(write)

    async def remove(self, who: Principal, id_: str) -> None:
        """Delete a rule; what it has collected is not sent."""
        await self.show(who, id_)
        await self._database.write(partial(store.remove, id_=id_))

    def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call, *arguments)


def _fields(form: RuleForm) -> dict[str, Any]:
    """What a form says, as a rule has it."""
    return {
        "name": form.name.strip(),
        "topics": tuple(dict.fromkeys(form.topics)),
        "types": tuple(dict.fromkeys(form.types)),
        "condition": form.condition.strip(),
        "action": form.action,
        "to": tuple(dict.fromkeys(form.to)),
        "subject": form.subject,
        "text": form.text,
        "digest_s": form.digest,
        "hourly": form.hourly,
        "enabled": form.enabled,
    }


def _check_rights(who: Principal, action: str, topics: Sequence[str]) -> None:
    who.require(who.may_submit(action), f"rules that {action}: submit:{action}")
    for topic in topics:
        who.require(who.may_read(topic), f"reading {topic}")


def _kept_grants(who: Principal) -> tuple[Any, ...]:
    kept = tuple(grant for grant in who.grants if grant.action in (SUBSCRIBE, ADMIN))
    if len(kept) > GRANTS:
        raise InvalidInput(f"the token has {len(kept)} rights to read; a rule keeps {GRANTS}", where="token")
    return kept


def _tried(rule: Rule, events: Sequence[Recorded]) -> Trial:
    """The trial of a rule with the latest of the events that it asks for; in a thread."""
    found: list[dict[str, Any]] = []
    try:
        for recorded in reversed(events):
            event = recorded.event
            if is_own(event) or not rule.concerns(event.topic, event.type):
                continue
            values = event_values(event, recorded.seq)
            try:
                if not holds(rule, values):
                    continue
            except TemplateFailed as error:
                return Trial(event=values, error=str(error))
            found.append(values)
            if not rule.digest_s or len(found) == DIGEST_EVENTS:
                break
        if not found:
            return Trial(event=None)
        shown: Shown = show_digest(rule, found[::-1], len(found)) if rule.digest_s else show(rule, found[0])
    except TemplateFailed as error:
        return Trial(event=found[0], error=str(error))
    params = job_params(rule.action, rule.to, shown, rule=rule.id, name=rule.name)
    jobs = [{"type": rule.action, "params": one} for one in params]
    return Trial(event=found[0], subject=shown.subject, text=shown.text, jobs=jobs)

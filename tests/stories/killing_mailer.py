"""twistd with a mailer's death wish: the process kills itself (-9) between two neighbouring effects of a mail, by name.

As in :mod:`tests.stories.killing`, whose adapters it uses; here also the way out, and the folder that
bounces come to, are ours, around the real ones.
"""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Final

from twisted.internet.defer import Deferred

import msgd.app.daemons
import msgd.app.mailing
from msgd.app.adapters import Adapters
from tests.stories.killing import VARIABLE, Around, Trigger

POINTS: Final = ("read|sending", "sending|delivery", "delivery|event", "event|row", "row|next")

BOUNCE_POINTS: Final = ("notice|row", "row|mark")

AFTER: Final = 20
"""Mails handed over before the death: in the middle of it."""


class KillingWay(Around):
    """Kills around a delivery."""

    delivered = 0

    def deliver(self, envelope: Any, name: str, **more: Any) -> Deferred[Any]:
        if KillingWay.delivered >= AFTER:
            self._trigger.reach("sending|delivery")
        delivery: Deferred[Any] = self._inner.deliver(envelope, name, **more)
        return delivery.addCallback(self._delivered)

    def _delivered(self, outcome: Any) -> Any:
        KillingWay.delivered += 1
        if KillingWay.delivered >= AFTER:
            self._trigger.reach("delivery|event")
        return outcome


class KillingLedger(Around):
    """Kills around a step of the ledger: its events are confirmed when it is asked for."""

    async def checkpoint(self, claim: Any, write: Any) -> Any:
        step = getattr(write, "keywords", {})
        if KillingWay.delivered >= AFTER and step.get("end"):
            self._trigger.reach("event|row")
        if KillingWay.delivered >= AFTER and step.get("begin"):
            self._trigger.reach("read|sending")
        result = await self._inner.checkpoint(claim, write)
        if KillingWay.delivered >= AFTER and step.get("end"):
            self._trigger.reach("row|next")
        return result


class KillingFolder(Around):
    """Kills around what is saved of a bounce notice."""

    def __str__(self) -> str:
        return str(self._inner)

    async def read(self, name: Any) -> Any:
        content = await self._inner.read(name)
        self._trigger.reach("notice|row")
        return content

    async def done(self, name: Any, *, ours: bool) -> None:
        self._trigger.reach("row|mark")
        await self._inner.done(name, ours=ours)


class KillingAdapters(Adapters):
    """The real ones, with ours around them."""

    @cached_property
    def jobs(self) -> Any:
        return KillingLedger(Adapters.jobs.func(self), trigger)  # type: ignore[attr-defined]  # mypy takes a cached_property for its value


trigger: Final = Trigger(os.environ.get(VARIABLE, ""))

if __name__ == "__main__":
    from twisted.scripts.twistd import run

    setattr(msgd.app.daemons, "Adapters", KillingAdapters)  # noqa: B010 - mypy forbids to assign to a class
    real = msgd.app.mailing.way
    setattr(msgd.app.mailing, "way", lambda *given: KillingWay(real(*given), trigger))  # noqa: B010
    folder = msgd.app.mailing.bounce_folder
    setattr(msgd.app.mailing, "bounce_folder", lambda *given: KillingFolder(folder(*given), trigger))  # noqa: B010
    run()

"""What can be asked of endpoints, and who may: their owner, and whoever administers the owner's topic.

Making one takes the right to submit ``webhook`` jobs. Of another's endpoint one does not learn that it exists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeVar

from msgspec import UNSET, Raw
from msgspec.structs import replace

from msgd.errors import Conflict, InvalidInput
from msgd.jobs.interface import Job, Jobs, Submission
from msgd.messages import json
from msgd.messages.ids import IdMaker
from msgd.notifier.interface import Principal
from msgd.services.messenger.owned import owner_listed, theirs
from msgd.services.messenger.webhooks import store
from msgd.services.messenger.webhooks.endpoints import (
    OVERLAP_MOST_S,
    Delivery,
    Endpoint,
    EndpointChange,
    NewEndpoint,
    checked_description,
)
from msgd.services.messenger.webhooks.params import URL_LENGTH, WEBHOOK, checked_url
from msgd.services.messenger.webhooks.sealing import Seal
from msgd.services.messenger.webhooks.signing import new_secret

T = TypeVar("T")

WHAT: Final = "webhook endpoint"

PING: Final = "msgd.ping"
"""The event that tries an endpoint out."""

BY_OWNER: Final = "its owner disabled it"


class Endpoints:
    """The commands, for any principal."""

    def __init__(
        self, database: store.Database, jobs: Jobs, seal: Seal, *, now_ms: Callable[[], int], new_id: IdMaker
    ) -> None:
        self._database = database
        self._seal = seal
        self._jobs = jobs
        self._now_ms = now_ms
        self._new_id = new_id

    # -- looking ------------------------------------------------------------------------------------------------------

    async def page(self, who: Principal, after: str, limit: int, mine: bool) -> Sequence[Endpoint]:
        """The next of one's own, or of all for whoever administers them, in the order in which they were made."""
        query = partial(store.page, owner=owner_listed(who, mine), after=after, limit=limit)
        return await self._database.read(query)

    async def show(self, who: Principal, id_: str) -> Endpoint:
        """Raises NotFound, also for one that is not theirs to know of."""
        return theirs(who, await self._database.read(partial(store.find, id_=id_)), WHAT, id_)

    async def deliveries(self, who: Principal, id_: str, limit: int) -> Sequence[Delivery]:
        """The last tries, the newest first."""
        await self.show(who, id_)
        return await self._database.read(partial(store.deliveries, id_=id_, limit=limit))

    # -- changing -----------------------------------------------------------------------------------------------------

    async def create(self, who: Principal, asked: NewEndpoint) -> tuple[Endpoint, str]:
        """A new endpoint of ``who``, and its secret."""
        who.require(who.may_submit(WEBHOOK.name), f"making webhooks: submit:{WEBHOOK.name}")
        now_ms = self._now_ms()
        id_, secret = self._new_id(now_ms), new_secret()
        endpoint = Endpoint(
            id=id_,
            owner=who.sub,
            url=_url(asked.url),
            description=checked_description(asked.description),
            secret=self._seal.closed(secret, id_),
            created_ms=now_ms,
        )
        await self._database.write(partial(store.create, endpoint=endpoint))
        return endpoint, secret

    async def change(self, who: Principal, id_: str, asked: EndpointChange) -> Endpoint:
        """Change what is given. Enabled again, an endpoint begins with a clean record."""
        fields: dict[str, Any] = {}
        if asked.url is not UNSET:
            fields["url"] = _url(asked.url)
        if asked.description is not UNSET:
            fields["description"] = checked_description(asked.description)

        def changed(endpoint: Endpoint) -> Endpoint:
            if asked.enabled is True and not endpoint.enabled:
                return replace(endpoint, **fields, enabled=True, reason="", failing_since_ms=None)
            if asked.enabled is False and endpoint.enabled:
                return replace(endpoint, **fields, enabled=False, reason=BY_OWNER)
            return replace(endpoint, **fields)

        return await self._change(who, id_, changed)

    async def rotate(self, who: Principal, id_: str, overlap_s: float) -> tuple[Endpoint, str]:
        """A new secret, and its endpoint; the old one signs too for ``overlap_s`` seconds."""
        if not 0 <= overlap_s <= OVERLAP_MOST_S:
            raise InvalidInput(f"overlap must be from 0 to {OVERLAP_MOST_S:.0f} seconds", where="overlap")
        until_ms = self._now_ms() + round(overlap_s * 1000)
        secret = new_secret()
        sealed = self._seal.closed(secret, id_)
        endpoint = await self._change(
            who,
            id_,
            lambda endpoint: replace(endpoint, secret=sealed, old_secret=endpoint.secret, old_until_ms=until_ms),
        )
        return endpoint, secret

    async def _change(self, who: Principal, id_: str, changed: Callable[[Endpoint], Endpoint]) -> Endpoint:
        def change(transaction: store.Transaction) -> Endpoint:
            endpoint = changed(theirs(who, store.find(transaction, id_, lock=True), WHAT, id_))
            store.change(transaction, endpoint)
            return endpoint

        return await self._database.write(change)

    async def remove(self, who: Principal, id_: str) -> None:
        """Delete an endpoint; what is still to be sent to it fails."""

        def change(transaction: store.Transaction) -> None:
            theirs(who, store.find(transaction, id_, lock=True), WHAT, id_)
            store.remove(transaction, id_)

        await self._database.write(change)

    async def ping(self, who: Principal, id_: str) -> Job:
        """The job that sends an event to try the endpoint out. Raises Conflict if it is disabled."""
        endpoint = _usable(await self.show(who, id_))
        data = Raw(json.encode({"endpoint": endpoint.id, "asked_by": who.sub}))
        params = json.encode({"endpoint": endpoint.id, "event": PING, "data": data})
        submitted = await self._jobs.submit(Submission(type=WEBHOOK.name, params=params, owner=endpoint.owner))
        return submitted.job

    async def usable(self, who: Principal, id_: str) -> Endpoint:
        """An endpoint to send to. Raises NotFound, Conflict if it is disabled."""
        return _usable(await self.show(who, id_))


def _usable(endpoint: Endpoint) -> Endpoint:
    if not endpoint.enabled:
        raise Conflict(f"the endpoint is disabled ({endpoint.reason}): enable it first", where="enabled")
    return endpoint


def _url(text: str) -> str:
    if not text or len(text) > URL_LENGTH:
        raise InvalidInput(f"a URL has 1 to {URL_LENGTH} characters", where="url")
    try:
        return checked_url(text)
    except ValueError as error:
        raise InvalidInput(str(error).removeprefix("url: "), where="url") from None

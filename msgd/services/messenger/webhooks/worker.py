"""The worker of ``webhook`` jobs: each slice is one try."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from msgspec import Struct

from msgd.errors import AddressRefused, PeerError
from msgd.jobs.interface import Jobs, OutboxRow
from msgd.messages.wire import parse_time
from msgd.services.messenger.counting import retry_after_s
from msgd.services.messenger.webhooks import message, store
from msgd.services.messenger.webhooks.endpoints import Delivery
from msgd.services.messenger.webhooks.params import WEBHOOK, WebhookParams, checked_url
from msgd.services.messenger.webhooks.posting import ANSWER_S, Poster
from msgd.services.messenger.webhooks.sealing import Seal, Unopened
from msgd.services.messenger.webhooks.turns import Turns
from msgd.work.interface import Context, Continue, Done, Failed, Outcome, Retry
from msgd.work.network import GuardedEndpoints, Reach

GONE: Final = 410
"""The receiver wants no more of it."""

PAUSES_S: Final = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 50_400.0, 72_000.0, 86_400.0)
"""After which a try is made again, as the specification advises, a little longer each time; the last one repeats."""

AT_ONCE: Final = 4
"""Requests to one receiver: of 64 slots, sixteen receivers that never answer take all."""

PATIENCE_DAYS: Final = 5.0
"""For which an endpoint may fail: a long weekend."""


class _Receiver(Struct, frozen=True):
    """Whom a job is for."""

    name: str  # its turns are counted by it
    url: str
    secrets: list[str]

    def __repr__(self) -> str:
        """Without the secrets: this stands in logs of errors."""
        return f"_Receiver(name={self.name!r}, url={self.url!r})"


class Webhooks:
    """Performs ``webhook`` jobs. Conforms to :class:`~msgd.work.interface.Worker`."""

    type = WEBHOOK

    def __init__(
        self,
        reactor: Any,
        reach: Reach,
        jobs: Jobs,
        *,
        answer_s: float = ANSWER_S,
        at_once: int = AT_ONCE,
        attempts: int = len(PAUSES_S) + 1,
        patience_days: float = PATIENCE_DAYS,
        tls: Any = None,
        seal: Seal = Seal(),  # noqa: B008  # immutable
        now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """``reach``: which addresses may be dialled; ``jobs`` has the outbox; ``answer_s``: how long a try may take;
        ``at_once``: requests to one receiver; ``attempts``: before a job is given up; ``patience_days``: for which an
        endpoint may fail before it is disabled; ``tls``: an IPolicyForHTTPS, by default a browser's; ``seal`` opens
        secrets."""
        self._poster = Poster(reactor, GuardedEndpoints(reactor, reach, tls=tls), answer_s=answer_s)
        self._jobs = jobs
        self._seal = seal
        self._turns = Turns(at_once)
        self._attempts = attempts
        self._patience_ms = round(patience_days * 86_400_000)
        self._now_ms = now_ms

    async def start(self) -> None:
        """Nothing to start."""

    async def stop(self) -> None:
        """Close the connections that are kept."""
        await self._poster.stop()

    async def perform(self, context: Context[WebhookParams]) -> Outcome:
        """One try, when it is the receiver's turn."""
        # Waiting is no failed try, but it begins the runtime's count anew: those before are carried along.
        tries = int(context.state or 0) + context.job.attempt
        try:
            receiver = await self._receiver(context)
        except Unopened as error:
            return self._after("sealed", error.message, 0, tries, None)
        if isinstance(receiver, Failed):
            return receiver
        wait_s = self._turns.take(receiver.name, self._now_ms() / 1000)
        if wait_s:
            return Continue(tries, after_s=wait_s)
        began_ms = self._now_ms()
        try:
            return await self._try(context, receiver, tries)
        finally:
            self._turns.leave(receiver.name, (self._now_ms() - began_ms) / 1000)

    async def _receiver(self, context: Context[WebhookParams]) -> _Receiver | Failed:
        params = context.params
        if not params.endpoint:
            url = checked_url(params.url)
            return _Receiver(urlsplit(url).netloc, url, [])
        found = await context.checkpoint(partial(store.find, id_=params.endpoint))
        owner = context.job.owner  # none: an application at the broker, which may send to every endpoint
        if found is None or owner not in ("", found.owner):
            return Failed("not-found", f"params.endpoint: there is no endpoint {params.endpoint!r} of the job's owner")
        if not found.enabled:
            return Failed("disabled", f"the endpoint {found.id} is disabled: {found.reason}")
        secrets = [self._seal.opened(one, found.id) for one in found.secrets(self._now_ms())]
        return _Receiver(found.id, found.url, secrets)

    async def _try(self, context: Context[WebhookParams], receiver: _Receiver, tries: int) -> Outcome:
        params, job = context.params, context.job
        content = message.body(params.event, parse_time(params.time) if params.time else job.created_ms, params.data)
        began_ms = self._now_ms()
        headers = message.headers(params.id or job.id, began_ms // 1000, content, receiver.secrets)
        asked_s: float | None = None
        status = 0
        try:
            response = await self._poster.post(receiver.url, headers, content)
        except PeerError as error:
            problem = ("peer", error.message)
        except AddressRefused as error:
            problem = (error.code, error.message)
        else:
            status, asked_s = response.status, retry_after_s(response.retry_after, self._now_ms() / 1000)
            problem = ("", "") if 200 <= status < 300 else ("refused", f"the receiver answered {status}")
        result = {"status": status, "ms": self._now_ms() - began_ms}
        code, told = problem
        delivery = Delivery(
            endpoint=params.endpoint,
            job=job.id,
            event=params.event,
            time_ms=began_ms,
            delivered=not code,
            error="".join(one if one.isprintable() else " " for one in told[:500]),  # as every database can hold it
            **result,
        )
        keep = partial(self._keep, delivery, status == GONE)
        if not code:
            await context.emit("delivered", result)
            return Done(result, keep if params.endpoint else None)
        if params.endpoint:
            self._jobs.post(await context.checkpoint(keep))
        return self._after(code, told, status, tries, asked_s)

    def _keep(self, delivery: Delivery, gone: bool, transaction: store.Transaction) -> Sequence[OutboxRow]:
        notice = store.tried(transaction, delivery, gone=gone, patience_ms=self._patience_ms)
        return [] if notice is None else self._jobs.tell_within(transaction, [notice])

    def _after(self, code: str, told: str, status: int, tries: int, asked_s: float | None) -> Outcome:
        """What a try leads to that failed, after ``tries`` others."""
        if status == GONE or code == AddressRefused.code or tries + 1 >= self._attempts:
            return Failed("gone" if status == GONE else code, told)
        return Retry(code, told, max(PAUSES_S[min(tries, len(PAUSES_S) - 1)], asked_s or 0.0))

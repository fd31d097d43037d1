"""The mailer as a worker: what the mailings of a process share, and a slice for each claim."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from msgd.blobs.interface import Blobs, Uploads
from msgd.clock import Clock
from msgd.errors import InvalidParams
from msgd.jobs.interface import Job, JobFilter, Jobs, State, Submission
from msgd.messages import json
from msgd.services.mailer import pen, telling
from msgd.services.mailer.addresses import Named, parse_named
from msgd.services.mailer.beat import Beat
from msgd.services.mailer.composing import Copy, Mailing
from msgd.services.mailer.hands import Hands
from msgd.services.mailer.holding import call_if_resumed
from msgd.services.mailer.judging import Patience
from msgd.services.mailer.ledger import MailingRow, Row
from msgd.services.mailer.loading import Loading
from msgd.services.mailer.making_out import Identity, copy_of, mailing_of
from msgd.services.mailer.means import Means, Saved, Stretch
from msgd.services.mailer.pace import Pace
from msgd.services.mailer.params import MAIL, Content, Known, MailParams
from msgd.services.mailer.press import Press
from msgd.services.mailer.sending import Sending, look_again
from msgd.services.mailer.signature import Signature
from msgd.services.mailer.signing import KEY_BYTES, Signer
from msgd.services.mailer.store import Database, counts, due, is_paused, open_mailing, signing_key, stretches
from msgd.services.mailer.templates import ContentError
from msgd.services.mailer.ways import Way
from msgd.work.interface import Context, Continue, Done, Failed, Outcome, Wait
from msgd.work.outage import wait_out

PART: Final = 1000
"""Open recipients from which on a job is split, and of each of its parts: half a second of work at best, which is ten
times what it takes to begin a part and to end it; and little enough that several mailers are done at about the same
time."""

PARTS: Final = 200
"""Parts of one job at most; beyond, each is larger."""


class Mailer:
    """Performs ``mail`` jobs. Conforms to :class:`~msgd.work.interface.Worker`."""

    type = MAIL

    def __init__(
        self,
        *,
        jobs: Jobs,
        database: Database,
        uploads: Uploads,
        blobs: Blobs,
        way: Way,
        press: Press,
        identity: Identity,
        reactor: Any,
        clock: Clock,
        now_ms: Callable[[], int],
        jitter: Callable[[], float],
        rate: float = 0.0,
        per_domain: int = 10,
        patience: Patience = Patience(),  # noqa: B008  # immutable
        signature: Signature | None = None,
        part: int = PART,
    ) -> None:
        """``rate``: mails a second of this process, 0 for no limit; ``per_domain``: mails under way to one domain."""
        self._jobs = jobs
        self._database = database
        self._uploads = uploads
        self._blobs = blobs
        self._identity = identity
        self._part = part
        self._reactor = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=1, name="mailer")
        self._means = Means(
            way=way,
            press=press,
            pace=Pace(rate=rate, per_domain=per_domain),
            hands=Hands(way.width, clock_s=clock.seconds, rate=rate),
            writing=Beat(clock, pen.GATHER_S),
            telling=Beat(clock, telling.GATHER_S),
            patience=patience,
            sign=None if signature is None else partial(self._in_thread, signature.sign),
            clock=clock,
            now_ms=now_ms,
            jitter=jitter,
            jobs=jobs,
        )
        self._signer = Signer(b"")

    async def start(self) -> None:
        """Read the key of the signatures, which is made with the first mailer."""
        key = secrets.token_bytes(KEY_BYTES)
        write = partial(self._database.write, partial(signing_key, made=key))
        self._signer = Signer(await wait_out(self._means.clock, write))
        await self._means.press.start()
        await self._means.way.start()
        self._pool.start()

    async def stop(self) -> None:
        """Close the connections, end the process and the thread."""
        await self._means.way.stop()
        await self._means.press.stop()
        if self._pool.started:
            self._pool.stop()

    def _in_thread(self, call: Callable[..., Any], *given: Any) -> Deferred[Any]:
        """What ``call`` returns, called in a thread: RSA takes milliseconds, ten thousand addresses a tenth of a
        second."""
        made: Deferred[Any] = deferToThreadPool(self._reactor, self._pool, call, *given)
        return made

    async def perform(self, context: Context[MailParams]) -> Outcome:
        """One slice: of a whole mailing, or of a part of one."""
        try:
            if context.state == "parts":  # of ten thousand recipients nothing need be read any more
                return await self._gathered(context)
            if await self._paused(context):
                return self._look_again(context)
            params: MailParams = await self._in_thread(lambda: context.params)
            if params.part is not None:
                return await self._perform_part(context, *params.part)
            return await self._perform_whole(context)
        except ContentError as error:
            return Failed("content", str(error))

    async def _paused(self, context: Context[MailParams]) -> bool:
        """Whether the mailing is paused with all its recipients there: the first question, as for thousands of them
        the others take long, and it is asked again and again."""
        job = context.job
        query = partial(is_paused, jobs=[one for one in (job.id, job.parent) if one])
        return bool(await self._checkpoint(context, query))

    def _look_again(self, context: Context[Any]) -> Outcome:
        return look_again(Saved.of(context.state), partial(call_if_resumed, jobs=self._jobs, job=context.job))

    async def _perform_part(self, context: Context[MailParams], first: int, last: int) -> Outcome:
        whole = None
        if context.job.parent:
            whole = await wait_out(self._means.clock, partial(self._jobs.get, context.job.parent))
        if whole is None or whole.type != MAIL.name:
            return Failed(InvalidParams.code, "params.part: parts are made by the mailer alone")
        params = json.decode(whole.params, Known)
        mailing = await self._checkpoint(context, partial(open_mailing, job=whole.id, now_ms=self._means.now_ms()))
        return await self._send(context, whole, params, mailing, first, last)

    async def _perform_whole(self, context: Context[MailParams]) -> Outcome:
        job, params = context.job, context.params
        now_ms = self._means.now_ms()
        mailing = await self._checkpoint(context, partial(open_mailing, job=job.id, now_ms=now_ms))
        if not mailing.complete:
            clock, now = self._means.clock, self._means.now_ms
            loading = Loading(context, mailing, self._uploads, self._blobs, clock, now, self._in_thread)
            if not await loading.run(params.to):
                return Continue()
            mailing = await self._checkpoint(context, partial(open_mailing, job=job.id, now_ms=now_ms))
        if mailing.paused:
            return self._look_again(context)
        if not Saved.of(context.state).tried:
            await self._try_first(context, job, params, mailing)
        size = max(self._part, mailing.rows // PARTS + 1)
        parts = await self._checkpoint(context, partial(stretches, mailing=mailing.id, size=size))
        if len(parts) > 1:
            children = [
                Submission(type=MAIL.name, params=json.encode({"part": part}), priority=job.priority) for part in parts
            ]
            return Wait(children, state="parts")
        outcome = await self._send(context, job, params, mailing, 1, mailing.rows)
        return self._whole_outcome(mailing, outcome.result) if isinstance(outcome, Done) else outcome

    async def _gathered(self, context: Context[Any]) -> Outcome:
        """What the parts have come to."""
        job = context.job
        mailing = await self._checkpoint(context, partial(open_mailing, job=job.id, now_ms=self._means.now_ms()))
        outcome = self._whole_outcome(mailing, await self._checkpoint(context, partial(counts, mailing=mailing.id)))
        return await self._explained(job, outcome) if isinstance(outcome, Failed) else outcome

    async def _try_first(self, context: Context[MailParams], job: Job, params: Content, mailing: MailingRow) -> None:
        """Make out the first mail that is still to be sent: what is wrong with all of them is told before any is sent.
        Raises ContentError."""
        query = partial(due, mailing=mailing.id, first=1, last=mailing.rows, after=0, now_ms=0, limit=1)
        rows = [row for row in await self._checkpoint(context, query) if row.mailable]
        number = await self._means.press.open(await self._mailing(job, params))
        try:
            for row in rows:
                await self._means.press.make(number, self._copy(job, params, row))
        finally:
            self._means.press.close(number)

    async def _send(
        self, context: Context[MailParams], job: Job, params: Content, mailing: MailingRow, first: int, last: int
    ) -> Outcome:
        made = await self._mailing(job, params)
        stretch = Stretch(
            id=mailing.id,
            job=job.id,
            run=job.run,
            first=first,
            last=last,
            mailing=made,
            copy=partial(self._copy, job, params),
            sender=partial(self._envelope_sender, mailing.id, made.sender),
        )
        return await Sending(context, stretch, self._means).run()

    def _whole_outcome(self, mailing: MailingRow, found: Mapping[str, int]) -> Outcome:
        states = ("sent", "bounced", "suppressed", "unknown")
        result = {state: found.get(state, 0) for state in states}
        total = sum(found.values())
        left = total - sum(result.values())
        if left:
            return Failed("parts", f"{left} of {total} recipients have not been mailed: run the job again to go on")
        seconds = round((self._means.now_ms() - mailing.started_ms) / 1000, 1)
        return Done({"recipients": total, **result, "repeated": mailing.rows - total, "seconds": seconds})

    async def _explained(self, job: Job, outcome: Failed) -> Failed:
        """The failure of a mailing with that of one of its parts, if one has failed."""
        parts = await wait_out(self._means.clock, partial(self._jobs.list, JobFilter(parent=job.id, limit=2 * PARTS)))
        since_ms = job.started_ms or 0  # those of earlier runs are older
        failed = [part.error for part in parts if part.state is State.FAILED and part.created_ms >= since_ms]
        error = next((error for error in failed if error is not None), None)
        if error is None:
            return outcome
        return Failed(outcome.code, f"{outcome.message}. A part failed with {error.code}: {error.message}")

    async def _checkpoint(self, context: Context[Any], write: Callable[..., Any]) -> Any:
        return await wait_out(self._means.clock, partial(context.checkpoint, write))

    # -- how a mail is made out ----------------------------------------------------------------------------------------

    async def _mailing(self, job: Job, params: Content) -> Mailing:
        """What its mails have in common. Raises InvalidParams."""
        return await mailing_of(job.owner, params, self._identity, self._uploads, self._blobs)

    def _copy(self, job: Job, params: Content, row: Row) -> Copy:
        sender = params.named_sender or parse_named(self._identity.sender)
        return copy_of(self._signer, self._identity, job.id, params, row, sender, self._means.now_ms() // 1000)

    def _envelope_sender(self, mailing: int, sender: Named, row: Row) -> str:
        """Where bounces go, which say by it whose they are (VERP)."""
        if not self._identity.bounces:
            return sender.address.mailbox
        local, _, domain = self._identity.bounces.rpartition("@")
        return f"{local}+{self._signer.verp(mailing, row.row)}@{domain}"

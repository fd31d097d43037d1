"""``/api/jobs``: submit, list, show, cancel, run again, and take the results home."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from msgd.errors import InvalidInput
from msgd.jobs.interface import Job, JobFilter, Jobs, State
from msgd.journal.interface import Journal
from msgd.messages.topics import is_word
from msgd.notifier.commands import Commands
from msgd.notifier.interface import JSON, Answer, Call, JobRequest, Route, Stream, answer
from msgd.notifier.limits import LIST_DEFAULT, PAGE_MOST
from msgd.notifier.results import Results
from msgd.notifier.views import job_view, jobs_view, submitted_view

PARTS_AT_ONCE: Final = 250
"""Parts looked up together: mailings are split into fewer."""

NOBODYS: Final = "none"
"""``parent=none``: jobs that are no children of others."""

STATES: Final = frozenset(state.value for state in State)


class JobsApi:
    """Submit, list, show, cancel, run again, and take the results home."""

    def __init__(self, commands: Commands, jobs: Jobs, journal: Journal) -> None:
        self._commands = commands
        self._jobs = jobs
        self._journal = journal

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="POST", path="/api/jobs", endpoint=self.submit),
            Route(method="GET", path="/api/jobs", endpoint=self.list),
            Route(method="GET", path="/api/jobs/{id}", endpoint=self.show),
            Route(method="DELETE", path="/api/jobs/{id}", endpoint=self.cancel),
            Route(method="POST", path="/api/jobs/{id}/retry", endpoint=self.run_again),
            Route(
                method="GET",
                path="/api/jobs/{id}/results",
                endpoint=self.results,
                produces=(JSON, "application/x-ndjson", "text/csv"),
            ),
        )

    async def submit(self, call: Call) -> Answer:
        """Make a job, or find the one that has its key."""
        request = call.json(JobRequest)
        job = await self._commands.submit(call.principal, request, traceparent=call.header("traceparent"))
        return answer(submitted_view(job, request.type), status=202, headers={"location": f"/api/jobs/{job.id}"})

    async def list(self, call: Call) -> Answer:
        """A page of one's own jobs, newest first; of all jobs for who administers them."""
        who = call.principal
        state = call.text("state")
        if state and state not in STATES:
            raise InvalidInput(f"state={state[:40]!r} must be one of {', '.join(sorted(STATES))}", where="state")
        type_ = call.text("type")
        if type_ and not is_word(type_):
            raise InvalidInput(f"type={type_[:40]!r} cannot be a job type", where="type")
        before = call.text("before")
        if before and not is_word(before):
            raise InvalidInput("before must be a job's id", where="before")
        parent = call.text("parent")
        if parent and not is_word(parent):
            raise InvalidInput(f"parent must be a job's id, or {NOBODYS}", where="parent")
        limit = int(call.number("limit", LIST_DEFAULT, least=1, most=PAGE_MOST))
        everyone = who.administers("job.#") and call.text("mine") in ("", "0")
        which = JobFilter(
            owner=None if everyone else who.sub,
            state=State(state) if state else None,
            type=type_ or None,
            parent="" if parent == NOBODYS else parent or None,
            before=before or None,
            limit=limit,
        )
        jobs = await self._jobs.list(which)
        # A page may be short of the limit because of its size: only looking tells whether another one follows.
        more = bool(jobs) and bool(await self._jobs.list(replace(which, before=jobs[-1].id, limit=1)))
        return answer(jobs_view(jobs, more=more))

    async def show(self, call: Call) -> Answer:
        """One job."""
        return answer(job_view(await self._commands.job(call.principal, call.words["id"])))

    async def cancel(self, call: Call) -> Answer:
        """End a job. 202: the end is under way, and stands in the answer once it is recorded; 200: it stands there."""
        job = await self._commands.cancel(call.principal, call.words["id"])
        return answer(job_view(job), status=200 if job.ended and job.recorded else 202)

    async def run_again(self, call: Call) -> Answer:
        """Begin an ended job anew."""
        job = await self._commands.run_again(call.principal, call.words["id"])
        return answer(job_view(job), status=202)

    async def results(self, call: Call) -> Stream:
        """The results of the job's latest run, as far as they are stored; with those of its parts, if it was split."""
        job = await self._commands.job(call.principal, call.words["id"])
        types = await self._commands.result_types(job.type)
        head = await self._journal.head()
        results = Results(self._journal, [job, *await self._parts(job)], types, head.pos)
        writer = await results.writer(call.text("format", "json"), bom=call.text("bom") == "1")
        return Stream(
            chunks=results.chunks(writer),
            content_type=writer.content_type,
            headers={"content-disposition": f'attachment; filename="{job.type}-{job.id}.{writer.suffix}"'},
        )

    async def _parts(self, job: Job) -> Sequence[Job]:
        """The children of this run that have its own type: it was split into them, and their results are its own."""
        parts: builtins.list[Job] = []
        before: str | None = None
        while job.started_ms is not None:
            which = JobFilter(parent=job.id, type=job.type, before=before, limit=PARTS_AT_ONCE)
            page = await self._jobs.list(which)
            ours = [part for part in page if part.created_ms >= job.started_ms]  # the others are of earlier runs
            parts += ours
            if not ours or len(ours) < len(page):
                break
            before = page[-1].id
        return parts

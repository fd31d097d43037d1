"""``/api/types``: the job types that workers have announced, listed, paused and resumed."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.jobs.interface import Jobs
from msgd.notifier.commands import Commands
from msgd.notifier.interface import Answer, Call, Route, answer
from msgd.notifier.views import type_view


class TypesApi:
    """What may be submitted, and whether workers begin it."""

    def __init__(self, commands: Commands, jobs: Jobs) -> None:
        self._commands = commands
        self._jobs = jobs

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="GET", path="/api/types", endpoint=self.list),
            Route(method="POST", path="/api/types/{type}/pause", endpoint=self.pause),
            Route(method="POST", path="/api/types/{type}/resume", endpoint=self.resume),
        )

    async def list(self, call: Call) -> Answer:
        """Those that one may submit."""
        infos = (await self._commands.announced()).values()
        return answer({"types": [type_view(info) for info in infos if call.principal.may_submit(info.name)]})

    async def pause(self, call: Call) -> Answer:
        """Have no worker begin anything of a type; what runs goes on to the end of its slice."""
        return await self._switch(call, paused=True)

    async def resume(self, call: Call) -> Answer:
        """Let the workers go on."""
        return await self._switch(call, paused=False)

    async def _switch(self, call: Call, *, paused: bool) -> Answer:
        call.principal.require(call.principal.administers("job.#"), "pausing and resuming job types")
        return answer(type_view(await self._jobs.pause(call.words["type"], paused)))

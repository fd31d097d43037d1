"""``/api/dead``: messages that nothing could be done with, for whoever administers to look at and mend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgd.errors import InvalidInput, NotFound
from msgd.jobs.interface import DeadLetter, Jobs
from msgd.notifier.interface import Answer, Call, Route, answer
from msgd.notifier.limits import LIST_DEFAULT, PAGE_MOST
from msgd.notifier.views import dead_view

LETTER_MOST: Final = (1 << 63) - 1
"""The largest number of a row."""


class DeadApi:
    """Dead letters listed, explained, published again or dropped."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def routes(self) -> Sequence[Route]:
        return (
            Route(method="GET", path="/api/dead", endpoint=self.list),
            Route(method="GET", path="/api/dead/{id}", endpoint=self.show),
            Route(method="DELETE", path="/api/dead/{id}", endpoint=self.drop),
            Route(method="POST", path="/api/dead/{id}/requeue", endpoint=self.requeue),
        )

    async def list(self, call: Call) -> Answer:
        """A page of dead letters, newest first, each with the beginning of its body."""
        _check_operator(call)
        limit = int(call.number("limit", LIST_DEFAULT, least=1, most=PAGE_MOST))
        before = _letter(call.text("before"), "before") if call.text("before") else None
        found = await self._jobs.dead_letters(before=before, limit=limit + 1)
        page = found[:limit]
        return answer(
            {
                "dead": [dead_view(letter) for letter in page],
                "before": str(page[-1].id) if len(found) > limit else None,
            }
        )

    async def show(self, call: Call) -> Answer:
        """One dead letter, whole."""
        _check_operator(call)
        return answer(dead_view(await self._one(call), whole=True))

    async def requeue(self, call: Call) -> Answer:
        """Publish a letter again to where it was going; a job's begins anew. 202: it is in the outbox."""
        _check_operator(call)
        letter = await self._one(call)
        await self._jobs.requeue_dead(letter.id)
        return answer({"id": str(letter.id), "job": letter.job or None}, status=202)

    async def drop(self, call: Call) -> Answer:
        """Forget a letter; the job that it called for stays as it is."""
        _check_operator(call)
        letter = await self._one(call)
        await self._jobs.drop_dead(letter.id)
        return answer({"id": str(letter.id), "job": letter.job or None})

    async def _one(self, call: Call) -> DeadLetter:
        number = _letter(call.words["id"], "id")
        found = await self._jobs.dead_letters(before=number + 1, limit=1)
        if not found or found[0].id != number:
            raise NotFound(f"there is no dead letter {number}", where="id")
        return found[0]


def _check_operator(call: Call) -> None:
    """Dead letters hold what anybody has published."""
    call.principal.require(call.principal.administers("#"), "looking at dead letters")


def _letter(text: str, where: str) -> int:
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not 0 < number < LETTER_MOST:
        raise InvalidInput(f"{where}={text[:40]!r} is not the number of a dead letter", where=where)
    return number

"""What somebody keeps in the messenger, rules and webhook endpoints: whose it is, who else sees it, a page of it.

Of what is another's one does not learn that it exists, unless one administers its owner's topic.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol, TypeVar

from msgd.errors import NotFound
from msgd.messages.topics import user_topic
from msgd.notifier.interface import Answer, Call, Principal, answer

EVERYBODY: Final = "user.#"
"""Whoever administers this sees what all have."""

REVOKED: Final = "the tokens of its owner were revoked; with a new one its owner can switch it on again"
"""Why something is off that went on without a token."""

PAGE_DEFAULT: Final = 50
PAGE_MOST: Final = 1000
"""In one answer, as for jobs and rooms."""


class Owned(Protocol):
    """Something of an owner's."""

    @property
    def id(self) -> str: ...

    @property
    def owner(self) -> str: ...


O = TypeVar("O", bound=Owned)  # noqa: E741

Read = Callable[[Principal, str, int, bool], Awaitable[Sequence[O]]]
"""Reads the next after an id, at most so many, only one's own or all that one may see."""


def theirs(who: Principal, found: O | None, what: str, id_: str) -> O:
    """What was found, if it is theirs to see; else raises NotFound, as if there were none."""
    if found is None or not (found.owner == who.sub or who.administers(user_topic(found.owner))):
        raise NotFound(f"there is no {what} {id_[:80]!r}, or it is not yours to see", where="id")
    return found


def owner_listed(who: Principal, mine: bool) -> str | None:
    """Whose a list is of; None: of all."""
    return None if who.administers(EVERYBODY) and not mine else who.sub


async def page(call: Call, read: Read[O], view: Callable[[O], Any], name: str) -> Answer:
    """The answer to ``?after= limit= mine=``: ``{<name>: […], next}``; ``next`` is null on the last page."""
    limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
    mine = call.text("mine") not in ("", "0", "false")
    found = await read(call.principal, call.text("after"), limit + 1, mine)
    next_ = found[limit - 1].id if len(found) > limit else None
    return answer({name: [view(one) for one in found[:limit]], "next": next_})

"""The contract of the ways out: a mail goes to a server, or into a folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred

from msgd.services.mailer.replies import Outcome
from msgd.services.mailer.transaction import Envelope


class Way(Protocol):
    """Takes mails on; several at once. Itself a :class:`~msgd.work.parts.Part`."""

    @property
    def width(self) -> int:
        """How many mails it takes at once."""

    async def ready(self) -> None:
        """Returns when it seems that mail can be delivered. Raises Unreachable."""

    def deliver(self, envelope: Envelope, name: str, *, pass_on: Callable[[], None] | None = None) -> Deferred[Outcome]:
        """Hand over one mail, and say what became of it.

        ``name`` is the mail's own, and one word. ``pass_on`` may be called once, when the mail needs nothing more but
        its answer: one more may be handed over then, within that call, though all turns are taken. Fails with
        Unreachable (nothing was sent) or SenderRefused. Not to be cancelled: see :meth:`hurry`.
        """

    def hurry(self, names: frozenset[str], *, hard: bool) -> None:
        """End the deliveries of these names now: each then tells what is known of it. Not ``hard``: only those whose
        end has not been sent, of which it is known that they were not taken."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

"""The contract of the ways out: a mail goes to a server, or into a folder."""

from __future__ import annotations

from typing import Protocol

from msgd.services.mailer.replies import Outcome
from msgd.services.mailer.smtp import Envelope


class Way(Protocol):
    """Takes mails on; several at once. Itself a :class:`~msgd.work.parts.Part`."""

    @property
    def width(self) -> int:
        """How many mails it takes at once."""

    async def ready(self) -> None:
        """Returns when it seems that mail can be delivered. Raises Unreachable."""

    async def deliver(self, envelope: Envelope, name: str) -> Outcome:
        """Hand over one mail, and say what became of it.

        ``name`` is the mail's own, and one word. Raises Unreachable (nothing was sent) or SenderRefused. Not to be
        cancelled: see :meth:`hurry`.
        """

    def hurry(self, names: frozenset[str], *, hard: bool) -> None:
        """End the deliveries of these names now: each then tells what is known of it. Not ``hard``: only those whose
        end has not been sent, of which it is known that they were not taken."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

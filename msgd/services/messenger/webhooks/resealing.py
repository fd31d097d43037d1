"""Seals what lies unsealed, or was sealed with an older key, when a messenger starts."""

from __future__ import annotations

from functools import partial
from typing import Final

from twisted.logger import Logger

from msgd.services.messenger.webhooks import store
from msgd.services.messenger.webhooks.sealing import Seal

_log = Logger()

AT_ONCE: Final = 500
"""Endpoints in one transaction."""


class Resealing:
    """A :class:`~msgd.work.parts.Part` that has done its work when it has started; two of them do no harm."""

    def __init__(self, database: store.Database, seal: Seal) -> None:
        self._database = database
        self._seal = seal

    async def start(self) -> None:
        """Nothing, where secrets are not to be sealed."""
        after: str | None = "" if self._seal.beginning else None
        while after is not None:
            reseal = partial(store.reseal, seal=self._seal, after=after, limit=AT_ONCE)
            after, unopened = await self._database.write(reseal)
            for error in unopened:
                _log.warn("{error}", error=error.message)

    async def stop(self) -> None:
        """Nothing is under way."""

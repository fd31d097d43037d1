"""``GET /api/topics/{topic}/presence``."""

from __future__ import annotations

from collections.abc import Sequence

from msgd.messages.topics import check_topic
from msgd.notifier.access import Access
from msgd.notifier.interface import Answer, Call, Route, answer
from msgd.notifier.presence.service import Presence


class PresenceApi:
    """Who is there."""

    def __init__(self, access: Access, presence: Presence) -> None:
        self._access = access
        self._presence = presence

    def routes(self) -> Sequence[Route]:
        return (Route(method="GET", path="/api/topics/{topic}/presence", endpoint=self.show),)

    async def show(self, call: Call) -> Answer:
        """Who reads a topic now, on all notifiers."""
        topic = check_topic(call.words["topic"])
        await self._access.check_read(call.principal, topic)
        self._presence.check(topic)
        view = self._presence.view(topic)
        return answer({"topic": topic, "members": view.members, "count": view.count})

"""``POST /api/events``: one event, a list of them, or CloudEvents in JSON (structured or batched mode)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct

from msgd.errors import InvalidInput, TooLarge
from msgd.messages import json
from msgd.messages.topics import check_topic
from msgd.notifier.commands import Commands, EventRequest
from msgd.notifier.interface import Answer, Call, Route, answer
from msgd.notifier.limits import BATCH_BYTES, BATCH_EVENTS

CLOUD_EVENT: Final = "application/cloudevents+json"
CLOUD_EVENTS: Final = "application/cloudevents-batch+json"


class CloudEvent(Struct, kw_only=True):
    """An event in the JSON format of CloudEvents 1.0.

    Its topic is the extension attribute ``topic``, else ``subject``. Its ``source`` is the principal's ``sub`` all the
    same, unless the token may ``admin`` the topic: ids are told apart by their source.
    """

    specversion: str
    id: str
    source: str
    type: str
    subject: str = ""
    topic: str = ""
    data: Raw = Raw(b"null")
    data_base64: str | None = None


class EventsApi:
    """Publishing over HTTP."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands

    def routes(self) -> Sequence[Route]:
        return (Route(method="POST", path="/api/events", endpoint=self.publish, body_bytes=BATCH_BYTES),)

    async def publish(self, call: Call) -> Answer:
        """202 once the broker has all of them; a repeat under the same ids adds nothing."""
        kind = call.header("content-type").partition(";")[0].strip().lower()
        if kind in (CLOUD_EVENT, CLOUD_EVENTS):
            several = kind == CLOUD_EVENTS
            clouds = json.decode(call.body, list[CloudEvent]) if several else [json.decode(call.body, CloudEvent)]
            requests = [self._of_cloud(call, cloud) for cloud in clouds]
        else:
            several = bytes(call.json(Raw)).lstrip()[:1] == b"["
            requests = call.json(list[EventRequest]) if several else [call.json(EventRequest)]
        if len(requests) > BATCH_EVENTS:
            raise TooLarge(f"at most {BATCH_EVENTS} events in one request", where="body")
        ids = await self._commands.publish(call.principal, requests)
        return answer({"ids": ids} if several else {"id": ids[0]}, status=202)

    def _of_cloud(self, call: Call, cloud: CloudEvent) -> EventRequest:
        if cloud.specversion != "1.0":
            raise InvalidInput(f"specversion {cloud.specversion[:20]!r} is not 1.0", where="specversion")
        if not cloud.id or not cloud.source:
            raise InvalidInput("a CloudEvent has an id and a source", where="source" if cloud.id else "id")
        topic = check_topic(cloud.topic or cloud.subject)
        data = cloud.data
        if cloud.data_base64 is not None:
            # Kept as what it is: journaled data is JSON.
            data = Raw(json.encode({"base64": cloud.data_base64}))
        trusted = call.principal.administers(topic)
        return EventRequest(
            topic=topic,
            type=cloud.type,
            data=data,
            id=cloud.id,
            source=cloud.source if trusted else msgspec.UNSET,
        )

"""Every exchange, queue and key, in one table (DESIGN §4.1). Both brokers declare from here; nobody else names them."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from msgd.messages.jobs import HIGH
from msgd.messages.topics import bucket

JOBS: Final = "msgd.jobs"
EVENTS: Final = "msgd.events"
TALK: Final = "msgd.events.talk"
LIVE: Final = "msgd.live"
CONTROL: Final = "msgd.control"
DEAD: Final = "msgd.dead"

JOB_EVENTS_QUEUE: Final = "msgd.events.jobs"
TALK_QUEUE: Final = "msgd.events.talk"
DEAD_QUEUE: Final = "msgd.dead"

HEAD_KEY: Final = "head"
LIFE_PREFIX: Final = "msgd.life."
CHECK_PREFIX: Final = "msgd.check."

DELIVERY_LIMIT: Final = 50
"""A backstop behind the claims count of §3; also prefetched messages count when a connection is cut (3.10.8)."""

NO_DELIVERY_LIMIT: Final = -1
"""RabbitMQ 4 dead-letters after 20 deliveries unless told otherwise; events wait for a recorder however long."""


class Exchange(Struct, frozen=True):
    """A durable exchange; what no binding takes goes to ``alternate``."""

    name: str
    kind: str  # direct, topic or fanout
    alternate: str = ""


class Queue(Struct, frozen=True):
    """A durable queue, its bindings as ``(exchange, key)``."""

    name: str
    bindings: tuple[tuple[str, str], ...]
    delivery_limit: int = NO_DELIVERY_LIMIT
    dead_letters: bool = False  # to DEAD, at least once
    single_consumer: bool = False  # x-single-active-consumer: order survives a consumer that froze


EXCHANGES: Final = (
    Exchange(DEAD, "fanout"),
    Exchange(JOBS, "direct", alternate=DEAD),
    Exchange(TALK, "fanout"),
    Exchange(EVENTS, "topic", alternate=TALK),
    Exchange(LIVE, "direct"),
    Exchange(CONTROL, "topic"),
)

QUEUES: Final = (
    Queue(DEAD_QUEUE, ((DEAD, ""),)),
    Queue(JOB_EVENTS_QUEUE, ((EVENTS, "job.#"),), single_consumer=True),
    Queue(TALK_QUEUE, ((TALK, ""),), single_consumer=True),
)
"""Two queues of events, read in turn, so that a million crawl rows do not delay a chat."""


def job_key(type_: str, priority: str, *, continuation: bool) -> str:
    """The routing key of a job message: ``<type>``, ``<type>.high`` or, for continuations, ``<type>.more``."""
    if continuation:
        return f"{type_}.more"
    return f"{type_}.high" if priority == HIGH else type_


def job_type(key: str) -> str:
    """The job type that a routing key names; the inverse of :func:`job_key`."""
    return key.removesuffix(".high").removesuffix(".more")


class JobQueues(Struct, frozen=True):
    """The three queues of a job type."""

    new: Queue
    high: Queue
    more: Queue


def job_queues(type_: str) -> JobQueues:
    """The queues of a job type, each bound under its key, dead-lettering to ``msgd.dead``."""

    def queue(key: str) -> Queue:
        return Queue(f"{JOBS}.{key}", ((JOBS, key),), delivery_limit=DELIVERY_LIMIT, dead_letters=True)

    return JobQueues(queue(type_), queue(f"{type_}.high"), queue(f"{type_}.more"))


def live_key(topic: str) -> str:
    """The routing key on ``msgd.live`` under which a topic's events are pushed."""
    return str(bucket(topic))


def cancel_key(job: str) -> str:
    """The key on ``msgd.control`` that tells whoever performs a job to stop it."""
    return f"cancel.{job}"


def wake_key(follower: str) -> str:
    """The key on ``msgd.control`` that tells whoever follows the journal under a name to look at once."""
    return f"wake.{follower}"


REVOKE_KEY: Final = "revoke"
"""The key on ``msgd.control`` that tells every notifier to look at once whose tokens have been revoked."""


def presence_key(kind: str) -> str:
    """The key on ``msgd.control`` under which notifiers tell each other who is present."""
    return f"presence.{kind}"


ANY_PRESENCE: Final = presence_key("*")


def room_key(name: str) -> str:
    """The key on ``msgd.control`` that tells every notifier to look at a room again."""
    return f"rooms.{name}"


ANY_ROOM: Final = room_key("*")

"""The notifier as one part of a daemon: everything above, put together."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.threads import deferToThreadPool

from msgd.broker.interface import Broker
from msgd.clock import sleep
from msgd.config.settings import Notifier as Settings
from msgd.jobs.interface import Jobs
from msgd.journal.interface import Journal
from msgd.messages.ids import IdMaker, new_id
from msgd.notifier.api_events import EventsApi
from msgd.notifier.api_health import HealthApi
from msgd.notifier.api_jobs import JobsApi
from msgd.notifier.api_session import SessionApi
from msgd.notifier.api_topics import TopicsApi
from msgd.notifier.auth import Keys, Tokens
from msgd.notifier.commands import Commands
from msgd.notifier.feed import Feed
from msgd.notifier.http import Door, DoorSite
from msgd.notifier.interface import Route
from msgd.notifier.origins import Origins
from msgd.notifier.session import Desk
from msgd.notifier.site import DashboardSite
from msgd.notifier.websocket import Sockets
from msgd.work.cancel import cancel
from msgd.work.interface import JobType

CLOSING_S: Final = 1.0
"""For the goodbyes of WebSockets to reach their clients before the process goes on stopping."""


class Notifier:
    """The daemon that serves browsers. A :class:`~msgd.work.parts.Part`; ``site`` is what endpoints listen with.

    To be started after the broker and the database, and before its endpoints listen; to be stopped after they have
    stopped listening.
    """

    def __init__(
        self,
        *,
        broker: Broker,
        jobs: Jobs,
        journal: Journal,
        types: Mapping[str, JobType[Any]],
        keys: Keys,
        settings: Settings,
        reactor: Any,
        routes: Sequence[Route] = (),
        make_id: IdMaker = new_id,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``types``: the job types whose params are checked at the door, by name; ``routes``: those of services."""
        self._reactor = reactor
        tokens = Tokens(keys, reactor.seconds)
        origins = Origins(settings.origins, settings.cors)
        commands = Commands(
            broker,
            jobs,
            types,
            cancel=lambda job: cancel(jobs, broker, reactor, job),
            clock=reactor,
            new_id=make_id,
            in_thread=partial(deferToThreadPool, reactor, reactor.getThreadPool()),
        )
        self._feed = Feed(broker, journal, reactor)
        self._site = DashboardSite()
        self._sockets = Sockets(
            Desk(commands, self._feed, tokens, reactor),
            origins,
            reactor=reactor,
            new_id=lambda: make_id(commands.now_ms),
            random=jitter,
        )
        door = Door(
            [
                *JobsApi(commands, jobs, journal).routes(),
                *EventsApi(commands).routes(),
                *TopicsApi(commands, self._feed, journal, reactor).routes(),
                *SessionApi(tokens, origins, reactor.seconds).routes(),
                *HealthApi(broker, journal, self._feed, reactor).routes(),
                *self._sockets.routes(),
                *self._site.routes(),
                *routes,
            ],
            tokens=tokens,
            origins=origins,
            clock=reactor,
        )
        self.site = DoorSite(door, reactor)

    async def start(self) -> None:
        """Read the dashboard's files, begin to listen to live messages; jobs are taken although the broker is down."""
        self._site.load()
        await self._feed.start()

    async def stop(self) -> None:
        """Send the clients away, then listen no more."""
        if self._sockets.drain():
            await sleep(self._reactor, CLOSING_S)
        await self._feed.stop()

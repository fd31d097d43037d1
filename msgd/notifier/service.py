"""The notifier as one part of a daemon: everything above, put together."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger

from msgd.broker.interface import Broker
from msgd.clock import sleep
from msgd.config.settings import Auth, Limits
from msgd.config.settings import Notifier as Settings
from msgd.jobs.interface import Jobs
from msgd.journal.interface import Journal
from msgd.messages.ids import IdMaker, new_id
from msgd.notifier.access import Access
from msgd.notifier.admission import Admission
from msgd.notifier.allowances import Allowances
from msgd.notifier.api.dead import DeadApi
from msgd.notifier.api.events import EventsApi
from msgd.notifier.api.health import HealthApi
from msgd.notifier.api.jobs import JobsApi
from msgd.notifier.api.revoke import RevokeApi
from msgd.notifier.api.session import SessionApi
from msgd.notifier.api.topics import TopicsApi
from msgd.notifier.api.types import TypesApi
from msgd.notifier.attendance import Attendance
from msgd.notifier.auth.entry import Entry
from msgd.notifier.auth.keys import Keys
from msgd.notifier.auth.revocations import Revocations
from msgd.notifier.auth.store import Database
from msgd.notifier.auth.tokens import DAY_S, Tokens, Trust
from msgd.notifier.commands import Commands
from msgd.notifier.desk import Desk
from msgd.notifier.doors import OpenDoors
from msgd.notifier.feed import Feed
from msgd.notifier.http import Door, DoorSite
from msgd.notifier.interface import Mount, Route, Suspend
from msgd.notifier.keystrokes import Typing, TypingApi
from msgd.notifier.limits import DRAIN_SPREAD_S
from msgd.notifier.longpoll import LongPolls
from msgd.notifier.origins import Origins
from msgd.notifier.presence.api import PresenceApi
from msgd.notifier.presence.service import Presence
from msgd.notifier.pressure import Pressure
from msgd.notifier.proxies import Proxies
from msgd.notifier.rooms.api import RoomsApi
from msgd.notifier.rooms.commands import Rooms
from msgd.notifier.rooms.directory import RoomDirectory
from msgd.notifier.site import DashboardSite
from msgd.notifier.streams import EventStreams
from msgd.notifier.wave import IN_C
from msgd.notifier.websocket import Sockets
from msgd.sockets import waiting
from msgd.work.cancel import cancel
from msgd.work.interface import JobType

_log = Logger()

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
        database: Database,
        types: Mapping[str, JobType[Any]],
        keys: Keys,
        settings: Settings,
        auth: Auth = Auth(),  # noqa: B008  # immutable
        limits: Limits = Limits(),  # noqa: B008
        reactor: Any,
        mounts: Sequence[Mount] = (),
        suspend: Sequence[Suspend] = (),
        make_id: IdMaker = new_id,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``types``: the job types whose params are checked at the door, by name; ``mounts``: the routes of
        services; ``suspend``: what they do without a token is stopped when those of its owner are revoked."""
        self._reactor = reactor
        self.doors = OpenDoors(limits.connections)
        self._revocations = Revocations(database, broker, self.doors, reactor, suspend=suspend)
        trust = Trust(issuer=auth.issuer, audience=auth.audience, longest_s=auth.days * DAY_S)
        tokens = Tokens(keys, reactor.seconds, trust=trust, check=self._revocations.check)
        self.allowances = Allowances(limits, reactor.seconds)
        entry = Entry(tokens, self.allowances)
        origins, proxies = Origins(settings.origins, settings.cors), Proxies(settings.trusted_proxies)
        self._rooms = RoomDirectory(database, broker, reactor)
        access = Access(jobs, self._rooms)
        self._pressure = Pressure(broker, limits.backlog, reactor)
        commands = Commands(
            broker,
            jobs,
            types,
            access,
            self.allowances,
            self._pressure,
            cancel=lambda job: cancel(jobs, broker, reactor, job),
            clock=reactor,
            new_id=make_id,
            in_thread=partial(deferToThreadPool, reactor, reactor.getThreadPool()),
        )
        self._feed = Feed(broker, journal, reactor, partial(waiting, reactor))
        self._presence = Presence(
            broker, reactor, patterns=settings.presence, incarnation=lambda: make_id(commands.now_ms)
        )
        rooms = Rooms(database, self._rooms, access, journal, jobs, clock=reactor, new_id=make_id)
        self._jitter = jitter
        self._admission = Admission(settings.handshakes, reactor, jitter)
        self._site = DashboardSite()
        desk = Desk(
            commands=commands,
            access=access,
            feed=self._feed,
            entry=entry,
            allowances=self.allowances,
            doors=self.doors,
            attendance=Attendance(access, self._presence),
            presence=self._presence,
            typing=Typing(access, broker, reactor, make_id),
            clock=reactor,
        )
        self._sockets = Sockets(
            desk,
            origins,
            self._admission,
            compress=settings.compress,
            reactor=reactor,
            new_id=lambda: make_id(commands.now_ms),
        )
        door = Door(
            [
                *self._talk_routes(desk, journal, rooms),
                *JobsApi(commands, jobs, journal).routes(),
                *TypesApi(commands, jobs).routes(),
                *DeadApi(jobs).routes(),
                *SessionApi(entry, origins, reactor.seconds).routes(),
                *RevokeApi(self._revocations, trust.longest_s, reactor.seconds).routes(),
                *HealthApi(broker, journal, self._feed, reactor).routes(),
                *self._sockets.routes(),
                *self._site.routes(),
                *(route for mount in mounts for route in mount(commands)),
            ],
            nothing=self._site.nothing,
            entry=entry,
            allowances=self.allowances,
            origins=origins,
            proxies=proxies,
            admission=self._admission,
            clock=reactor,
        )
        self.site = DoorSite(door, reactor)

    def _talk_routes(self, desk: Desk, journal: Journal, rooms: Rooms) -> Sequence[Route]:
        """Events to and from topics and rooms, by HTTP."""
        polls = LongPolls(desk, self._admission)
        streams = EventStreams(desk, self._admission, self._jitter)
        return (
            *EventsApi(desk.commands).routes(),
            *TopicsApi(desk.access, journal, polls, streams, erased=desk.feed.erased).routes(),
            *RoomsApi(rooms, desk.presence).routes(),
            *PresenceApi(desk.access, desk.presence).routes(),
            *TypingApi(desk.typing).routes(),
        )

    async def start(self) -> None:
        """Read the dashboard's files, begin to listen to live messages; jobs are taken although the broker is down."""
        self._site.load()
        _log.info("many sockets are sent to by the loop in {language}", language="C" if IN_C else "Python")
        await self._revocations.start()
        await self._rooms.start()
        await self._presence.start()
        await self._feed.start()
        self._pressure.start()

    async def stop(self) -> None:
        """Send the clients away, then listen no more."""
        self._admission.close()
        self._pressure.stop()
        if self.doors:
            for door in self.doors:
                door.drain(DRAIN_SPREAD_S * self._jitter())
            await sleep(self._reactor, CLOSING_S)
        await self._feed.stop()
        await self._presence.stop()
        await self._rooms.stop()
        await self._revocations.stop()

"""The daemons in one table, and what each is made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from msgd.app.accepted import Accepted
from msgd.app.adapters import Adapters
from msgd.app.listening import InBackground, Listening
from msgd.app.options import OneOfManyOptions, Options
from msgd.app.service import DaemonService
from msgd.config import Settings
from msgd.errors import ConfigError
from msgd.journal.interface import Retention
from msgd.notifier.auth import SecretKeys, check_exposure, own_secret, read_secret
from msgd.notifier.service import Notifier
from msgd.services.crawler.params import CRAWL
from msgd.services.crawler.worker import Crawler
from msgd.services.recorder.service import Recorder
from msgd.work import JobType, Worker
from msgd.work.attempt import Limits
from msgd.work.network import Reach, parse_networks
from msgd.work.parts import Part, Parts
from msgd.work.runner import Runner

DAY_MS: Final = 24 * 60 * 60 * 1000

BUILT_IN: Final[Mapping[str, JobType[Any]]] = {type_.name: type_ for type_ in (CRAWL,)}
"""Job types whose params the notifier checks at the door."""


# -- what they are made of -------------------------------------------------------------------------------------------


def _ground(adapters: Adapters) -> list[Part]:
    """What every daemon stands on."""
    return [adapters.database, adapters.broker, adapters.outbox]


def _ground_of_the_door(adapters: Adapters) -> list[Part]:
    """The same, but the door opens while the broker is still away: jobs are taken, and go out when it is back."""
    return [adapters.database, InBackground(adapters.broker), adapters.outbox]


def rules(settings: Settings) -> list[Retention]:
    """What is kept of which topics. The first rule that matches decides, so the most specific comes first: the one
    with the fewest ``#``, then the fewest ``*``, then the most words."""

    def breadth(pattern: str) -> tuple[int, int, int]:
        words = pattern.split(".")
        return words.count("#"), words.count("*"), -len(words)

    return [
        Retention(pattern, kept.keep or None, round(kept.days * DAY_MS) or None)
        for pattern, kept in sorted(settings.topics.items(), key=lambda item: breadth(item[0]))
    ]


def _recorder(adapters: Adapters) -> Part:
    return Recorder(
        journal=adapters.journal,
        jobs=adapters.jobs,
        broker=adapters.broker,
        clock=adapters.reactor,
        # The embedded broker lets one process in: after a kill -9 the next one is the holder of the lease, at once.
        process="embedded" if adapters.settings.broker.embedded else adapters.process,
        rules=rules(adapters.settings),
    )


def _runner(adapters: Adapters, workers: Sequence[Worker[Any]]) -> Part:
    return Runner(
        workers,
        jobs=adapters.jobs,
        broker=adapters.broker,
        clock=adapters.reactor,
        process=adapters.process,
        limits=_limits(adapters.settings),
    )


def _limits(settings: Settings) -> Callable[[str], Limits]:
    def limits(type_: str) -> Limits:
        given = settings.job(type_)
        return Limits(given.concurrency, given.slice, given.attempts)

    return limits


def _crawler(adapters: Adapters) -> Worker[Any]:
    settings = adapters.settings
    return Crawler(
        adapters.reactor,
        Reach(parse_networks(settings.network.allow)),
        robots=settings.crawl.robots,
        contact=settings.crawl.contact,
        now_ms=adapters.now_ms,
    )


def _door(adapters: Adapters, workers: Sequence[Worker[Any]] = ()) -> list[Part]:
    """The notifier, and then its endpoints: the door closes before the notifier sends its clients away.

    Of the job types of ``workers`` it checks the params too.
    """
    settings = adapters.settings
    made = Notifier(
        broker=adapters.broker,
        jobs=adapters.jobs,
        journal=adapters.journal,
        types={**BUILT_IN, **{worker.type.name: worker.type for worker in workers}},
        keys=keys(settings),
        settings=settings.notifier,
        reactor=adapters.reactor,
    )
    accepted = Accepted(list(BUILT_IN.values()), jobs=adapters.jobs, broker=adapters.broker, clock=adapters.reactor)
    return [accepted, made, Listening(adapters.reactor, settings.notifier.listen, made.site)]


def keys(settings: Settings) -> SecretKeys:
    """What tokens are verified with. Raises ConfigError, also for a door open to a network without a configured key."""
    if settings.auth.keys_file or settings.auth.jwks_url:
        raise ConfigError("keys_file and jwks_url are not supported yet: set secret_file", where="auth")
    if settings.auth.secret_file:
        return SecretKeys(read_secret(Path(settings.auth.secret_file)))
    check_exposure(settings.notifier.listen)
    return SecretKeys(own_secret(Path(settings.secret_file)))


def all_in_one(adapters: Adapters, workers: Sequence[Worker[Any]] = ()) -> Parts:
    """All services in one process, and workers of other job types beside them."""
    return Parts(
        [
            *_ground(adapters),
            _recorder(adapters),
            _runner(adapters, [_crawler(adapters), *workers]),
            *_door(adapters, workers),
        ]
    )


def workers_only(adapters: Adapters, workers: Sequence[Worker[Any]]) -> Parts:
    """A process that performs jobs of these workers' types, beside the other daemons."""
    return Parts([*_ground(adapters), _runner(adapters, workers)])


# -- what twistd knows of them ---------------------------------------------------------------------------------------


class Daemon:
    """One daemon as ``ServiceMaker`` wants it: an object with ``Options`` and ``makeService``."""

    def __init__(self, name: str, build: Callable[[Adapters], Parts], *, alone: bool = False) -> None:
        """``alone``: it is all there is of msgd, so it may use the embedded defaults."""
        self.name = name
        self.build = build
        self.Options: type[Options] = Options if alone else OneOfManyOptions

    def makeService(self, options: Options) -> DaemonService:
        """The daemon as a service that has not done anything yet."""
        from twisted.internet import reactor

        # Made when it starts: it names the process, which twistd forks before that.
        return DaemonService(reactor, self.name, lambda: self.build(Adapters(options.settings, reactor, self.name)))


msgd: Final = Daemon("msgd", all_in_one, alone=True)
recorder: Final = Daemon("recorder", lambda adapters: Parts([*_ground(adapters), _recorder(adapters)]))
notifier: Final = Daemon("notifier", lambda adapters: Parts([*_ground_of_the_door(adapters), *_door(adapters)]))
crawler: Final = Daemon("crawler", lambda adapters: workers_only(adapters, [_crawler(adapters)]))

"""The daemons in one table, and what each is made of."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgd.app.accepted import Accepted
from msgd.app.adapters import Adapters
from msgd.app.listening import InBackground, Listening
from msgd.app.mailing import bounces, identity, in_thread
from msgd.app.mailing import mailer as make_mailer
from msgd.app.messaging import messenger as make_messenger
from msgd.app.messaging import resealing, seal
from msgd.app.options import OneOfManyOptions, Options
from msgd.app.rules import rules_follower, rules_routes
from msgd.app.service import DaemonService
from msgd.blobs.sweeping import Sweeper
from msgd.config import Settings
from msgd.journal.interface import Retention
from msgd.messages.ids import new_id
from msgd.notifier.auth.jwks import JwksKeys
from msgd.notifier.auth.keys import KeyRing, Keys
from msgd.notifier.auth.keys_file import FileKeys, SecretKeys, check_exposure, own_secret, read_secret
from msgd.notifier.interface import Mount
from msgd.notifier.service import Notifier
from msgd.services.crawler.params import CRAWL
from msgd.services.crawler.worker import Crawler
from msgd.services.mailer.api import MailApi
from msgd.services.mailer.params import MAIL
from msgd.services.mailer.press import Press
from msgd.services.mailer.signing import KEY_BYTES
from msgd.services.mailer.suppressions.api import SuppressionsApi
from msgd.services.messenger.feeds.params import FEED
from msgd.services.messenger.rules.store import suspend as suspend_rules
from msgd.services.messenger.webhooks.api import WebhooksApi
from msgd.services.messenger.webhooks.params import WEBHOOK
from msgd.services.messenger.webhooks.store import suspend as suspend_endpoints
from msgd.services.messenger.xmpp.params import MESSAGE
from msgd.services.recorder.service import Recorder
from msgd.services.thumbnailer.decoders import Decoders
from msgd.services.thumbnailer.params import THUMBNAIL
from msgd.services.thumbnailer.worker import Thumbnailer
from msgd.services.uploads.api import UploadsApi
from msgd.work import JobType, Worker
from msgd.work.attempt import Limits
from msgd.work.network import Reach, parse_networks
from msgd.work.parts import Part, Parts
from msgd.work.runner import Runner

DAY_MS: Final = 24 * 60 * 60 * 1000

BUILT_IN: Final[Mapping[str, JobType[Any]]] = {
    type_.name: type_ for type_ in (CRAWL, FEED, MAIL, MESSAGE, THUMBNAIL, WEBHOOK)
}
"""Job types whose params the notifier checks at the door."""


# -- what they are made of -------------------------------------------------------------------------------------------


def _ground(adapters: Adapters) -> list[Part]:
    """What every daemon stands on."""
    return [adapters.database, adapters.broker, adapters.outbox]


def _ground_of_the_door(adapters: Adapters) -> list[Part]:
    """The same, but the door opens while the broker is still away: jobs are taken, and go out when it is back."""
    return [adapters.database, InBackground(adapters.broker), adapters.outbox]


def _storage(adapters: Adapters) -> list[Part]:
    """What those stand on, beside the ground, who read or store blobs."""
    age_ms = round(adapters.settings.uploads.days * DAY_MS) or None
    sweeper = Sweeper(adapters.blobs, adapters.uploads, adapters.jobs, adapters.reactor, age_ms=age_ms)
    return [adapters.blobs, sweeper]


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


def _thumbnailer(adapters: Adapters) -> Worker[Any]:
    settings = adapters.settings.thumbnail
    decoders = Decoders(
        adapters.reactor,
        count=settings.concurrency,
        memory_bytes=settings.memory_mb * 1024 * 1024,
        pixels=settings.pixels,
        seconds=settings.seconds,
    )
    return Thumbnailer(adapters.blobs, adapters.uploads, decoders, settings.by_name)


def _door(adapters: Adapters, workers: Sequence[Worker[Any]] = ()) -> list[Part]:
    """The notifier, and then its endpoints: the door closes before the notifier sends its clients away.

    Of the job types of ``workers`` it checks the params too.
    """
    settings = adapters.settings
    sources = keys(settings, adapters.reactor)
    press = Press(adapters.reactor)
    made = Notifier(
        broker=adapters.broker,
        jobs=adapters.jobs,
        journal=adapters.journal,
        database=adapters.database,
        types={**BUILT_IN, **{worker.type.name: worker.type for worker in workers}},
        keys=KeyRing(sources),
        settings=settings.notifier,
        auth=settings.auth,
        limits=settings.limits,
        reactor=adapters.reactor,
        mounts=mounts(adapters, press),
        suspend=(suspend_rules, suspend_endpoints),
    )
    accepted = Accepted(list(BUILT_IN.values()), jobs=adapters.jobs, broker=adapters.broker, clock=adapters.reactor)
    fetched = [source for source in sources if isinstance(source, JwksKeys)]
    return [*fetched, accepted, press, made, Listening(adapters.reactor, settings.notifier.listen, made.site)]


def mounts(adapters: Adapters, press: Press) -> Sequence[Mount]:
    """The HTTP routes of services: each ``api.py`` has its place here. ``press``: makes previews of mail."""
    return (
        lambda orders: UploadsApi(
            orders,
            adapters.blobs,
            adapters.uploads,
            adapters.jobs,
            limits=adapters.settings.uploads,
            sizes=tuple(adapters.settings.thumbnail.by_name),
            now_ms=adapters.now_ms,
            new_id=new_id,
        ).routes(),
        lambda orders: WebhooksApi(
            orders,
            database=adapters.database,
            jobs=adapters.jobs,
            journal=adapters.journal,
            now_ms=adapters.now_ms,
            seal=seal(adapters.settings.messenger),
        ).routes(),
        lambda orders: MailApi(
            orders,
            jobs=adapters.jobs,
            database=adapters.database,
            uploads=adapters.uploads,
            blobs=adapters.blobs,
            press=press,
            identity=identity(adapters.settings.mail),
            now_ms=adapters.now_ms,
            in_thread=in_thread(adapters.reactor),
        ).routes(),
        lambda _: SuppressionsApi(
            database=adapters.database, now_ms=adapters.now_ms, new_key=partial(secrets.token_bytes, KEY_BYTES)
        ).routes(),
        rules_routes(adapters, BUILT_IN),
    )


def keys(settings: Settings, reactor: Any) -> list[Keys]:
    """What tokens are verified with: one or several sources. Raises ConfigError, also for a door open to a network
    without a configured key."""
    auth = settings.auth
    if not auth.configured:
        check_exposure(settings.notifier.listen)
        return [SecretKeys(own_secret(Path(settings.secret_file)))]
    sources: list[Keys] = []
    if auth.secret_file:
        sources.append(SecretKeys(read_secret(Path(auth.secret_file))))
    if auth.keys_file:
        sources.append(FileKeys(Path(auth.keys_file), reactor.seconds))
    if auth.jwks_url:
        sources.append(JwksKeys(auth.jwks_url, reactor))
    return sources


def all_in_one(adapters: Adapters, workers: Sequence[Worker[Any]] = ()) -> Parts:
    """All services in one process, and workers of other job types beside them."""
    return Parts(
        [
            *_ground(adapters),
            *_storage(adapters),
            _recorder(adapters),
            resealing(adapters),
            _runner(
                adapters,
                [
                    _crawler(adapters),
                    make_mailer(adapters),
                    *make_messenger(adapters),
                    _thumbnailer(adapters),
                    *workers,
                ],
            ),
            *bounces(adapters),
            rules_follower(adapters),
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
notifier: Final = Daemon(
    "notifier", lambda adapters: Parts([*_ground_of_the_door(adapters), *_storage(adapters), *_door(adapters)])
)
crawler: Final = Daemon("crawler", lambda adapters: workers_only(adapters, [_crawler(adapters)]))
messenger: Final = Daemon(
    "messenger",
    lambda adapters: Parts(
        [
            *_ground(adapters),
            resealing(adapters),
            _runner(adapters, make_messenger(adapters)),
            rules_follower(adapters),
        ]
    ),
)
mailer: Final = Daemon(
    "mailer",
    lambda adapters: Parts(
        [*_ground(adapters), *_storage(adapters), _runner(adapters, [make_mailer(adapters)]), *bounces(adapters)]
    ),
)
thumbnailer: Final = Daemon(
    "thumbnailer",
    lambda adapters: Parts([*_ground(adapters), *_storage(adapters), _runner(adapters, [_thumbnailer(adapters)])]),
)

"""What can be configured: every section and key, its type, its default, its check. ``etc/msgd.toml`` explains them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final

from msgspec import Meta, Struct

_PASSWORD: Final = re.compile(r"(?<=://)([^:/@\s]*):\S*@|((?:password|secret|token)=)[^&\s]+", re.IGNORECASE)


def without_password(text: str) -> str:
    """``text`` with the passwords of the URLs in it replaced by ``***``: what may be shown and logged."""
    return _PASSWORD.sub(lambda found: f"{found[2]}***" if found[2] else f"{found[1]}:***@", text)


class Section(Struct, frozen=True, kw_only=True):
    """A section of the configuration: its representations never show a password."""

    def __repr__(self) -> str:
        shown = (f"{field}={_masked(getattr(self, field))!r}" for field in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(field, _masked(getattr(self, field))) for field in self.__struct_fields__]


def _masked(value: object) -> object:
    if isinstance(value, str):
        return without_password(value)
    if isinstance(value, tuple):
        return tuple(_masked(item) for item in value)
    return value


Count = Annotated[int, Meta(ge=1)]
Some = Annotated[tuple[str, ...], Meta(min_length=1)]
Seconds = Annotated[float, Meta(gt=0)]


class State(Section, frozen=True, kw_only=True):
    """Where a process keeps what must survive it."""

    dir: str = "./var"


class Broker(Section, frozen=True, kw_only=True):
    """``embedded:``, or the URLs of one RabbitMQ cluster's nodes, tried in turn."""

    url: Some = ("embedded:",)

    def __post_init__(self) -> None:
        if len(self.url) > 1 and "embedded:" in self.url:
            raise ValueError("embedded: cannot stand beside other URLs")

    @property
    def embedded(self) -> bool:
        """Whether messages stay within this process."""
        return self.url == ("embedded:",)


class Database(Section, frozen=True, kw_only=True):
    """SQLite for one process, PostgreSQL for many."""

    url: str = "sqlite:///{state}/msgd.sqlite3"


class Blobs(Section, frozen=True, kw_only=True):
    """Where uploads and what is made of them lie."""

    url: str = "file://{state}/blobs"


class Notifier(Section, frozen=True, kw_only=True):
    """The door for browsers."""

    listen: Some = ("tcp:8080:interface=127.0.0.1",)
    origins: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()


class Auth(Section, frozen=True, kw_only=True):
    """What tokens are verified with; nothing set: a secret of our own, and loopback only."""

    secret_file: str = ""
    keys_file: str = ""
    jwks_url: str = ""

    @property
    def configured(self) -> bool:
        """Whether the operator has said whom to trust."""
        return bool(self.secret_file or self.keys_file or self.jwks_url)


class Network(Section, frozen=True, kw_only=True):
    """What crawler, webhooks and feeds may reach although it is not public."""

    allow: tuple[str, ...] = ()


class Mail(Section, frozen=True, kw_only=True):
    """The way out for mail."""

    smtp: str = "maildir:{state}/outbox"
    user: str = ""
    password_file: str = ""
    sender: str = ""


class Xmpp(Section, frozen=True, kw_only=True):
    """The account from which instant messages are sent."""

    jid: str = ""
    password_file: str = ""
    server: str = ""


class Retention(Section, frozen=True, kw_only=True):
    """How much of a topic is kept; 0 sets no limit."""

    keep: Annotated[int, Meta(ge=0)] = 0
    days: Annotated[float, Meta(ge=0)] = 0


class Job(Section, frozen=True, kw_only=True):
    """How jobs of one type are performed."""

    concurrency: Count = 4
    slice: Seconds = 20.0
    attempts: Count = 8


class Crawl(Job, frozen=True, kw_only=True):
    """How crawls are performed."""

    robots: bool = True
    contact: str = ""


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    state: State = State()
    broker: Broker = Broker()
    database: Database = Database()
    blobs: Blobs = Blobs()
    notifier: Notifier = Notifier()
    auth: Auth = Auth()
    network: Network = Network()
    mail: Mail = Mail()
    xmpp: Xmpp = Xmpp()
    topics: dict[str, Retention] = {}
    jobs: dict[str, Job] = {}

    @property
    def crawl(self) -> Crawl:
        """The settings of ``[jobs.crawl]``."""
        found = self.job("crawl")
        return found if isinstance(found, Crawl) else Crawl()

    @property
    def secret_file(self) -> str:
        """The file of the secret, which msgd makes by itself when the operator names none."""
        return self.auth.secret_file or f"{self.state.dir}/secret"

    def job(self, type_: str) -> Job:
        """The settings of ``[jobs.<type>]``, or their defaults."""
        return self.jobs.get(type_) or form_of(("jobs", type_))()


SECTIONS: Final[Mapping[str, type[Section]]] = {
    "state": State,
    "broker": Broker,
    "database": Database,
    "blobs": Blobs,
    "notifier": Notifier,
    "auth": Auth,
    "network": Network,
    "mail": Mail,
    "xmpp": Xmpp,
}
FAMILIES: Final[Mapping[str, type[Section]]] = {"topics": Retention, "jobs": Job}
"""Sections with a name of the operator's choice: ``[topics."room.*"]``, ``[jobs.crawl]``."""


def form_of(path: tuple[str, ...]) -> Any:
    """The Struct of the table at ``path``."""
    if path == ("jobs", "crawl"):
        return Crawl
    return FAMILIES[path[0]] if len(path) == 2 else SECTIONS[path[0]]


# -- checks of values ------------------------------------------------------------------------------------------------


def _one_of(*schemes: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if not value.startswith(schemes):
            raise ValueError(f"{without_password(value)!r} must start with {' or '.join(schemes)}")

    return check


def _network(value: str) -> None:
    ipaddress.ip_network(value)


def _origin(value: str) -> None:
    if not re.fullmatch(r"https?://[^/\s?#@]+", value):
        raise ValueError(f"{value!r} is not an origin such as https://app.example.com, without a path")


def _endpoint(value: str) -> None:
    if not re.match(r"[a-z][a-z0-9]*:.", value):
        raise ValueError(f"{value!r} is not a Twisted endpoint such as tcp:8080:interface=127.0.0.1")


CHECKS: Final[Mapping[tuple[str, str], Callable[[str], None]]] = {
    ("broker", "url"): _one_of("embedded:", "amqp://", "amqps://"),
    ("database", "url"): _one_of("sqlite:///", "postgresql://"),
    ("blobs", "url"): _one_of("file:///", "s3://"),
    ("notifier", "listen"): _endpoint,
    ("notifier", "origins"): _origin,
    ("notifier", "cors"): _origin,
    ("network", "allow"): _network,
    ("mail", "smtp"): _one_of("maildir:", "smtp://", "smtps://"),
}

# Topic patterns and job types as in msgd.messages.topics, which lies above this module.
NAMES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "topics": (re.compile(r"(?:[\w-]+|[*#])(?:\.(?:[\w-]+|[*#]))*", re.ASCII), 'a topic pattern such as "room.*"'),
    "jobs": (re.compile(r"[\w-]+", re.ASCII), "a job type such as crawl"),
}

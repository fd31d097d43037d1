"""What can be configured: every section and key, its type, its default, its check. ``etc/msgd.toml`` explains them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal
from urllib.parse import unquote, urlsplit

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
PerSecond = Annotated[float, Meta(ge=0)]
Most = Annotated[int, Meta(ge=0)]


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


class Uploads(Section, frozen=True, kw_only=True):
    """What may be sent, how much of it each owner may have, and for how long it is kept; 0 sets no such limit."""

    file_bytes: Count = 256 * 1024 * 1024
    request_bytes: Count = 1024 * 1024 * 1024
    files: Count = 100
    quota_bytes: Most = 10_000_000_000
    quota_files: Most = 10_000
    days: Annotated[float, Meta(ge=0)] = 0


class Notifier(Section, frozen=True, kw_only=True):
    """The door for browsers."""

    listen: Some = ("tcp:8080:interface=127.0.0.1",)
    origins: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    presence: tuple[str, ...] = ("room.#",)
    handshakes: Annotated[float, Meta(ge=0)] = 500.0
    compress: bool = False


class Auth(Section, frozen=True, kw_only=True):
    """What tokens are verified with; nothing set: a secret of our own, and loopback only."""

    secret_file: str = ""
    keys_file: str = ""
    jwks_url: str = ""
    issuer: str = ""
    audience: str = ""
    days: Annotated[float, Meta(gt=0)] = 366.0

    @property
    def configured(self) -> bool:
        """Whether the operator has said whom to trust."""
        return bool(self.secret_file or self.keys_file or self.jwks_url)


class Limits(Section, frozen=True, kw_only=True):
    """What each principal, and each address of strangers, may ask of one notifier; 0 sets no limit."""

    requests: PerSecond = 500.0
    operations: PerSecond = 500.0
    publishes: PerSecond = 1000.0
    connections: Most = 1000
    subscriptions: Most = 10_000
    bad_tokens: PerSecond = 10.0
    strangers: Most = 1000
    backlog: Most = 100_000


class Network(Section, frozen=True, kw_only=True):
    """What crawler, webhooks and feeds may reach although it is not public."""

    allow: tuple[str, ...] = ()


class Mail(Section, frozen=True, kw_only=True):
    """The way out for mail."""

    smtp: str = "maildir:{state}/outbox"
    user: str = ""
    password_file: str = ""
    starttls: Literal["required", "opportunistic", "off"] = "required"
    ca_file: str = ""
    hostname: str = ""
    sender: str = "msgd@localhost"
    list_id: str = ""
    unsubscribe: str = ""
    bounces: str = ""
    bounce_folder: str = ""
    bounce_password_file: str = ""
    bounce_starttls: Literal["required", "off"] = "required"
    bounce_ca_file: str = ""
    bounce_done: str = ""
    templates: str = ""
    dkim_domain: str = ""
    dkim_selector: str = ""
    dkim_key_file: str = ""
    connections: Count = 10
    rate: PerSecond = 0.0
    per_domain: Count = 10
    defer: Seconds = 300.0
    give_up: Seconds = 172_800.0

    def __post_init__(self) -> None:
        dkim = (self.dkim_domain, self.dkim_selector, self.dkim_key_file)
        if any(dkim) and not all(dkim):
            raise ValueError("dkim_domain, dkim_selector and dkim_key_file go together")
        if bool(self.user) != bool(self.password_file):
            raise ValueError("user and password_file go together")
        if self.user and self.starttls == "off" and self.smtp.startswith("smtp:"):
            raise ValueError("a password goes over TLS only: with user, starttls cannot be off")
        if self.bounce_folder and not self.bounces:
            raise ValueError("bounce_folder is read for what came to the address in bounces, which is not set")
        if "://" in self.bounce_folder and not self.bounce_password_file:
            raise ValueError("bounce_folder is on a server: set bounce_password_file, which has the user's password")


class Xmpp(Section, frozen=True, kw_only=True):
    """The account from which instant messages are sent."""

    jid: str = ""
    password_file: str = ""
    server: str = ""
    ca_file: str = ""
    nick: Annotated[str, Meta(min_length=1, max_length=100)] = "msgd"
    people: tuple[str, ...] = ()
    subscriptions: Literal["people", "all", "none"] = "people"

    @property
    def subs(self) -> dict[str, str]:
        """``people`` as subs by address."""
        return dict(_person(item) for item in self.people)


class Messenger(Section, frozen=True, kw_only=True):
    """What webhooks keep."""

    secrets_key_file: str = ""


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


class Webhook(Job, frozen=True, kw_only=True):
    """How webhooks are sent."""

    concurrency: Count = 64
    attempts: Count = 10
    at_once: Count = 4
    timeout: Seconds = 15.0
    patience: Seconds = 5.0


class MailJob(Job, frozen=True, kw_only=True):
    """How mail jobs are performed."""

    attempts: Count = 20


class Feed(Job, frozen=True, kw_only=True):
    """How feeds are read."""

    concurrency: Count = 16


class Thumbnail(Job, frozen=True, kw_only=True):
    """How pictures are made smaller."""

    concurrency: Count = 2
    sizes: Some = ("small=160", "medium=480", "large=1024")
    pixels: Count = 100_000_000
    memory_mb: Count = 1024
    seconds: Count = 30

    @property
    def by_name(self) -> dict[str, int]:
        """Pixels of the longer side of each picture, by its name."""
        return {name: int(pixels) for name, _, pixels in (size.partition("=") for size in self.sizes)}


class Message(Job, frozen=True, kw_only=True):
    """How instant messages are sent."""

    concurrency: Count = 16
    attempts: Count = 12


class Settings(Struct, frozen=True, kw_only=True):
    """The whole configuration."""

    state: State = State()
    broker: Broker = Broker()
    database: Database = Database()
    blobs: Blobs = Blobs()
    uploads: Uploads = Uploads()
    notifier: Notifier = Notifier()
    auth: Auth = Auth()
    limits: Limits = Limits()
    network: Network = Network()
    mail: Mail = Mail()
    messenger: Messenger = Messenger()
    xmpp: Xmpp = Xmpp()
    topics: dict[str, Retention] = {}
    jobs: dict[str, Job] = {}

    @property
    def crawl(self) -> Crawl:
        """The settings of ``[jobs.crawl]``."""
        found = self.job("crawl")
        return found if isinstance(found, Crawl) else Crawl()

    @property
    def thumbnail(self) -> Thumbnail:
        """The settings of ``[jobs.thumbnail]``."""
        found = self.job("thumbnail")
        return found if isinstance(found, Thumbnail) else Thumbnail()

    @property
    def webhook(self) -> Webhook:
        """The settings of ``[jobs.webhook]``."""
        found = self.job("webhook")
        return found if isinstance(found, Webhook) else Webhook()

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
    "uploads": Uploads,
    "notifier": Notifier,
    "auth": Auth,
    "limits": Limits,
    "network": Network,
    "mail": Mail,
    "messenger": Messenger,
    "xmpp": Xmpp,
}
FAMILIES: Final[Mapping[str, type[Section]]] = {"topics": Retention, "jobs": Job}
"""Sections with a name of the operator's choice: ``[topics."room.*"]``, ``[jobs.crawl]``."""

JOBS: Final[Mapping[str, type[Job]]] = {
    "crawl": Crawl,
    "feed": Feed,
    "mail": MailJob,
    "message": Message,
    "thumbnail": Thumbnail,
    "webhook": Webhook,
}
"""Job types with keys, or defaults, of their own."""


def form_of(path: tuple[str, ...]) -> Any:
    """The Struct of the table at ``path``."""
    if path[0] == "jobs" and len(path) == 2:
        return JOBS.get(path[1], Job)
    return FAMILIES[path[0]] if len(path) == 2 else SECTIONS[path[0]]


# -- checks of values ------------------------------------------------------------------------------------------------


def _one_of(*schemes: str) -> Callable[[str], None]:
    def check(value: str) -> None:
        if not value.startswith(schemes):
            raise ValueError(f"{without_password(value)!r} must start with {' or '.join(schemes)}")

    return check


def _network(value: str) -> None:
    ipaddress.ip_network(value)


def _proxy(value: str) -> None:
    if value != "unix":
        _network(value)


def _jwks(value: str) -> None:
    # http:// would let whoever sits on the way put in keys of his own.
    loopback = r"http://(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?(?:/|$)"
    if value and not (re.match(r"https://[^/\s]", value) or re.match(loopback, value)):
        raise ValueError(f"{without_password(value)!r} must start with https:// (or http:// and a loopback address)")
    if not value.isascii() or re.search(r"[\s@]", value):
        raise ValueError(f"{without_password(value)!r} is not a URL without spaces, accents and passwords")


def _origin(value: str) -> None:
    if not re.fullmatch(r"https?://[^/\s?#@]+", value):
        raise ValueError(f"{value!r} is not an origin such as https://app.example.com, without a path")


def _hostname(value: str) -> None:
    if value and not re.fullmatch(r"[A-Za-z0-9.-]+|\[[A-Za-z0-9.:]+\]", value):
        raise ValueError(f"{value!r} is not a host's name such as mail.example.com")


def _mailbox(value: str) -> None:
    # The mailer itself is stricter; here only what nobody meant is refused.
    if value and not re.fullmatch(r"(?:[^<>\r\n]*<)?[^\s<>@]+@[^\s<>@]+>?", value):
        raise ValueError(f"{value!r} is not an address such as news@example.com")


def _bounce_folder(value: str) -> None:
    if "://" not in value:
        return
    parts = urlsplit(value)
    if parts.scheme not in ("imap", "imaps") or not parts.hostname or not parts.username or parts.port == 0:
        raise ValueError(f"{without_password(value)!r} is neither a maildir nor imaps://user@host:port/FOLDER")
    if parts.password is not None:
        raise ValueError("a password does not belong in a URL: name the file that has it in bounce_password_file")
    if parts.query or parts.fragment or not unquote(value).isprintable():
        raise ValueError("a name with ? or # is written with %3F or %23, and none has what nobody can see")


def _printable(value: str) -> None:
    if not value.isprintable():
        raise ValueError(f"{value!r} has characters that nobody can see")


def _list_id(value: str) -> None:
    if value and not re.fullmatch(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+", value):
        raise ValueError(f"{value!r} is not a List-Id such as news.example.com")


def _base(value: str) -> None:
    if value and not re.fullmatch(r"https?://[^\s?#@]+", value):
        raise ValueError(f"{value!r} is not the beginning of an address such as https://msgd.example.com")


def _endpoint(value: str) -> None:
    if not re.match(r"[a-z][a-z0-9]*:.", value):
        raise ValueError(f"{value!r} is not a Twisted endpoint such as tcp:8080:interface=127.0.0.1")


def _size(value: str) -> None:
    found = re.fullmatch(r"(?!original=)[\w-]{1,32}=([1-9]\d{0,3})", value, re.ASCII)
    if not found or int(found[1]) > 4096:
        raise ValueError(f"{value!r} is not a name and the pixels of the longer side, up to 4096, such as small=160")


def _person(value: str) -> tuple[str, str]:
    address, _, sub = (part.strip() for part in value.partition("="))
    if not re.fullmatch(r"[^@/\s]+@[^@/\s]+", address) or not sub:
        raise ValueError(f"{value!r} is not an address and a sub, such as 'ann@example.com = ann'")
    return address, sub


def _server(value: str) -> None:
    if value and not re.fullmatch(r"[^\s/]+:\d{1,5}", value):
        raise ValueError(f"{value!r} is not host:port")


CHECKS: Final[Mapping[tuple[str, str], Callable[[str], object]]] = {
    ("broker", "url"): _one_of("embedded:", "amqp://", "amqps://"),
    ("database", "url"): _one_of("sqlite:///", "postgresql://"),
    ("blobs", "url"): _one_of("file:///", "s3://"),
    ("jobs", "sizes"): _size,
    ("notifier", "listen"): _endpoint,
    ("notifier", "origins"): _origin,
    ("notifier", "cors"): _origin,
    ("notifier", "trusted_proxies"): _proxy,
    ("auth", "jwks_url"): _jwks,
    ("network", "allow"): _network,
    ("xmpp", "people"): _person,
    ("xmpp", "server"): _server,
    ("mail", "smtp"): _one_of("maildir:", "smtp://", "smtps://"),
    ("mail", "hostname"): _hostname,
    ("mail", "sender"): _mailbox,
    ("mail", "bounces"): _mailbox,
    ("mail", "bounce_folder"): _bounce_folder,
    ("mail", "bounce_done"): _printable,
    ("mail", "list_id"): _list_id,
    ("mail", "unsubscribe"): _base,
}

# Topic patterns and job types as in msgd.messages.topics, which lies above this module.
NAMES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "topics": (re.compile(r"(?:[\w-]+|[*#])(?:\.(?:[\w-]+|[*#]))*", re.ASCII), 'a topic pattern such as "room.*"'),
    "jobs": (re.compile(r"[\w-]+", re.ASCII), "a job type such as crawl"),
}

"""Where a broker is: ``amqp[s]://user:password@host:port/vhost?option=value`` (RabbitMQ's URI specification).

Options, under RabbitMQ's names: ``cacertfile``, ``certfile``, ``keyfile``, ``server_name_indication``, ``heartbeat``
(seconds, 0 for none) and ``connection_timeout`` (milliseconds).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from msgspec import Struct

from msgd.broker.amqp.protocol import HEARTBEAT_S
from msgd.errors import ConfigError

PORTS: Final = {"amqp": 5672, "amqps": 5671}
CONNECT_S: Final = 10.0
"""How long a TCP or TLS connection, and then the log-in, may each take."""

_TLS_OPTIONS: Final = frozenset({"cacertfile", "certfile", "keyfile", "server_name_indication"})
_OPTIONS: Final = _TLS_OPTIONS | {"heartbeat", "connection_timeout"}


class Address(Struct, frozen=True, kw_only=True):
    """One broker, and how to log in. Its text form leaves out the password."""

    host: str
    port: int
    user: str = "guest"
    password: str = "guest"  # noqa: S105  RabbitMQ's own default, good on loopback only
    vhost: str = "/"
    tls: bool = False
    ca_file: str = ""  # empty: the system's authorities
    certificate_file: str = ""
    key_file: str = ""
    server_name: str = ""  # the name in the certificate, if it is not the host
    heartbeat: int = HEARTBEAT_S
    connect_timeout: float = CONNECT_S  # seconds

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        vhost = "" if self.vhost == "/" else f"/{self.vhost}"
        return f"{'amqps' if self.tls else 'amqp'}://{self.user}@{host}:{self.port}{vhost}"

    __repr__ = __str__


def parse_url(url: str) -> Address:
    """The address in ``url``. Raises ConfigError, whose message repeats no password."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"not a broker URL: {error}", where="broker.url") from None
    if parts.scheme not in PORTS:
        raise ConfigError(f"a broker URL starts with amqp:// or amqps://, not {parts.scheme}:", where="broker.url")
    if not parts.hostname:
        raise ConfigError("a broker URL names a host: amqp://host:port/vhost", where="broker.url")
    if "/" in parts.path[1:]:
        raise ConfigError("a '/' in a broker URL's vhost is written %2F", where="broker.url")
    options = dict(parse_qsl(parts.query, keep_blank_values=True))
    tls = parts.scheme == "amqps"
    for name in options:
        if name not in _OPTIONS:
            known = ", ".join(sorted(_OPTIONS))
            raise ConfigError(f"a broker URL has no option {name!r}; it has {known}", where="broker.url")
        if name in _TLS_OPTIONS and not tls:
            raise ConfigError(f"the option {name!r} is for amqps:// only", where="broker.url")
    if bool(options.get("certfile")) != bool(options.get("keyfile")):
        raise ConfigError("a broker URL has both certfile and keyfile, or neither", where="broker.url")
    return Address(
        host=parts.hostname,
        port=PORTS[parts.scheme] if port is None else port,
        user="guest" if parts.username is None else unquote(parts.username),
        password="guest" if parts.password is None else unquote(parts.password),
        vhost=unquote(parts.path[1:]) or "/",
        tls=tls,
        ca_file=options.get("cacertfile", ""),
        certificate_file=options.get("certfile", ""),
        key_file=options.get("keyfile", ""),
        server_name=options.get("server_name_indication", ""),
        heartbeat=_number(options, "heartbeat", HEARTBEAT_S),
        connect_timeout=_number(options, "connection_timeout", int(CONNECT_S * 1000)) / 1000,
    )


def _number(options: dict[str, str], name: str, default: int) -> int:
    text = options.get(name)
    if text is None:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > 0xFFFF * 1000:
        raise ConfigError(f"the option {name!r} of a broker URL is a number, not {text!r:.40}", where="broker.url")
    return int(text)

"""Where a server that listens is found."""

from __future__ import annotations

from msgd.errors import ConfigError


def address(endpoint: str) -> str:
    """The URL under which a Twisted endpoint (``tcp:8080:interface=127.0.0.1``) is reached from this machine."""
    kind, *arguments = endpoint.replace("\\:", "\0").split(":")
    named = dict(part.split("=", 1) for part in arguments if "=" in part)
    plain = [part for part in arguments if "=" not in part]
    port = named.get("port") or (plain[0] if plain else "")
    if kind not in ("tcp", "tcp6", "ssl") or not port.isdecimal():
        raise ConfigError(f"the address of {endpoint!r} cannot be told; say it with --url", where="notifier.listen")
    host = named.get("interface", "").replace("\0", ":")
    if host in ("", "0.0.0.0", "::"):  # noqa: S104 - everywhere is also here
        host = "127.0.0.1"
    return f"{'https' if kind == 'ssl' else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"

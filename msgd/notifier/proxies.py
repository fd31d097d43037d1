"""Who really asks, and for what host, where a proxy stands before us (pure).

Anybody can write ``X-Forwarded-…`` into a request; only what a proxy that we know has written counts.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Sequence
from typing import Final, Union

from msgd.notifier.interface import Asked

UNIX: Final = "unix"
"""Stands for whoever connects to a Unix socket: only a proxy on this machine does."""

PREFIX_6: Final = 64
"""Of an IPv6 address this much names a customer; the rest he chooses himself (RFC 6177)."""

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]


class Proxies:
    """The proxies that we know."""

    def __init__(self, trusted: Sequence[str] = ()) -> None:
        """``trusted``: networks such as ``10.0.0.0/8``, or ``unix``."""
        self._unix = UNIX in trusted
        self._networks = [ipaddress.ip_network(one) for one in trusted if one != UNIX]

    def look(self, peer: str, header: Callable[[str], str], *, secure: bool = False) -> Asked:
        """``peer``: the address at the other end of the connection, "" for a Unix socket; ``header``: all values of a
        header, joined with commas, or ""; ``secure``: our own end of it is TLS."""
        host = header("host")
        if not self._knows(peer):
            return Asked(address=_counted(peer), host=host, secure=secure)
        address = peer
        for hop in reversed(_items(header("x-forwarded-for"))):
            read = _address(hop)
            if read is None:
                break  # what lies before it was not written by a proxy of ours either
            address = str(read)
            if not self._knows(address):
                break
        hosts, schemes = _items(header("x-forwarded-host")), _items(header("x-forwarded-proto"))
        return Asked(
            address=_counted(address),
            host=hosts[-1] if hosts else host,
            secure=schemes[-1].lower() == "https" if schemes else secure,
        )

    def _knows(self, address: str) -> bool:
        if not address:
            return self._unix
        read = _address(address)
        return read is not None and any(read.version == one.version and read in one for one in self._networks)


def _items(values: str) -> Sequence[str]:
    return [item for item in (part.strip() for part in values.split(",")) if item]


def _address(text: str) -> Address | None:
    """An IP address, perhaps with a port; None if it is something else."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        read = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(read, "ipv4_mapped", None) or read


def _counted(address: str) -> str:
    """The name under which an address is counted. Programs on this machine are not: nobody guesses from there, and a
    proxy that we were not told of must not be shut out for what its clients do."""
    read = _address(address)
    if read is None or read.is_loopback:
        return ""
    if read.version == 6:
        return str(ipaddress.ip_network((read, PREFIX_6), strict=False))
    return str(read)

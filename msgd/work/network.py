"""The guard that keeps workers out of private networks: crawler, webhooks and feeds dial through it.

A URL comes from a user, a link or a redirect; a name may resolve to one address when it is looked at and to another
when it is dialled (DNS rebinding). So nothing here judges a URL by its text: the name is resolved, the addresses that
may not be reached are dropped, and the very addresses that passed are dialled. Every connection goes through
:class:`GuardedEndpoints`, so every hop of a redirect does; the forms that browsers and the C library accept (``127.1``,
``0x7f000001``, ``2130706433``) are resolved like any name and judged by the address that comes out.

Sources: IANA IPv4 and IPv6 Special-Purpose Address Registries (RFC 6890); RFC 6052 (NAT64), RFC 3056 (6to4), RFC 4380
(Teredo), RFC 4291 §2.5.5 (IPv4 inside IPv6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Final

from twisted.internet.address import IPv4Address as DialledIPv4
from twisted.internet.address import IPv6Address as DialledIPv6
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import (
    IHostnameResolver,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
    IStreamClientEndpoint,
)
from twisted.python.failure import Failure
from twisted.web.client import URI, BrowserLikePolicyForHTTPS
from twisted.web.error import SchemeNotSupported
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from msgd.errors import AddressRefused, ConfigError

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address

CONNECT_S: Final = 15.0
"""To the end of one connection attempt: a SYN lost twice is sent again after 1 and 3 s (RFC 6298)."""

_REFUSED_4: Final = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # "this network": Linux connects 0.0.0.0 to the machine itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; clouds put metadata services here too
        "127.0.0.0/8",
        "169.254.0.0/16",  # link-local, with the clouds' metadata service
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarking
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

_GLOBAL_6: Final = IPv6Network("2000::/3")
"""All that is given out of IPv6's global unicast space: whatever lies outside is local, multicast or reserved."""

_REFUSED_6: Final = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID, ...
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",  # documentation
    )
)

_EMBEDDED: Final = (
    # (network, how far right of the address the IPv4 address stands)
    (IPv6Network("::/96"), 0),  # IPv4-compatible, long deprecated
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::ffff:0:0:0/96"), 0),  # IPv4-translated
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)


def parse_networks(texts: Iterable[str], *, where: str = "network.allow") -> tuple[Network, ...]:
    """The networks of a configuration, such as ``127.0.0.0/8``, ``::1`` or ``10.1.2.3``. Raises ConfigError."""
    networks = []
    for text in texts:
        try:
            networks.append(ip_network(text))
        except ValueError as error:
            raise ConfigError(
                f"{text!r} is not a network such as '127.0.0.0/8' or 'fd00::/8': {error}", where=where
            ) from None
    return tuple(networks)


class Reach:
    """Which addresses may be dialled: the public ones, and those of the networks that were allowed."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def permits(self, text: str) -> bool:
        """Whether the numeric address ``text`` may be dialled. What is no numeric address may not."""
        try:
            address = ip_address(text.partition("%")[0])  # the zone of fe80::1%eth0
        except ValueError:
            return False
        if self._is_allowed(address):
            return True
        if isinstance(address, IPv4Address):
            return not any(address in network for network in _REFUSED_4)
        # Only IPv4-mapped ones can be judged by the address inside: the kernel itself dials that one. The others go
        # through a translator or relay that may stand in a network of ours, so they are refused whatever is inside.
        mapped = address.ipv4_mapped
        if mapped is not None:
            return self.permits(str(mapped))
        return address in _GLOBAL_6 and not any(address in network for network in _REFUSED_6)

    def _is_allowed(self, address: Address) -> bool:
        return any(inner in network for inner in _meanings(address) for network in self._allowed)


def _meanings(address: Address) -> Iterable[Address]:
    """The address, and the IPv4 address that it carries: allowing 127.0.0.0/8 also allows ::ffff:127.0.0.1."""
    yield address
    if isinstance(address, IPv6Address) and int(address) > 1:  # :: and ::1 carry none
        for network, shift in _EMBEDDED:
            if address in network:
                yield IPv4Address(int(address) >> shift & 0xFFFFFFFF)


@implementer(IResolutionReceiver)
class _Sieve:
    """Passes on the addresses that may be dialled, and remembers those that may not."""

    def __init__(self, reach: Reach, receiver: Any, refused: list[str]) -> None:
        self._reach = reach
        self._receiver = receiver
        self._refused = refused

    def resolutionBegan(self, resolutionInProgress: Any) -> None:
        self._receiver.resolutionBegan(resolutionInProgress)

    def addressResolved(self, address: Any) -> None:
        if isinstance(address, DialledIPv4 | DialledIPv6) and self._reach.permits(address.host):
            self._receiver.addressResolved(address)
        else:
            self._refused.append(str(getattr(address, "host", address)))

    def resolutionComplete(self) -> None:
        self._receiver.resolutionComplete()


@implementer(IReactorPluggableNameResolver, IHostnameResolver)
class _GuardedReactor:
    """A reactor for one HostnameEndpoint: resolves through the sieve, and dials nothing that would not pass it."""

    def __init__(self, reactor: Any, reach: Reach) -> None:
        self._reactor = reactor
        self._reach = reach
        self.refused: list[str] = []
        self.seconds = reactor.seconds
        self.callLater = reactor.callLater

    @property
    def nameResolver(self) -> Any:
        return self

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError("the guard resolves through its reactor")

    def resolveHostName(self, resolutionReceiver: Any, *args: Any, **options: Any) -> Any:
        sieve = _Sieve(self._reach, resolutionReceiver, self.refused)
        return self._reactor.nameResolver.resolveHostName(sieve, *args, **options)

    def connectTCP(self, host: str, *args: Any, **options: Any) -> Any:
        # Only addresses come here, and only ones that passed; this is the lock on the door, should that ever change.
        if not self._reach.permits(host):
            raise AddressRefused(f"{host} is not an address that may be reached", where=host)
        return self._reactor.connectTCP(host, *args, **options)


@implementer(IStreamClientEndpoint)
class GuardedEndpoint:
    """Connects to ``host``, by name or address, if :class:`Reach` permits one of its addresses."""

    def __init__(self, reactor: Any, reach: Reach, host: str, port: int, *, timeout_s: float = CONNECT_S) -> None:
        self._reactor = reactor
        self._reach = reach
        self._host = host
        self._port = port
        self._timeout_s = timeout_s

    def __repr__(self) -> str:
        return f"<GuardedEndpoint {self._host}:{self._port}>"

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Fires with the protocol. Fails with AddressRefused, DNSLookupError or a connection error."""
        guarded = _GuardedReactor(self._reactor, self._reach)
        endpoint = HostnameEndpoint(guarded, self._host, self._port, timeout=self._timeout_s)

        def explain(failure: Failure) -> Failure:
            if failure.check(DNSLookupError) and guarded.refused:
                addresses = ", ".join(guarded.refused[:4])
                named = f"{self._host} leads to {addresses}" if addresses != self._host else addresses
                return Failure(
                    AddressRefused(
                        f"{named}: private, local and reserved addresses are not reached unless the configuration "
                        "allows their network ([network] allow)",
                        where=self._host,
                    )
                )
            return failure

        connected: Deferred[Any] = endpoint.connect(protocolFactory)
        return connected.addErrback(explain)


@implementer(IAgentEndpointFactory)
class GuardedEndpoints:
    """Makes the endpoints of a twisted.web Agent; the only way in which crawler, webhooks and feeds connect."""

    def __init__(
        self,
        reactor: Any,
        reach: Reach,
        *,
        timeout_s: float = CONNECT_S,
        tls: Any = None,
    ) -> None:
        """``timeout_s``: for one connection attempt; ``tls``: an IPolicyForHTTPS, by default a browser's."""
        self._reactor = reactor
        self._reach = reach
        self._timeout_s = timeout_s
        self._tls = tls if tls is not None else BrowserLikePolicyForHTTPS()

    def endpointForURI(self, uri: URI) -> Any:
        """Raises SchemeNotSupported for anything but http and https."""
        host = uri.host.decode("ascii").removeprefix("[").removesuffix("]")
        endpoint: Any = GuardedEndpoint(self._reactor, self._reach, host, uri.port, timeout_s=self._timeout_s)
        if uri.scheme == b"http":
            return endpoint
        if uri.scheme == b"https":
            return wrapClientTLS(self._tls.creatorForNetloc(uri.host, uri.port), endpoint)
        raise SchemeNotSupported(f"only http and https are reached, not {uri.scheme!r}")

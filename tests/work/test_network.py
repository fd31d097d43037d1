"""The guard of private networks: which addresses may be dialled, and that nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.address import IPv4Address as DialledIPv4
from twisted.internet.address import IPv6Address as DialledIPv6
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHostnameResolver, IReactorPluggableNameResolver
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import URI
from twisted.web.error import SchemeNotSupported
from zope.interface import implementer

from msgd.errors import AddressRefused, ConfigError
from msgd.work.network import GuardedEndpoint, GuardedEndpoints, Reach, parse_networks

PRIVATE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",  # IPv4-compatible
    "::ffff:127.0.0.1",  # IPv4-mapped
    "::ffff:10.1.2.3",
    "::ffff:0:127.0.0.1",  # IPv4-translated
    "64:ff9b::7f00:1",  # NAT64
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",  # Teredo
    "2001:10::1",  # ORCHID
    "2001:db8::1",
    "2002:7f00:1::",  # 6to4 of 127.0.0.1
    "2002:808:808::1",
    "3fff::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "8.8.8.8", "93.184.216.34", "172.32.0.1", "2606:4700::1111", "2a00:1450::8a", "::ffff:8.8.8.8"]


class ReachTests(SynchronousTestCase):
    def test_private_refused(self) -> None:
        """Every kind of local, private, reserved or translated address is refused."""
        reach = Reach()
        self.assertEqual([address for address in PRIVATE if reach.permits(address)], [])

    def test_public_permitted(self) -> None:
        """Public addresses are permitted, also written as IPv4-mapped ones."""
        reach = Reach()
        self.assertEqual([address for address in PUBLIC if not reach.permits(address)], [])

    def test_names_refused(self) -> None:
        """What is no numeric address is never permitted: only resolved addresses are dialled."""
        for text in ("localhost", "", "127.1", "0x7f000001", "2130706433", "example.com"):
            self.assertFalse(Reach(parse_networks(["0.0.0.0/0"])).permits(text))

    def test_allowed_network(self) -> None:
        """An allowed network is reached, in each of the forms that its addresses have, and no other."""
        reach = Reach(parse_networks(["127.0.0.0/8", "fd00::/8"]))
        for address in ("127.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "fd00::1"):
            self.assertTrue(reach.permits(address), address)
        for address in ("10.0.0.1", "::1", "fe80::1", "::ffff:10.0.0.1"):
            self.assertFalse(reach.permits(address), address)

    def test_bad_network(self) -> None:
        """A network that is none is a configuration error that shows it."""
        error = self.assertRaises(ConfigError, parse_networks, ["10.0.0.1/8"])
        self.assertIn("10.0.0.1/8", error.message)

    @given(st.ip_addresses(v=4))
    def test_agrees_with_python_4(self, address: IPv4Address) -> None:
        """No IPv4 address is permitted that Python's own table calls private, reserved or multicast."""
        if not address.is_global or address.is_multicast or address.is_reserved:
            self.assertFalse(Reach().permits(str(address)))

    @given(st.ip_addresses(v=6))
    def test_agrees_with_python_6(self, address: IPv6Address) -> None:
        """No IPv6 address is permitted that Python's own table calls private, or that carries an IPv4 address."""
        mapped = address.ipv4_mapped
        if mapped is None and (not address.is_global or address.sixtofour is not None or address.teredo is not None):
            self.assertFalse(Reach().permits(str(address)))


@implementer(IHostnameResolver)
class Names:
    """A resolver that gives prepared answers, one after the other; the last one stays."""

    def __init__(self, answers: dict[str, list[Sequence[str]]]) -> None:
        self.answers = answers
        self.asked: list[str] = []

    def resolveHostName(self, receiver: Any, name: str, portNumber: int = 0, *args: Any, **more: Any) -> object:
        self.asked.append(name)
        receiver.resolutionBegan(self)
        answers = self.answers.get(name, [()])
        for text in answers.pop(0) if len(answers) > 1 else answers[0]:
            kind: Any = DialledIPv4 if ip_address(text).version == 4 else DialledIPv6
            receiver.addressResolved(kind("TCP", text, portNumber))
        receiver.resolutionComplete()
        return self


@implementer(IReactorPluggableNameResolver)
class NamingReactor(MemoryReactorClock):
    """A reactor in memory whose names are given."""

    def __init__(self, **answers: list[Sequence[str]]) -> None:
        super().__init__()
        self.nameResolver: Any = Names({name.replace("_", "."): answer for name, answer in answers.items()})

    def installNameResolver(self, resolver: Any) -> Any:
        raise NotImplementedError

    @property
    def dialled(self) -> list[str]:
        return [client[0] for client in self.tcpClients]


class GuardedEndpointTests(SynchronousTestCase):
    def connect(self, reactor: NamingReactor, host: str, *allowed: str) -> Deferred[Any]:
        endpoint = GuardedEndpoint(reactor, Reach(parse_networks(allowed)), host, 80)
        return endpoint.connect(Factory.forProtocol(Protocol))

    def test_public_name(self) -> None:
        """A public name is resolved once, and the address that came out is dialled."""
        reactor = NamingReactor(good_example=[["93.184.216.34"]])
        self.connect(reactor, "good.example")
        self.assertEqual(reactor.dialled, ["93.184.216.34"])
        self.assertEqual(reactor.nameResolver.asked, ["good.example"])

    def test_private_name(self) -> None:
        """A name that leads to a private address is refused with that address, and nothing is dialled."""
        reactor = NamingReactor(evil_example=[["10.0.0.1", "fd00::1"]])
        error = self.failureResultOf(self.connect(reactor, "evil.example"), AddressRefused).value
        self.assertIn("10.0.0.1", error.message)
        self.assertEqual(error.where, "evil.example")
        self.assertEqual(reactor.dialled, [])

    def test_mixed_answer(self) -> None:
        """Of a name with public and private addresses only the public ones are dialled."""
        reactor = NamingReactor(mixed_example=[["127.0.0.1", "1.1.1.1", "::1"]])
        self.connect(reactor, "mixed.example")
        reactor.advance(5)
        self.assertEqual(reactor.dialled, ["1.1.1.1"])

    def test_alternating_answers(self) -> None:
        """A name that is public at first and private later (DNS rebinding) is judged at each connection."""
        reactor = NamingReactor(flip_example=[["1.1.1.1"], ["127.0.0.1"], ["1.1.1.1"]])
        self.connect(reactor, "flip.example")
        self.failureResultOf(self.connect(reactor, "flip.example"), AddressRefused)
        self.connect(reactor, "flip.example")
        self.assertEqual(reactor.dialled, ["1.1.1.1", "1.1.1.1"])

    def test_allowed(self) -> None:
        """A private address is dialled if its network is allowed."""
        reactor = NamingReactor(here_example=[["127.0.0.1"]])
        self.connect(reactor, "here.example", "127.0.0.0/8")
        self.assertEqual(reactor.dialled, ["127.0.0.1"])

    def test_unknown_name(self) -> None:
        """A name without any address is not found, not refused."""
        failure: Failure = self.failureResultOf(self.connect(NamingReactor(), "nowhere.example"))
        self.assertNotIsInstance(failure.value, AddressRefused)

    def test_tls(self) -> None:
        """https goes through the guard as http does."""
        reactor = NamingReactor(evil_example=[["127.0.0.1"]], good_example=[["1.1.1.1"]])
        endpoints = GuardedEndpoints(reactor, Reach())
        bad = endpoints.endpointForURI(URI.fromBytes(b"https://evil.example/"))
        self.failureResultOf(bad.connect(Factory.forProtocol(Protocol)), AddressRefused)
        good = endpoints.endpointForURI(URI.fromBytes(b"https://good.example/"))
        good.connect(Factory.forProtocol(Protocol))
        self.assertEqual(reactor.dialled, ["1.1.1.1"])

    def test_other_schemes(self) -> None:
        """Nothing but http and https has an endpoint."""
        endpoints = GuardedEndpoints(NamingReactor(), Reach())
        self.assertRaises(SchemeNotSupported, endpoints.endpointForURI, URI.fromBytes(b"ftp://good.example/"))


class SpellingTests(TestCase):
    """The forms that the C library reads as addresses, through the real resolver."""

    async def test_spellings(self) -> None:
        """Decimal, hexadecimal, octal, short and bracketed forms of loopback are all refused."""
        from twisted.internet import reactor

        assert isinstance(reactor, ReactorBase)
        endpoints = GuardedEndpoints(reactor, Reach())
        for host in ("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "017700000001", "0", "localhost"):
            endpoint = endpoints.endpointForURI(URI.fromBytes(f"http://{host}:9/".encode()))
            with self.assertRaises(AddressRefused):
                await endpoint.connect(Factory.forProtocol(Protocol))
        for host in ("[::1]", "[::ffff:127.0.0.1]", "[::]"):
            endpoint = endpoints.endpointForURI(URI.fromBytes(f"http://{host}:9/".encode()))
            with self.assertRaises(AddressRefused):
                await endpoint.connect(Factory.forProtocol(Protocol))

"""The account as it is configured: who, by which password, where, and which certificate is trusted."""

from __future__ import annotations

from typing import Any, Final

from msgspec import Struct
from twisted.internet.endpoints import HostnameEndpoint
from twisted.names import dns
from twisted.names.client import lookupService
from twisted.names.error import DNSQueryTimeoutError, DomainError
from twisted.words.protocols.jabber.jid import JID

from msgd.credentials import password_in, tls_to
from msgd.errors import ConfigError

PORT: Final = 5222
"""Of clients (RFC 6120 §14.7)."""

CONNECT_S: Final = 15.0
"""To the end of one connection attempt: a SYN lost twice is sent again after 1 and 3 s (RFC 6298)."""


class Login(Struct, frozen=True, kw_only=True):
    """The settings of ``[xmpp]`` that a connection takes."""

    jid: str
    password_file: str
    server: str = ""  # host:port; empty: DNS tells
    ca_file: str = ""  # empty: the machine's authorities

    @property
    def configured(self) -> bool:
        return bool(self.jid)

    @property
    def missing(self) -> str:
        """What has to be set before there can be a connection; empty: nothing."""
        if not self.jid:
            return "no XMPP account is configured: set xmpp.jid and xmpp.password_file"
        return "" if self.password_file else f"the password of {self.jid} is not known: set xmpp.password_file"

    def address(self) -> JID:
        """Raises ConfigError."""
        try:
            jid = JID(self.jid)
        except Exception as error:  # its kinds are several, all of them for what is no address
            raise ConfigError(f"{self.jid!r} is no XMPP address: {error}", where="xmpp.jid") from None
        if not jid.user:
            raise ConfigError(f"{self.jid!r} is no XMPP account such as bot@example.com", where="xmpp.jid")
        return jid

    def password(self) -> str:
        """Read anew for each connection: whoever puts in the right one need not restart us. Raises ConfigError."""
        return password_in(self.password_file, where="xmpp.password_file")

    def tls(self) -> Any:
        """How the server's certificate is verified: for the account's domain, whatever the server's name is (RFC 6120
        §13.7.2.1). Raises ConfigError."""
        return tls_to(self.address().host, ca_file=self.ca_file, where="xmpp.ca_file")

    async def endpoint(self, reactor: Any) -> Any:
        """Where to connect: as configured, else as DNS says (RFC 6120 §3.2), else at the domain itself."""
        host, port = self.address().host, PORT
        if self.server:
            name, _, number = self.server.rpartition(":")
            host, port = name.removeprefix("[").removesuffix("]"), int(number)
        else:
            host, port = await _service(host)
        return HostnameEndpoint(reactor, host, port, timeout=CONNECT_S)


async def _service(domain: str) -> tuple[str, int]:
    """The first of the servers that DNS names for clients of a domain."""
    try:
        answers, _, _ = await lookupService(f"_xmpp-client._tcp.{domain}", timeout=(2, 4))
    except (DomainError, DNSQueryTimeoutError):
        return domain, PORT
    services = [one.payload for one in answers if one.type == dns.SRV]
    if not services:
        return domain, PORT
    best = min(services, key=lambda service: (service.priority, -service.weight))
    return str(best.target), int(best.port)

"""Mail addresses: the grammar of RFC 5321 §4.1.2, with the characters of RFC 6531 (SMTPUTF8) and IDNA domains.

What the grammar does not have is refused: white space, control characters, a second ``@``; so no address can end a
header line or an SMTP command. Address literals (``user@[192.0.2.1]``) are refused too: nobody's newsletter needs them,
and bounces of them are a way to probe a network.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

import idna
from msgspec import Struct

LOCAL_OCTETS: Final = 64
ADDRESS_OCTETS: Final = 254
"""RFC 5321 §4.5.3.1: 64 octets before the ``@``; a path has 256 with its angle brackets."""

NAME_CHARACTERS: Final = 200
"""Of a display name: more is no name."""

_ATEXT: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~\-\u00a0-\U0010ffff]"
_DOT_STRING: Final = re.compile(rf"{_ATEXT}+(?:\.{_ATEXT}+)*")
_QUOTED: Final = re.compile(r'"(?:[\x20\x21\x23-\x5b\x5d-\x7e\u00a0-\U0010ffff]|\\[\x20-\x7e])*"')
_ODD: Final = re.compile(r"[^\S ]|[<>\u200b-\u200f\u202a-\u202e\ufeff]")
"""White space but the plain one, what nobody can see, and what ends an address: not within quotation marks either."""

_PLAIN: Final = re.compile(
    r"([A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*)@((?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63})"
)
"""What nearly all are, of which nothing else need be looked at but the length."""

_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NAMED: Final = re.compile(r"(?P<name>[^<>]*)<(?P<address>[^<>]+)>")


class Address(Struct, frozen=True):
    """A mailbox. ``domain`` is in its ASCII form (A-labels), in lower case."""

    local: str
    domain: str

    @property
    def mailbox(self) -> str:
        """As it goes into an SMTP command."""
        return f"{self.local}@{self.domain}"

    @property
    def key(self) -> str:
        """The form by which addresses are compared: no server in use tells local parts apart by case."""
        return self.mailbox.lower()

    @property
    def ascii(self) -> bool:
        """Whether it can be sent to without SMTPUTF8."""
        return self.local.isascii()


REMEMBERED: Final = 20_000
"""Addresses, some 6 MB: those of a long list are looked at several times, one after the other."""


def parse(text: str) -> Address:
    """The address in ``text``, white space around it left out; raises ValueError saying what is wrong."""
    return _remembered(text) if len(text) <= ADDRESS_OCTETS else _parse(text)


@lru_cache(REMEMBERED)
def _remembered(text: str) -> Address:
    """The same of not more than ADDRESS_OCTETS characters."""
    plain = _PLAIN.fullmatch(text)
    if plain is not None and "xn--" not in text:
        local, domain = plain.groups()
        if len(local) <= LOCAL_OCTETS:
            return Address(local, domain)
    return _parse(text)


def _parse(text: str) -> Address:
    """The same of any address."""
    stripped = text.strip()
    if not stripped:
        raise ValueError("there is no address")
    local, at, host = stripped.rpartition("@")
    if not at or not local or not host:
        raise ValueError(f"{_shown(text)} is not an address such as anna@example.com")
    if _ODD.search(local) or not (_DOT_STRING.fullmatch(local) or _QUOTED.fullmatch(local)):
        raise ValueError(f"{_shown(text)} is not an address: {_shown(local)} cannot stand before the @")
    if len(local.encode("utf-8", "surrogatepass")) > LOCAL_OCTETS:
        raise ValueError(f"{_shown(text)} is not an address: more than {LOCAL_OCTETS} octets before the @")
    found = Address(local, _domain(text, host))
    if len(found.mailbox.encode("utf-8", "surrogatepass")) > ADDRESS_OCTETS:
        raise ValueError(f"{_shown(text)} is not an address: it has more than {ADDRESS_OCTETS} octets")
    try:
        local.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{_shown(text)} is not an address: it holds half a character") from None
    return found


@lru_cache(4096)
def _host(host: str) -> str:
    """The ASCII form of a domain; raises idna.IDNAError or UnicodeError."""
    if host.isascii():
        lowered = host.lower()
        if all(_LABEL.fullmatch(label) for label in lowered.split(".")) and "xn--" not in lowered:
            return lowered
    return idna.encode(host, uts46=True, std3_rules=True).decode().lower()


def _domain(text: str, host: str) -> str:
    if host.startswith("["):
        raise ValueError(f"{_shown(text)}: addresses with a number instead of a domain are not mailed")
    try:
        domain = _host(host)
    except (idna.IDNAError, UnicodeError) as error:
        raise ValueError(f"{_shown(text)} is not an address: the domain {_shown(host)} is none ({error})") from None
    if domain.endswith(".") or len(domain) > 253:
        raise ValueError(f"{_shown(text)} is not an address: the domain {_shown(host)} is none")
    return domain


class Named(Struct, frozen=True):
    """An address with the name of whoever has it, which may be empty."""

    name: str
    address: Address


def parse_named(text: str) -> Named:
    """``Anna Bell <anna@example.com>``, or the address alone; raises ValueError."""
    found = _NAMED.fullmatch(text.strip())
    if found is None:
        return Named("", parse(text))
    name = found["name"].strip()
    if len(name) >= 2 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1])
    return Named(check_name(name), parse(found["address"]))


def check_name(name: str) -> str:
    """A display name without white space around it; raises ValueError for what cannot stand in a header."""
    if _UNPRINTABLE.search(name):
        raise ValueError(f"the name {_shown(name)} holds a line break or another control character")
    if len(name) > NAME_CHARACTERS:
        raise ValueError(f"a name has at most {NAME_CHARACTERS} characters")
    return name.strip()


def _shown(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:80] + "…")

"""Where an IMAP folder is, as ``imaps://user@host:port/FOLDER`` says it, and the errors of going there. Pure."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from msgd.errors import PeerError

PORTS: Final = {"imap": 143, "imaps": 993}
"""RFC 3501 and RFC 8314."""

INBOX: Final = "INBOX"


class FolderTrouble(PeerError):
    """The folder cannot be read now; the message says why, and what to do."""


class LoginRefused(FolderTrouble):
    """The server does not take the password."""


class CommandRefused(FolderTrouble):
    """The server answered NO or BAD; the connection stands."""


class Place(Struct, frozen=True, kw_only=True):
    """A folder on a server, and how to get there."""

    host: str
    port: int
    tls: bool  # from the first byte
    user: str
    folder: str = INBOX
    starttls: str = "required"  # or "off"
    done: str = ""  # the folder to which mails are moved; empty: they stay

    def __str__(self) -> str:
        """As it is told of; the user may be an address."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.folder} of {self.user} on {host}:{self.port}"

    @property
    def here(self) -> bool:
        """Whether the server is on this machine, where nobody sits on the way."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def is_imap(folder: str) -> bool:
    """Whether it is a folder on a server, not one on the disk."""
    return folder.startswith(("imap://", "imaps://"))


def place(url: str, *, starttls: str = "required", done: str = "") -> Place:
    """The folder that a URL names, which the configuration has checked; INBOX, if it names none."""
    parts = urlsplit(url)
    return Place(
        host=parts.hostname or "",
        port=parts.port or PORTS[parts.scheme],
        tls=parts.scheme == "imaps",
        user=unquote(parts.username or ""),
        folder=unquote(parts.path.removeprefix("/")) or INBOX,
        starttls=starttls,
        done=done,
    )

"""DKIM signatures (RFC 6376), made in a thread: RSA takes milliseconds."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import dkim

from msgd.errors import ConfigError

SIGNED: Final = (
    b"from to subject date message-id reply-to mime-version content-type content-transfer-encoding list-id"
    b" list-unsubscribe list-unsubscribe-post".split()
)
"""Headers that are signed where they stand; RFC 8058 wants the last two among them. From is signed once more than it
stands there, so that nobody can add one."""


class Signature:
    """Signs messages for one domain."""

    def __init__(self, domain: str, selector: str, key: bytes) -> None:
        """``key``: PEM, RSA. Raises ConfigError for one that cannot sign."""
        self._domain = domain.encode()
        self._selector = selector.encode()
        self._key = key
        try:
            self.sign(b"From: a@example.com\r\n\r\nx\r\n")
        except Exception as error:  # dkimpy raises what its parser of ASN.1 meets
            raise ConfigError(f"the key cannot sign: {error}", where="mail.dkim_key_file") from None

    def sign(self, message: bytes) -> bytes:
        """The message with its signature in front. Blocking."""
        head = message.partition(b"\r\n\r\n")[0].lower()
        there = [name for name in SIGNED if b"\r\n" + name + b":" in b"\r\n" + head]
        made: bytes = dkim.sign(
            message,
            self._selector,
            self._domain,
            self._key,
            canonicalize=(b"relaxed", b"relaxed"),
            include_headers=[*there, b"from"],
        )
        return made + message


def read_signature(domain: str, selector: str, key_file: str) -> Signature:
    """The signature with the key in a file. Raises ConfigError."""
    try:
        key = Path(key_file).read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {key_file}: {error.strerror}", where="mail.dkim_key_file") from None
    return Signature(domain, selector, key)

"""Secrets as they lie in the database: sealed with a key that lies elsewhere, where the operator has given one.

AES-256-GCM (NIST SP 800-38D), with the endpoint's id beside the secret: it opens in its own row only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from msgd.credentials import read_file
from msgd.errors import ConfigError, Unavailable

SEALED: Final = "sealed:"
"""How a sealed secret begins; then come the name of its key and base64. A secret that is not begins with ``whsec_``."""

KEY_BYTES: Final = 32
NONCE_BYTES: Final = 12


class Unopened(Unavailable):
    """A secret is sealed with a key that is not given."""


class Seal:
    """Closes secrets with the newest key and opens them with any."""

    def __init__(self, keys: Sequence[bytes] = ()) -> None:
        """``keys``: the newest first; none: secrets are not sealed."""
        self._keys = {hashlib.sha256(key).hexdigest()[:8]: AESGCM(key) for key in keys}
        self._newest = next(iter(self._keys), "")

    @property
    def beginning(self) -> str:
        """How what is sealed with the newest key begins; empty: nothing is to be sealed."""
        return f"{SEALED}{self._newest}:" if self._newest else ""

    def closed(self, secret: str, endpoint: str) -> str:
        """What is stored of a secret."""
        if not secret or not self._newest:
            return secret
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + self._keys[self._newest].encrypt(nonce, secret.encode(), endpoint.encode())
        return self.beginning + base64.b64encode(sealed).decode()

    def opened(self, stored: str, endpoint: str) -> str:
        """The secret again. Raises Unopened."""
        if not stored.startswith(SEALED):
            return stored
        name, _, text = stored.removeprefix(SEALED).partition(":")
        try:
            sealed = base64.b64decode(text)
            return self._keys[name].decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], endpoint.encode()).decode()
        except (KeyError, InvalidTag, ValueError):
            raise Unopened(
                f"the secret of the endpoint {endpoint} is sealed, and no key in messenger.secrets_key_file opens it: "
                f"the one that is named {name[:8]!r} does",
                where="messenger.secrets_key_file",
            ) from None


def keys_in(path: str) -> list[bytes]:
    """The keys in a file, one a line, each 32 bytes in base64. Raises ConfigError."""
    where = "messenger.secrets_key_file"
    keys: list[bytes] = []
    for number, line in enumerate(read_file(path, where=where).split(b"\n"), 1):
        try:
            key = base64.b64decode(line.strip(), validate=True)
        except binascii.Error:
            key = b"?"
        if key and len(key) != KEY_BYTES:
            raise ConfigError(f"line {number} of {path} is no key of {KEY_BYTES} bytes in base64", where=where)
        keys += [key] if key else []
    if not keys:
        raise ConfigError(f"there is no key in {path}: make one with openssl rand -base64 32", where=where)
    return keys

"""Secrets and signatures: pure.

Source: the Standard Webhooks specification, "Signature scheme" (symmetric): HMAC-SHA256 over ``id.timestamp.body``.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Final

PREFIX: Final = "whsec_"
SECRET_BYTES: Final = 32
"""Of those that are made here; the specification asks for 24 to 64."""


def new_secret() -> str:
    """A secret as the receiver gets it: ``whsec_`` and base64."""
    return PREFIX + b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def signature(keys: Sequence[str], id_: str, timestamp_s: int, body: bytes) -> str:
    """The value of ``webhook-signature``: one signature for each of the secrets ``keys``, so that the receiver may
    change to the new one at any time while both count."""
    signed = f"{id_}.{timestamp_s}.".encode() + body
    return " ".join(f"v1,{_signed(key, signed)}" for key in keys)


def _signed(key: str, text: bytes) -> str:
    raw = b64decode(key.removeprefix(PREFIX), validate=True)
    return b64encode(hmac.digest(raw, text, hashlib.sha256)).decode()

"""Signed words in addresses: who unsubscribes, and what bounced. Nobody else can make one. Pure."""

from __future__ import annotations

import base64
import hmac
import re
from typing import Final

KEY_BYTES: Final = 32
MAC_BYTES: Final = 10
"""80 bits: who guesses a million a second has a chance in a million within 38,000 years."""

_VERP: Final = re.compile(r"([0-9a-f]{1,15})-([0-9a-f]{1,15})-([a-z2-7]{16})")


class Signer:
    """Makes the words, and reads them."""

    def __init__(self, key: bytes) -> None:
        # A copy is keyed already, and made without letting go of the interpreter, for which others wait.
        self._keyed = hmac.new(key, digestmod="sha256")

    def unsubscribe(self, key: str, job: str) -> str:
        """The word by which the owner of an address (its key) leaves the list, in the URL of a mail of ``job``."""
        body = base64.urlsafe_b64encode(f"{job} {key}".encode()).rstrip(b"=").decode()
        return f"{body}.{self._mac('unsubscribe', body)}"

    def read_unsubscribe(self, word: str) -> tuple[str, str] | None:
        """The address (its key) and the job of such a word; None if it is not ours."""
        body, _, mac = word.partition(".")
        if not hmac.compare_digest(mac.encode(), self._mac("unsubscribe", body).encode()):
            return None
        job, _, key = base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)).decode().partition(" ")
        return key, job

    def verp(self, mailing: int, row: int) -> str:
        """The word in the envelope's sender, by which a bounce is known (variable envelope return path)."""
        body = f"{mailing:x}-{row:x}"
        return f"{body}-{self._mac('verp', body).lower()}"

    def read_verp(self, word: str) -> tuple[int, int] | None:
        """The mailing and the row of such a word, whatever has become of its case; None if it is not ours."""
        found = _VERP.fullmatch(word.lower())
        if found is None:
            return None
        mac = self._mac("verp", f"{found[1]}-{found[2]}").lower()
        return (int(found[1], 16), int(found[2], 16)) if hmac.compare_digest(mac, found[3]) else None

    def message_id(self, job: str, row: int) -> str:
        """The part of a Message-ID before the ``@``: the same whenever it is made, and not to be guessed."""
        return self._mac("message-id", f"{job} {row}", 20).lower()

    def _mac(self, use: str, body: str, length: int = MAC_BYTES) -> str:
        made = self._keyed.copy()
        made.update(f"{use} {body}".encode("utf-8", "surrogatepass"))
        return _base32(made.digest()[:length])


_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS: Final = [first + second for first in _DIGITS for second in _DIGITS]


def _base32(octets: bytes) -> str:
    """RFC 4648 §6, without padding; ``octets``: five, or a multiple. ``base64.b32encode`` takes three times as long."""
    number = int.from_bytes(octets)
    return "".join([_PAIRS[number >> at & 1023] for at in range(8 * len(octets) - 10, -1, -10)])

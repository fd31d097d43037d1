"""Keys in files: the shared secret, made if need be, and public keys, read again when their file changes."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from joserfc.jwk import OctKey
from twisted.logger import Logger

from msgd.errors import ConfigError, Unavailable
from msgd.notifier.auth.keys import HS256, PUBLIC, BadKey, Found, Key, read_keys

_log = Logger()

SECRET_BYTES: Final = 32
"""HS256 wants a key at least as long as its hash (RFC 7518 §3.2)."""

FILE_BYTES: Final = 256 * 1024
"""A file of keys: a hundred of the longest."""

LOOK_S: Final = 1.0
"""Between two looks whether the file has changed: a look costs microseconds, and a rotation may take a second."""

# -- the secret -------------------------------------------------------------------------------------------------------


class SecretKeys:
    """One secret, shared with whoever makes tokens: HS256. Conforms to :class:`~msgd.notifier.auth.keys.Keys`."""

    def __init__(self, secret: bytes) -> None:
        self._key = Key("", HS256, OctKey.import_key(checked(secret)))

    async def find(self, algorithm: str, kid: str) -> Found:
        """The secret, whatever its name is elsewhere."""
        return Found((self._key,) if algorithm in HS256 else ())


def checked(secret: bytes) -> bytes:
    """``secret`` without the line end that editors add; raises ConfigError if it is too short to be one, or if it is
    a public key, which everybody knows."""
    secret = secret.strip()
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"a secret has {SECRET_BYTES} bytes or more; this one has {len(secret)}", where="auth.secret")
    if secret.startswith((b"-----BEGIN ", b"ssh-", b'{"')):
        raise ConfigError("this is a key file, not a secret: name it as auth.keys_file", where="auth.secret_file")
    return secret


def read_secret(path: Path) -> bytes:
    """The secret in a file that the operator has named. Raises ConfigError if it cannot be read or used."""
    try:
        secret = path.read_bytes()
        open_to_others = path.stat().st_mode & 0o007
    except OSError as error:
        raise ConfigError(f"the secret file cannot be read: {error.strerror}", where=str(path)) from None
    if open_to_others:
        _log.warn("the secret file {path} can be read by everybody on this machine", path=str(path))
    return checked(secret)


def own_secret(path: Path) -> bytes:
    """The secret in ``path``, made if there is none, readable by its owner only. Many processes may ask at once."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        # Written whole under another name, then linked: nobody ever reads half a secret, and the first one wins.
        handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")  # 0600 by its contract
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_urlsafe(48).encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
        finally:
            os.unlink(draft)
    return read_secret(path)


LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def check_exposure(listen: Sequence[str]) -> None:
    """Raises ConfigError unless every Twisted endpoint description listens on loopback or a Unix socket only.

    To be called where no secret and no keys are configured: the secret of the state folder is known to whoever can read
    that folder, which is no protection towards a network.
    """
    for endpoint in listen:
        kind, *arguments = endpoint.replace("\\:", "\0").split(":")
        named = dict(part.split("=", 1) for part in arguments if "=" in part)
        if kind == "unix" or named.get("interface", "").replace("\0", ":") in LOOPBACK:
            continue
        raise ConfigError(
            f"{endpoint!r} may be reached from a network, and no keys are configured: "
            "set auth.secret_file, keys_file or jwks_url, or listen on interface=127.0.0.1",
            where="notifier.listen",
        )


# -- public keys ------------------------------------------------------------------------------------------------------


class FileKeys:
    """Public keys in a file, PEM or JWKS. Conforms to :class:`~msgd.notifier.auth.keys.Keys`.

    Who takes a key out of the file wants it trusted no more, so a file that cannot be read or understood counts as
    trouble, not as the keys that it held before.
    """

    def __init__(self, path: Path, seconds: Callable[[], float]) -> None:
        """``seconds``: the time. Raises ConfigError if the file cannot be used now."""
        self._path = path
        self._seconds = seconds
        self._state: tuple[int, ...] = ()  # of the file when it was read
        self._looked_s = seconds()
        self._keys: Sequence[Key] = ()
        self._trouble = ""
        self._read()
        if self._trouble:
            raise ConfigError(f"the keys in {path} cannot be used: {self._trouble}", where="auth.keys_file")

    @property
    def keys(self) -> Sequence[Key]:
        """As they were read last."""
        return self._keys

    async def find(self, algorithm: str, kid: str) -> Found:
        if algorithm not in PUBLIC:
            return Found()
        if not 0 <= self._seconds() - self._looked_s < LOOK_S:
            self._looked_s = self._seconds()
            before = self._trouble
            self._read()
            if self._trouble not in ("", before):
                _log.error("the keys in {path} cannot be used: {trouble}", path=str(self._path), trouble=self._trouble)
        if self._trouble:
            return Found((), Unavailable("the keys that tokens are verified with cannot be read", where="token"))
        return Found([key for key in self._keys if key.may_have_signed(algorithm, kid)])

    def _read(self) -> None:
        """Read the file, if it has changed."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                state = (found.st_ino, found.st_size, found.st_mtime_ns)
                if state == self._state:
                    return
                self._state = ()
                content = file.read(FILE_BYTES + 1)
            if len(content) > FILE_BYTES:
                raise BadKey(f"it is longer than {FILE_BYTES} bytes")
            self._keys = read_keys(content)
        except (OSError, BadKey) as error:
            self._trouble = (error.strerror if isinstance(error, OSError) else "") or str(error)
        else:
            self._state = state
            self._trouble = ""

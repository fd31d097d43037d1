"""Tokens: JSON Web Tokens (RFC 7519) with ``sub``, ``exp`` and ``can``, a list of ``action:pattern`` (DESIGN §4.5).

Which keys are trusted is behind :class:`Keys`, so that key files and JWKS join the secret without another word here.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from joserfc import jws, jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError
from joserfc.jwk import OctKey
from twisted.logger import Logger

from msgd.errors import ConfigError, InvalidInput, InvalidTopic, TokenExpired, Unauthenticated
from msgd.messages.topics import check_pattern
from msgd.notifier.interface import ACTIONS, Grant, Principal

_log = Logger()

TOKEN_BYTES: Final = 8 * 1024
"""A token travels in a header and in a cookie, which browsers keep up to 4 KiB; more is an attack or a mistake."""

SECRET_BYTES: Final = 32
"""HS256 wants a key at least as long as its hash (RFC 7518 §3.2)."""

SUB_BYTES: Final = 60
"""``user.<sub>`` must fit a topic of 200 bytes after escaping, which triples at worst."""

GRANTS: Final = 100
"""Rights in one token: each is looked at for each subscription."""


class Keys(Protocol):
    """What tokens are verified with."""

    @property
    def algorithms(self) -> Sequence[str]:
        """The only algorithms accepted; ``none`` is never one."""

    async def find(self, header: dict[str, Any]) -> Any:
        """The key for a token with this header, as joserfc takes it. Raises Unauthenticated if there is none, and
        Unavailable if it could not be fetched: access then fails closed."""


class SecretKeys:
    """One secret, shared with whoever makes tokens: HS256. Conforms to :class:`Keys`."""

    algorithms: Sequence[str] = ("HS256",)

    def __init__(self, secret: bytes) -> None:
        self._key = OctKey.import_key(_checked(secret))

    async def find(self, header: dict[str, Any]) -> Any:
        """The secret, whatever the header says."""
        return self._key


class Tokens:
    """Turns a token into the principal it speaks for."""

    def __init__(self, keys: Keys, now_s: Callable[[], float]) -> None:
        """``now_s``: seconds since 1970."""
        self._keys = keys
        self._now_s = now_s

    async def principal(self, token: str) -> Principal:
        """Who ``token`` speaks for. Raises TokenExpired, Unauthenticated; Unavailable if keys cannot be fetched."""
        if len(token) > TOKEN_BYTES:
            raise Unauthenticated("the token is too long to be one", where="token")
        try:
            header = dict(jws.extract_compact(token.encode()).headers())
            key = await self._keys.find(header)
            claims = jwt.decode(token, key, algorithms=list(self._keys.algorithms)).claims
            registry = jwt.JWTClaimsRegistry(
                now=lambda: int(self._now_s()), exp={"essential": True}, sub={"essential": True}
            )
            registry.validate(claims)
        except ExpiredTokenError:
            raise TokenExpired("the token has expired: get a new one", where="token") from None
        except ClaimError as error:
            raise Unauthenticated(f"the token cannot be used: {error}", where=f"token.{error.claim}") from None
        except (JoseError, ValueError, TypeError):
            # What exactly is wrong with a forged token is nobody's business.
            raise Unauthenticated("the token is not one that this server trusts", where="token") from None
        return principal_of(claims)


def principal_of(claims: dict[str, Any]) -> Principal:
    """The principal in verified claims; raises Unauthenticated if they are not of our form."""
    sub, expires_s, can = claims.get("sub"), claims.get("exp"), claims.get("can", [])
    if not isinstance(sub, str) or not sub or len(sub.encode("utf-8", "surrogatepass")) > SUB_BYTES:
        raise Unauthenticated(f"the token's sub must be a name of 1 to {SUB_BYTES} bytes", where="token.sub")
    if not sub.isprintable():
        raise Unauthenticated("the token's sub holds characters that cannot be printed", where="token.sub")
    if not isinstance(expires_s, (int, float)):
        raise Unauthenticated("the token's exp must be a number", where="token.exp")
    if not isinstance(can, list) or len(can) > GRANTS:
        raise Unauthenticated(f"the token's can must be a list of at most {GRANTS} rights", where="token.can")
    token_id = claims.get("jti", "")
    return Principal(
        sub=sub,
        grants=tuple(parse_grant(one) for one in can),
        expires_s=float(expires_s),
        token_id=token_id if isinstance(token_id, str) else "",
    )


def parse_grant(text: object) -> Grant:
    """The right in ``action:pattern``; raises Unauthenticated: a token with a right misspelt is not half trusted."""
    if isinstance(text, str):
        action, colon, pattern = text.partition(":")
        if colon and action in ACTIONS:
            try:
                return Grant(action, check_pattern(pattern))
            except InvalidTopic:
                pass
    raise Unauthenticated(
        f"{text!r} is not a right: {', '.join(sorted(ACTIONS))}, then a colon and a pattern, as in subscribe:room.*",
        where="token.can",
    )


def make_token(
    secret: bytes, *, sub: str, can: Sequence[str], ttl_s: float, now_s: float | None = None, token_id: str = ""
) -> str:
    """A token signed with ``secret``, good for ``ttl_s`` seconds from now. Raises ConfigError for a weak secret,
    InvalidInput for claims that no server would take."""
    now = time.time() if now_s is None else now_s
    claims: dict[str, Any] = {"sub": sub, "can": list(can), "iat": int(now), "exp": int(now + ttl_s)}
    if token_id:
        claims["jti"] = token_id
    try:
        principal_of(claims)
    except Unauthenticated as error:
        raise InvalidInput(error.message, where=error.where) from None
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(_checked(secret)))


# -- the secret file ---------------------------------------------------------------------------------------------------


def _checked(secret: bytes) -> bytes:
    """``secret`` without the line end that editors add; raises ConfigError if it is too short to be one."""
    secret = secret.strip()
    if len(secret) < SECRET_BYTES:
        raise ConfigError(f"a secret has {SECRET_BYTES} bytes or more; this one has {len(secret)}", where="auth.secret")
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
    return _checked(secret)


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
            "set auth.secret_file, or listen on interface=127.0.0.1",
            where="notifier.listen",
        )

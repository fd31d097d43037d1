"""Tokens: JSON Web Tokens (RFC 7519) with ``sub``, ``exp`` and ``can``, a list of ``action:pattern`` (DESIGN §4.5).

Which keys are trusted is behind :class:`~msgd.notifier.auth.keys.Keys`; what is true of one verified token at one
moment may be false a moment later, so whoever goes on for long asks :meth:`Tokens.check` again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from joserfc import jws, jwt
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jws import JWSRegistry
from msgspec import Struct

from msgd.errors import InvalidTopic, TokenExpired, Unauthenticated
from msgd.messages.topics import check_pattern
from msgd.notifier.auth.keys import HS256, KID_BYTES, PUBLIC, Key, Keys
from msgd.notifier.auth.verified import Good, Verified
from msgd.notifier.interface import ACTIONS, Grant, Principal

TOKEN_BYTES: Final = 8 * 1024
"""A token travels in a header and in a cookie, which browsers keep up to 4 KiB; more is an attack or a mistake."""

HEADER_BYTES: Final = 4 * 1024
"""A token's header: some providers put certificates into it."""

SUB_BYTES: Final = 60
"""``user.<sub>`` must fit a topic of 200 bytes after escaping, which triples at worst."""

ID_BYTES: Final = 200
"""``jti``: mostly a UUID or a hash."""

GRANTS: Final = 100
"""Rights in one token: each is looked at for each subscription."""

LEEWAY_S: Final = 10
"""By so much another machine's clock may be ahead of ours (``nbf``, ``iat``); ``exp`` is taken at its word."""

DAY_S: Final = 86400.0


class Trust(Struct, frozen=True, kw_only=True):
    """What a token must say beside being signed."""

    issuer: str = ""  # ``iss``; "": whatever it says
    audience: str = ""  # to be in ``aud``; "": whatever it says
    longest_s: float = 366 * DAY_S  # from ``iat`` to ``exp``


class Tokens:
    """Turns a token into the principal it speaks for."""

    def __init__(
        self,
        keys: Keys,
        now_s: Callable[[], float],
        *,
        trust: Trust = Trust(),  # noqa: B008  # immutable
        check: Callable[[Principal], None] = lambda _: None,
    ) -> None:
        """``now_s``: seconds since 1970; ``check``: raises what else is against somebody, such as a revocation."""
        self._keys = keys
        self._now_s = now_s
        self._trust = trust
        self._check = check
        self._good = Verified()
        options: dict[str, Any] = {"exp": {"essential": True}, "sub": {"essential": True}}
        if trust.issuer:
            options["iss"] = {"essential": True, "value": trust.issuer}
        if trust.audience:
            options["aud"] = {"essential": True, "value": trust.audience}
        self._claims = jwt.JWTClaimsRegistry(now=lambda: int(now_s()), leeway=LEEWAY_S, **options)

    async def principal(self, token: str) -> Principal:
        """Who ``token`` speaks for. Raises TokenExpired, TokenRevoked, Unauthenticated; Unavailable if the keys or the
        revocations cannot be looked at: access then fails closed."""
        if len(token) > TOKEN_BYTES:
            raise Unauthenticated("the token is too long to be one", where="token")
        good = await self._known(token) or await self._verified(token)
        self.check(good.who)
        return good.who

    async def _known(self, token: str) -> Good | None:
        """A token that was verified before, if the key that has signed it is one of ours still."""
        good = self._good.find(token)
        if good is None:
            return None
        found = await self._keys.find(good.algorithm, good.kid)
        if any(key is good.key for key in found.keys):
            return good
        self._good.forget(token)
        return None

    async def _verified(self, token: str) -> Good:
        """A token that is looked at whole: its signature, its claims."""
        claims, algorithm, kid, key = await self._signed(token)
        try:
            self._claims.validate(claims)
        except ExpiredTokenError:
            raise _expired() from None
        except ClaimError as error:
            raise Unauthenticated(f"the token cannot be used: {error}", where=f"token.{error.claim}") from None
        except (JoseError, ValueError, TypeError, OverflowError):
            raise _not_trusted() from None
        who = principal_of(claims)
        if who.expires_s - (who.issued_s or self._now_s()) > self._trust.longest_s:
            days = self._trust.longest_s / DAY_S
            raise Unauthenticated(f"the token is good for longer than {days:g} days: see auth.days", where="token.exp")
        good = Good(who, algorithm, kid, key)
        self._good.add(token, good)
        return good

    def check(self, who: Principal) -> None:
        """Raises TokenExpired, TokenRevoked or Unavailable if the token of ``who``, once verified, is good no more."""
        if who.expires_s <= self._now_s():
            raise _expired()
        self._check(who)

    async def _signed(self, token: str) -> tuple[dict[str, Any], str, str, Key]:
        """The claims of a token that one of the keys has signed, its algorithm, the key's name in it, and the key."""
        try:
            raw = token.encode("ascii")
            header = jws.extract_compact(raw, registry=_ANY).headers()
        except (JoseError, ValueError, TypeError, AttributeError, RecursionError):
            raise _not_trusted() from None
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str) or not isinstance(kid, str) or len(kid) > KID_BYTES or "crit" in header:
            raise _not_trusted()
        found = await self._keys.find(algorithm, kid)
        for key in found.keys:
            claims = _claims(raw, algorithm, key)
            if claims is not None:
                return claims, algorithm, kid, key
        raise found.trouble or _not_trusted()


class Algorithms(JWSRegistry):
    """Some algorithms of ours and no other. Unknown members of a header are passed over (RFC 7515 §4).

    The stock registry warns, for each token, that "EdDSA" may mean several curves; here it means Ed25519.
    """

    max_header_length = HEADER_BYTES
    max_payload_length = TOKEN_BYTES
    max_signature_length = 2048  # of an RSA key of 8192 bits

    def __init__(self, algorithms: frozenset[str]) -> None:
        super().__init__(algorithms=algorithms, strict_check_header=False)

    def get_alg(self, name: str) -> Any:
        if name not in (self.allowed or ()):
            raise UnsupportedAlgorithmError(f"the algorithm {name} is not allowed")
        return self.algorithms[name]


_ANY: Final = Algorithms(HS256 | PUBLIC)
_ONE: Final = {name: Algorithms(frozenset({name})) for name in HS256 | PUBLIC}


def _claims(raw: bytes, algorithm: str, key: Key) -> dict[str, Any] | None:
    """The claims of a token if ``key`` has signed it."""
    if algorithm not in key.algorithms:
        return None
    try:
        return jwt.decode(raw, key.key, registry=_ONE[algorithm]).claims
    except (JoseError, ValueError, TypeError, RecursionError):
        return None


def _expired() -> TokenExpired:
    return TokenExpired("the token has expired: get a new one", where="token")


def _not_trusted() -> Unauthenticated:
    # What exactly is wrong with a forged token is nobody's business.
    return Unauthenticated("the token is not one that this server trusts", where="token")


def principal_of(claims: dict[str, Any]) -> Principal:
    """The principal in verified claims; raises Unauthenticated if they are not of our form."""
    sub, expires_s, can, issued_s = claims.get("sub"), claims.get("exp"), claims.get("can", []), claims.get("iat", 0)
    if not isinstance(sub, str) or not sub or len(sub.encode("utf-8", "surrogatepass")) > SUB_BYTES:
        raise Unauthenticated(f"the token's sub must be a name of 1 to {SUB_BYTES} bytes", where="token.sub")
    if not sub.isprintable():
        raise Unauthenticated("the token's sub holds characters that cannot be printed", where="token.sub")
    if not isinstance(can, list) or len(can) > GRANTS:
        raise Unauthenticated(f"the token's can must be a list of at most {GRANTS} rights", where="token.can")
    token_id = claims.get("jti", "")
    if not isinstance(token_id, str) or len(token_id.encode("utf-8", "surrogatepass")) > ID_BYTES:
        raise Unauthenticated(f"the token's jti must be a text of at most {ID_BYTES} bytes", where="token.jti")
    return Principal(
        sub=sub,
        grants=tuple(parse_grant(one) for one in can),
        expires_s=_seconds(expires_s, "exp"),
        token_id=token_id,
        issued_s=_seconds(issued_s, "iat"),
    )


def _seconds(value: object, claim: str) -> float:
    """A moment in seconds since 1970."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < 1e12:
        return float(value)
    raise Unauthenticated(f"the token's {claim} must be a number of seconds since 1970", where=f"token.{claim}")


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

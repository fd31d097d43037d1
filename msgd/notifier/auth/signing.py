"""Tokens made here: for the command line, the demo and tests. Where there is an identity provider, it makes them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.jwk import OctKey, OKPKey, RSAKey

from msgd.errors import ConfigError, InvalidInput, Unauthenticated
from msgd.notifier.auth.keys import RSA_BITS
from msgd.notifier.auth.keys_file import checked
from msgd.notifier.auth.tokens import Algorithms, principal_of


def make_token(
    secret: bytes, *, sub: str, can: Sequence[str], ttl_s: float, now_s: float | None = None, token_id: str = ""
) -> str:
    """A token signed with ``secret``, good for ``ttl_s`` seconds from now. Raises ConfigError for a weak secret,
    InvalidInput for claims that no server would take."""
    return sign_with_secret(secret, claims_of(sub=sub, can=can, ttl_s=ttl_s, now_s=now_s, token_id=token_id))


def sign_with_secret(secret: bytes, claims: dict[str, Any]) -> str:
    """A token with these claims. Raises ConfigError for a weak secret."""
    return jwt.encode({"alg": "HS256"}, claims, OctKey.import_key(checked(secret)))


class PrivateKey:
    """A private key of RSA or Ed25519, in PEM, that makes tokens; servers know its public half."""

    def __init__(self, pem: bytes, *, kid: str = "") -> None:
        """``kid``: the name of its public half in a JWKS. Raises ConfigError."""
        try:
            private = load_pem_private_key(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ConfigError(f"this is no private key in PEM without a password: {error}", where="key") from None
        self._key: RSAKey | OKPKey
        if isinstance(private, RSAPrivateKey):
            if private.key_size < RSA_BITS[0]:
                raise ConfigError(f"an RSA key has {RSA_BITS[0]} bits or more", where="key")
            self._key, self._header = RSAKey.import_key(pem), {"alg": "RS256"}
        elif isinstance(private, Ed25519PrivateKey):
            # Under its old name, which more libraries know than the one of RFC 9864.
            self._key, self._header = OKPKey.import_key(pem), {"alg": "EdDSA"}
        else:
            raise ConfigError("only RSA keys and Ed25519 keys make tokens", where="key")
        if kid:
            self._header["kid"] = kid

    def sign(self, claims: dict[str, Any]) -> str:
        """A token with these claims."""
        return jwt.encode(self._header, claims, self._key, registry=Algorithms(frozenset({self._header["alg"]})))


def claims_of(
    *,
    sub: str,
    can: Sequence[str],
    ttl_s: float,
    now_s: float | None = None,
    token_id: str = "",
    issuer: str = "",
    audience: str = "",
) -> dict[str, Any]:
    """The claims of a token that is good for ``ttl_s`` seconds from now. Raises InvalidInput for such as no server
    would take."""
    now = time.time() if now_s is None else now_s
    claims: dict[str, Any] = {"sub": sub, "can": list(can), "iat": int(now), "exp": int(now + ttl_s)}
    claims |= {name: value for name, value in (("jti", token_id), ("iss", issuer), ("aud", audience)) if value}
    try:
        principal_of(claims)
    except Unauthenticated as error:
        raise InvalidInput(error.message, where=error.where) from None
    return claims

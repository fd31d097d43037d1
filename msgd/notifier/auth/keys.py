"""What tokens are verified with (pure): keys, where they come from, and how they are read from PEM, JWK and JWKS.

An algorithm is bound to the kind of key, never chosen by a token's header: HS256 is for the secret alone, RS256 for RSA
keys, EdDSA for Ed25519 keys. So no public key is ever taken for a secret, and ``none`` is no algorithm.

Sources: RFC 7515, 7517, 7518, 8037, 8725 (best practices), 9864 (``Ed25519`` as the new name of EdDSA with that curve).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, Union

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from joserfc.errors import JoseError
from joserfc.jwk import OctKey, OKPKey, RSAKey
from msgspec import Struct

from msgd.errors import InvalidInput, Unavailable
from msgd.messages import json

HS256: Final = frozenset({"HS256"})
RS256: Final = frozenset({"RS256"})
EDDSA: Final = frozenset({"EdDSA", "Ed25519"})
PUBLIC: Final = RS256 | EDDSA
"""Algorithms of public keys."""

KEYS: Final = 100
"""Keys of one source: providers publish two to five; each may be tried for a token that names none."""

RSA_BITS: Final = (2048, 8192)
"""RFC 7518 §3.3 wants the first; beyond the second, a verification takes milliseconds."""

KID_BYTES: Final = 256
"""A key's name is mostly a hash of 43 characters."""


class Key(Struct, frozen=True):
    """One key, and the only algorithms that it verifies."""

    kid: str  # "" for a key without a name, which any token may mean
    algorithms: frozenset[str]
    key: Union[OctKey, RSAKey, OKPKey]

    def may_have_signed(self, algorithm: str, kid: str) -> bool:
        """Whether a token with this header is for this key to verify."""
        return algorithm in self.algorithms and (not kid or not self.kid or kid == self.kid)


class Found(Struct, frozen=True):
    """The keys that a token may have been signed with."""

    keys: Sequence[Key] = ()
    trouble: Unavailable | None = None  # why there may be others that could not be looked at


class Keys(Protocol):
    """A source of keys."""

    async def find(self, algorithm: str, kid: str) -> Found:
        """The keys that may have signed a token with this header; ``kid``: "" if it names none."""


class KeyRing:
    """Several sources, each trusted as much as the others. Conforms to :class:`Keys`."""

    def __init__(self, sources: Sequence[Keys]) -> None:
        self._sources = sources

    async def find(self, algorithm: str, kid: str) -> Found:
        keys: list[Key] = []
        trouble: Unavailable | None = None
        for source in self._sources:
            found = await source.find(algorithm, kid)
            keys += found.keys
            trouble = trouble or found.trouble
        return Found(keys, trouble)


# -- reading ----------------------------------------------------------------------------------------------------------


class BadKey(Exception):
    """Not a key that tokens can be verified with; its text says why."""


_PEM: Final = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----.+?-----END \1-----", re.DOTALL)


def read_keys(content: bytes) -> Sequence[Key]:
    """The keys in a file of PEM blocks, or a JWK or JWKS. Raises BadKey: what an operator names must all be usable."""
    if content.lstrip()[:1] == b"{":
        found = [read_jwk(one) for one in _jwks(content)]
    else:
        found = [_pem(block[0], block[1]) for block in _PEM.finditer(content)]
    if not found:
        raise BadKey("it holds no key: neither PEM (BEGIN PUBLIC KEY) nor a JSON Web Key (Set)")
    return found


def read_jwks(content: bytes) -> tuple[Sequence[Key], int]:
    """The usable keys of a provider's JWKS, and how many it has that are for other purposes or of other kinds, which
    are passed over (RFC 7517 §5). Raises BadKey if it is no JWKS."""
    usable: list[Key] = []
    others = 0
    for one in _jwks(content):
        try:
            usable.append(read_jwk(one))
        except BadKey:
            others += 1
    return usable, others


def read_jwk(jwk: object) -> Key:
    """A key from its JWK. Raises BadKey."""
    if not isinstance(jwk, Mapping):
        raise BadKey("a JSON Web Key is an object")
    kid, kind, use, operations = (jwk.get(name) for name in ("kid", "kty", "use", "key_ops"))
    if kid is not None and not (isinstance(kid, str) and len(kid.encode("utf-8", "replace")) <= KID_BYTES):
        raise BadKey(f"its kid is not a text of at most {KID_BYTES} bytes")
    if "d" in jwk:
        raise BadKey("this is a private key: msgd needs the public one only, and nobody else should have the other")
    if use not in (None, "sig") or not (
        operations is None or (isinstance(operations, list) and "verify" in operations)
    ):
        raise BadKey("it is not for signatures (use, key_ops)")
    form: Any
    members: tuple[str, ...]
    if kind == "RSA":
        members, algorithms, form = ("n", "e"), RS256, RSAKey
    elif kind == "OKP" and jwk.get("crv") == "Ed25519":
        members, algorithms, form = ("x",), EDDSA, OKPKey
    else:
        raise BadKey("only RSA keys and Ed25519 keys verify tokens here (kty, crv)")
    if jwk.get("alg") not in (None, *algorithms):
        raise BadKey(f"it is for an algorithm other than {' or '.join(sorted(algorithms))} (alg)")
    bare: dict[str, Any] = {"kty": kind} | ({} if kind == "RSA" else {"crv": "Ed25519"})
    for name in members:
        if not isinstance(jwk.get(name), str):
            raise BadKey(f"its {name} is missing")
        bare[name] = jwk[name]
    try:
        key = form.import_key(bare)
        public: Any = key.public_key
    except (JoseError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BadKey(f"it cannot be read: {error}") from None
    return Key(kid or "", algorithms, _strong(key, public))


def _jwks(content: bytes) -> Sequence[object]:
    """The JWKs in a JWKS, or the one JWK."""
    try:
        document: Any = json.decode(content, dict[str, Any])
    except InvalidInput as error:
        raise BadKey(error.message) from None
    keys = document.get("keys") if "keys" in document else [document]
    if not isinstance(keys, list):
        raise BadKey("its keys are not a list")
    if len(keys) > KEYS:
        raise BadKey(f"it has {len(keys)} keys; at most {KEYS} are read")
    return keys


def _pem(block: bytes, label: bytes) -> Key:
    if b"PRIVATE" in label:
        raise BadKey("this is a private key: msgd needs the public one only, and nobody else should have the other")
    if label not in (b"PUBLIC KEY", b"RSA PUBLIC KEY"):
        raise BadKey(f"BEGIN {label.decode()} is not BEGIN PUBLIC KEY (openssl pkey -pubout, openssl x509 -pubkey)")
    try:
        public = load_pem_public_key(block)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadKey(f"the PEM cannot be read: {error}") from None
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if isinstance(public, RSAPublicKey):
        return Key("", RS256, _strong(RSAKey.import_key(pem), public))
    if isinstance(public, Ed25519PublicKey):
        return Key("", EDDSA, OKPKey.import_key(pem))
    raise BadKey("only RSA keys and Ed25519 keys verify tokens here")


def _strong(key: Any, public: Any) -> Any:
    """``key``, unless it is an RSA key of a length that is none."""
    least, most = RSA_BITS
    if isinstance(public, RSAPublicKey) and not least <= public.key_size <= most:
        raise BadKey(f"an RSA key has {least} to {most} bits; this one has {public.key_size}")
    return key

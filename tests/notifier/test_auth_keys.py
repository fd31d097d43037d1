"""Keys of identity providers: what they are read from, and that no token chooses how it is verified."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import ConfigError, TokenExpired, Unauthenticated, Unavailable
from msgd.notifier.auth.freshness import AGE_DEFAULT_S, AGE_LEAST_S, AGE_MOST_S, GRACE_S, freshness
from msgd.notifier.auth.keys import KEYS, BadKey, KeyRing, Keys, read_jwk, read_jwks, read_keys
from msgd.notifier.auth.keys_file import LOOK_S, FileKeys, SecretKeys
from msgd.notifier.auth.signing import PrivateKey, claims_of
from msgd.notifier.auth.tokens import LEEWAY_S, TOKEN_BYTES, Algorithms, Tokens, Trust
from msgd.notifier.interface import Principal
from tests.notifier.test_auth import NOW_S, SECRET, result

RSA: Final = RSAKey.generate_key(2048)
OTHER_RSA: Final = RSAKey.generate_key(2048)
ED: Final = OKPKey.generate_key("Ed25519")


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    """The public half of a key as a JWK."""
    return {**key.as_dict(private=False), **more}


def signed(key: Any, algorithm: str, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A token with any header and claims."""
    given = {"sub": "ann", "can": ["subscribe:#"], "iat": NOW_S, "exp": NOW_S + 60, **claims}
    registry = Algorithms(frozenset({algorithm}))
    return jws.serialize_compact({"alg": algorithm, **(header or {})}, json.dumps(given), key, registry=registry)


def encoded(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


class KeysCase(SynchronousTestCase):
    """A test with a file of keys, and tokens verified with what is in it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_S)
        self.path = Path(self.mktemp())

    def write(self, content: bytes | dict[str, Any]) -> None:
        """The file as an operator replaces it."""
        draft = self.path.with_suffix(".draft")
        draft.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        os.replace(draft, self.path)

    def file_keys(self, content: bytes | dict[str, Any]) -> FileKeys:
        self.write(content)
        return FileKeys(self.path, self.clock.seconds)

    def tokens(self, *sources: Keys, trust: Trust | None = None) -> Tokens:
        return Tokens(KeyRing(sources), self.clock.seconds, trust=trust or Trust())

    def good(self, tokens: Tokens, token: str) -> Principal:
        who = result(tokens.principal(token))
        assert isinstance(who, Principal)
        self.assertEqual(who.sub, "ann")
        return who

    def bad(self, tokens: Tokens, token: str, where: str = "token") -> None:
        error = self.assertRaises(Unauthenticated, lambda: result(tokens.principal(token)))
        self.assertEqual(error.where, where)


class AlgorithmsTest(KeysCase):
    """A key's kind decides how it verifies."""

    def test_each(self) -> None:
        """RSA keys verify RS256, Ed25519 keys EdDSA under both of its names; from PEM, JWK and JWKS."""
        for content in (
            RSA.as_pem(private=False) + ED.as_pem(private=False),
            {"keys": [jwk(RSA, kid="one"), jwk(ED, kid="two", use="sig", alg="EdDSA")]},
        ):
            tokens = self.tokens(self.file_keys(content))
            for token in (signed(RSA, "RS256"), signed(ED, "EdDSA"), signed(ED, "Ed25519")):
                self.good(tokens, token)
            self.bad(tokens, signed(OTHER_RSA, "RS256"))
        self.good(self.tokens(self.file_keys(jwk(RSA))), signed(RSA, "RS256", {"kid": "whatever"}))

    def test_public_key_as_secret(self) -> None:
        """Whoever knows a public key, which everybody does, makes no HS256 token of it, in whatever form it is taken
        for a secret; also where there is a secret beside it."""
        for content, form in (
            (RSA.as_pem(private=False), RSA.as_pem(private=False)),
            (RSA.as_pem(private=False), RSA.as_der(private=False)),
            (ED.as_pem(private=False), base64.urlsafe_b64decode(f"{ED.as_dict(private=False)['x']}=")),
            ({"keys": [jwk(ED)]}, json.dumps({"keys": [jwk(ED)]}).encode()),
        ):
            header = encoded(b'{"alg":"HS256"}')
            payload = encoded(json.dumps({"sub": "ann", "exp": NOW_S + 60}).encode())
            mac = hmac.digest(form, f"{header}.{payload}".encode(), hashlib.sha256)
            token = f"{header}.{payload}.{encoded(mac)}"
            self.bad(self.tokens(self.file_keys(content)), token)
            self.bad(self.tokens(SecretKeys(SECRET), self.file_keys(content)), token)

    def test_no_secret_in_a_key_file(self) -> None:
        """A shared secret in a JWKS is no key: it would be one that a public document tells."""
        secret = OctKey.import_key(SECRET).as_dict(private=True)
        self.assertRaises(BadKey, read_keys, json.dumps(secret).encode())
        self.assertEqual(read_jwks(json.dumps({"keys": [secret]}).encode()), ([], 1))

    def test_public_key_as_secret_file(self) -> None:
        """And an operator who names a key file as secret_file is told so."""
        self.assertRaises(ConfigError, SecretKeys, RSA.as_pem(private=False))

    def test_others(self) -> None:
        """No other algorithm is one of ours: not none, not another hash, not another curve."""
        tokens = self.tokens(SecretKeys(SECRET), self.file_keys({"keys": [jwk(RSA), jwk(ED)]}))
        payload = encoded(json.dumps({"sub": "ann", "exp": NOW_S + 60}).encode())
        for name in ("none", "None", "NONE", "", "hs256", "ES256"):
            self.bad(tokens, f"{encoded(json.dumps({'alg': name}).encode())}.{payload}.")
        for token in (
            signed(RSA, "RS512"),
            signed(RSA, "PS256"),
            signed(OctKey.import_key(SECRET * 2), "HS512"),
            signed(ECKey.generate_key("P-256"), "ES256"),
        ):
            self.bad(tokens, token)

    def test_headers(self) -> None:
        """A token brings no key of its own, and nothing that must be understood; what need not be is passed over."""
        tokens = self.tokens(self.file_keys({"keys": [jwk(RSA, kid="one")]}))
        self.bad(tokens, signed(OTHER_RSA, "RS256", {"jwk": jwk(OTHER_RSA), "kid": "one"}))
        self.bad(tokens, signed(OTHER_RSA, "RS256", {"jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}))
        header = encoded(b'{"alg":"RS256","kid":"one","crit":["exp"],"exp":1}')
        self.bad(tokens, f"{header}.{signed(RSA, 'RS256').partition('.')[2]}")
        for kid in ("../../etc/passwd", "one' OR '1'='1", "", "x" * 300):
            (self.bad if kid else self.good)(tokens, signed(RSA, "RS256", {"kid": kid}))
        for wrong in ("1", "null", '["one"]', '{"a": 1}'):
            header = encoded(f'{{"alg": "RS256", "kid": {wrong}}}'.encode())
            self.bad(tokens, f"{header}.{signed(RSA, 'RS256').partition('.')[2]}")
        self.good(tokens, signed(RSA, "RS256", {"nonce": "abc", "typ": "at+jwt", "kid": "one"}))

    def test_oversized(self) -> None:
        """A token over its limit is not looked at."""
        tokens = self.tokens(SecretKeys(SECRET))
        self.bad(tokens, signed(OctKey.import_key(SECRET), "HS256", more="x" * TOKEN_BYTES))

    @given(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=60))
    def test_garbage(self, header: bytes, payload: bytes, signature: bytes) -> None:
        """Whatever stands in the three parts of a token, it is refused as one."""
        token = ".".join(encoded(part) for part in (header, payload, signature))
        tokens = Tokens(SecretKeys(SECRET), lambda: NOW_S)
        self.assertRaises(Unauthenticated, lambda: result(tokens.principal(token)))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
        )
    )
    def test_any_claims(self, value: Any) -> None:
        """Whatever a signed token claims, it gives a principal or is refused; nothing breaks."""
        tokens = Tokens(SecretKeys(SECRET), lambda: NOW_S)
        for claim in ("sub", "exp", "iat", "nbf", "can", "jti", "aud", "iss"):
            try:
                who = result(tokens.principal(signed(OctKey.import_key(SECRET), "HS256", **{claim: value})))
            except Unauthenticated:
                continue
            self.assertGreater(who.expires_s, NOW_S)


class ClaimsTest(KeysCase):
    """What a token must say beside being signed."""

    def test_clocks(self) -> None:
        """The clock of who made it may be ahead a little; its end is its end."""
        tokens, key = self.tokens(SecretKeys(SECRET)), OctKey.import_key(SECRET)
        self.good(tokens, signed(key, "HS256", nbf=NOW_S + LEEWAY_S, iat=NOW_S + LEEWAY_S))
        self.bad(tokens, signed(key, "HS256", nbf=NOW_S + LEEWAY_S + 1), "token.nbf")
        self.bad(tokens, signed(key, "HS256", iat=NOW_S + LEEWAY_S + 1), "token.iat")
        for end in (NOW_S, NOW_S - 1, NOW_S - 100):
            token = signed(key, "HS256", exp=end)
            self.assertRaises(TokenExpired, lambda: result(tokens.principal(token)))  # noqa: B023

    def test_issuer_and_audience(self) -> None:
        """They are compared where they are set, and then must be there."""
        key = OctKey.import_key(SECRET)
        tokens = self.tokens(SecretKeys(SECRET), trust=Trust(issuer="https://id.example.com/", audience="msgd"))
        right: dict[str, Any] = {"iss": "https://id.example.com/", "aud": "msgd"}
        self.good(tokens, signed(key, "HS256", **right))
        self.good(tokens, signed(key, "HS256", **{**right, "aud": ["other", "msgd"]}))
        self.bad(tokens, signed(key, "HS256", **{**right, "iss": "https://id.example.com"}), "token.iss")
        self.bad(tokens, signed(key, "HS256", **{**right, "aud": "other"}), "token.aud")
        self.bad(tokens, signed(key, "HS256", **{**right, "aud": ["msgd2"]}), "token.aud")
        self.bad(tokens, signed(key, "HS256", aud="msgd"), "token.iss")
        self.bad(tokens, signed(key, "HS256", iss="https://id.example.com/"), "token.aud")

    def test_longest(self) -> None:
        """A token that outlives what a revocation is kept for is refused, by its iat or by the clock."""
        key = OctKey.import_key(SECRET)
        tokens = self.tokens(SecretKeys(SECRET), trust=Trust(longest_s=3600))
        self.good(tokens, signed(key, "HS256", iat=NOW_S - 100, exp=NOW_S + 3500))
        self.bad(tokens, signed(key, "HS256", iat=NOW_S - 100, exp=NOW_S + 3501), "token.exp")
        self.bad(tokens, signed(key, "HS256", iat=0, exp=NOW_S + 3601), "token.exp")

    def test_private_keys(self) -> None:
        """What ``msgd token --key`` signs is verified by the public half."""
        for key in (RSA, ED):
            tokens = self.tokens(self.file_keys({"keys": [jwk(OTHER_RSA, kid="other"), jwk(key, kid="mine")]}))
            claims = claims_of(sub="ann", can=["subscribe:#"], ttl_s=60, now_s=NOW_S)
            self.good(tokens, PrivateKey(key.as_pem(private=True), kid="mine").sign(claims))
            self.good(tokens, PrivateKey(key.as_pem(private=True)).sign(claims))
            self.bad(tokens, PrivateKey(key.as_pem(private=True), kid="other").sign(claims))
        self.assertRaises(ConfigError, PrivateKey, RSA.as_pem(private=False))
        self.assertRaises(ConfigError, PrivateKey, ECKey.generate_key("P-256").as_pem(private=True))


class FileTest(KeysCase):
    """Keys in a file."""

    def test_rotation(self) -> None:
        """The file is read again when it has changed: a new key is known, an old one no more."""
        tokens = self.tokens(self.file_keys({"keys": [jwk(RSA, kid="one")]}))
        old, new = signed(RSA, "RS256", {"kid": "one"}), signed(OTHER_RSA, "RS256", {"kid": "two"})
        self.good(tokens, old)
        self.bad(tokens, new)
        self.write({"keys": [jwk(RSA, kid="one"), jwk(OTHER_RSA, kid="two")]})
        self.clock.advance(LOOK_S)
        self.good(tokens, old)
        self.good(tokens, new)
        self.write({"keys": [jwk(OTHER_RSA, kid="two")]})
        self.clock.advance(LOOK_S)
        self.bad(tokens, old)
        self.good(tokens, new)

    def test_unreadable(self) -> None:
        """A file that is gone, or makes no sense, lets nobody in, and calls nobody a forger; a secret beside it goes on
        to count."""
        tokens = self.tokens(self.file_keys(jwk(RSA)), SecretKeys(SECRET))
        token = signed(RSA, "RS256")
        for spoil in (self.path.unlink, lambda: self.write(b'{"keys": [')):
            spoil()
            self.clock.advance(LOOK_S)
            error = self.assertRaises(Unavailable, lambda: result(tokens.principal(token)))
            self.assertNotIn(str(self.path), error.message)
            self.good(tokens, signed(OctKey.import_key(SECRET), "HS256"))
            self.write(jwk(RSA))
            self.clock.advance(LOOK_S)
            self.good(tokens, token)
        self.assertEqual(len(self.flushLoggedErrors()), 0)

    def test_unusable(self) -> None:
        """What an operator names must be usable: each reason is told."""
        small = {"kty": "RSA", "n": encoded((1 << 1023 | 1).to_bytes(128, "big")), "e": "AQAB"}
        for content, word in (
            (b"", "no key"),
            (b"{}", "only RSA"),
            (b"{", "JSON"),
            (b'{"keys": 1}', "list"),
            (json.dumps({"keys": [jwk(RSA)] * (KEYS + 1)}).encode(), str(KEYS + 1)),
            (RSA.as_pem(private=True), "private"),
            (json.dumps(RSA.as_dict(private=True)).encode(), "private"),
            (ECKey.generate_key("P-256").as_pem(private=False), "only RSA"),
            (b"-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n", "BEGIN CERTIFICATE"),
            (b"-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----\n", "cannot be read"),
            (json.dumps(jwk(RSA, use="enc")).encode(), "signatures"),
            (json.dumps(jwk(RSA, key_ops=["encrypt"])).encode(), "signatures"),
            (json.dumps(jwk(RSA, alg="RS512")).encode(), "alg"),
            (json.dumps(jwk(ED, alg="RS256")).encode(), "alg"),
            (json.dumps({"kty": "RSA", "e": "AQAB"}).encode(), "n is missing"),
            (json.dumps({"kty": "OKP", "crv": "Ed25519", "x": "AAAA"}).encode(), "cannot be read"),
            (json.dumps(small).encode(), "1024"),
            (json.dumps(jwk(RSA, kid=1)).encode(), "kid"),
        ):
            error = self.assertRaises(ConfigError, self.file_keys, content)
            self.assertIn(word, error.message)
        self.path.unlink()
        self.assertRaises(ConfigError, FileKeys, self.path, self.clock.seconds)

    def test_others_in_a_jwks(self) -> None:
        """A provider's keys for other purposes are passed over, whatever they are."""
        content = {"keys": [jwk(RSA, use="enc"), 1, None, {"kty": "EC"}, {"kty": []}, {"kid": []}, jwk(RSA, kid="one")]}
        keys, others = read_jwks(json.dumps(content).encode())
        self.assertEqual([key.kid for key in keys], ["one"])
        self.assertEqual(others, 6)

    @given(
        st.dictionaries(
            st.sampled_from(("kty", "crv", "n", "e", "x", "kid", "use", "alg", "key_ops")),
            st.text() | st.sampled_from(("RSA", "OKP", "Ed25519", "AQAB", "sig")) | st.integers() | st.lists(st.text()),
        )
    )
    def test_any_jwk(self, value: dict[str, Any]) -> None:
        """Whatever stands in a JWK, it is a key or is refused."""
        try:
            read_jwk(value)
        except BadKey:
            pass


class FreshnessTest(SynchronousTestCase):
    """How long a JWKS counts."""

    def test_headers(self) -> None:
        """By max-age, within bounds."""
        for header, age_s in (
            ("", AGE_DEFAULT_S),
            ("public, max-age=7200", 7200),
            ("Max-Age = 7200, must-revalidate", 7200),
            ("s-maxage=9, max-age=7200", 7200),
            ("max-age=0", AGE_LEAST_S),
            ("no-store", AGE_LEAST_S),
            ("max-age=99999999999", AGE_MOST_S),
            ("max-age=x", AGE_DEFAULT_S),
        ):
            found = freshness(header)
            self.assertEqual(found.end_s, age_s + GRACE_S, header)
            self.assertLess(found.again_s, age_s)

"""Tokens that come again: verified once, and looked at each time."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import TokenExpired, TokenRevoked, Unauthenticated, Unavailable
from msgd.notifier.auth import tokens as module
from msgd.notifier.auth.keys import HS256, Found, Key
from msgd.notifier.auth.keys_file import SecretKeys
from msgd.notifier.auth.signing import make_token
from msgd.notifier.auth.tokens import Tokens
from msgd.notifier.auth.verified import Good, Verified
from msgd.notifier.interface import Principal
from tests.notifier.test_auth import NOW_S, SECRET, forged, result


class Changing:
    """Keys that change. Conforms to :class:`~msgd.notifier.auth.keys.Keys`."""

    def __init__(self) -> None:
        self.found = result(SecretKeys(SECRET).find("HS256", ""))

    async def find(self, algorithm: str, kid: str) -> Found:
        return self.found if algorithm in HS256 else Found()


class AgainTest(SynchronousTestCase):
    """The second time and later."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_S)
        self.keys = Changing()
        self.against: list[Exception] = []
        self.tokens = Tokens(self.keys, self.clock.seconds, check=self.check)
        self.token = make_token(SECRET, sub="ann", can=["subscribe:room.*"], ttl_s=60, now_s=NOW_S)
        self.verified = 0
        verify = module._claims

        def counted(*given: Any) -> object:
            self.verified += 1
            return verify(*given)

        self.patch(module, "_claims", counted)

    def check(self, who: Principal) -> None:
        if self.against:
            raise self.against[0]

    def test_verified_once(self) -> None:
        """The same token gives the same principal, without another verification."""
        first = result(self.tokens.principal(self.token))
        self.assertEqual([result(self.tokens.principal(self.token)) for _ in range(3)], [first] * 3)
        self.assertEqual(self.verified, 1)
        other = make_token(SECRET, sub="bob", can=[], ttl_s=60, now_s=NOW_S)
        self.assertEqual(result(self.tokens.principal(other)).sub, "bob")
        self.assertEqual(self.verified, 2)

    def test_expiry(self) -> None:
        """It is refused from its end on."""
        result(self.tokens.principal(self.token))
        self.clock.advance(59.9)
        result(self.tokens.principal(self.token))
        self.clock.advance(0.1)
        self.assertRaises(TokenExpired, lambda: result(self.tokens.principal(self.token)))

    def test_revoked(self) -> None:
        """It is refused once it was taken back, and while that is not known; then it is good again."""
        result(self.tokens.principal(self.token))
        for error in (TokenRevoked("gone"), Unavailable("not known")):
            self.against = [error]
            self.assertRaises(type(error), lambda: result(self.tokens.principal(self.token)))
        self.against = []
        self.assertEqual(result(self.tokens.principal(self.token)).sub, "ann")

    def test_key_taken_away(self) -> None:
        """It is refused when its key is trusted no more, or cannot be looked at; also when a new one has its place."""
        result(self.tokens.principal(self.token))
        before = self.keys.found
        (key,) = before.keys
        self.keys.found = Found((), Unavailable("the keys cannot be read"))
        self.assertRaises(Unavailable, lambda: result(self.tokens.principal(self.token)))
        self.keys.found = result(SecretKeys(b"another secret, which is as long as that").find("HS256", ""))
        self.assertRaises(Unauthenticated, lambda: result(self.tokens.principal(self.token)))
        self.keys.found = Found([Key(key.kid, key.algorithms, key.key)])
        verified = self.verified
        self.assertEqual(result(self.tokens.principal(self.token)).sub, "ann")
        self.assertEqual(self.verified, verified + 1)

    def test_refusals(self) -> None:
        """Nothing is remembered of what is refused."""
        early = forged({"sub": "ann", "exp": NOW_S + 600, "nbf": NOW_S + 60, "can": []})
        wrong = forged({"sub": "ann", "exp": NOW_S + 600, "can": []}, secret=b"x" * 32)
        for token in (early, wrong, "x", self.token[:-2]):
            self.assertRaises(Unauthenticated, lambda given=token: result(self.tokens.principal(given)))
        self.assertEqual(len(self.tokens._good), 0)
        self.clock.advance(60)
        self.assertEqual(result(self.tokens.principal(early)).sub, "ann")


class VerifiedTest(SynchronousTestCase):
    """What is remembered is bounded."""

    def test_bounded(self) -> None:
        """The tokens seen last are remembered, up to so many bytes of them."""
        (key,) = result(SecretKeys(SECRET).find("HS256", "")).keys
        good = Good(Principal(sub="ann", expires_s=1.0), "HS256", "", key)
        known = Verified(300)
        for name in "abc":
            known.add(name * 100, good)
        self.assertIs(known.find("a" * 100), good)
        known.add("d" * 100, good)
        self.assertEqual([known.find(name * 100) is good for name in "abcd"], [True, False, True, True])
        known.add("a" * 100, good)
        self.assertEqual(len(known), 3)
        known.add("e" * 301, good)
        self.assertEqual(len(known), 0)
        known.add("a" * 300, good)
        known.forget("a" * 300)
        known.forget("b" * 100)
        known.add("b" * 300, good)
        self.assertIs(known.find("b" * 300), good)

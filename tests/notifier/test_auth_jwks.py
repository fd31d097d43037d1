"""Keys of an identity provider over HTTP: read, kept, rotated, and done without."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import TestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from msgd.errors import Unauthenticated, Unavailable
from msgd.notifier.auth.freshness import AGE_LEAST_S, EARLY, GRACE_S
from msgd.notifier.auth.jwks import FETCH_S, JWKS_BYTES, RETRY_S, UNKNOWN_S, JwksKeys
from msgd.notifier.auth.keys import KeyRing
from msgd.notifier.auth.keys_file import SecretKeys
from msgd.notifier.auth.signing import make_token
from msgd.notifier.auth.tokens import Tokens
from tests.notifier.test_auth import SECRET
from tests.notifier.test_auth_keys import ED, OTHER_RSA, RSA, jwk, signed
from tests.notifier.world import WorldCase, pause, reactor

MAX_AGE_S = 600


class Provider(Resource):
    """An identity provider's JWKS, as wrong as a test wants it."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[Any] = [jwk(RSA, kid="one")]
        self.status = 200
        self.body: bytes | None = None
        self.cache_control = f"max-age={MAX_AGE_S}"
        self.asked = 0
        self.silent = False

    def render_GET(self, request: Any) -> bytes | int:
        self.asked += 1
        if self.silent:
            return NOT_DONE_YET
        request.setResponseCode(self.status)
        request.setHeader("location", "/elsewhere")
        request.setHeader("cache-control", self.cache_control)
        return json.dumps({"keys": self.keys}).encode() if self.body is None else self.body


class Later:
    """The reactor, some time from now: its own calls come when they would, or when their time has come here."""

    def __init__(self) -> None:
        self.ahead_s = 0.0
        self._calls: list[tuple[float, Any, Any]] = []

    def seconds(self) -> float:
        return float(reactor.seconds()) + self.ahead_s

    def callLater(self, delay: float, call: Any, *args: Any, **more: Any) -> Any:
        made = reactor.callLater(delay, call, *args, **more)
        self._calls.append((self.seconds() + delay, made, (call, args, more)))
        return made

    def advance(self, seconds: float) -> None:
        """So much later; what is due by then is called now."""
        self.ahead_s += seconds
        due = [one for one in self._calls if one[0] <= self.seconds() and one[1].active()]
        self._calls = [one for one in self._calls if one not in due]
        for _, made, _ in due:
            made.reset(0)

    def __getattr__(self, name: str) -> Any:
        return getattr(reactor, name)


class JwksCase(TestCase):
    """A test with a provider on a loopback port."""

    timeout = 300

    def setUp(self) -> None:
        self.provider = Provider()
        self.port: Any = reactor.listenTCP(0, Site(self.provider), interface="127.0.0.1")
        self.addCleanup(self.port.stopListening)
        self.url = f"http://127.0.0.1:{self.port.getHost().port}/jwks"
        self.later = Later()

    async def keys(self) -> JwksKeys:
        keys = JwksKeys(self.url, self.later)
        self.addCleanup(lambda: Deferred.fromCoroutine(keys.stop()))
        await keys.start()
        return keys

    def tokens(self, keys: JwksKeys) -> Tokens:
        return Tokens(KeyRing([SecretKeys(SECRET), keys]), self.later.seconds)

    def token(self, key: Any, algorithm: str = "RS256", **header: Any) -> str:
        now_s = int(self.later.seconds())
        return signed(key, algorithm, header, iat=now_s, exp=now_s + 60)

    async def good(self, tokens: Tokens, token: str) -> None:
        self.assertEqual((await tokens.principal(token)).sub, "ann")

    async def bad(self, tokens: Tokens, token: str) -> None:
        await self.assertFailure(Deferred.fromCoroutine(tokens.principal(token)), Unauthenticated)

    async def unknown(self, tokens: Tokens, token: str) -> None:
        await self.assertFailure(Deferred.fromCoroutine(tokens.principal(token)), Unavailable)

    async def asked(self, times: int) -> None:
        """Returns when the provider was asked so often."""
        while self.provider.asked < times:
            await pause(0.01)


class RotationTest(JwksCase):
    """Keys that come and go."""

    async def test_read_once(self) -> None:
        """The keys are read in the background, and then kept; a token that comes before that waits for them."""
        tokens = self.tokens(await self.keys())
        await gatherResults([Deferred.fromCoroutine(self.good(tokens, self.token(RSA, kid="one"))) for _ in range(50)])
        await self.good(tokens, self.token(RSA))
        await self.bad(tokens, self.token(OTHER_RSA, kid="one"))
        self.assertEqual(self.provider.asked, 1)

    async def test_new_key(self) -> None:
        """A token with an unknown kid has the keys read anew, but not more often than once in a while; meanwhile others
        are not kept waiting."""
        tokens = self.tokens(await self.keys())
        await self.good(tokens, self.token(RSA, kid="one"))
        self.provider.keys.append(jwk(ED, kid="two"))
        for _ in range(20):
            await self.bad(tokens, self.token(ED, "EdDSA", kid="two"))
        self.assertEqual(self.provider.asked, 1)
        self.later.advance(UNKNOWN_S)
        await self.good(tokens, self.token(ED, "EdDSA", kid="two"))
        self.assertEqual(self.provider.asked, 2)
        await gatherResults([Deferred.fromCoroutine(self.bad(tokens, self.token(RSA, kid=f"{n}"))) for n in range(50)])
        self.assertEqual(self.provider.asked, 2)

    async def test_in_the_background(self) -> None:
        """They are read again before their time is over, without anybody asking: a withdrawn key is forgotten."""
        tokens = self.tokens(await self.keys())
        await self.good(tokens, self.token(RSA, kid="one"))
        self.provider.keys = [jwk(OTHER_RSA, kid="two")]
        self.later.advance(MAX_AGE_S * EARLY)
        await self.asked(2)
        await self.good(tokens, self.token(OTHER_RSA, kid="two"))
        await self.bad(tokens, self.token(RSA, kid="one"))
        self.provider.cache_control = "no-store"
        self.later.advance(MAX_AGE_S * EARLY)
        await self.asked(3)
        await self.good(tokens, self.token(OTHER_RSA, kid="two"))
        self.later.advance(AGE_LEAST_S * EARLY)
        await self.asked(4)


class TroubleTest(JwksCase):
    """A provider that does not answer as it should."""

    async def test_kept_for_a_while(self) -> None:
        """Keys that were read outlive an outage of their provider, but not for ever; then nobody is let in, and nobody
        is called a forger. When it is back, so are they."""
        tokens = self.tokens(await self.keys())
        await self.good(tokens, self.token(RSA, kid="one"))
        self.provider.status = 500
        self.later.advance(MAX_AGE_S * EARLY)
        await self.asked(2)
        await self.good(tokens, self.token(RSA, kid="one"))
        # Its key may be one that was published since.
        await self.unknown(tokens, self.token(RSA, kid="two"))
        await self.bad(tokens, self.token(OTHER_RSA, kid="one"))
        self.later.advance(MAX_AGE_S + GRACE_S)
        await self.unknown(tokens, self.token(RSA, kid="one"))
        await self.unknown(tokens, self.token(OTHER_RSA, kid="one"))
        # What is signed with the secret has nothing to do with it.
        await self.good(tokens, make_token(SECRET, sub="ann", can=[], ttl_s=60, now_s=self.later.seconds()))
        self.provider.status = 200
        asked = self.provider.asked
        self.later.advance(RETRY_S)
        await self.asked(asked + 1)
        await self.good(tokens, self.token(RSA, kid="one"))

    async def test_wrong_answers(self) -> None:
        """Whatever is no JWKS, or too long, or somewhere else, counts as no answer."""
        keys = JwksKeys(self.url, self.later)
        for status, body in (
            (404, None),
            (302, None),
            (200, b""),
            (200, b"<html>"),
            (200, b'{"keys": 1}'),
            (200, b'{"keys": []}'),
            (200, b'{"keys": [{"kty": "EC"}]}'),
            (200, b" " * (JWKS_BYTES + 1) + b"{}"),
        ):
            self.provider.status, self.provider.body = status, body
            error: Any = await self.assertFailure(Deferred.fromCoroutine(keys.read()), Unavailable)
            self.assertIn(self.url, error.message)
        self.provider.status, self.provider.body = 200, None
        self.assertEqual([key.kid for key in await keys.read()], ["one"])

    async def test_away(self) -> None:
        """A provider that is not there, or does not answer, keeps nobody for long, and stops nothing from starting."""
        await self.port.stopListening()
        tokens = self.tokens(await self.keys())
        await self.unknown(tokens, self.token(RSA, kid="one"))

    async def test_silent(self) -> None:
        """Who waits for a silent provider waits no longer than a fetch may take; who goes away ends nobody's wait."""
        self.provider.silent = True
        tokens = self.tokens(await self.keys())
        first, second = (Deferred.fromCoroutine(tokens.principal(self.token(RSA, kid="one"))) for _ in range(2))
        first.addErrback(lambda _: None)
        await self.asked(1)
        first.cancel()
        self.assertFalse(second.called)
        self.later.advance(FETCH_S)
        await self.assertFailure(second, Unavailable)


class DoorTest(WorldCase, JwksCase):
    """The same by the doors."""

    async def test_unavailable(self) -> None:
        """While keys cannot be had the answer is 503, on a WebSocket a close that lets the client come again."""
        self.provider.status = 500
        keys = await self.keys()
        world = await self.world(keys=KeyRing([SecretKeys(SECRET), keys]))
        token = self.token(RSA, kid="one")
        status, problem, response = await world.call("GET", "/api/jobs", who=token)
        self.assertEqual((status, problem["code"]), (503, "unavailable"))
        self.assertTrue(response.headers.hasHeader("retry-after"))
        self.provider.status = 200
        self.later.advance(RETRY_S)
        await self.asked(self.provider.asked + 1)
        status, _, _ = await world.call("GET", "/api/jobs", who=token)
        self.assertEqual(status, 200)

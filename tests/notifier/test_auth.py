"""Tokens, principals and the secret file."""

from __future__ import annotations

import stat
import time
from collections.abc import Awaitable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import OctKey
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import ConfigError, InvalidInput, TokenExpired, Unauthenticated
from msgd.messages.topics import covers, matches, user_topic
from msgd.notifier.auth.keys_file import SecretKeys, check_exposure, own_secret, read_secret
from msgd.notifier.auth.signing import make_token
from msgd.notifier.auth.tokens import GRANTS, Tokens, parse_grant
from msgd.notifier.interface import Grant, Principal

SECRET = b"0123456789abcdef0123456789abcdef"
NOW_S = 1_800_000_000.0

patterns = st.lists(st.sampled_from(("room", "job", "a", "*", "#")), min_size=1, max_size=3).map(".".join)
topics = st.lists(st.sampled_from(("room", "job", "a", "b")), min_size=1, max_size=3).map(".".join)
actions = st.sampled_from(("subscribe", "publish", "submit", "admin"))


def result(work: Awaitable[Any]) -> Any:
    """What a coroutine that waits for nothing returns or raises."""
    found: list[Any] = []

    async def run() -> None:
        try:
            found.append((await work, None))
        except Exception as error:
            found.append((None, error))

    Deferred.fromCoroutine(run())
    value, error = found[0]
    if error is not None:
        raise error
    return value


def forged(claims: dict[str, Any], *, secret: bytes = SECRET, header: dict[str, Any] | None = None) -> str:
    """A token with any claims."""
    return jwt.encode(
        header or {"alg": "HS256"}, claims, OctKey.import_key(secret), algorithms=["HS256", "HS384", "HS512"]
    )


class TokensTest(SynchronousTestCase):
    """What is trusted."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(NOW_S)
        self.tokens = Tokens(SecretKeys(SECRET), self.clock.seconds)

    def refuse(self, token: str, where: str = "token") -> None:
        error = self.assertRaises(Unauthenticated, lambda: result(self.tokens.principal(token)))
        self.assertEqual(error.where, where)

    def test_good(self) -> None:
        """A token of ours gives its principal."""
        token = make_token(SECRET, sub="ann", can=["subscribe:room.*"], ttl_s=60, now_s=NOW_S)
        principal = result(self.tokens.principal(token))
        self.assertEqual(principal.sub, "ann")
        self.assertEqual(principal.grants, (Grant("subscribe", "room.*"),))
        self.assertEqual(principal.expires_s, NOW_S + 60)

    def test_line_end_of_the_secret(self) -> None:
        """An editor's line end in the secret file changes nothing."""
        token = make_token(SECRET + b"\n", sub="ann", can=[], ttl_s=60, now_s=NOW_S)
        self.assertEqual(result(self.tokens.principal(token)).sub, "ann")

    def test_expired(self) -> None:
        """A token past its exp says so: the client can get a new one."""
        token = make_token(SECRET, sub="ann", can=[], ttl_s=60, now_s=NOW_S)
        self.clock.advance(61)
        self.assertRaises(TokenExpired, lambda: result(self.tokens.principal(token)))

    def test_without_exp_or_sub(self) -> None:
        """Both are required."""
        self.refuse(forged({"sub": "ann"}), "token.exp")
        self.refuse(forged({"exp": NOW_S + 60}), "token.sub")

    def test_not_yet(self) -> None:
        """``nbf`` is honoured."""
        self.refuse(forged({"sub": "ann", "exp": NOW_S + 60, "nbf": NOW_S + 30}), "token.nbf")

    def test_foreign_secret(self) -> None:
        """A token of another secret is nothing."""
        self.refuse(forged({"sub": "ann", "exp": NOW_S + 60}, secret=b"x" * 32))

    def test_other_algorithms(self) -> None:
        """Only the algorithm of the keys counts, whatever the header says; 'none' never does."""
        good = make_token(SECRET, sub="ann", can=[], ttl_s=60, now_s=NOW_S)
        _, payload, _ = good.split(".")
        self.refuse(f"eyJhbGciOiJub25lIn0.{payload}.")
        self.refuse(forged({"sub": "ann", "exp": NOW_S + 60}, header={"alg": "HS512"}, secret=SECRET * 2))

    @given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
    def test_garbage(self, token: str) -> None:
        """Whatever is sent as a token is refused as one."""
        self.assertRaises(Unauthenticated, lambda: result(self.tokens.principal(token)))

    def test_claims_of_other_forms(self) -> None:
        """A token with a right misspelt is not half trusted, and names must be printable."""
        for claims, where in (
            ({"can": ["subscribe"]}, "token.can"),
            ({"can": ["fly:room.*"]}, "token.can"),
            ({"can": ["subscribe:room..a"]}, "token.can"),
            ({"can": "admin:#"}, "token.can"),
            ({"can": ["admin:#"] * (GRANTS + 1)}, "token.can"),
            ({"sub": "a\nb"}, "token.sub"),
            ({"sub": "x" * 61}, "token.sub"),
        ):
            self.refuse(forged({"sub": "ann", "exp": NOW_S + 60, **claims}), where)

    def test_make_token_checks(self) -> None:
        """No token is made that no server would take."""
        self.assertRaises(InvalidInput, make_token, SECRET, sub="", can=[], ttl_s=1)
        self.assertRaises(InvalidInput, make_token, SECRET, sub="a", can=["x:y"], ttl_s=1)
        self.assertRaises(ConfigError, make_token, b"short", sub="a", can=[], ttl_s=1)


class RightsTest(SynchronousTestCase):
    """DESIGN §4.5."""

    def who(self, *can: str, sub: str = "ann") -> Principal:
        return Principal(sub=sub, grants=tuple(parse_grant(one) for one in can), expires_s=time.time() + 60)

    @given(actions, patterns, actions, patterns)
    def test_a_grant_covers(self, held: str, pattern: str, action: str, asked: str) -> None:
        """An action is allowed if a grant of it, or of admin, covers all that is asked."""
        who = self.who(f"{held}:{pattern}")
        self.assertEqual(who.may(action, asked), held in (action, "admin") and covers(pattern, asked))

    @given(st.lists(patterns, max_size=3), patterns, topics)
    def test_nothing_leaks(self, granted: list[str], asked: str, topic: str) -> None:
        """Whoever may read a pattern may read every topic it names."""
        who = self.who(*(f"subscribe:{one}" for one in granted))
        if who.may_read(asked) and matches(asked, topic):
            self.assertTrue(who.may_read(topic))

    @given(patterns)
    def test_nobody_speaks_for_a_job(self, pattern: str) -> None:
        """No grant allows publishing to a job's topic."""
        who = self.who(f"admin:{pattern}", f"publish:{pattern}", "admin:#")
        self.assertFalse(who.may_publish("job.1"))
        self.assertFalse(who.may_publish("job"))

    def test_own_topic(self) -> None:
        """``user.<sub>`` and below it is its owner's to read, and nobody else's; a sub is escaped into one word."""
        for sub in ("ann", "ann.lee", "a*", "#", "o_x"):
            who = self.who(sub=sub)
            self.assertTrue(who.may_read(user_topic(sub)))
            self.assertTrue(who.may_read(user_topic(sub) + ".inbox.#"))
            self.assertFalse(who.may_read("user.*"))
            self.assertFalse(who.may_read(user_topic("somebody")))
            self.assertFalse(who.may_publish(user_topic(sub)))

    def test_own_jobs(self) -> None:
        """Whoever submitted a job may watch and change it; others need a grant."""
        self.assertTrue(self.who().may_watch("1", "ann"))
        self.assertTrue(self.who().may_change("1", "ann"))
        self.assertFalse(self.who().may_watch("1", "bob"))
        self.assertFalse(self.who().may_watch("1", ""))
        self.assertTrue(self.who("subscribe:job.#").may_watch("1", "bob"))
        self.assertFalse(self.who("subscribe:job.#").may_change("1", "bob"))
        self.assertTrue(self.who("admin:job.*").may_change("1", "bob"))


class SecretTest(SynchronousTestCase):
    """The secret file, and where it suffices."""

    def test_own_secret(self) -> None:
        """It is made once, for its owner only, and kept."""
        path = Path(mkdtemp(prefix="msgd-secret-")) / "state" / "secret"
        secret = own_secret(path)
        self.assertGreaterEqual(len(secret), 32)
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o600)
        self.assertEqual(own_secret(path), secret)
        self.assertEqual([one.name for one in path.parent.iterdir()], ["secret"])

    def test_unusable(self) -> None:
        """A missing or short secret is named."""
        folder = Path(mkdtemp(prefix="msgd-secret-"))
        self.assertRaises(ConfigError, read_secret, folder / "none")
        (folder / "short").write_bytes(b"short\n")
        self.assertRaises(ConfigError, read_secret, folder / "short")

    def test_exposure(self) -> None:
        """Without configured keys only loopback and Unix sockets may listen."""
        check_exposure(["tcp:8080:interface=127.0.0.1", "unix:/run/msgd.sock", r"tcp6:8080:interface=\:\:1"])
        for endpoint in ("tcp:8080", "tcp:8080:interface=0.0.0.0", "systemd:domain=INET:index=0", "tcp6:8080"):
            self.assertRaises(ConfigError, check_exposure, [endpoint])

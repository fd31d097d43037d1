"""What is said of an error on the command line."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from io import StringIO

from twisted.trial.unittest import TestCase

from msgd.cli.exits import explain
from msgd.cli.following import retrying
from msgd.errors import ConfigError, Unauthenticated


class ExplainTests(TestCase):
    """:func:`explain`."""

    def test_a_token_that_is_missing(self) -> None:
        """Who shows no good token is told where one comes from; other errors stand alone."""
        for error, told in ((Unauthenticated("a token is needed"), True), (ConfigError("no such key"), False)):
            said = StringIO()
            explain(error, said)
            self.assertEqual("MSGD_TOKEN" in said.getvalue(), told)
            self.assertEqual(said.getvalue().count("\n"), 1)


class RetryingTests(TestCase):
    """:func:`retrying`."""

    def test_when(self) -> None:
        """It names the attempt that comes and how long that is away; of what has been, as in a history, only which."""
        event = {"code": "peer", "message": "it answered 503", "attempt": 1, "at": "2026-01-01T00:00:10.500Z"}
        now = datetime(2026, 1, 1, tzinfo=UTC)
        ahead = "it answered 503; trying again in 11 s, Ctrl-C stops waiting (attempt 2)"
        self.assertEqual(retrying(event, now), ahead)
        self.assertEqual(retrying(event, now + timedelta(hours=1)), "it answered 503; tried again (attempt 2)")

"""What is said of an error on the command line."""

from __future__ import annotations

from io import StringIO

from twisted.trial.unittest import TestCase

from msgd.cli.exits import explain
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

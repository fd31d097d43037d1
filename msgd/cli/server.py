"""Which server to talk to, and as whom: ``--url`` and ``--token``, else what the configuration says.

What is slow to import is imported where it is needed: every command goes through here, also those that need none of it.
"""

from __future__ import annotations

import getpass
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from msgd.config import Settings, load
from msgd.config.endpoints import address
from msgd.errors import Unauthenticated

if TYPE_CHECKING:
    from msgd.client import Client

TOKEN_VARIABLE: Final = "MSGD_TOKEN"  # noqa: S105 - a name
URL_VARIABLE: Final = "MSGD_URL"
OWN_TOKEN_S: Final = 3600
"""Life of a token that a command makes for itself from the secret file; what runs longer makes another."""


class Server:
    """Where commands go. Reads the configuration only when something needs it."""

    def __init__(
        self, config: str | None, url: str | None, token: str | None, *, ca_file: str = "", clear_text: bool = False
    ) -> None:
        self._config = config
        self._ca_file = ca_file
        self._clear_text = clear_text
        self._url = url or os.environ.get(URL_VARIABLE)
        self._token = token or os.environ.get(TOKEN_VARIABLE)

    @cached_property
    def settings(self) -> Settings:
        """Raises ConfigError."""
        return load(self._config)

    @property
    def url(self) -> str:
        """The server's root."""
        return self._url or address(self.settings.notifier.listen[0])

    def token(self) -> str:
        """The token given, else one of our own if the secret file can be read. Raises Unauthenticated if it cannot."""
        if self._token:
            return self._token
        secret = self._secret
        if secret is None:
            raise Unauthenticated("there is no token to show to the server")
        from msgd.notifier.auth.signing import claims_of, sign_with_secret

        auth = self.settings.auth
        claims = claims_of(sub=_user(), can=["admin:#"], ttl_s=OWN_TOKEN_S, issuer=auth.issuer, audience=auth.audience)
        return sign_with_secret(secret, claims)

    @cached_property
    def _secret(self) -> bytes | None:
        """The server's secret, if it is the configured one's: another server's is none of ours."""
        if self._url:
            return None
        try:
            return Path(self.settings.secret_file).read_bytes()
        except OSError:
            return None

    def client(self, reactor: Any) -> Client:
        """A client of the server."""
        from msgd.client import Client

        # An address out of the configuration is this machine's own, whichever of its interfaces that is.
        clear_text = self._clear_text or not self._url
        return Client(reactor, self.url, self.token, ca_file=self._ca_file, clear_text=clear_text)


def _user() -> str:
    """Who calls, for the server's lists: the account's name, or its number where it has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return f"uid-{os.getuid()}"


pass_server = click.make_pass_decorator(Server)

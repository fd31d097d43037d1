"""``msgd token``: a bearer token, and nothing else on stdout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from msgd.cli.server import Server, pass_server
from msgd.errors import ConfigError
from msgd.notifier.auth import make_token, own_secret, read_secret

_TTL: Final = re.compile(r"(\d+)([smhd]?)")
_UNIT_S: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """``90``, ``15m``, ``1h``, ``7d`` in seconds."""
    found = _TTL.fullmatch(text.strip())
    if found is None or int(found[1]) == 0:
        raise click.BadParameter(f"{text!r} is not a time such as 90s, 15m, 1h or 7d", param_hint="--ttl")
    return int(found[1]) * _UNIT_S[found[2]]


@click.command()
@click.option("--sub", required=True, help="Who it is for.")
@click.option("--can", multiple=True, required=True, metavar="ACTION:PATTERN", help="A right, such as subscribe:room.*")
@click.option("--ttl", default="1h", show_default=True, help="How long it is good.")
@pass_server
def token(server: Server, sub: str, can: tuple[str, ...], ttl: str) -> None:
    """Print a token for SUB, signed with the secret of the configuration (made if there is none yet)."""
    settings = server.settings
    if settings.auth.keys_file or settings.auth.jwks_url:
        raise ConfigError("tokens are made by whoever holds the private key: msgd has only public ones", where="auth")
    configured = settings.auth.secret_file
    secret = read_secret(Path(configured)) if configured else own_secret(Path(settings.secret_file))
    click.echo(make_token(secret, sub=sub, can=list(can), ttl_s=seconds(ttl)))

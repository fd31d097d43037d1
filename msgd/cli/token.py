"""``msgd token``: a bearer token, and nothing else on stdout."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import click

from msgd.cli.server import Server, pass_server
from msgd.errors import ConfigError
from msgd.notifier.auth.keys_file import own_secret, read_secret
from msgd.notifier.auth.signing import PrivateKey, claims_of, sign_with_secret

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
@click.option("--jti", default="", help="A name of its own, by which this one token can be revoked.")
@click.option(
    "--key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A private key to sign with (PEM, RSA or Ed25519); its public half is in auth.keys_file or at auth.jwks_url.",
)
@click.option("--kid", default="", help="The key's name in a JSON Web Key Set.")
@pass_server
def token(server: Server, sub: str, can: tuple[str, ...], ttl: str, jti: str, key: Path | None, kid: str) -> None:
    """Print a token for SUB, signed with the secret of the configuration (made if there is none yet), or with --key."""
    settings = server.settings
    auth = settings.auth
    claims = claims_of(sub=sub, can=can, ttl_s=seconds(ttl), token_id=jti, issuer=auth.issuer, audience=auth.audience)
    if key is not None:
        click.echo(PrivateKey(key.read_bytes(), kid=kid).sign(claims))
        return
    if auth.configured and not auth.secret_file:
        raise ConfigError(
            "tokens are made by whoever holds the private key: msgd has only public ones; name it by --key",
            where="auth",
        )
    if auth.secret_file:
        secret = read_secret(Path(auth.secret_file))
    else:
        own = Path(settings.secret_file)
        if not own.exists():
            said = f"made a secret in {own.absolute()}: only a server that keeps its state there takes this token"
            click.echo(said, err=True)
        secret = own_secret(own)
    click.echo(sign_with_secret(secret, claims))

"""``msgd check``: what is wrong with a configuration, and which servers answer."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as TimedOut

from msgd.app.adapters import Adapters
from msgd.app.daemons import keys
from msgd.app.mailing import bounce_place, bounce_session, way
from msgd.app.messaging import login
from msgd.cli.exits import DONE, UNREACHABLE, WRONG_INPUT, exit_code
from msgd.cli.output import out, plain, print_json
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server
from msgd.client import Client
from msgd.config import Settings, without_password
from msgd.database import Database, Transaction
from msgd.database.migrate import standing
from msgd.errors import ConfigError, MsgdError, Unavailable
from msgd.notifier.auth.jwks import JwksKeys
from msgd.notifier.auth.keys import Key
from msgd.notifier.auth.keys_file import FileKeys, SecretKeys, check_exposure
from msgd.services.mailer.bounces.place import is_imap
from msgd.services.messenger.webhooks.sealing import keys_in
from msgd.services.messenger.xmpp.stream import open_stream

PATIENCE_S: Final = 5.0
"""How long a server may take to answer before it counts as not answering."""

SQLITE: Final = "sqlite:///"


class Finding(Struct, frozen=True):
    """What one check has found; ``detail`` is the value that is good, or what is wrong and what to do."""

    name: str
    good: bool
    detail: str
    code: int = DONE


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_server
def check(server: Server, as_json: bool) -> None:
    """Check the configuration, and ask each server that it names.

    Nothing is started or made; but a RabbitMQ gets msgd's exchanges and queues, to see that it may.

    Exit code 2: something is wrong in the configuration; 3: a server does not answer.
    """

    async def command(reactor: Any) -> int:
        worst: int = DONE
        async for finding in _findings(server, reactor):
            worst = worst or finding.code
            if as_json:
                print_json(finding)
            else:
                mark = "[green]✓[/green]" if finding.good else "[red]✗[/red]"
                out.print(f"{mark} {finding.name:<15}{plain(finding.detail)}")
        return worst

    run(command)


async def _findings(server: Server, reactor: Any) -> AsyncIterator[Finding]:
    try:
        settings = server.settings
    except ConfigError as error:
        yield Finding("configuration", False, error.message, WRONG_INPUT)
        return
    yield Finding("configuration", True, "every section and key is known")
    looks: tuple[tuple[str, Callable[[], Awaitable[str]]], ...] = (
        ("state folder", lambda: _state_folder(settings)),
        ("access", lambda: _access(settings, reactor)),
        ("database", lambda: _database(settings, reactor)),
        ("broker", lambda: _broker(settings, reactor)),
        ("blobs", lambda: _blobs(settings, reactor)),
        ("mail", lambda: _mail(settings, reactor)),
        ("xmpp", lambda: _xmpp(settings, reactor)),
        ("bounces", lambda: _bounces(settings, reactor)),
        ("secrets", lambda: _secrets(settings)),
        ("notifier", lambda: _notifier(Client(reactor, server.url), settings)),
    )
    for name, look in looks:
        yield await _look(name, look, reactor)


async def _look(name: str, look: Callable[[], Awaitable[str]], reactor: Any) -> Finding:
    async def looking() -> str:
        return await look()

    try:
        return Finding(name, True, await Deferred.fromCoroutine(looking()).addTimeout(PATIENCE_S, reactor))
    except TimedOut:
        return Finding(name, False, f"no answer within {PATIENCE_S:.0f} s", UNREACHABLE)
    except CancelledError:
        raise
    except MsgdError as error:
        where = f"{error.where}: " if error.where and error.where not in error.message else ""
        return Finding(name, False, where + error.message, exit_code(error))
    except Exception as error:  # a driver's own: a wrong password, a database that is not there
        words = str(getattr(error, "orig", error)).strip() or type(error).__name__
        return Finding(name, False, words.splitlines()[0], UNREACHABLE)


async def _state_folder(settings: Settings) -> str:
    folder = Path(settings.state.dir)
    there = next(one for one in (folder, *folder.parents) if one.exists())
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=folder):
                return str(folder)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", where="state.dir") from None
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        raise ConfigError(f"{folder} is not there, and {there} cannot be written", where="state.dir")
    return f"{folder}, which is made at the first start"


async def _access(settings: Settings, reactor: Any) -> str:
    auth = settings.auth
    if not auth.configured:
        check_exposure(settings.notifier.listen)
        return "loopback only, with a secret of its own in the state folder"
    told: list[str] = []
    for source in keys(settings, reactor):
        if isinstance(source, SecretKeys):
            _not_open_to_all(auth.secret_file, "make tokens", where="auth.secret_file")
            told.append(f"the secret in {auth.secret_file}")
        elif isinstance(source, FileKeys):
            told.append(f"{_number_of(source.keys)} in {auth.keys_file}")
        elif isinstance(source, JwksKeys):
            told.append(f"{_number_of(await source.read())} at {auth.jwks_url}")
    return f"tokens signed with {' or '.join(told)}"


def _number_of(keys: Sequence[Key]) -> str:
    """How many keys, and of which algorithms."""
    names = sorted({name for key in keys for name in key.algorithms & {"RS256", "EdDSA"}})
    return f"one of {len(keys)} keys ({', '.join(names)})" if len(keys) > 1 else f"the key ({', '.join(names)})"


def _not_open_to_all(path: str, then: str, *, where: str) -> None:
    if Path(path).stat().st_mode & 0o007:
        raise ConfigError(
            f"{path} can be read by everybody on this machine, who can then {then}: chmod o= {path}", where=where
        )


async def _database(settings: Settings, reactor: Any) -> str:
    url = settings.database.url
    shown = without_password(url)
    if _is_to_be_made(url):
        return f"{shown}, which is made at the first start"
    found: list[tuple[str | None, str]] = []

    def look(transaction: Transaction) -> None:
        found.append(standing(transaction))

    database = Database(url, reactor=reactor, threads=1, prepare=look)
    try:
        await database.start()
    finally:
        await database.stop()
    revision, newest = found[-1]
    if revision is None:
        return f"{shown}, empty: its tables are made at the first start"
    if revision == newest:
        return shown
    return f"{shown}, which the next start brings from {revision} to {newest}"


def _is_to_be_made(url: str) -> bool:
    return url.startswith(SQLITE) and not Path(url.removeprefix(SQLITE)).exists()


async def _broker(settings: Settings, reactor: Any) -> str:
    if settings.broker.embedded:
        return "embedded: all services run in one process (twistd msgd)"
    broker = Adapters(settings, reactor, "check").broker
    try:
        await broker.start()
        said = broker.description
        for lacking in await broker.shortcomings():
            raise ConfigError(f"{said}: {lacking}", where="broker.url")
        return said
    except CancelledError:
        trouble = (
            broker.trouble or f"no answer within {PATIENCE_S:.0f} s from {without_password(settings.broker.url[0])}"
        )
        raise Unavailable(trouble) from None
    finally:
        await broker.stop()


async def _blobs(settings: Settings, reactor: Any) -> str:
    adapters = Adapters(settings, reactor, "check")
    offered = adapters.blobs
    try:
        await offered.check()
        return without_password(settings.blobs.url)
    finally:
        await offered.stop()


async def _mail(settings: Settings, reactor: Any) -> str:
    mail = settings.mail
    if mail.smtp.startswith("maildir:"):
        return f"no server: mail is written into {mail.smtp.removeprefix('maildir:')}"
    there = way(mail, reactor)
    try:
        await there.ready()
    finally:
        await there.stop()
    return f"{mail.smtp} takes mail" + (f" of {mail.user}" if mail.user else "")


async def _xmpp(settings: Settings, reactor: Any) -> str:
    account = login(settings.xmpp)
    if not account.configured:
        return "no account: message jobs fail"
    if account.missing:
        raise ConfigError(account.missing, where="xmpp.password_file")
    stream, session = await open_stream(reactor, account, "msgd-check")
    await stream.close(reactor)
    return f"connects as {session.jid}" + (
        "" if session.managed else ", to a server that acknowledges nothing (XEP-0198)"
    )


async def _bounces(settings: Settings, reactor: Any) -> str:
    mail = settings.mail
    if not mail.bounce_folder:
        return "no folder: bounces that come later are not read"
    if not is_imap(mail.bounce_folder):
        if not (Path(mail.bounce_folder) / "new").is_dir():
            raise ConfigError(
                f"{mail.bounce_folder} is no maildir, a folder with new, cur and tmp", where="mail.bounce_folder"
            )
        return mail.bounce_folder
    session = await bounce_session(mail, reactor)()
    told = "which tells of new ones" if session.idles else "which is asked for new ones"
    await session.leave()
    return f"{bounce_place(mail)}, {session.exists} mails, {told}"


async def _secrets(settings: Settings) -> str:
    path = settings.messenger.secrets_key_file
    if not path:
        return "those of webhook endpoints lie in the database as they are"
    count = len(keys_in(path))
    _not_open_to_all(path, "read them", where="messenger.secrets_key_file")
    with_what = "the key" if count == 1 else f"the first of {count} keys"
    return f"those of webhook endpoints are sealed with {with_what} in {path}"


async def _notifier(client: Client, settings: Settings) -> str:
    try:
        await client.health()
        return f"answers at {client.url}"
    except Unavailable as error:
        daemon = "msgd" if settings.broker.embedded else "notifier"
        raise Unavailable(f"{error.message.rstrip('.')}: is it started (twistd -n {daemon})?") from None
    finally:
        await client.close()

"""``msgd check``: what is wrong with a configuration, and which servers answer."""

from __future__ import annotations

import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import click
from msgspec import Struct
from rich.markup import escape
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.defer import TimeoutError as TimedOut

from msgd.app.adapters import Adapters
from msgd.cli.output import out, print_json, printable
from msgd.cli.running import DONE, UNREACHABLE, WRONG_INPUT, run
from msgd.cli.server import Server, pass_server
from msgd.client import Client
from msgd.config import Settings, without_password
from msgd.errors import ConfigError, MsgdError, Unavailable
from msgd.notifier.auth import check_exposure, read_secret

PATIENCE_S: Final = 5.0
"""How long a server may take to answer before it counts as not answering."""


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

    Exit code 2: something is wrong in the configuration; 3: a server does not answer.
    """

    async def command(reactor: Any) -> int:
        worst = DONE
        async for finding in _findings(server, reactor):
            worst = worst or finding.code
            if as_json:
                print_json(finding)
            else:
                mark = "[green]✓[/green]" if finding.good else "[red]✗[/red]"
                out.print(f"{mark} {finding.name:<14} {escape(printable(finding.detail))}")
        return worst

    run(command)


async def _findings(server: Server, reactor: Any) -> Any:
    try:
        settings = server.settings
    except ConfigError as error:
        yield Finding("configuration", False, error.message, WRONG_INPUT)
        return
    yield Finding("configuration", True, "every section and key is known")
    adapters = Adapters(settings, reactor, "check")
    for name, look in (
        ("state folder", lambda: succeed(settings).addCallback(_state_folder)),
        ("access", lambda: _access(settings)),
        ("database", lambda: _database(adapters, settings)),
        ("broker", lambda: _broker(adapters, settings)),
        ("notifier", lambda: _notifier(server.client(reactor))),
    ):
        yield await _look(name, look, reactor)


async def _look(name: str, look: Callable[[], Awaitable[str]], reactor: Any) -> Finding:
    async def looking() -> str:
        return await look()

    try:
        return Finding(name, True, await Deferred.fromCoroutine(looking()).addTimeout(PATIENCE_S, reactor))
    except (TimedOut, CancelledError):
        return Finding(name, False, f"no answer within {PATIENCE_S:.0f} s", UNREACHABLE)
    except Unavailable as error:
        return Finding(name, False, error.message, UNREACHABLE)
    except MsgdError as error:
        where = f"{error.where}: " if error.where and error.where not in error.message else ""
        return Finding(name, False, where + error.message, WRONG_INPUT)


def _state_folder(settings: Settings) -> str:
    folder = Path(settings.state.dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror}", where="state.dir") from None
    return str(folder)


async def _access(settings: Settings) -> str:
    auth = settings.auth
    if auth.secret_file:
        read_secret(Path(auth.secret_file))
        return f"tokens signed with the secret in {auth.secret_file}"
    if auth.configured:
        return f"tokens verified with the keys of {auth.keys_file or auth.jwks_url}"
    check_exposure(settings.notifier.listen)
    return "loopback only, with a secret of its own in the state folder"


async def _database(adapters: Adapters, settings: Settings) -> str:
    await adapters.database.start()
    try:
        head = await adapters.journal.head()
        return f"{without_password(settings.database.url)}, {head.pos:,} events were recorded"
    finally:
        await adapters.database.stop()


async def _broker(adapters: Adapters, settings: Settings) -> str:
    if settings.broker.embedded:
        return "embedded: all daemons run in one process (twistd msgd)"
    try:
        await adapters.broker.start()
        return adapters.broker.description
    finally:
        await adapters.broker.stop()


async def _notifier(client: Client) -> str:
    try:
        await client.health()
        return f"answers at {client.url}"
    finally:
        await client.close()

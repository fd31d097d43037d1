"""``msgd demo``: everything in one process, a site to crawl, and the dashboard."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from shlex import quote
from typing import Any, Final

import click
from twisted.internet.defer import CancelledError, Deferred

from msgd.app.adapters import Adapters
from msgd.app.daemons import all_in_one
from msgd.app.listening import PortInUse
from msgd.broker.embedded.store import InUse
from msgd.cli.crawl import crawl_params, follow_crawl, start_url
from msgd.cli.output import say
from msgd.cli.running import run
from msgd.cli.sample_site import EMAIL, PRICE, SampleSite
from msgd.client import Client
from msgd.config import Settings, load
from msgd.config.endpoints import address
from msgd.notifier.auth.keys_file import own_secret
from msgd.notifier.auth.signing import make_token
from msgd.work.parts import Parts

FIRST_PORT: Final = 8080
PORTS: Final = 50
"""How many ports are tried for the dashboard before the demo gives up."""

LISTEN_VARIABLE: Final = "MSGD_NOTIFIER_LISTEN"
TOKEN_S: Final = 7 * 24 * 3600
SAMPLE_MATCH: Final = (f"price={PRICE}", f"email={EMAIL}")


@click.command()
@click.argument("url", required=False)
@click.option("--match", "regexes", multiple=True, metavar="[NAME=]REGEX", help="What to look for.")
@click.option("--state", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("var/demo"),
              show_default=True, help="Where its data lie.")  # fmt: skip
@click.option("--once", is_flag=True, help="Leave when the crawl has ended.")
def demo(url: str | None, regexes: tuple[str, ...], folder: Path, once: bool) -> None:
    """Start everything in this process, crawl a sample site (or URL), show the dashboard.

    It stays up until Ctrl-C. Several demos may run at the same time.
    """
    target = None if url is None else start_url(url)
    run(lambda reactor: _demo(reactor, target, regexes, folder, once))


async def _demo(reactor: Any, url: str | None, regexes: tuple[str, ...], folder: Path, once: bool) -> int:
    async with _everything(reactor, folder) as settings, _sample(reactor, serve=url is None) as site:
        server = address(settings.notifier.listen[0])
        secret = own_secret(Path(settings.secret_file))
        token = make_token(secret, sub="demo", can=["admin:#"], ttl_s=TOKEN_S)
        client = Client(reactor, server, token)
        try:
            code = await _crawl(client, site, url, regexes)
        finally:
            await client.close()
        if not once:
            say("The dashboard is at")
            say(f"{server}/#token={token}", style="bold cyan")
            say("Commands in another terminal reach it after")
            say(_environment(settings), style="bold cyan")
            say("Press Ctrl-C to leave.", style="dim")
            try:
                await Deferred()  # until Ctrl-C
            except CancelledError:
                pass
        return code


def _environment(settings: Settings) -> str:
    """What ``msgd`` must be told to find the demo, for a shell."""
    told = {"MSGD_STATE_DIR": str(Path(settings.secret_file).parent.absolute())}
    if settings.notifier.listen != Settings().notifier.listen:
        told[LISTEN_VARIABLE] = settings.notifier.listen[0]
    return "export " + " ".join(f"{name}={quote(value)}" for name, value in told.items())


async def _crawl(client: Client, site: SampleSite, url: str | None, regexes: tuple[str, ...]) -> int:
    given: dict[str, Any] = dict.fromkeys(("css", "xpath", "text"), ()) | {"max_pages": None, "concurrency": None}
    if url is None:
        target, match = site.url, regexes or SAMPLE_MATCH
        given |= {"delay": "0", "depth": site.depth}
    else:
        target, match = url, regexes
        given |= {"delay": None, "depth": None}
    job = (await client.submit("crawl", crawl_params(target, {**given, "regexes": match})))["id"]
    say(f"Crawling {target}, job {job}")
    return await follow_crawl(client, job, as_json=False)


# -- what runs meanwhile ----------------------------------------------------------------------------------------------


@asynccontextmanager
async def _sample(reactor: Any, *, serve: bool) -> AsyncIterator[SampleSite]:
    site = SampleSite(reactor)
    if serve:
        await site.start()
    try:
        yield site
    finally:
        await site.stop()


@asynccontextmanager
async def _everything(reactor: Any, folder: Path) -> AsyncIterator[Settings]:
    """All services, in ``folder`` or, while another demo holds that, in a folder of their own; on the first port
    that is free, or the one asked for. Raises PortInUse if none is."""
    own: str | None = None
    try:
        try:
            settings, parts = await _on_a_port(reactor, folder)
        except InUse:
            own = tempfile.mkdtemp(prefix="msgd-demo-")
            say(f"{folder} is in use by another demo: this one keeps its data in {own} while it runs", style="yellow")
            settings, parts = await _on_a_port(reactor, Path(own))
        try:
            yield settings
        finally:
            await parts.stop()
    finally:
        if own is not None:
            shutil.rmtree(own, ignore_errors=True)


async def _on_a_port(reactor: Any, folder: Path) -> tuple[Settings, Parts]:
    """All services, started, where ``MSGD_NOTIFIER_LISTEN`` says, else on the first port that is free. The port is
    taken or not: to look first would leave time for somebody else."""
    wanted = os.environ.get(LISTEN_VARIABLE)
    port = FIRST_PORT
    while True:
        settings = load(
            None,
            {
                "MSGD_STATE_DIR": str(folder),
                LISTEN_VARIABLE: wanted or f"tcp:{port}:interface=127.0.0.1",
                "MSGD_NETWORK_ALLOW": "127.0.0.0/8, ::1/128",  # the sample site is on loopback
            },
        )
        parts = all_in_one(Adapters(settings, reactor, "demo"))
        try:
            await parts.start()
        except PortInUse:
            port += 1
            if wanted or port == FIRST_PORT + PORTS:
                raise
        else:
            return settings, parts

"""``msgd demo``: everything in one process, a site to crawl, and the dashboard."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from twisted.internet.defer import Deferred

from msgd.app.adapters import BROKER_FILE, Adapters
from msgd.app.daemons import all_in_one
from msgd.broker.embedded.store import Lock
from msgd.cli.crawl import crawl_params, follow_crawl
from msgd.cli.output import err, say
from msgd.cli.running import run
from msgd.cli.sample_site import EMAIL, PRICE, SampleSite
from msgd.client import Client
from msgd.config import load
from msgd.errors import ConfigError
from msgd.notifier.auth import make_token, own_secret

FIRST_PORT: Final = 8080
PORTS: Final = 50
"""How many ports are tried for the dashboard before the demo gives up."""

TOKEN_S: Final = 7 * 24 * 3600
SAMPLE_MATCH: Final = (f"price={PRICE}", f"email={EMAIL}")


@click.command()
@click.argument("url", required=False)
@click.option("--match", "regexes", multiple=True, metavar="[NAME=]REGEX", help="What to look for.")
@click.option("--state", "folder", type=click.Path(file_okay=False, path_type=Path), default=Path("var/demo"),
              show_default=True, help="Where its data lie.")  # fmt: skip
@click.option("--once", is_flag=True, help="Leave when the crawl has ended.")
def demo(url: str | None, regexes: tuple[str, ...], folder: Path, once: bool) -> None:
    """Start everything in this process, crawl a sample site (or URL), and stay up with the dashboard until Ctrl-C."""
    run(lambda reactor: _demo(reactor, url, regexes, folder, once))


async def _demo(reactor: Any, url: str | None, regexes: tuple[str, ...], folder: Path, once: bool) -> int:
    folder = _free_folder(folder)
    port = _free_port()
    settings = load(
        None,
        {
            "MSGD_STATE_DIR": str(folder),
            "MSGD_NOTIFIER_LISTEN": f"tcp:{port}:interface=127.0.0.1",
            "MSGD_NETWORK_ALLOW": "127.0.0.0/8, ::1/128",  # the sample site is on loopback
        },
    )
    site = SampleSite(reactor)
    parts = all_in_one(Adapters(settings, reactor, "demo"))
    reactor.addSystemEventTrigger("before", "shutdown", lambda: Deferred.fromCoroutine(parts.stop()))
    if url is None:
        await site.start()
    await parts.start()
    token = make_token(own_secret(Path(settings.secret_file)), sub="demo", can=["admin:#"], ttl_s=TOKEN_S)
    dashboard = f"http://127.0.0.1:{port}/#token={token}"
    client = Client(reactor, f"http://127.0.0.1:{port}", token)
    target = url if url is not None else site.url
    if "://" not in target:
        target = f"http://{target}"
    match = regexes or (() if url else SAMPLE_MATCH)
    given = {"regexes": match, "css": (), "xpath": (), "text": (), "delay": None if url else "0"}
    params = crawl_params(target, {**given, "max_pages": None, "depth": None, "concurrency": None})
    if url is None:
        params["depth"] = site.depth
    job = (await client.submit("crawl", params))["id"]
    say(f"Crawling {target}, job {job}")
    code = await follow_crawl(client, job, target, as_json=False)
    await client.close()
    if not once:
        say("The dashboard is at")
        err.print(dashboard, style="bold cyan", soft_wrap=True)
        say("Press Ctrl-C to leave.", style="dim")
        await Deferred()  # until the reactor stops
    await parts.stop()
    await site.stop()
    return code


def _free_folder(wanted: Path) -> Path:
    """``wanted``, or a folder of its own while another demo holds that one."""
    lock = Lock(wanted.absolute() / BROKER_FILE)
    try:
        lock.take()
    except ConfigError:
        other = Path(tempfile.mkdtemp(prefix="msgd-demo-"))
        say(f"{wanted} is in use by another demo: this one keeps its data in {other}", style="yellow")
        return other
    lock.release()
    return wanted


def _free_port() -> int:
    for port in range(FIRST_PORT, FIRST_PORT + PORTS):
        with _bound(port) as free:
            if free:
                return port
    raise ConfigError(f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1} are all in use")


@contextmanager
def _bound(port: int) -> Iterator[bool]:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            yield False
        else:
            yield True

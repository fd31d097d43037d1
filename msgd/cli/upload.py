"""``msgd upload``: files sent, and the addresses of what is made of them, as it is made."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from msgd.cli.exits import DONE
from msgd.cli.following import Screen, follow
from msgd.cli.output import out, plain, print_json, say
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server
from msgd.client import Client


@click.command()
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option("--no-thumbnails", is_flag=True, help="Keep pictures as they are.")
@click.option("--wait", is_flag=True, help="Print each address when there is something at it.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_server
def upload(server: Server, files: tuple[Path, ...], no_thumbnails: bool, wait: bool, as_json: bool) -> None:
    """Send each FILE and print the addresses at which it and its pictures are.

    Exit code 1: with --wait, some file is no picture that thumbnails can be made of.
    """

    async def command(reactor: Any) -> int:
        client = server.client(reactor)
        made = []
        for file in files:
            made.append(await client.upload(file, thumbnails=not no_thumbnails))
            if not wait:
                _tell(client, made[-1], as_json)
        worst: int = DONE
        for one in made if wait else ():
            worst = await _follow(client, one, as_json) or worst
        return worst

    run(command)


def _tell(client: Client, upload: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(upload)
    else:
        for path in upload["urls"].values():
            out.print(plain(client.url + path))


async def _follow(client: Client, upload: Mapping[str, Any], as_json: bool) -> int:
    """Print the address of each picture as it is made; the exit code."""
    say(f"{upload['name']}: upload {upload['id']}", style="dim")

    def show(screen: Screen, message: Mapping[str, Any]) -> None:
        if message["type"] != "thumbnail":
            return
        if as_json:
            screen.json({"upload": upload["id"], "file": upload["name"], **message["data"]})
        else:
            screen.data(plain(client.url + message["data"]["url"]))

    code = await follow(client, upload["job"], show) if upload["job"] else DONE
    original = {"name": "original", "url": upload["urls"]["original"], "bytes": upload["size"]}
    if as_json:
        print_json({"upload": upload["id"], "file": upload["name"], **original})
    else:
        out.print(plain(client.url + upload["urls"]["original"]))
    return code

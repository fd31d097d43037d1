"""``msgd submit``: a job of any type."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from msgd.cli.following import Bar, follow
from msgd.cli.output import out, print_json, say
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server
from msgd.client import Client


@click.command()
@click.argument("type_", metavar="TYPE")
@click.argument("pairs", metavar="[KEY=VALUE]...", nargs=-1)
@click.option("--json", "source", metavar="FILE|-", help="Params from a JSON file, or from standard input.")
@click.option("--key", default="", help="Idempotency key: the same key gives the same job.")
@click.option("--delay", type=click.FloatRange(min=0), help="Seconds to wait before it begins.")
@click.option("--high", is_flag=True, help="Before jobs of normal priority.")
@click.option("--wait", is_flag=True, help="Show its events to its end, as lines of JSON.")
@pass_server
def submit(
    server: Server, type_: str, pairs: tuple[str, ...], source: str | None, key: str, delay: float | None,
    high: bool, wait: bool,
) -> None:  # fmt: skip
    """Submit a job of TYPE and print its id. VALUE is JSON where it reads as JSON, else text."""
    params = read_params(source) | dict(map(read_pair, pairs))

    async def command(reactor: Any) -> int:
        client = server.client(reactor)
        answer = await client.submit(type_, params, key=key, delay_s=delay, priority="high" if high else "")
        if not wait:
            out.print(answer["id"])
            return 0
        say(f"job {answer['id']}", style="dim")
        return await _wait(client, answer["id"], type_)

    run(command)


async def _wait(client: Client, job: str, label: str) -> int:
    def show(_: str, message: Mapping[str, Any]) -> None:
        print_json({name: message[name] for name in ("type", "seq", "time", "data")})

    return await follow(client, job, bar=Bar(label), show=show)


def read_params(source: str | None) -> dict[str, Any]:
    """The JSON object in a file, or on standard input (``-``); nothing given: an empty one."""
    if source is None:
        return {}
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return msgspec.json.decode(content, type=dict[str, Any])
    except OSError as error:
        raise click.BadParameter(f"{source}: {error.strerror}", param_hint="--json") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise click.BadParameter(f"{source}: not a JSON object: {error}", param_hint="--json") from None


def read_pair(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    try:
        return name, msgspec.json.decode(value.encode())
    except msgspec.DecodeError:
        return name, value

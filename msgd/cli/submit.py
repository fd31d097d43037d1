"""``msgd submit``: a job of any type."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from msgd.cli.exits import DONE
from msgd.cli.following import Screen, follow
from msgd.cli.output import known_by_key, out, say
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server
from msgd.cli.values import json_object, pair


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
    params = (json_object(source) if source else {}) | dict(map(pair, pairs))

    async def command(reactor: Any) -> int:
        client = server.client(reactor)
        answer = await client.submit(type_, params, key=key, delay_s=delay, priority="high" if high else "")
        if "type" in answer:
            say(known_by_key(answer, type_, key), style="yellow")
        if not wait:
            out.print(answer["id"])
            return DONE
        say(f"job {answer['id']}", style="dim")
        return await follow(client, answer["id"], _show)

    run(command)


def _show(screen: Screen, message: Mapping[str, Any]) -> None:
    screen.json({name: message[name] for name in ("type", "seq", "time", "data")})

"""``msgd watch`` and ``msgd publish``."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import click
import msgspec
from rich.markup import escape

from msgd.cli.output import out, print_json, printable, say, when
from msgd.cli.running import DONE, run
from msgd.cli.server import Server, pass_server
from msgd.client import Watch
from msgd.messages.events import ENDS


@click.command()
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@click.option("--since", metavar="CURSOR", help='After that cursor; "0": from the first event kept. Default: from now.')
@click.option("--until-end", is_flag=True, help="Leave when a watched job has ended.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the cursor to resume from.")
@pass_server
def watch(server: Server, topics: tuple[str, ...], since: str | None, until_end: bool, as_json: bool) -> None:
    """Print what happens on topics, such as job.ID, room.kitchen or app.invoice.*, until Ctrl-C."""

    async def command(reactor: Any) -> int:
        watching = Watch(server.client(reactor), topics, since=since, jitter=random.random, patient=False,
                         on_status=_status)  # fmt: skip
        async for message in watching:
            if message.get("op") in ("event", "gap", "state"):
                print_json(message) if as_json else _print(message)
            elif message.get("op") == "subscribed":
                say(f"watching {message['topic']}", style="dim")
            if until_end and message.get("op") == "event" and message["type"] in ENDS:
                await watching.stop()
                break
        return DONE

    run(command)


def _status(text: str) -> None:
    if text != "connected":
        say(text, style="yellow")


def _print(message: Mapping[str, Any]) -> None:
    if message["op"] == "gap":
        lost = message.get("lost")
        say(f"{message['topic']}: {'some' if lost is None else lost} events are not kept any more "
            f"({message['reason']})", style="yellow")  # fmt: skip
    elif message["op"] == "state":
        say(f"{message['topic']}: {message['job']['state']}", style="dim")
    else:
        data = printable(msgspec.json.encode(message["data"]).decode())
        number = "" if message["seq"] is None else f"#{message['seq']}"
        out.print(
            f"[dim]{when(message['time'])}[/dim] {escape(message['topic'])} {number} "
            f"[bold]{escape(printable(message['type']))}[/bold] {escape(data)}"
        )


@click.command()
@click.argument("topic")
@click.argument("type_", metavar="TYPE")
@click.argument("data", required=False)
@click.option("--id", "id_", default="", help="The event's id: repeating it adds nothing.")
@pass_server
def publish(server: Server, topic: str, type_: str, data: str | None, id_: str) -> None:
    """Publish an event of TYPE on TOPIC. DATA is JSON where it reads as JSON, else text."""
    value: Any = None
    if data is not None:
        try:
            value = msgspec.json.decode(data.encode())
        except msgspec.DecodeError:
            value = data

    async def command(reactor: Any) -> int:
        await server.client(reactor).publish(topic, type_, value, id_=id_)
        return DONE

    run(command)

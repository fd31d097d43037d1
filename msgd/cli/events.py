"""``msgd watch`` and ``msgd publish``."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import click
import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from msgd.cli.exits import DONE, JOB_FAILED
from msgd.cli.output import out, plain, print_json, say, when
from msgd.cli.parts import tell_parts
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server
from msgd.cli.values import json_or_text
from msgd.client import Client, Watch
from msgd.jobs.interface import ENDED
from msgd.messages import events


@click.command()
@click.argument("topics", metavar="TOPIC...", nargs=-1, required=True)
@click.option("--since", metavar="CURSOR", help='After that cursor; "0": from the first event kept. Default: from now.')
@click.option("--until-end", is_flag=True, help="Leave when a watched job has ended; code 1 if not with done.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the cursor to resume from.")
@pass_server
def watch(server: Server, topics: tuple[str, ...], since: str | None, until_end: bool, as_json: bool) -> None:
    """Print what happens on topics, such as job.ID, room.kitchen or app.invoice.*, until Ctrl-C."""

    run(lambda reactor: _watch(server.client(reactor), topics, since, until_end, as_json))


async def _watch(client: Client, topics: Sequence[str], since: str | None, until_end: bool, as_json: bool) -> int:
    watching = Watch(client, topics, since=since, jitter=random.random, patient=False, on_status=_status)
    told: set[str] = set()
    beside: dict[str, Deferred[None]] = {}  # by topic
    try:
        async for message in watching:
            if message["op"] == "state" and not as_json:
                _tell_parts(client, message, beside)
            if message["op"] != "subscribed":
                print_json(message) if as_json else _print(message)
            elif message["topic"] not in told:
                told.add(message["topic"])
                say(f"watching {message['topic']}", style="dim")
            if until_end and message["op"] == "event" and message["type"] in events.ENDS:
                return DONE if message["type"] == events.DONE else JOB_FAILED
    finally:
        for telling in beside.values():
            telling.cancel()
        await watching.stop()
    return DONE


def _tell_parts(client: Client, message: Mapping[str, Any], beside: dict[str, Deferred[None]]) -> None:
    """A mail that was split says nothing itself while its parts are at it: what they come to is told in its place."""
    topic, job = message["topic"], message["job"]
    if job["type"] == "mail" and job["state"] not in ENDED and topic not in beside:
        beside[topic] = Deferred.fromCoroutine(tell_parts(client, job["id"], lambda text: say(text, style="dim")))
        beside[topic].addErrback(_ignore_cancel)


def _ignore_cancel(failure: Failure) -> None:
    failure.trap(CancelledError)


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
        number = "" if message["seq"] is None else f" #{message['seq']}"
        data = msgspec.json.encode(message["data"]).decode()
        out.print(
            f"[dim]{when(message['time'])}[/dim] {plain(message['topic'])}{number} "
            f"[bold]{plain(message['type'])}[/bold] {plain(data)}"
        )


@click.command()
@click.argument("topic")
@click.argument("type_", metavar="TYPE")
@click.argument("data", required=False)
@click.option("--id", "id_", default="", help="The event's id: repeating it adds nothing.")
@click.option("--json", "as_json", is_flag=True, help="The server's answer, as one line of JSON.")
@pass_server
def publish(server: Server, topic: str, type_: str, data: str | None, id_: str, as_json: bool) -> None:
    """Publish an event of TYPE on TOPIC and print its id. DATA is JSON where it reads as JSON, else text.

    What begins with "{" must be JSON: it is refused rather than sent as text.
    """
    content = None if data is None else json_or_text(data)
    if isinstance(content, str) and data is not None and data.lstrip().startswith("{"):
        raise click.BadParameter("not a JSON object; are its names and texts in double quotes?", param_hint="DATA")

    async def command(reactor: Any) -> int:
        answer = await server.client(reactor).publish(topic, type_, content, id_=id_)
        print_json(answer) if as_json else out.print(plain(answer["id"]))
        return DONE

    run(command)

"""``msgd mail``: a mail or a newsletter sent, and how far it is; its pause, its recipients."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from twisted.internet.defer import CancelledError

from msgd.cli.exits import DONE, JOB_FAILED
from msgd.cli.following import Screen, follow
from msgd.cli.output import known_by_key, out, plain, print_json, say, table
from msgd.cli.parts import LOOK_S, whole_progress
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server
from msgd.cli.values import pair
from msgd.client import Client
from msgd.clock import sleep
from msgd.errors import Conflict, MsgdError

STATES: Final = ("sent", "sending", "queued", "deferred", "bounced", "suppressed", "unknown")
MISSED: Final = ("bounced", "unknown")
"""Who has not got it, or perhaps not, though they would."""

_STYLES: Final = {"sent": "green", "bounced": "red", "unknown": "red", "deferred": "yellow", "suppressed": "yellow"}


@click.group(invoke_without_command=True)
@click.option("--to", "to", multiple=True, metavar="ADDRESS", help='Somebody: "anna@example.com", or with a name.')
@click.option(
    "--csv", "csv_file", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A list: a column email, perhaps name, and one for each variable.",
)  # fmt: skip
@click.option("--subject", metavar="TEMPLATE", help="{{ name }} stands for the recipient's name, here and below.")
@click.option("--text", metavar="FILE|-", help="The text, a template, from a file or from standard input.")
@click.option("--html", metavar="FILE|-", help="The HTML, beside the text or in its place.")
@click.option("--template", metavar="NAME", help="Instead: a template in the mailer's folder.")
@click.option("--var", "pairs", multiple=True, metavar="KEY=VALUE", help="A variable, for everybody named by --to.")
@click.option(
    "--attach", "files", multiple=True, type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file that goes along.",
)  # fmt: skip
@click.option("--from", "sender", metavar="ADDRESS", help="Whom it is from.  [default: as configured]")
@click.option("--no-unsubscribe", is_flag=True, help="Without the address by which one leaves the list.")
@click.option("--key", default="", help="Idempotency key: the same key gives the same mail.")
@click.option("--json", "as_json", is_flag=True, help="Each recipient as a line of JSON, at the end.")
@click.option("--detach", is_flag=True, help="Print the job's id and leave it running.")
@pass_server
def mail(server: Server, /, **given: Any) -> None:
    """Mail something to somebody, or a newsletter to thousands, each recipient once.

    Prints who has not got it. Exit code 1: the job failed, or a mail bounced, or nobody knows whether it was taken;
    who wants no mail (suppressed) counts as done. Ctrl-C leaves it running.
    """
    if click.get_current_context().invoked_subcommand is not None:
        return
    params = mail_params(given)

    async def command(reactor: Any) -> int:
        client = server.client(reactor)
        if given["csv_file"] is not None:
            params["to"] = {"upload": await _sent(client, given["csv_file"])}
        if given["files"]:
            params["attachments"] = [await _sent(client, file) for file in given["files"]]
        answer = await client.submit("mail", params, key=given["key"])
        if "type" in answer:
            raise Conflict(known_by_key(answer, "mail", given["key"]))
        job = answer["id"]
        if given["detach"]:
            out.print(job)
            return DONE
        return await _follow(client, job, given["as_json"])

    run(command)


def mail_params(given: Mapping[str, Any]) -> dict[str, Any]:
    """The job's params from the command's options, but for what is uploaded. Raises UsageError."""
    if bool(given["to"]) == (given["csv_file"] is not None):
        raise click.UsageError("Say to whom: with --to, or with a list in --csv.")
    if given["csv_file"] is not None and given["pairs"]:
        raise click.UsageError("--var is for --to: a list has its variables in its columns.")
    if not (given["text"] or given["html"] or given["template"]):
        raise click.UsageError("Say what: with --text, --html or --template.")
    if given["subject"] is None and not given["template"]:
        raise click.UsageError("Give it a --subject.")
    if given["text"] == given["html"] == "-":
        raise click.UsageError("Standard input can be --text or --html, not both.")
    params: dict[str, Any] = {"subject": given["subject"] or ""}
    params |= {name: _read(given[name], f"--{name}") for name in ("text", "html") if given[name]}
    params |= {"template": given["template"]} if given["template"] else {}
    params |= {"from": given["sender"]} if given["sender"] else {}
    params |= {"unsubscribe": False} if given["no_unsubscribe"] else {}
    variables = dict(map(pair, given["pairs"]))
    params["to"] = [recipient(one) | ({"vars": variables} if variables else {}) for one in given["to"]]
    return params


def recipient(text: str) -> dict[str, Any]:
    """``Anna Bell <anna@example.com>``, or the address alone, as the job takes it; the server knows what is one."""
    name, bracket, rest = text.rpartition("<")
    if not bracket:
        return {"email": text.strip()}
    return {"email": rest.strip().removesuffix(">").strip(), "name": name.strip().strip('"')}


def _read(source: str, option: str) -> str:
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return content.decode("utf-8-sig")
    except OSError as error:
        raise click.BadParameter(f"{source}: {error.strerror}", param_hint=option) from None
    except UnicodeDecodeError:
        raise click.BadParameter(f"{source}: it is not UTF-8", param_hint=option) from None


async def _sent(client: Client, file: Path) -> str:
    """The id of a file that is uploaded as it is."""
    return str((await client.upload(file, thumbnails=False))["id"])


# -- how far it is ---------------------------------------------------------------------------------------------------


async def _follow(client: Client, job: str, as_json: bool) -> int:
    """Show a mail to its end: a bar with how many are in each state, then who has not got it; the exit code."""
    say(f"job {job}", style="dim")
    try:
        code = await follow(client, job, _ignore, figures=_figures, beside=lambda screen: _look(client, job, screen))
    except CancelledError:
        say(f"The mail goes on. See it with: msgd mail follow {job}")
        say(f"Hold it: msgd mail pause {job}; its end: msgd jobs cancel {job}")
        raise
    states = (await client.mail(job))["states"]
    wanted = () if as_json else ("bounced", "suppressed", "unknown")
    if as_json or any(states.get(state) for state in wanted):
        await _print(client, job, wanted, as_json)
    if code == DONE:
        say(f"done: {told(states)}", style="green")
    return JOB_FAILED if any(states.get(state) for state in MISSED) else code


def _ignore(screen: Screen, message: Mapping[str, Any]) -> None:
    """An event of one recipient: they are counted, and looked up at the end."""


def _figures(progress: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands beside the bar: the states, in their order, in place of the object that holds them."""
    states = progress.get("states")
    if not isinstance(states, dict):
        return progress
    rest = {name: one for name, one in progress.items() if name != "states"}
    return rest | {state: states[state] for state in STATES if state in states}


async def _look(client: Client, job: str, screen: Screen) -> None:
    """Show now and then how far all parts of a mail are: each tells only of itself."""
    while True:
        await sleep(client.reactor, LOOK_S)
        try:
            mail = await client.mail(job)
        except MsgdError:
            continue  # whoever follows the job tells that the server is away
        screen.progress(_figures(whole_progress(mail)))


def told(states: Mapping[str, int]) -> str:
    """How many are in each state, in a line."""
    return ", ".join(f"{states[state]:,} {state}" for state in STATES if states.get(state)) or "no recipients"


async def _print(client: Client, job: str, states: Sequence[str], as_json: bool) -> None:
    async for one in client.recipients(job, states):
        if as_json:
            print_json(one)
        else:
            out.print(_line(one))


def _line(one: Mapping[str, Any]) -> str:
    style = _STYLES.get(one["state"])
    state = plain(f"{one['state']:<10}")
    reply = " ".join(str(part) for part in (one["code"], one["reply"]) if part)
    return "  ".join([f"[{style}]{state}[/{style}]" if style else state, plain(one["email"]), plain(reply)]).rstrip()


# -- a mail that is there --------------------------------------------------------------------------------------------


@mail.command("follow")
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="Each recipient as a line of JSON, at the end.")
@pass_server
def follow_(server: Server, job: str, as_json: bool) -> None:
    """Show the mail JOB to its end, as msgd mail does that sent it."""
    run(lambda reactor: _follow(server.client(reactor), job, as_json))


@mail.command()
@click.argument("job")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@pass_server
def show(server: Server, job: str, as_json: bool) -> None:
    """How many recipients of the mail JOB are in each state."""

    async def command(reactor: Any) -> int:
        found = await server.client(reactor).mail(job)
        if as_json:
            print_json(found)
            return DONE
        states = found["states"]
        table(("STATE", "RECIPIENTS"), [(state, f"{states[state]:,}") for state in STATES if states.get(state)])
        for condition, words in ((found["paused"], "paused"), (not found["complete"], "its recipients are being read")):
            if condition:
                say(words, style="yellow")
        return DONE

    run(command)


@mail.command()
@click.argument("job")
@pass_server
def pause(server: Server, job: str) -> None:
    """Send nothing more of the mail JOB for a while."""
    _hold(server, job, paused=True)


@mail.command()
@click.argument("job")
@pass_server
def resume(server: Server, job: str) -> None:
    """Let the mail JOB go on."""
    _hold(server, job, paused=False)


def _hold(server: Server, job: str, *, paused: bool) -> None:
    async def command(reactor: Any) -> int:
        found = await server.client(reactor).hold_mail(job, paused)
        out.print("paused" if found["paused"] else "going on")
        return DONE

    run(command)


@mail.command()
@click.argument("job")
@click.option("--state", "states", multiple=True, type=click.Choice(STATES), help="Only those; may be repeated.")
@click.option("--format", "format_", type=click.Choice(["lines", "ndjson", "csv"]), default="lines", show_default=True)
@pass_server
def recipients(server: Server, job: str, states: Iterable[str], format_: str) -> None:
    """Who has the mail JOB and who has not, to stdout."""

    async def command(reactor: Any) -> int:
        client = server.client(reactor)
        if format_ == "csv":
            async for piece in client.export_recipients(job, tuple(states)):
                sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
        else:
            await _print(client, job, tuple(states), format_ == "ndjson")
        return DONE

    run(command)

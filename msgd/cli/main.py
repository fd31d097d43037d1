"""The ``msgd`` command and its options. A command's module is imported when it is called for: most need Twisted."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

import click

from msgd import __version__
from msgd.cli.exits import SIGNALLED, exit_code, explain
from msgd.cli.server import Server
from msgd.errors import MsgdError

COMMANDS: Final[Mapping[str, tuple[str, str]]] = {
    "crawl": ("crawl", "Crawl the site at URL and print what matches, as it is found."),
    "submit": ("submit", "Submit a job of TYPE and print its id."),
    "upload": ("upload", "Send each FILE and print the addresses at which it and its pictures are."),
    "mail": ("mail", "Mail something to somebody, or a newsletter to thousands, each recipient once."),
    "jobs": ("jobs", "List, show, cancel and run jobs again, take their results."),
    "watch": ("events", "Print what happens on topics, such as job.ID, room.kitchen or app.invoice.*."),
    "publish": ("events", "Publish an event of TYPE on TOPIC."),
    "rooms": ("rooms", "List, create, show and delete rooms; join and leave them."),
    "dead": ("dead", "List, show, requeue and drop dead letters: messages that nothing could be done with."),
    "types": ("types", "List the job types that workers perform; pause and resume one."),
    "token": ("token", "Print a token for SUB."),
    "check": ("check", "Check the configuration, and ask each server that it names."),
    "demo": ("demo", "Start everything in this process, crawl a sample site (or URL), show the dashboard."),
}
"""Each command's module and what it does, in the order of the help text."""


class Commands(click.Group):
    """The commands of the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command itself, imported."""
        if cmd_name not in COMMANDS:
            return None
        module: Any = import_module(f"msgd.cli.{COMMANDS[cmd_name][0]}")
        found: click.Command = getattr(module, cmd_name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What each does, out of the table: nothing is imported to be listed."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", metavar="FILE", help="Configuration file.  [default: $MSGD_CONFIG, or none]")
@click.option("--url", metavar="URL", help="The server to talk to.  [default: $MSGD_URL, or what is configured]")
@click.option("--token", metavar="T", help="The token to show it.  [default: $MSGD_TOKEN, or one of our own]")
@click.option(
    "--ca-file",
    metavar="PEM",
    default="",
    envvar="MSGD_CA_FILE",
    help="What an https server's certificate is from.  [default: $MSGD_CA_FILE, or what this machine trusts]",
)
@click.option(
    "--clear-text", is_flag=True, envvar="MSGD_CLEAR_TEXT", help="Show the token to another machine over http too."
)
@click.version_option(__version__, prog_name="msgd")
@click.pass_context
def command(
    context: click.Context, config: str | None, url: str | None, token: str | None, ca_file: str, clear_text: bool
) -> None:
    """Give any web application a background and a voice.

    Exit codes: 0 done, 1 the job failed, 2 wrong usage or input, 3 the server could not be reached, 4 not allowed.
    """
    context.obj = Server(config, url, token, ca_file=ca_file, clear_text=clear_text)


def main() -> None:
    """The console script."""
    try:
        sys.exit(command.main(prog_name="msgd", standalone_mode=False))
    except MsgdError as error:
        explain(error)
        sys.exit(exit_code(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(SIGNALLED + signal.SIGINT)

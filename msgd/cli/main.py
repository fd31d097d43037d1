"""The ``msgd`` command and its options."""

from __future__ import annotations

import sys

import click

from msgd import __version__
from msgd.cli.check import check
from msgd.cli.crawl import crawl
from msgd.cli.demo import demo
from msgd.cli.events import publish, watch
from msgd.cli.jobs import jobs
from msgd.cli.running import exit_code, explain
from msgd.cli.server import Server
from msgd.cli.submit import submit
from msgd.cli.token import token
from msgd.errors import MsgdError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option("--config", metavar="FILE", help="Configuration file.  [default: $MSGD_CONFIG, or none]")
@click.option("--url", metavar="URL", help="The server to talk to.  [default: $MSGD_URL, or what is configured]")
@click.option("--token", metavar="T", help="The token to show it.  [default: $MSGD_TOKEN, or one of our own]")
@click.version_option(__version__, prog_name="msgd")
@click.pass_context
def command(context: click.Context, config: str | None, url: str | None, token: str | None) -> None:
    """Give any web application a background and a voice.

    Exit codes: 0 done, 1 the job failed, 2 wrong usage or input, 3 the server could not be reached, 4 not allowed.
    """
    context.obj = Server(config, url, token)


for each in (crawl, submit, watch, publish, jobs, token, check, demo):
    command.add_command(each)


def main() -> None:
    """The console script."""
    try:
        command(prog_name="msgd")
    except MsgdError as error:
        explain(error)
        sys.exit(exit_code(error))

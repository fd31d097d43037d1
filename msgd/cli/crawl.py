"""``msgd crawl``: submit a crawl, show its results as they come, keep them as CSV."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import click
from twisted.internet.defer import CancelledError

from msgd.cli.exits import DONE
from msgd.cli.following import Screen, follow
from msgd.cli.output import out, result_line, say
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server
from msgd.client import Client
from msgd.errors import ConfigError
from msgd.services.crawler.urls import address

_NAMED: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_-]*)=(.*)", re.DOTALL)
_LIMITS: Final = {"max_pages": "the most pages it may take", "max_seconds": "the most seconds it may take"}
_ATTRIBUTE: Final = re.compile(r"(.*)::attr\(([\w:-]+)\)", re.DOTALL)


def criterion(kind: str, text: str) -> dict[str, str]:
    """``[NAME=]EXPRESSION`` as a ``match`` entry; ``SELECTOR::attr(href)`` takes an attribute instead of the text."""
    named = _NAMED.fullmatch(text)
    entry = {"name": named[1], kind: named[2]} if named else {kind: text}
    attribute = _ATTRIBUTE.fullmatch(entry[kind]) if kind == "css" else None
    if attribute:
        entry |= {kind: attribute[1], "attr": attribute[2]}
    return entry


@click.command()
@click.argument("url")
@click.option("--match", "regexes", multiple=True, metavar="[NAME=]REGEX", help="Regular expression over the text.")
@click.option("--css", multiple=True, metavar="[NAME=]SELECTOR", help="CSS selector; ::attr(NAME) takes an attribute.")
@click.option("--xpath", multiple=True, metavar="[NAME=]XPATH", help="XPath expression.")
@click.option("--text", multiple=True, metavar="[NAME=]WORDS", help="Plain words, in any case.")
@click.option("--max-pages", type=click.IntRange(min=1), help="Stop after this many pages.  [default: 1000]")
@click.option("--depth", type=click.IntRange(min=0), help="Follow links this deep.  [default: 5]")
@click.option("--delay", help='Seconds between requests to a host, or "auto".  [default: auto]')
@click.option("--concurrency", type=click.IntRange(min=1), help="Requests at once.  [default: 8]")
@click.option("--csv", "csv_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the results there.")
@click.option("--json", "as_json", is_flag=True, help="Results as lines of JSON.")
@click.option("--detach", is_flag=True, help="Print the job's id and leave it running.")
@pass_server
def crawl(server: Server, /, url: str, csv_file: Path | None, as_json: bool, detach: bool, **given: Any) -> None:
    """Crawl the site at URL and print what matches, as it is found.

    Ctrl-C leaves the crawl running: msgd watch and msgd jobs cancel go on from there.
    """
    if csv_file is not None:
        check_writable(csv_file)
    params = crawl_params(start_url(url), given)
    run(lambda reactor: _crawl(server.client(reactor), params, csv_file, as_json, detach))


def start_url(text: str) -> str:
    """The address that was typed; http:// may be left out, as in a browser. Raises BadParameter for what is none.

    A word without a dot is refused, though a host may be called so: far more often it is a slip.
    """
    url = text if "://" in text else f"http://{text}"
    if address(url) is None:
        raise click.BadParameter(f"{text!r} is no address of a page, such as https://example.com/", param_hint="URL")
    host = urlsplit(url).netloc
    if url != text and not re.search("[.:]", host) and host != "localhost":
        raise click.BadParameter(
            f"{text!r} is no address of a page, such as https://example.com/ (a host of that name here: {url})",
            param_hint="URL",
        )
    return url


def crawl_params(url: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The job's params from the command's options; what was not given is left to the server."""
    match = [
        criterion(kind, text)
        for option, kind in (("regexes", "regex"), ("css", "css"), ("xpath", "xpath"), ("text", "text"))
        for text in given[option]
    ]
    params: dict[str, Any] = {"url": url, "match": match}
    params |= {name: given[name] for name in ("max_pages", "depth", "concurrency") if given[name] is not None}
    if given["delay"] is not None:
        try:
            params["delay"] = given["delay"] if given["delay"] == "auto" else float(given["delay"])
        except ValueError:
            raise click.BadParameter('a number of seconds, or "auto"', param_hint="--delay") from None
    return params


async def _crawl(client: Client, params: dict[str, Any], csv_file: Path | None, as_json: bool, detach: bool) -> int:
    job = (await client.submit("crawl", params))["id"]
    if detach:
        out.print(job)
        return DONE
    say(f"job {job}", style="dim")
    try:
        code = await follow_crawl(client, job, as_json=as_json)
    except CancelledError:
        say(f"The crawl goes on. See it with: msgd watch job.{job} --since 0")
        say(f"Its results so far: msgd jobs results {job}; its end: msgd jobs cancel {job}")
        raise
    if csv_file is not None:
        await write_csv(client, job, csv_file)
    return code


async def follow_crawl(client: Client, job: str, *, as_json: bool) -> int:
    """Show a crawl to its end: results to stdout, a bar and a summary to stderr; returns the exit code."""
    summary: dict[str, Any] = {}

    def show(screen: Screen, message: Mapping[str, Any]) -> None:
        type_, data = message["type"], message["data"]
        if type_ == "result":
            if as_json:
                screen.json({**data, "seq": message["seq"], "time": message["time"]})
            else:
                screen.data(result_line(data))
        elif type_ == "page" and data.get("error"):
            screen.note(f"{data['url']}: {data['error']}")
        elif type_ == "done":
            summary.update(data["result"])

    code = await follow(client, job, show)
    if code == DONE:
        say(f"done: {told(summary)}", style="green")
    return code


def told(summary: Mapping[str, Any]) -> str:
    """What came of a crawl, in a line."""
    counts = [
        f"{summary[name]:,} {name if summary[name] != 1 else name[:-1]}"
        for name in ("pages", "errors", "results", "redirects")
        if summary.get(name) or name in ("pages", "results")
    ]
    limit = _LIMITS.get(summary.get("ended", ""))
    return ", ".join(counts) + f" in {summary['seconds']:,} s" + (f"; it stopped at {limit}" if limit else "")


def check_writable(path: Path) -> None:
    """Raises ConfigError if a file cannot be written: better now than after a crawl of hours."""
    there = path.exists()
    try:
        path.open("ab").close()
    except OSError as error:
        raise _unwritable(path, error) from None
    if not there:
        path.unlink()


async def write_csv(client: Client, job: str, path: Path) -> None:
    """Save the job's results as CSV. Raises ConfigError if the file cannot be written."""
    try:
        with path.open("wb") as file:
            async for piece in client.export(job, "csv"):
                file.write(piece)
    except OSError as error:
        raise _unwritable(path, error) from None
    say(f"The results are in {path}")


def _unwritable(path: Path, error: OSError) -> ConfigError:
    return ConfigError(f"{path} cannot be written: {error.strerror}", where=str(path))

"""``msgd rooms``: places to talk in, on topics ``room.NAME``."""

from __future__ import annotations

from typing import Any

import click

from msgd.cli.exits import DONE
from msgd.cli.output import out, pairs, plain, print_json, say, table, value, when
from msgd.cli.running import run
from msgd.cli.server import Server, pass_server


@click.group()
def rooms() -> None:
    """List, create, show and delete rooms; join and leave them."""


@rooms.command("list")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 1000), help="How many at most.")
@click.option("--after", default="", metavar="NAME", help="Only rooms whose names come after this one.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@pass_server
def list_(server: Server, limit: int, after: str, as_json: bool) -> None:
    """Rooms by name: those that one may read."""

    async def command(reactor: Any) -> int:
        page = await server.client(reactor).rooms(limit=limit, **({"after": after} if after else {}))
        found = page["rooms"]
        if as_json:
            for room in found:
                print_json(room)
            return DONE
        if found:
            rows = [
                (
                    plain(room["name"]),
                    "private" if room["private"] else "public",
                    "yes" if room["member"] else "",
                    str(room["present"]),
                    plain(room["title"]),
                )
                for room in found
            ]
            table(("NAME", "DOOR", "MEMBER", "PRESENT", "TITLE"), rows)
        else:
            say("no rooms")
        if page["next"]:
            say(f"more with --after {page['next']}", style="dim")
        return DONE

    run(command)


@rooms.command()
@click.argument("name")
@click.option("--title", default="", help="A line.")
@click.option("--description", default="", help="A page.")
@click.option("--private", is_flag=True, help="Only members may read and write.")
@click.option("--member", "members", multiple=True, metavar="SUB", help="A member beside oneself; several times.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@pass_server
def create(
    server: Server, name: str, title: str, description: str, private: bool, members: tuple[str, ...], as_json: bool
) -> None:
    """Make the room NAME, one's own."""

    async def command(reactor: Any) -> int:
        room = await server.client(reactor).create_room(
            name, title=title, description=description, private=private, members=list(members)
        )
        print_json(room) if as_json else out.print(f"{plain(room['topic'])} created")
        return DONE

    run(command)


@rooms.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON.")
@pass_server
def show(server: Server, name: str, as_json: bool) -> None:
    """Everything about the room NAME, with its first members."""

    async def command(reactor: Any) -> int:
        room = await server.client(reactor).room(name)
        if as_json:
            print_json(room)
        else:
            room["members"] = ", ".join(room["members"])
            pairs([(key, plain(when(one) if key == "created" else value(one))) for key, one in room.items()])
        return DONE

    run(command)


@rooms.command()
@click.argument("name")
@click.option("--keep-history", is_flag=True, help="Delete the room only, not what was said there.")
@pass_server
def delete(server: Server, name: str, keep_history: bool) -> None:
    """Delete the room NAME, and what was said there."""

    async def command(reactor: Any) -> int:
        await server.client(reactor).delete_room(name, keep_history=keep_history)
        out.print(f"room.{plain(name)} deleted")
        return DONE

    run(command)


@rooms.command()
@click.argument("name")
@click.argument("sub", default="")
@pass_server
def join(server: Server, name: str, sub: str) -> None:
    """Join the room NAME, or put SUB into one's own."""

    async def command(reactor: Any) -> int:
        await server.client(reactor).join_room(name, sub)
        out.print(f"{plain(sub) or 'you'} in room.{plain(name)}")
        return DONE

    run(command)


@rooms.command()
@click.argument("name")
@click.argument("sub", default="")
@pass_server
def leave(server: Server, name: str, sub: str) -> None:
    """Leave the room NAME, or put SUB out of one's own."""

    async def command(reactor: Any) -> int:
        await server.client(reactor).leave_room(name, sub)
        out.print(f"{plain(sub) or 'you'} out of room.{plain(name)}")
        return DONE

    run(command)

"""Another XMPP client, of an independent make (slixmpp), as a process: ``python -m tests.servers.xmpp_peer``.

It says what it hears as JSON lines, and does what it is told by such lines: ``{"say": …, "to": …}``, ``{"join": …}``.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from slixmpp import ClientXMPP
from slixmpp.stanza import Message

from tests.servers.prosody import PASSWORD, Prosody

ROOT: Final = Path(__file__).resolve().parents[2]
NICK: Final = "peer"


def _tell(**fields: Any) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


class Client(ClientXMPP):
    """The client, in its process."""

    def __init__(self, jid: str, ca_file: str, host: str, port: int) -> None:
        super().__init__(jid, PASSWORD)
        self.ca_certs = Path(ca_file)
        self._where = (host, port)
        self.register_plugin("xep_0004")
        self.register_plugin("xep_0045")
        self.register_plugin("xep_0203")
        self.register_plugin("xep_0359")
        self.add_event_handler("session_start", self._started)
        self.add_event_handler("message", self._heard)
        self.add_event_handler("disconnected", self._gone)
        self.add_event_handler("presence_subscribed", lambda stanza: _tell(subscribed=str(stanza["from"])))
        self.add_event_handler("presence_unsubscribed", lambda stanza: _tell(unsubscribed=str(stanza["from"])))

    def begin(self) -> None:
        """Connect, again and again."""
        self.connect(*self._where)

    async def _started(self, _: object) -> None:
        self.send_presence()
        await self.get_roster()
        _tell(online=str(self.boundjid))

    def _gone(self, _: object) -> None:
        _tell(offline=True)
        asyncio.get_event_loop().call_later(0.2, self.begin)

    def _heard(self, stanza: Message) -> None:
        _tell(
            heard=stanza["body"],
            sender=str(stanza["from"]),
            type=stanza["type"],
            id=stanza["id"],
            origin=stanza["origin_id"]["id"],
            late="delay" in stanza,
        )

    async def obey(self, order: dict[str, Any]) -> None:
        """Do what a line says."""
        if "join" in order:
            await self.plugin["xep_0045"].join_muc_wait(order["join"], NICK, maxstanzas=0)
            if order.get("open"):  # a new room is locked until its owner accepts how it is
                await self.plugin["xep_0045"].set_room_config(
                    order["join"], config=self.plugin["xep_0004"].make_form("submit")
                )
            _tell(joined=order["join"])
        elif "kick" in order:
            await self.plugin["xep_0045"].set_role(order["kick"], order["nick"], "none")
            _tell(kicked=order["nick"])
        elif "subscribe" in order:
            self.send_presence_subscription(order["subscribe"])
        elif "raw" in order:
            self.send_raw(order["raw"])
        else:
            self.send_message(order["to"], order["say"], mtype=order.get("type", "chat"))


async def _main(jid: str, ca_file: str, host: str, port: str) -> None:
    client = Client(jid, ca_file, host, int(port))
    client.begin()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        await client.obey(json.loads(line))


class HasCleanup(Protocol):
    """A test case."""

    def addCleanup(self, f: Callable[..., object], /, *args: object) -> object: ...


class Peer:
    """That process, seen from a test."""

    def __init__(self, server: Prosody, account: str) -> None:
        host, _, port = server.server.partition(":")
        self.jid = f"{account}@localhost"
        self.said: list[dict[str, Any]] = []
        self.changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, self.jid, str(server.ca_file), host, port],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self.changed:
                self.said.append(json.loads(line))
                self.changed.notify_all()

    def order(self, **order: Any) -> None:
        """Have it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()

    def until(self, condition: Callable[[dict[str, Any]], object], *, seconds: float = 180.0) -> dict[str, Any]:
        """The first of what it said that fulfils the condition. Blocks."""
        with self.changed:
            assert self.changed.wait_for(lambda: any(map(condition, self.said)), seconds), self.said
            return next(filter(condition, self.said))

    def heard(self, body: str) -> list[dict[str, Any]]:
        """All messages of that text, so far."""
        return [one for one in list(self.said) if one.get("heard") == body]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reading.join()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def peer(case: HasCleanup, server: Prosody, account: str) -> Peer:
    """A client that is online, ended with the test. Blocks until then."""
    made = Peer(server, account)
    case.addCleanup(made.close)
    made.until(lambda one: "online" in one)
    return made


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))

"""permessage-deflate (RFC 7692), with a client that knows nothing of ours: PyPI's ``websockets``."""

from __future__ import annotations

import json
import zlib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase
from websockets.sync.client import ClientConnection, connect

from msgd.config.settings import Notifier as Settings
from msgd.notifier import items
from msgd.notifier.deflate import AGREED, WINDOW_BITS, deflated, suits
from msgd.notifier.limits import FRAME_BYTES
from msgd.notifier.reader import Reader
from tests.notifier.world import World, WorldCase, pause, token
from tests.stories.hostile import Peer, frame

PATIENCE_S = 60.0


class OffersTest(SynchronousTestCase):
    """What is an offer that suits us."""

    def test_offers(self) -> None:
        """What browsers offer suits; what asks for a smaller window, is unknown, or is malformed, does not."""
        for offer in (
            "permessage-deflate",
            "permessage-deflate; client_max_window_bits",
            "x-other, permessage-deflate; server_max_window_bits=9, permessage-deflate",
            'permessage-deflate; server_max_window_bits="15"; client_max_window_bits=8; client_no_context_takeover',
        ):
            self.assertTrue(suits(offer), offer)
        for offer in (
            "",
            ",;,",
            "permessage-bzip2",
            f"permessage-deflate; server_max_window_bits={WINDOW_BITS - 1}",
            "permessage-deflate; server_max_window_bits",
            "permessage-deflate; server_max_window_bits=16",
            "permessage-deflate; server_max_window_bits=-12",
            "permessage-deflate; client_max_window_bits=7",
            "permessage-deflate; server_no_context_takeover=1",
            "permessage-deflate; client_max_window_bits; client_max_window_bits",
            "permessage-deflate; fast",
        ):
            self.assertFalse(suits(offer), offer)

    @given(st.text())
    def test_any_text(self, offers: str) -> None:
        """Nothing that stands there is a reason to fail."""
        self.assertIn(suits(offers), (True, False))

    @given(st.binary(max_size=10_000))
    def test_round_trip(self, payload: bytes) -> None:
        """What is compressed can be read with the window that was agreed."""
        inflate = zlib.decompressobj(-WINDOW_BITS)
        self.assertEqual(inflate.decompress(deflated(payload) + b"\x00\x00\xff\xff"), payload)


class CompressionTest(WorldCase):
    """Clients in threads, which block."""

    async def world(self, compress: bool = True) -> World:  # type: ignore[override]  # another argument than the base's
        return await super().world(Settings(compress=compress))

    async def client(self, world: World, compression: str | None = "deflate") -> ClientConnection:
        made = await deferToThread(connected, world.port, compression)
        self.addCleanup(deferToThread, made.close)
        await self.next(made, "welcome")
        return made

    async def next(self, client: ClientConnection, op: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(await deferToThread(client.recv, PATIENCE_S))
            if message["op"] == op:
                return message

    async def subscribed(self, client: ClientConnection) -> None:
        await deferToThread(client.send, json.dumps({"op": "subscribe", "topic": "room.a", "since": "0"}))
        await self.next(client, "subscribed")

    async def live(self, world: World, count: int) -> None:
        """Returns when so many are shown what happens as it happens: who has yet to be bound, or to see that it has
        missed nothing, reads it from the journal, by itself."""
        while [one.live for one in world.notifier._feed._audience if isinstance(one, Reader)] != [True] * count:
            await pause(0.01)

    async def test_compressed_once(self) -> None:
        """Those who offer it have each event compressed, once for all of them; the others have it as ever."""
        world = await self.world()
        count = 0

        def counted(payload: bytes) -> bytes:
            nonlocal count
            count += 1
            return deflated(payload)

        self.patch(items, "deflated", counted)
        clients = [await self.client(world) for _ in range(3)] + [await self.client(world, None)]
        answers = [client.response.headers.get("Sec-WebSocket-Extensions") for client in clients if client.response]
        self.assertEqual(answers, [AGREED] * 3 + [None])
        for client in clients:
            await self.subscribed(client)
        await self.live(world, len(clients))
        text = "the same words again and again " * 50
        for number in range(5):
            await world.scribe.record([world.event("room.a", data=[number, text])])
            for client in clients:
                self.assertEqual((await self.next(client, "event"))["data"], [number, text])
        self.assertEqual(count, 5)

    async def test_shorter(self) -> None:
        """It is less to send; what would not be shorter is sent as it is."""
        self.assertLess(len(items.deflated_frame(b"word " * 100)), 40)
        self.assertEqual(items.deflated_frame(b"{}"), items.text_frame(b"{}"))

    async def test_from_the_client(self) -> None:
        """What clients send compressed is understood."""
        world = await self.world()
        await world.scribe.listen()
        client = await self.client(world)
        await self.subscribed(client)
        said = {"op": "publish", "topic": "room.a", "type": "said", "data": "words " * 5000, "id": "1"}
        await deferToThread(client.send, json.dumps(said))
        self.assertEqual((await self.next(client, "event"))["data"], said["data"])

    async def test_too_much_comes_of_it(self) -> None:
        """A small message that would become a large one ends the connection with 1009; one that is no such thing with
        1007."""
        world = await self.world()
        for payload, code in ((deflated(b" " * 100 * FRAME_BYTES), 1009), (b"\xff" * 20, 1007)):
            self.assertLess(len(payload), FRAME_BYTES)
            self.assertEqual(await deferToThread(closes, world.port, token(), frame(payload, reserved=4)), code)

    async def test_not_unless_it_is_set(self) -> None:
        """By default no extension is agreed on."""
        world = await self.world(compress=False)
        client = await self.client(world)
        assert client.response is not None
        self.assertNotIn("Sec-WebSocket-Extensions", client.response.headers)
        await self.subscribed(client)
        await world.scribe.record([world.event("room.a", data=1)])
        self.assertEqual((await self.next(client, "event"))["data"], 1)


def closes(port: int, given: str, data: bytes) -> int:
    """With which code a connection that has agreed on compression ends after ``data``."""
    with Peer(port) as peer:
        peer.open(given, "Sec-WebSocket-Extensions: permessage-deflate")
        assert peer.message()["op"] == "welcome"
        return peer.send(data).closed()


def connected(port: int, compression: str | None) -> ClientConnection:
    """A client that offers to take messages compressed, or not."""
    return connect(
        f"ws://127.0.0.1:{port}/ws", subprotocols=["msgd.v1"],  # type: ignore[list-item]  # it wants a NewType of str
        compression=compression, additional_headers={"Authorization": f"Bearer {token()}"}, proxy=None, open_timeout=60,
    )  # fmt: skip

"""Several who are shown the same, over real WebSockets: one wave to all of them, and who is not in it."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

from msgd.notifier import squads
from msgd.notifier.items import text_frame
from msgd.notifier.wave import send_each
from tests.notifier.socket import Client
from tests.notifier.test_websocket import SocketCase
from tests.notifier.world import World, pause


class TogetherTest(SocketCase):
    """Several who are shown the same are sent it in one wave, as long as each has a socket to be sent to."""

    async def gather(self, world: World) -> list[Client]:
        """Three in one squad; ``self.waves`` are the descriptors of each wave from then on."""
        clients = [await self.client(world) for _ in range(3)]
        for client in clients:
            await client.subscribe("room.a")
        self.waves: list[list[int]] = []

        def noted(fds: array[int], data: bytes) -> Sequence[tuple[int, int]]:
            self.waves.append(sorted(fds))
            return send_each(fds, data)

        self.patch(squads, "send_each", noted)
        for _ in range(2):
            await world.scribe.record([world.event("room.a")])
            for client in clients:
                await client.events(1)
        self.assertEqual(self.waves, [sorted(door.transport.fileno() for door in world.doors())])
        return clients

    async def test_one_wave(self) -> None:
        """All are shown the events, each once and in order."""
        world = await self.world()
        clients = await self.gather(world)
        await world.scribe.record([world.event("room.a") for _ in range(3)])
        for client in clients:
            self.assertEqual([event["seq"] for event in await client.events(3)], [3, 4, 5])

    async def test_closing(self) -> None:
        """After a close frame nothing more is sent, whoever has begun to close."""
        world = await self.world()
        await self.gather(world)
        one, two, three = world.doors()
        one.close(4001, "enough")
        two._protocol_violation("a frame that is none")
        await world.scribe.record([world.event("room.a")])
        while len(self.waves) < 2:
            await pause(0)
        self.assertEqual(self.waves[1:], [[three.transport.fileno()]])

    async def test_gone(self) -> None:
        """A descriptor that has become another connection's is sent nothing for the one before."""
        world = await self.world()
        clients = await self.gather(world)
        clients[0].protocol.transport.abortConnection()
        while len(world.doors()) == len(clients):
            await pause(0)
        other = await self.client(world)
        await other.subscribe("room.b")
        await world.scribe.record([world.event("room.a"), world.event("room.b")])
        self.assertEqual([(await client.events(1))[0]["seq"] for client in clients[1:]], [3, 3])
        self.assertEqual((await other.events(1))[0]["topic"], "room.b")

    async def test_something_waits(self) -> None:
        """What waits for a socket comes first; then its client is shown what the others have been shown."""
        world = await self.world()
        clients = await self.gather(world)
        (door, *_) = world.doors()
        door.transport.write(text_frame(b'{"op":"first"}'))
        await world.scribe.record([world.event("room.a")])
        await world.scribe.record([world.event("room.a")])
        for client in clients:
            self.assertEqual([event["seq"] for event in await client.events(2)], [3, 4])

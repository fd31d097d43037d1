"""Several who are shown the same, over real WebSockets: one wave to all of them, and who is not in it."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from select import select
from socket import SO_SNDBUF, SOL_SOCKET
from typing import Any, Final

from msgspec import Raw
from twisted.internet.defer import Deferred

from msgd.messages.live import LiveEvent
from msgd.notifier import squads
from msgd.notifier.items import Item, Stretch, text_frame
from msgd.notifier.wave import send_each
from msgd.notifier.websocket import FULL_BEATS
from msgd.sockets import waiting
from tests.notifier.socket import Client
from tests.notifier.test_websocket import SocketCase
from tests.notifier.world import World, pause, reactor

SMALL: Final = 64 * 1024
"""Bytes that the kernel is asked to keep for a socket that is to be full: by itself it keeps megabytes."""


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

    async def test_cut_off(self) -> None:
        """Who is cut off, with half a message on its way, is sent nothing more, not even in the same turn: the reactor
        tells no more that something waits for its socket."""
        world = await self.world()
        clients = await self.gather(world)
        door = door_of(world, clients[0])
        await fill(clients[0], door)
        fd = door.transport.fileno()
        (reader,) = door._session._interests._readers.values()
        squad = reader.squad
        self.assertIn(fd, waiting(reactor))
        door._is_asked, door._left, door._missed = True, 0, FULL_BEATS  # and it has taken nothing since
        door.check()
        self.assertEqual(door.transport.fileno(), fd)
        self.assertNotIn(fd, waiting(reactor))
        event = LiveEvent("room.a", squad.seq + 1, squad.pos + 1, "id", "said", "", 0, Raw(b"null"))
        squad.advance(Stretch([Item("epoch", event)]), waiting(reactor))
        self.assertEqual(self.waves[1:], [[other for other in self.waves[0] if other != fd]])
        clients[0].protocol.transport.resumeProducing()
        await clients[0].ended

    async def test_gone(self) -> None:
        """A descriptor that has become another connection's is sent nothing for the one before."""
        world = await self.world()
        clients = await self.gather(world)
        gone = door_of(world, clients[0]).transport.fileno()
        clients[0].protocol.transport.abortConnection()
        while len(world.doors()) == len(clients):
            await pause(0)
        plug = self.plug(gone)
        opening = Deferred.fromCoroutine(self.client(world))
        world._port.stopReading()
        while not select([world._port], [], [], 0)[0]:
            await pause(0)
        os.close(plug)
        world._port.doRead()  # now, that nothing else takes the number
        world._port.startReading()
        other = await opening
        self.assertEqual(door_of(world, other).transport.fileno(), gone)
        self.assertIn(gone, self.waves[0])
        await other.subscribe("room.b")
        await world.scribe.record([world.event("room.a")])
        self.assertEqual([(await client.events(1))[0]["seq"] for client in clients[1:]], [3, 3])
        self.assertEqual(self.waves[1:], [[fd for fd in self.waves[0] if fd != gone]])
        await world.scribe.record([world.event("room.b")])
        self.assertEqual((await other.events(1))[0]["topic"], "room.b")

    def plug(self, fd: int) -> int:
        """Take ``fd``, which is free, and whatever is free below it; returns ``fd``, which the test is to close."""
        taken: list[int] = []
        while fd not in taken:
            taken.append(os.open(os.devnull, os.O_RDONLY))
            self.assertLessEqual(taken[-1], fd)
        for one in taken[:-1]:
            self.addCleanup(os.close, one)
        return fd

    async def test_something_waits(self) -> None:
        """What waits for a socket comes first; then its client is shown what the others have been shown."""
        world = await self.world()
        clients = await self.gather(world)
        door = door_of(world, clients[0])
        await fill(clients[0], door)
        for seq in (3, 4):
            await world.scribe.record([world.event("room.a")])
            self.assertEqual([(await client.events(1))[0]["seq"] for client in clients[1:]], [seq, seq])
        others = [fd for fd in self.waves[0] if fd != door.transport.fileno()]
        self.assertEqual(self.waves[1:], [others, others])
        clients[0].protocol.transport.resumeProducing()
        await clients[0].events(2)
        told = [(message["op"], message.get("seq")) for message in clients[0].messages]
        self.assertEqual(told[-5:], [("event", 1), ("event", 2), ("first", None), ("event", 3), ("event", 4)])


def door_of(world: World, client: Client) -> Any:
    """The notifier's side of a client's connection."""
    port = client.protocol.transport.getHost().port
    (door,) = (door for door in world.doors() if door.transport.getPeer().port == port)
    return door


async def fill(client: Client, door: Any) -> None:
    """Write a message, ``first``, of which the socket takes a part, as its client reads nothing from now on."""
    client.protocol.transport.pauseProducing()
    door.transport.socket.setsockopt(SOL_SOCKET, SO_SNDBUF, SMALL)
    frame = text_frame(b'{"op":"first","data":"' + b"x" * (1 << 20) + b'"}')
    door.transport.write(frame)
    while door.transport._tempDataBuffer or not door.transport.offset:
        await pause(0)

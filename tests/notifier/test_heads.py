"""Heads that are wrong, by whomever they were published: live push goes on."""

from __future__ import annotations

from tests.notifier.test_websocket import SocketCase
from tests.notifier.world import World, pause

FAR = 1 << 50


class WrongHeadTest(SocketCase):
    """One client, who is shown each event although somebody tells the notifier lies."""

    async def lie(self, world: World, first: int, last: int, counts: dict[int, int], epoch: str = "") -> None:
        head = await world.journal.head()
        await world.scribe.head(epoch or head.epoch, head.pos + first, head.pos + last, counts)
        await pause(0.05)

    async def test_live_push_goes_on(self) -> None:
        """A head that is far ahead, a little ahead, behind, or of another life, delays nothing, and loses nothing."""
        world = await self.world()
        client = await self.client(world)
        await client.subscribe("room.a")
        seq = 0
        for first, last, counts, epoch in (
            (1, FAR, {}, ""),  # there must be much to read
            (1, FAR, {255: FAR}, ""),  # all of it none of ours
            (FAR + 1, FAR, {}, ""),  # idle, far ahead
            (1, 1, {255: 1}, ""),  # the very next event, said to be none of ours
            (1, 5, {255: 5}, ""),
            (-3, -4, {}, ""),  # idle, behind
            (1, 5, {255: 5}, "another"),
        ):
            await self.lie(world, first, last, counts, epoch)
            for count in (1, 2):
                await world.scribe.record([world.event("room.a") for _ in range(count)])
                self.assertEqual(
                    [one["seq"] for one in await client.events(count)], list(range(seq + 1, seq + count + 1))
                )
                seq += count
        self.assertEqual([message for message in client.messages if message["op"] == "gap"], [])

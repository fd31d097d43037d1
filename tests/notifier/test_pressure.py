"""Backpressure: while the recorder is far behind, the door says so."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock

from msgd.broker.topology import EVENTS
from msgd.config.settings import Limits
from msgd.errors import Overloaded
from msgd.messages.envelope import Message
from msgd.notifier.pressure import AGAIN_S, LOOK_S, Pressure
from tests.notifier.world import World, WorldCase, header, pause

EVENT = {"topic": "app.a", "type": "said"}


class PressureTest(WorldCase):
    """What waits in the queues of events, where nobody takes it."""

    async def pressure(self, world: World, backlog: int) -> tuple[Pressure, Clock]:
        clock = Clock()
        made = Pressure(world.broker, backlog, clock)
        self.addCleanup(made.stop)
        made.start()
        return made, clock

    async def refused(self, check: Any, clock: Clock) -> Overloaded:
        """The error, once a look has brought it about."""
        while True:
            clock.advance(LOOK_S)
            await pause(0)
            try:
                check()
            except Overloaded as error:
                return error

    async def test_two_queues(self) -> None:
        """What waits of jobs refuses jobs, what waits of all else refuses events, and neither refuses the other."""
        for key, which in (("job.1", 0), ("app.a", 1)):
            world = await self.world()
            for _ in range(4):
                await world.broker.publish(EVENTS, key, Message(body=b"1", type="said"))
            pressure, clock = await self.pressure(world, 3)
            checks = (pressure.check_jobs, pressure.check_events)
            error = await self.refused(checks[which], clock)
            self.assertIn("4 events wait", error.message)
            self.assertEqual(error.retry_after, AGAIN_S)
            checks[1 - which]()

    async def test_no_limit(self) -> None:
        """0 is no limit, and nobody looks."""
        world = await self.world()
        await world.broker.publish(EVENTS, "app.a", Message(body=b"1", type="said"))
        pressure, clock = await self.pressure(world, 0)
        self.assertEqual(clock.getDelayedCalls(), [])
        pressure.check_events()

    async def test_at_the_door(self) -> None:
        """Refused with 503 and Retry-After; taken again when the scribe has recorded what waited."""
        world = await self.world(limits=Limits(backlog=3))
        while True:
            status, problem, response = await world.call("POST", "/api/events", EVENT)
            if status != 202:
                break
        self.assertEqual((status, problem["code"], header(response, "retry-after")), (503, "overloaded", "10"))
        await world.scribe.listen()
        while status != 202:
            await pause(0.05)
            status, _, _ = await world.call("POST", "/api/events", EVENT)

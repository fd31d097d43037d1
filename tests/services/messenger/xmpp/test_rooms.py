"""Messages to rooms."""

from __future__ import annotations

from msgd.jobs.interface import State
from tests.services.messenger.xmpp.chatting import ChatCase

ROOM = "kitchen@conference.localhost"


class RoomsTest(ChatCase):
    """To rooms that there are, and others."""

    async def test_said(self) -> None:
        """A room is entered when it is needed; all who are in it read the message, and we take our echo for no
        command."""
        await self.open()
        peer = await self.peer()
        peer.order(join=ROOM, open=True)
        await self.until(peer, lambda one: one.get("joined") == ROOM)
        for body in ("jobs", "Dinner is ready"):
            id_ = await self.send(body, ROOM)
            await self.world.ended(id_)
            heard = await self.heard(peer, body)
            self.assertEqual((heard["type"], heard["sender"], heard["id"]), ("groupchat", f"{ROOM}/msgd", id_))
        peer.order(say="jobs", to=ROOM, type="groupchat")
        peer.order(say="jobs", to=f"{ROOM}/msgd")
        await self.world.ended(await self.send("Done", ROOM))
        await self.heard(peer, "Done")
        answers = [one for one in peer.said if one.get("type") == "chat"]
        self.assertEqual(answers, [])

    async def test_put_out(self) -> None:
        """Whoever was put out of a room comes in again with the next message."""
        await self.open()
        peer = await self.peer()
        peer.order(join=ROOM, open=True)
        await self.until(peer, lambda one: one.get("joined") == ROOM)
        await self.world.ended(await self.send("Hello", ROOM))
        peer.order(kick=ROOM, nick="msgd")
        await self.until(peer, lambda one: one.get("kicked") == "msgd")
        await self.world.ended(await self.send("Again", ROOM))
        await self.heard(peer, "Again")

    async def test_no_such_room(self) -> None:
        """A room that is not there is not made."""
        await self.open()
        for _ in range(2):
            job = await self.world.ended(await self.send("Anybody?", "nowhere@conference.localhost"), State.FAILED)
            assert job.error is not None
            self.assertIn("there is no room nowhere@conference.localhost", job.error.message)

"""Messages to people, read by another client; and what they write back."""

from __future__ import annotations

import msgspec
from twisted.internet.task import deferLater

from msgd.jobs.interface import State
from tests.services.messenger.xmpp.chatting import US, ChatCase, reactor


class PeopleTest(ChatCase):
    """To and from people."""

    async def test_delivered(self) -> None:
        """A message is read by another client, under the job's id; whoever is away reads it later."""
        await self.open()
        early = await self.send("Good <morning> & so on\n☕")
        await self.world.ended(early)
        self.assertEqual(self.world.types(early), ["started", "delivered", "done"])
        peer = await self.peer()
        heard = await self.heard(peer, "Good <morning> & so on\n☕")
        self.assertEqual((heard["id"], heard["origin"], heard["type"], heard["late"]), (early, early, "chat", True))
        now = await self.send("And now")
        await self.world.ended(now)
        heard = await self.heard(peer, "And now")
        self.assertEqual((heard["id"], heard["late"], heard["sender"]), (now, False, self.account.jid))

    async def test_nobody(self) -> None:
        """Who does not exist cannot be reached: the job fails, and says so."""
        await self.open()
        job = await self.world.ended(await self.send("Hello?", "nobody@localhost"), State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.code, "refused")
        self.assertIn("nobody@localhost cannot be reached: service-unavailable", job.error.message)

    async def test_commands(self) -> None:
        """A known person lists and cancels jobs, no others than their own."""
        await self.open()
        peer = await self.peer()
        mine = await self.world.submit("sleep", owner="ann")
        other = await self.world.submit("sleep", owner="bob")
        for said, answer in (
            ("help", "cancel ID"),
            ("what?", "I know these words"),
            ("jobs", f"{mine} sleep: queued"),
            (f"cancel {other}", f"You have no job {other}."),
            (f"job {other}", f"You have no job {other}."),
            ("cancel", "say which"),
            (f"Cancel {mine}", f"{mine} sleep: cancelled"),
        ):
            peer.order(say=said, to=US)
            heard = await self.until(peer, lambda one, answer=answer: answer in one.get("heard", ""))
            self.assertNotIn("bob", heard["heard"])
        self.assertEqual((await self.world.jobs.get(mine)).state, State.CANCELLED)
        self.assertEqual((await self.world.jobs.get(other)).state, State.QUEUED)

    async def test_stranger(self) -> None:
        """A stranger is told once, politely; what is not written to us just now is no command at all."""
        await self.open()
        stranger, peer = await self.peer("eve"), await self.peer()
        for _ in range(3):
            stranger.order(say="jobs", to=US)
        await self.until(stranger, lambda one: "people whom I know" in one.get("heard", ""))
        delay = "<delay xmlns='urn:xmpp:delay' stamp='2026-11-28T14:00:00Z'/>"
        carbon = "<sent xmlns='urn:xmpp:carbons:2'/>"
        for type_, more in (("chat", delay), ("chat", carbon), ("error", ""), ("headline", "")):
            peer.order(raw=f"<message to='{US}' type='{type_}'><body>jobs</body>{more}</message>")
        peer.order(
            raw=f"<message to='{US}' type='chat'><composing xmlns='http://jabber.org/protocol/chatstates'/></message>"
        )
        peer.order(say="help", to=US)
        stranger.order(say="jobs", to=US)
        await self.until(peer, lambda one: "cancel ID" in one.get("heard", ""))
        await deferLater(reactor, 0.2)  # for what must not come
        self.assertEqual(len([one for one in peer.said if "heard" in one]), 1)
        self.assertEqual(len([one for one in stranger.said if "heard" in one]), 1)

    async def test_answered_once(self) -> None:
        """Of several messengers with one account, one answers."""
        await self.open()
        other = await self.messenger(self.account._login)
        await other.connected()
        await self.account.connected()
        peer = await self.peer()
        for number in range(5):
            peer.order(say=f"help {number}", to=US)
        await self.until(peer, lambda _: len([one for one in peer.said if "heard" in one]) >= 5)
        await deferLater(reactor, 0.2)  # for what must not come
        self.assertEqual(len([one for one in peer.said if "heard" in one]), 5)

    async def test_subscriptions(self) -> None:
        """People whom we know may see whether we are there, strangers may not."""
        await self.open()
        await self.account.connected()
        peer, stranger = await self.peer(), await self.peer("eve")
        peer.order(subscribe=US)
        await self.until(peer, lambda one: one.get("subscribed") == US)
        stranger.order(subscribe=US)
        await self.until(stranger, lambda one: one.get("unsubscribed") == US)

    async def test_not_configured(self) -> None:
        """Without an account a message fails at once, and says what to set."""
        await self.open(jid="")
        job = await self.world.ended(await self.send("Hello"), State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.code, "not-configured")
        self.assertIn("set xmpp.jid and xmpp.password_file", job.error.message)

    async def test_bad_params(self) -> None:
        """No address, no body, or what XML cannot say: the field is named."""
        await self.open(jid="")
        for params, words in (
            ({"to": "localhost", "body": "x"}, "params: to: 'localhost' is no XMPP address"),
            ({"to": "a@b@c/@\u0000", "body": "x"}, "is no XMPP address"),
            ({"to": "ann@localhost", "body": ""}, "params.body"),
            ({"to": "ann@localhost", "body": "bell \u0007"}, "body: XML has no character U+0007, at 5"),
            ({"to": "ann@localhost", "body": "x", "via": "irc"}, "params.via"),
            ({"to": "ann@localhost", "body": "x" * 20_001}, "params.body"),
        ):
            id_ = await self.world.submit("message", params)
            failed = msgspec.json.decode((await self.world.event(id_, "failed")).data)
            self.assertEqual(failed["code"], "invalid-params")
            self.assertIn(words, failed["message"])

"""The worker of ``message`` jobs."""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as TimedOut
from twisted.logger import Logger

from msgd.services.messenger.xmpp.account import Account
from msgd.services.messenger.xmpp.login import Login
from msgd.services.messenger.xmpp.params import MESSAGE, MessageParams, checked_jid
from msgd.services.messenger.xmpp.people import People
from msgd.services.messenger.xmpp.stream import XmppTrouble
from msgd.services.messenger.xmpp.talk import Refused, Talk
from msgd.work.interface import Context, Done, Failed, Outcome, Retry

_log = Logger()

SEND_S: Final = 8.0
"""For one try, with the time that a reconnect takes: a stop leaves 10 s, and whoever waits longer leaves its slot to
others."""


class Messages:
    """Performs ``message`` jobs. Conforms to :class:`~msgd.work.interface.Worker`."""

    type = MESSAGE

    def __init__(
        self,
        reactor: Any,
        login: Login,
        account: Account,
        talk: Talk,
        people: People,
        *,
        send_s: float = SEND_S,
    ) -> None:
        """``send_s``: how long a try may take."""
        self._reactor = reactor
        self._login = login
        self._account = account
        self._talk = talk
        self._send_s = send_s
        self._people = people

    async def start(self) -> None:
        """Begin to connect, if there is an account."""
        if not self._login.missing:
            await self._account.start()

    async def stop(self) -> None:
        """End what is being answered, and the connection."""
        await self._people.stop()
        await self._account.stop()

    async def perform(self, context: Context[MessageParams]) -> Outcome:
        """Send the message, under the job's id."""
        params = context.params
        if self._login.missing:
            return Failed("not-configured", self._login.missing)
        sending = Deferred.fromCoroutine(self._send(context.job.id, params))
        try:
            await sending.addTimeout(self._send_s, self._reactor)
        except TimedOut:
            trouble = self._account.trouble or f"no answer within {self._send_s:g} s, of our server or of {params.to}"
            return Retry(XmppTrouble.code, trouble)
        except Refused as refused:
            return (Retry if refused.passing else Failed)(refused.code, refused.message)
        await context.emit("delivered", {})
        return Done()

    async def _send(self, id_: str, params: MessageParams) -> None:
        """Send a message until it has arrived, over as many connections as that takes."""
        to = checked_jid(params.to)
        while True:
            await self._account.connected()
            try:
                if to.resource is None and await self._talk.is_room(to):
                    await self._talk.say(to.userhost(), id_, params.body)
                else:
                    await self._talk.tell(to, id_, params.body)
            except XmppTrouble as trouble:
                _log.info("{job} is sent again: {trouble}", job=id_, trouble=trouble.message)
            else:
                return

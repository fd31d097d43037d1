"""Who writes to us: known people are answered, about their own jobs alone; others once, and politely.

A person is known by the bare address, which the server vouches for, and stands for a ``sub``.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, Literal

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.words.protocols.jabber.jid import JID
from twisted.words.xish.domish import Element

from msgd.clock import Clock, milliseconds
from msgd.errors import MsgdError, NotFound
from msgd.jobs.interface import Job, JobFilter, Jobs
from msgd.messages.ids import IdMaker
from msgd.services.messenger.xmpp import stanzas, store
from msgd.services.messenger.xmpp.account import Account
from msgd.services.messenger.xmpp.stanzas import CHAT, Heard
from msgd.services.messenger.xmpp.talk import Talk

_log = Logger()

SHOWN: Final = 10
"""Jobs in an answer: what a phone shows at once."""

ANSWERING: Final = 20
"""Commands being answered at a time; what comes beyond is dropped, as its sender can say it again."""

PACE: Final = (20, 60.0)
"""Commands of one person, in so many seconds: more come from a program, perhaps one that answers our answers."""

REFUSED_S: Final = 3600.0
"""Between two refusals to the same stranger."""

STRANGERS: Final = 1000
"""Who were refused of late, so many are remembered; beyond, nobody new is answered until the hour of one is over."""

HELP: Final = "I know these words:\njobs - your latest jobs\njob ID - one of them\ncancel ID - end it\nhelp - this"
REFUSAL: Final = "I only talk about jobs, with people whom I know. Ask whoever runs me to add your address."

Subscriptions = Literal["people", "all", "none"]


class People:
    """Answers messages, and requests to see whether we are there."""

    def __init__(
        self,
        account: Account,
        talk: Talk,
        jobs: Jobs,
        database: store.Database,
        *,
        people: Mapping[str, str],
        subscriptions: Subscriptions,
        cancel: Callable[[str], Awaitable[Job]],
        clock: Clock,
        new_id: IdMaker,
    ) -> None:
        """``people``: subs by bare address; ``subscriptions``: whose wish to see our presence is granted; ``cancel``:
        ends a job, in whatever state."""
        self._account = account
        self._talk = talk
        self._jobs = jobs
        self._database = database
        self._people = {JID(address).userhost(): sub for address, sub in people.items()}
        self._subscriptions = subscriptions
        self._cancel = cancel
        self._clock = clock
        self._new_id = new_id
        self._answering: set[Deferred[None]] = set()
        self._refused: OrderedDict[str, float] = OrderedDict()
        self._spoken: dict[str, list[float]] = {}
        account.hear(self._heard)

    async def stop(self) -> None:
        """Answer nobody any more."""
        for answering in list(self._answering):
            answering.cancel()

    # -- hearing ------------------------------------------------------------------------------------------------------

    def _heard(self, stanza: Element) -> None:
        if stanza.name == "presence":
            self._subscribe(stanza)
            return
        heard = stanzas.heard(stanza)
        if heard is None or not self._is_command(heard):
            return
        sub = self._people.get(heard.sender.userhost())
        if sub is None:
            self._refuse(heard.sender)
        elif self._keeps_pace(sub) and len(self._answering) < ANSWERING:
            answering = Deferred.fromCoroutine(self._answer(sub, heard))
            self._answering.add(answering)
            answering.addBoth(self._answered, answering)

    def _is_command(self, heard: Heard) -> bool:
        """Whether somebody wrote this to us, just now: no error, history, copy, or what was said in a room."""
        return (
            heard.type in (CHAT, "normal")
            and heard.fresh
            and bool(heard.body.strip())
            and heard.sender.user is not None
            and heard.sender.userhost() != JID(self._account.jid).userhost()
            and not self._talk.in_room(heard.sender)
        )

    def _answered(self, result: Any, answering: Deferred[None]) -> None:
        self._answering.discard(answering)
        if isinstance(result, Failure) and not result.check(CancelledError, MsgdError):
            _log.failure("a command could not be answered", result)

    def _subscribe(self, stanza: Element) -> None:
        """Answer whoever wants to see whether we are there (RFC 6121 §3.1)."""
        if stanza.getAttribute("type") != "subscribe":
            return
        try:
            sender = JID(stanza.getAttribute("from", "")).userhost()
        except Exception:  # its kinds are several, all of them for what is no address
            return
        welcome = self._subscriptions == "all" or (self._subscriptions == "people" and sender in self._people)
        self._account.answer(stanzas.presence("subscribed" if welcome else "unsubscribed", sender))

    def _refuse(self, sender: JID) -> None:
        """Tell a stranger once that nothing comes of it."""
        now_s, name = self._clock.seconds(), sender.userhost()
        while self._refused and now_s - next(iter(self._refused.values())) >= REFUSED_S:
            self._refused.popitem(last=False)
        if name not in self._refused and len(self._refused) < STRANGERS:
            self._refused[name] = now_s
            self._account.answer(stanzas.message(sender.full(), CHAT, self._new_id(int(now_s * 1000)), REFUSAL))

    def _keeps_pace(self, sub: str) -> bool:
        most, seconds = PACE
        now_s = self._clock.seconds()
        spoken = [at_s for at_s in self._spoken.get(sub, []) if now_s - at_s < seconds]
        self._spoken[sub] = [*spoken, now_s] if len(spoken) < most else spoken
        return len(spoken) < most

    # -- answering ----------------------------------------------------------------------------------------------------

    async def _answer(self, sub: str, heard: Heard) -> None:
        now_ms = milliseconds(self._clock)
        if not await self._database.write(partial(store.is_new, key=_key(heard), now_ms=now_ms)):
            return  # said twice, or heard by another messenger too
        text = await self._said(sub, heard.body)
        await self._talk.tell(heard.sender, self._new_id(now_ms), text)

    async def _said(self, sub: str, body: str) -> str:
        word, _, rest = body.strip().partition(" ")
        try:
            match word.lower():
                case "jobs":
                    found = await self._jobs.list(JobFilter(owner=sub, parent="", limit=SHOWN))
                    return "\n".join(map(_line, found)) or "You have no jobs."
                case "job":
                    return _line(await self._theirs(sub, rest.strip()))
                case "cancel":
                    job = await self._theirs(sub, rest.strip())
                    if job.ended:
                        return f"It has ended already.\n{_line(job)}"
                    ended = await self._cancel(job.id)
                    return f"{ended.id} {ended.type}: {ended.state}"
                case _:
                    return HELP
        except MsgdError as error:
            return error.message

    async def _theirs(self, sub: str, id_: str) -> Job:
        """A job of this person's. Raises NotFound, also for another's."""
        if not id_ or len(id_) > 200:
            raise NotFound("say which: its id, as in the list of your jobs")
        try:
            job = await self._jobs.get(id_)
        except NotFound:
            job = None
        if job is None or job.owner != sub:
            raise NotFound(f"You have no job {id_}.")
        return job


def _line(job: Job) -> str:
    told = f"{job.id} {job.type}: {job.shown_state}"
    return f"{told} ({job.error.message[:200]})" if job.error is not None and job.ended else told


def _key(heard: Heard) -> str:
    """What tells a message from others of its sender; one without an id is told by what it says."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (heard.sender.full(), heard.id, heard.body):
        digest.update(f"{len(part)}.{part}".encode("utf-8", "replace"))
    return digest.hexdigest()

"""Feeds read from a host, over and over: each entry once, whatever the host does."""

from __future__ import annotations

import gzip
from functools import partial
from typing import Any

import msgspec
from twisted.internet.defer import Deferred
from twisted.web.server import NOT_DONE_YET

from msgd.errors import PeerError
from msgd.jobs.interface import Problem, State
from msgd.services.messenger.feeds import store
from msgd.services.messenger.feeds.fetching import Fetcher
from msgd.services.messenger.feeds.parsing import DOCUMENT_BYTES
from msgd.services.messenger.feeds.store import DAY_MS, GONE_MS, UNREAD_MS, digest
from msgd.work.network import GuardedEndpoints, Reach
from tests.services.messenger.feeds.reading import FeedCase, feed, reactor
from tests.services.messenger.feeds.test_parsing import item, rss
from tests.services.messenger.webhooks.receiving import LOOPBACK, status


class EntryTests(FeedCase):
    """Which entries become events."""

    async def test_each_once(self) -> None:
        """What is listed again, elsewhere in the list or edited, is no new entry; the oldest comes first."""
        await self.open()
        self.host.answers = [
            feed(rss(item(2), item(1))),
            feed(rss(item(1, "<description>edited</description>"), item(3), item(2), item(3))),
        ]
        job = await self.read()
        shown = await self.polled(job, 3)
        self.assertEqual(self.titles(), ["T1", "T2", "T3"])
        self.assertEqual((shown["done"], shown["title"], shown["problem"]), (3, "T", None))
        first = self.entries[0]
        self.assertEqual((first.topic, first.type, first.source, first.run), ("news.test", "entry", "feed", None))
        self.assertEqual(first.id, digest(self.host.url, "n1").hex())
        self.assertEqual(msgspec.json.decode(first.data)["feed"], {"url": self.host.url, "title": "T"})
        self.assertIs((await self.world.jobs.get(job)).shown_state, State.RUNNING)

    async def test_once(self) -> None:
        """A job may be for one poll; a second job of the same feed finds nothing new, whatever the journal has kept."""
        await self.open()
        self.host.answers = [feed(rss(item(1)))]
        for entries in (1, 0):
            done = await self.world.ended(await self.read(every=0))
            assert done.result is not None
            self.assertEqual(msgspec.json.decode(done.result)["entries"], entries)
        self.assertEqual(self.titles(), ["T1"])

    async def test_killed_before_the_save(self) -> None:
        """A poll that is repeated after its entries went out publishes them under the same ids."""
        await self.open()
        self.host.answers = [feed(rss(item(1)))]
        spoiled = iter((ZeroDivisionError(),))

        def saw(*arguments: Any, **named: Any) -> None:
            for error in spoiled:
                raise error
            keep(*arguments, **named)

        keep = store.saw
        self.patch(store, "saw", saw)
        await self.read()

        async def published_again() -> bool:
            return len(self.entries) == 2

        await self.world.until(published_again, passing_s=0.1)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual([event.id for event in self.entries], [digest(self.host.url, "n1").hex()] * 2)

    async def test_store(self) -> None:
        """What is not listed for 30 days is forgotten, and a feed that nobody reads after 90; others stay."""
        await self.open()
        write, one, two = self.world.database.write, digest("one"), digest("two")

        async def left(feed_: bytes) -> set[bytes]:
            return await self.world.database.read(partial(store.seen, feed=feed_, entries=[b"a", b"b", b"c"]))

        await write(partial(store.saw, feed=one, entries=[b"a", b"b"], now_ms=0))
        await write(partial(store.saw, feed=two, entries=[b"a"], now_ms=0))
        await write(partial(store.saw, feed=one, entries=[b"b", b"c"], now_ms=2 * DAY_MS))
        self.assertEqual(await left(one), {b"a", b"b", b"c"})
        await write(partial(store.saw, feed=one, entries=[b"c"], now_ms=GONE_MS + DAY_MS))
        self.assertEqual((await left(one), await left(two)), ({b"b", b"c"}, {b"a"}))
        await write(partial(store.saw, feed=one, entries=[], now_ms=UNREAD_MS + DAY_MS))
        self.assertEqual(await left(two), set())

    async def test_quiet(self) -> None:
        """A feed that says for months that nothing is new is read all the same, and not forgotten."""
        await self.open()
        self.patch(store, "UNREAD_MS", 5 * DAY_MS)
        self.host.answers = [feed(rss(item(1)), ETag='"a"'), *[status(304)] * 7, feed(rss(item(1), item(2)))]
        job = await self.read(every=86_400)
        await self.polled(job, 8, passing_s=600)
        now_ms = int(self.world.clock.seconds() * 1000)
        await self.world.database.write(partial(store.saw, feed=digest("another"), entries=[b"a"], now_ms=now_ms))
        await self.polled(job, 9, passing_s=600)
        self.assertEqual(self.titles(), ["T1", "T2"])

    async def test_quiet_for_long(self) -> None:
        """What is listed while the feed says for months that nothing is new counts as listed all the time: it is known
        when it was away for less than 30 days since. What was away before is forgotten."""
        await self.open()
        write, one = self.world.database.write, digest("one")

        async def known(day: int) -> set[bytes]:
            """What is still known of a feed that has said nothing new until this day, and then lists something else."""
            for quiet in range(now, day - 1):  # one listed a day ago is not told from one listed now
                await write(partial(store.asked, feed=one, now_ms=quiet * DAY_MS))
            await write(partial(store.saw, feed=one, entries=[b"z"], now_ms=day * DAY_MS))
            return await self.world.database.read(partial(store.seen, feed=one, entries=[b"a", b"b"]))

        await write(partial(store.saw, feed=one, entries=[b"a", b"b"], now_ms=0))
        await write(partial(store.saw, feed=one, entries=[b"b"], now_ms=2 * DAY_MS))
        now = 3
        self.assertEqual(await known(40), {b"b"})
        now = 41
        self.assertEqual(await known(67), {b"b"})
        now = 68
        self.assertEqual(await known(70), set())

    async def test_json_feed(self) -> None:
        """A JSON Feed is read as any other, whatever its type is called."""
        await self.open()
        document = {"version": "https://jsonfeed.org/version/1.1", "title": "J", "items": [{"id": 7, "title": "T7"}]}
        self.host.answers = [feed(msgspec.json.encode(document), Content_Type="text/plain")]
        shown = await self.polled(await self.read(), 2)
        self.assertEqual((self.titles(), shown["title"], shown["problem"]), (["T7"], "J", None))
        self.assertIn("application/feed+json", self.host.requests[0].headers["accept"])

    async def test_bounded(self) -> None:
        """Of one feed so many entries are kept in mind, the latest."""
        await self.open()
        self.patch(store, "KEPT", 3)
        for day in range(4):
            entries = [bytes([day, number]) for number in range(2)]
            await self.world.database.write(partial(store.saw, feed=b"f", entries=entries, now_ms=day * DAY_MS))
        every = [bytes([day, number]) for day in range(4) for number in range(2)]
        found = await self.world.database.read(partial(store.seen, feed=b"f", entries=every))
        self.assertEqual((len(found), {b"\3\0", b"\3\1"} <= found), (3, True))


class HostTests(FeedCase):
    """What hosts answer."""

    async def test_validators(self) -> None:
        """ETag and Last-Modified go back with the next request; 304 is no news."""
        await self.open()
        when = "Mon, 06 Sep 2021 08:00:00 GMT"
        self.host.answers = [feed(rss(item(1)), ETag='"a"', Last_Modified=when), status(304), feed(rss(item(2)))]
        await self.polled(await self.read(), 3)
        sent = [(one.headers.get("if-none-match"), one.headers.get("if-modified-since")) for one in self.host.requests]
        self.assertEqual(sent[:3], [(None, None), ('"a"', when), ('"a"', when)])
        self.assertEqual(self.titles(), ["T1", "T2"])

    async def test_packed(self) -> None:
        """A packed feed is read; a bomb is a problem, and the next poll goes on."""
        await self.open()
        bomb = gzip.compress(b"\0" * (DOCUMENT_BYTES * 4))
        self.host.answers = [
            feed(bomb, Content_Encoding="gzip"),
            feed(gzip.compress(rss(item(1))), Content_Encoding="gzip"),
        ]
        job = await self.read()
        self.assertIn("unpacked", (await self.polled(job, 1))["problem"])
        self.assertEqual((await self.polled(job, 2))["problem"], None)
        self.assertEqual(self.titles(), ["T1"])

    async def test_too_large(self) -> None:
        """What does not end is not read to its end."""
        await self.open()

        def endless(request: Any) -> int:
            request.write(b"<rss>" + b"x" * (DOCUMENT_BYTES + 1))
            return NOT_DONE_YET

        self.host.answers = [endless]
        self.assertIn(str(DOCUMENT_BYTES), (await self.polled(await self.read(), 1))["problem"])

    async def test_problems(self) -> None:
        """A problem is shown, and told once as an event; the feed is asked again, later each time."""
        await self.open()
        self.host.answers = [status(500), status(500), feed(b"<html>"), feed(rss(item(1), "<item>&"))]
        job = await self.read()
        self.assertEqual((await self.polled(job, 1))["problem"], "it answered 500")
        began_s = self.world.clock.seconds()
        await self.polled(job, 2)
        self.assertGreaterEqual(self.world.clock.seconds() - began_s, 119)
        self.assertIn("no feed", (await self.polled(job, 3))["problem"])
        self.assertIn("line 1", (await self.polled(job, 4))["problem"])
        self.assertEqual(self.world.types(job), ["started", "problem", "problem", "problem"])
        self.assertEqual(self.titles(), ["T1"])

    async def test_retry_after(self) -> None:
        """A host that asks for time gets it."""
        await self.open()
        self.host.answers = [status(429, Retry_After="600"), feed(rss(item(1)))]
        job = await self.read()
        await self.polled(job, 1)
        began_s = self.world.clock.seconds()
        await self.polled(job, 2)
        self.assertGreaterEqual(self.world.clock.seconds() - began_s, 599)

    async def test_gone(self) -> None:
        """410 ends the job."""
        await self.open()
        self.host.answers = [status(410)]
        failed = await self.world.ended(await self.read(), State.FAILED)
        assert failed.error is not None
        self.assertEqual(failed.error.code, "gone")

    async def test_given_up(self) -> None:
        """After two weeks of failures the job fails; one of a single poll after its attempts."""
        await self.open()
        self.host.answers = [status(404)]
        job = await self.read(every=86_400)

        async def ended() -> bool:
            return (await self.world.jobs.get(job)).ended

        await self.world.until(ended, passing_s=600)
        error = (await self.world.jobs.get(job)).error
        assert error is not None
        self.assertEqual((error.code, error.message.partition("; ")[2]), ("peer", "the last time: it answered 404"))

    async def test_once_and_away(self) -> None:
        """A job of a single poll is tried again as any other job, and then fails."""
        await self.open()
        self.host.answers = [status(404)]
        job = await self.read(every=0)
        await self.world.passing(self.world.event(job, "failed"))
        self.assertEqual((await self.world.jobs.get(job)).error, Problem("peer", "it answered 404"))

    async def test_redirects(self) -> None:
        """Redirects are followed; where it has moved to for good is remembered, and ids stay what they were."""
        await self.open()
        moved, elsewhere = self.host.url + "/moved", self.host.url + "/elsewhere"
        self.host.answers = [
            status(301, Location="/hook/moved"),
            status(302, Location=elsewhere),
            feed(rss(item(1))),
            feed(rss(item(1), item(2))),
        ]
        job = await self.read()
        self.assertEqual((await self.polled(job, 1))["moved"], moved)
        await self.polled(job, 2)
        paths = [request.path for request in self.host.requests[:4]]
        self.assertEqual(paths, ["/hook", "/hook/moved", "/hook/elsewhere", "/hook/moved"])
        self.assertEqual([event.id for event in self.entries], [digest(self.host.url, f"n{n}").hex() for n in (1, 2)])

    async def test_moved_by_mistake(self) -> None:
        """Where nothing is found for long the feed is looked for where it was at first."""
        await self.open()
        self.host.answers = [
            status(308, Location="/hook/moved"),
            feed(rss(item(1))),
            *[status(404)] * 5,
            feed(rss(item(2))),
        ]
        job = await self.read()
        await self.polled(job, 7, passing_s=10)
        self.assertEqual([one.path for one in self.host.requests][-2:], ["/hook/moved", "/hook"])
        self.assertEqual(self.titles(), ["T1", "T2"])

    async def test_circles(self) -> None:
        """Redirects without end, or to what is no address, are a problem."""
        await self.open()
        self.host.answers = [status(302, Location="/hook")] * 6 + [status(302, Location="file:///etc/passwd")]
        job = await self.read()
        self.assertIn("leads on", (await self.polled(job, 1))["problem"])
        self.assertIn("no address", (await self.polled(job, 2))["problem"])

    async def test_private_addresses(self) -> None:
        """An address that may not be reached fails the job, and nothing is dialled."""
        await self.open(reach=Reach())
        failed = await self.world.ended(await self.read(), State.FAILED)
        assert failed.error is not None
        self.assertEqual(failed.error.code, "address-refused")
        self.assertEqual(self.host.requests, [])

    async def test_slow(self) -> None:
        """A host that never finishes costs its seconds, and no more."""
        await self.open()

        def endless(request: Any) -> int:
            request.write(b"<rss>")
            return NOT_DONE_YET

        self.host.answers = [endless]
        fetcher = Fetcher(reactor, GuardedEndpoints(reactor, LOOPBACK), fetch_s=0.2)
        error: Any = await self.assertFailure(Deferred.fromCoroutine(fetcher.fetch(self.host.url)), PeerError)
        self.assertIn("within 0.2 s", error.message)

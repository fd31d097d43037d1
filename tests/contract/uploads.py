"""What all records of uploads do (msgd.blobs.interface.Uploads), whatever they stand on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.trial.unittest import TestCase

from msgd.blobs.interface import (
    DELETING_MS,
    HOLD_MS,
    Picture,
    Quota,
    QuotaExceeded,
    Upload,
    Uploads,
    Usage,
)
from msgd.database import Transaction
from msgd.errors import Conflict, NotFound, StorageUnavailable

if TYPE_CHECKING:
    _TestCase = TestCase
else:
    _TestCase = object  # so that the suite is not itself collected


def upload(id_: str, **others: Any) -> Upload:
    """An upload of which only what a test is about is said."""
    plain: dict[str, Any] = {
        "owner": "ann",
        "name": "cat.jpg",
        "media_type": "image/jpeg",
        "size": 5,
        "blob": "a" * 64,
        "created_ms": 7,
    }
    return Upload(id=id_, **plain | others)


def picture(name: str, blob: str = "b" * 64, **others: Any) -> Picture:
    plain: dict[str, Any] = {"media_type": "image/jpeg", "size": 3, "width": 160, "height": 90}
    return Picture(name=name, blob=blob, **plain | others)


async def recorded(uploads: Uploads, *made: Upload) -> None:
    """Record these, and nothing beside them."""
    await uploads.make(made, lambda _: None)


class UploadsCases(_TestCase):
    """The suite; a subclass makes the records."""

    async def make(self) -> Uploads:
        """Records without any upload. They ask :meth:`now_ms` for the time."""
        raise NotImplementedError

    async def another(self) -> Uploads:
        """The same records as another process sees them."""
        raise NotImplementedError

    def now_ms(self) -> int:
        return self.time_ms

    def setUp(self) -> None:
        self.time_ms = 1_700_000_000_000

    async def test_round_trip(self) -> None:
        """An upload is found as it was made, by everybody."""
        uploads = await self.make()
        made = upload("01a", name="Katze 🐈.jpg", size=1 << 40)
        await recorded(uploads, made)
        for one in (uploads, await self.another()):
            self.assertEqual(await one.get("01a"), made)

    async def test_unknown(self) -> None:
        """What is asked of an upload that is not there is answered so."""
        uploads = await self.make()
        for call in (
            uploads.get("nobody"),
            uploads.delete("nobody"),
            uploads.add("nobody", [picture("small")]),
        ):
            with self.assertRaises(NotFound):
                await call
        self.assertEqual(await uploads.pictures(["nobody"]), {"nobody": []})
        self.assertEqual(await uploads.pictures([]), {})

    async def test_list(self) -> None:
        """One's own, newest first, page by page; without an owner everybody's."""
        uploads = await self.make()
        for number in range(5):
            await recorded(uploads, upload(f"0{number}", owner="ann" if number % 2 == 0 else "ben"))
        self.assertEqual([one.id for one in await uploads.list("ann")], ["04", "02", "00"])
        self.assertEqual([one.id for one in await uploads.list("ann", before="04", limit=1)], ["02"])
        self.assertEqual([one.id for one in await uploads.list("")], ["04", "03", "02", "01", "00"])
        self.assertEqual(await uploads.list("eve"), [])

    async def test_pictures(self) -> None:
        """What was made once under a name stays; other names come beside it."""
        uploads = await self.make()
        await recorded(uploads, upload("01"))
        self.assertEqual(await uploads.add("01", []), [])
        self.assertEqual(await uploads.add("01", [picture("small")]), [picture("small")])
        now = await uploads.add("01", [picture("small", "c" * 64, width=99), picture("large", "d" * 64)])
        self.assertEqual(now, [picture("large", "d" * 64), picture("small")])
        self.assertEqual(await uploads.pictures(["01", "02"]), {"01": now, "02": []})

    async def test_usage(self) -> None:
        """What an owner has: added up as uploads come and go, each owner's apart."""
        uploads = await self.make()
        self.assertEqual(await uploads.usage("ann"), Usage())
        await recorded(uploads, upload("01", size=1 << 40), upload("02", size=7))
        await recorded(uploads, upload("03", owner="ben"))
        self.assertEqual(await uploads.usage("ann"), Usage((1 << 40) + 7, 2))
        await uploads.delete("01")
        self.assertEqual(await (await self.another()).usage("ann"), Usage(7, 1))
        await uploads.delete("02")
        self.assertEqual((await uploads.usage("ann"), await uploads.usage("ben")), (Usage(), Usage(5, 1)))

    async def test_quota(self) -> None:
        """Nobody gets beyond it, whoever asks at the same time; of what is refused nothing stays."""
        uploads, other = await self.make(), await self.another()
        quota = Quota(bytes=50, files=0)
        calls = [
            Deferred.fromCoroutine(one.make([upload(f"{number}{one is other}")], lambda _: None, quota=quota))
            for number in range(8)
            for one in (uploads, other)
        ]
        made: list[tuple[bool, Any]] = await DeferredList(calls, consumeErrors=True)
        self.assertEqual(sum(success for success, _ in made), 10)
        for success, failure in made:
            self.assertTrue(success or failure.check(QuotaExceeded))
        self.assertEqual((await uploads.usage("ann"), len(await uploads.list("ann"))), (Usage(50, 10), 10))
        with self.assertRaises(QuotaExceeded) as caught:
            await uploads.make([upload("x")], lambda _: None, quota=Quota(files=10))
        self.assertIn("10 of 10 uploads", caught.exception.message)
        with self.assertRaises(QuotaExceeded):
            await uploads.make(
                [upload("x", owner="ben"), upload("y", owner="ben")], lambda _: None, quota=Quota(bytes=9)
            )
        self.assertEqual((await uploads.usage("ben"), await uploads.list("ben")), (Usage(), []))

    async def test_made_with(self) -> None:
        """What is written beside uploads stands with them, or neither does."""
        uploads = await self.make()

        def refuse(_: Transaction) -> None:
            raise Conflict("no")

        with self.assertRaises(Conflict):
            await uploads.make([upload("01")], refuse)
        self.assertEqual((await uploads.list(""), await uploads.usage("ann")), ([], Usage()))
        self.assertEqual(await uploads.make([upload("01")], lambda _: 7), 7)

    async def test_old(self) -> None:
        """Uploads of before some time go, but for those that something needed since; their blobs are left to others."""
        uploads = await self.make()
        for number in range(5):
            made = upload(f"0{number}", created_ms=self.time_ms + number, owner="ann" if number else "ben")
            await recorded(uploads, made)
        before_ms = self.time_ms + 4
        self.assertEqual(await uploads.old(self.time_ms), [])
        self.assertEqual(await uploads.old(before_ms, limit=2), ["00", "01"])
        self.time_ms += 1000
        await uploads.needed(["01", "nobody"])
        self.assertEqual(await uploads.old(before_ms), ["00", "02", "03"])
        await uploads.add("02", [picture("small")])
        self.assertEqual(await uploads.expire(["00", "01", "02", "04", "nobody"], before_ms), 2)
        self.assertEqual([one.id for one in await uploads.list("")], ["04", "03", "01"])
        self.assertEqual((await uploads.usage("ann"), await uploads.usage("ben")), (Usage(15, 3), Usage()))
        self.assertEqual(await uploads.unused(), ["b" * 64])
        self.assertEqual(await uploads.expire([], before_ms), 0)

    async def test_unused(self) -> None:
        """Blobs are given out for deletion when the last upload or picture that refers to them has gone."""
        uploads = await self.make()
        await recorded(uploads, upload("01", blob="a" * 64))
        await recorded(uploads, upload("02", blob="a" * 64))
        await recorded(uploads, upload("03", blob="f" * 64))
        await uploads.add("01", [picture("small", "b" * 64), picture("large", "f" * 64)])
        self.assertEqual(await uploads.unused(), [])
        await uploads.delete("01")
        self.assertEqual(await uploads.unused(), ["b" * 64])
        self.assertEqual(await uploads.unused(), [])
        await uploads.gone(["b" * 64])
        await uploads.delete("02")
        await uploads.delete("03")
        self.assertEqual(sorted(await uploads.unused()), ["a" * 64, "f" * 64])
        with self.assertRaises(NotFound):
            await uploads.get("01")

    async def test_held(self) -> None:
        """A held blob is not given out before its time is over, and then only if nothing refers to it."""
        uploads = await self.make()
        for blob in ("a" * 64, "b" * 64):
            await uploads.hold(blob)
        await recorded(uploads, upload("01", blob="a" * 64))
        await uploads.delete("01")
        self.assertEqual(await uploads.unused(), [])
        await uploads.hold("b" * 64)  # twice is harmless
        await recorded(uploads, upload("02", blob="b" * 64))
        self.time_ms += HOLD_MS
        self.assertEqual(await uploads.unused(), ["a" * 64])
        self.assertEqual((await uploads.get("02")).blob, "b" * 64)

    async def test_crashed_before_it_was_made(self) -> None:
        """What was held and published, and then never referred to, goes when its time is over."""
        uploads = await self.make()
        await uploads.hold("a" * 64)
        self.time_ms += HOLD_MS
        self.assertEqual(await uploads.unused(), ["a" * 64])

    async def test_not_held_while_it_is_deleted(self) -> None:
        """Between ``unused`` and ``gone`` nobody may store the same content; after a deleter's death one may again."""
        uploads, other = await self.make(), await self.another()
        await recorded(uploads, upload("01"))
        await uploads.delete("01")
        self.assertEqual(await uploads.unused(), ["a" * 64])
        with self.assertRaises(StorageUnavailable):
            await other.hold("a" * 64)
        await uploads.gone(["a" * 64])
        await other.hold("a" * 64)
        await uploads.gone(["a" * 64])  # late: it does not take away what is held again
        await recorded(other, upload("02"))
        await other.delete("02")
        self.time_ms += HOLD_MS
        self.assertEqual(await uploads.unused(), ["a" * 64])
        self.time_ms += DELETING_MS
        await other.hold("a" * 64)
        self.assertEqual(await uploads.unused(), [])

    async def test_dead_deleter(self) -> None:
        """What a deleter left is given out again after a while."""
        uploads = await self.make()
        await recorded(uploads, upload("01"))
        await uploads.delete("01")
        self.assertEqual(await uploads.unused(), ["a" * 64])
        self.time_ms += DELETING_MS
        self.assertEqual(await uploads.unused(), ["a" * 64])

    async def test_one_deleter(self) -> None:
        """Of several who look at the same time each blob is one's."""
        uploads, other = await self.make(), await self.another()
        for number in range(10):
            await recorded(uploads, upload(f"{number}", blob=f"{number}" * 64))
            await uploads.delete(f"{number}")
        looks = [Deferred.fromCoroutine(one.unused(7)) for one in (uploads, other, uploads, other)]
        found = [blob for blobs in await gatherResults(looks) for blob in blobs]
        found += await uploads.unused()
        self.assertEqual(sorted(found), sorted(f"{number}" * 64 for number in range(10)))

"""Files that are given back: to whom, how, and what is said of what is not there yet."""

from __future__ import annotations

from twisted.internet.task import Clock

from msgd.blobs.interface import HOLD_MS, Picture
from msgd.blobs.sweeping import Sweeper
from msgd.jobs.interface import Claimed, ClaimRequest, Problem, State
from tests.contract.blobs import name_of, stored
from tests.notifier.world import header, pause, token
from tests.services.thumbnailer import pictures
from tests.services.uploads.world import JPEG, UploadsCase, UploadsWorld

SMALL = b"a small picture"


class GivenTest(UploadsCase):
    """``GET /uploads/{id}/{name}``."""

    async def pictured(self, world: UploadsWorld, id_: str) -> None:
        """Make the small picture of an upload, as a thumbnailer does."""
        blob = await stored(world.blobs, SMALL)
        picture = Picture(name="small", blob=blob.name, media_type="image/jpeg", size=blob.size, width=4, height=3)
        await world.uploads.add(id_, [picture])

    async def test_until_it_is_there(self) -> None:
        """404 with ``Retry-After`` until a picture is there; then the picture, to be kept for good."""
        world = await self.taking()
        made = await self.send(world, JPEG)
        status, problem, response = await world.call("GET", made["urls"]["small"])
        self.assertEqual((status, problem["code"], header(response, "retry-after")), (404, "not-ready", "2"))
        await self.pictured(world, made["id"])
        status, body, response = await world.call("GET", made["urls"]["small"])
        self.assertEqual((status, body, header(response, "content-type")), (200, SMALL, "image/jpeg"))
        self.assertEqual(header(response, "cache-control"), "private, max-age=31536000, immutable")
        self.assertEqual(header(response, "x-content-type-options"), "nosniff")
        self.assertIn("sandbox", header(response, "content-security-policy"))
        tag = header(response, "etag")
        self.assertRegex(tag, r'^"[0-9a-f]{32}"$')
        status, body, _ = await world.call("GET", made["urls"]["small"], headers={"If-None-Match": f'"x", {tag}'})
        self.assertEqual((status, body), (304, b""))
        status, body, response = await world.call("HEAD", made["urls"]["small"])
        self.assertEqual((status, body, header(response, "content-length")), (200, b"", str(len(SMALL))))
        view = (await world.call("GET", f"/api/uploads/{made['id']}"))[1]
        expected = {"name": "small", "url": made["urls"]["small"], "width": 4, "height": 3, "bytes": len(SMALL)}
        self.assertEqual(view["pictures"], [expected])

    async def test_never(self) -> None:
        """410 once it is known that a picture will not come, with the reason; 404 for names that nobody makes."""
        world = await self.taking()
        made = await self.send(world, JPEG)
        await world.scribe.listen()
        await world.outbox.start()
        claimed = await world.jobs.claim(ClaimRequest(job=made["job"], slice=0, worker="test", redelivered=False))
        assert isinstance(claimed, Claimed)
        problem = Problem("damaged", "cat.jpg: the file is damaged")
        await world.jobs.end(claimed.claim, State.FAILED, problem=problem)
        while not (await world.jobs.get(made["job"])).recorded:
            await pause(0.01)
        status, told, _ = await world.call("GET", made["urls"]["small"])
        self.assertEqual((status, told["code"]), (410, "gone"))
        self.assertIn("the file is damaged", told["detail"])
        status, _, response = await world.call("GET", (await self.send(world, b"text"))["urls"]["original"] + "x")
        self.assertEqual((status, header(response, "retry-after")), (404, ""))

    async def test_ranges(self) -> None:
        """A part of a file, for downloads that go on."""
        world = await self.taking()
        url = (await self.send(world, b"0123456789"))["urls"]["original"]
        for asked, status, body, told in (
            ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
            ("bytes=7-", 206, b"789", "bytes 7-9/10"),
            ("bytes=-3", 206, b"789", "bytes 7-9/10"),
            ("bytes=5-100", 206, b"56789", "bytes 5-9/10"),
            ("bytes=10-", 416, b"", "bytes */10"),
            ("bytes=1-2,4-5", 200, b"0123456789", ""),
            ("lines=1-2", 200, b"0123456789", ""),
            ("bytes=-", 200, b"0123456789", ""),
        ):
            found, content, response = await world.call("GET", url, headers={"Range": asked})
            self.assertEqual((found, content, header(response, "content-range")), (status, body, told), asked)

    async def test_harmless(self) -> None:
        """What is no picture is handed down as a file, never shown: no script of it runs under our address."""
        world = await self.taking()
        for content, name in ((pictures.SVG, "a.svg"), (b"<html><script>", 'a"; x="ä.html'), (b"%PDF-1.4", "a.pdf")):
            made = await self.send(world, content, f"name={name}")
            _, body, response = await world.call("GET", made["urls"]["original"])
            told = header(response, "content-disposition")
            self.assertEqual(body, content)
            self.assertTrue(told.startswith('attachment; filename="'), told)
            self.assertEqual(told.count('"'), 2)
            self.assertIn("sandbox", header(response, "content-security-policy"))

    async def test_who(self) -> None:
        """It is its owner's. Who may read its job's topic sees its pictures, not the original; others see nothing."""
        world = await self.taking()
        made = await self.send(world, JPEG)
        await self.pictured(world, made["id"])
        for who, small, original in (
            (token("ann", "submit:crawl"), 200, 200),
            (token("ben", "admin:#"), 200, 200),
            (token("ben", "subscribe:job.*"), 200, 404),
            (token("ben", "subscribe:room.*", "submit:thumbnail"), 404, 404),
            (None, 401, 401),
        ):
            for name, status in (("small", small), ("original", original)):
                found, _, _ = await world.call("GET", f"/uploads/{made['id']}/{name}", who=who)
                self.assertEqual(found, status, (who, name))
        cookie = {"Cookie": f"msgd={token()}"}
        self.assertEqual((await world.call("GET", made["urls"]["small"], who=None, headers=cookie))[0], 200)
        self.assertEqual((await world.call("GET", "/uploads/..%2F..%2Fetc/passwd"))[0], 404)

    async def test_list_and_delete(self) -> None:
        """One's own, newest first; a deleted one is gone with its pictures and its job, and so are its bytes."""
        world = await self.taking()
        made = [await self.send(world, JPEG + bytes([number])) for number in range(3)]
        await self.send(world, JPEG, who=token("ben", "submit:thumbnail"))
        await self.pictured(world, made[1]["id"])
        status, page, _ = await world.call("GET", "/api/uploads?limit=2")
        self.assertEqual([one["id"] for one in page["uploads"]], [made[2]["id"], made[1]["id"]])
        _, rest, _ = await world.call("GET", f"/api/uploads?limit=2&before={page['before']}")
        self.assertEqual(([one["id"] for one in rest["uploads"]], rest["before"]), ([made[0]["id"]], None))
        for who, expected in ((token("ben", "submit:thumbnail"), 404), ("", 204), ("", 404)):
            status, _, _ = await world.call("DELETE", f"/api/uploads/{made[1]['id']}", who=who)
            self.assertEqual(status, expected)
        self.assertEqual((await world.call("GET", made[1]["urls"]["small"]))[0], 404)
        self.assertTrue((await world.jobs.get(made[1]["job"])).ended)
        sweeper = Sweeper(world.blobs, world.uploads, world.jobs, Clock())
        self.assertEqual(await sweeper.sweep(), 1)  # of the picture, which nobody held
        world.later_ms = HOLD_MS + 1000
        self.assertEqual(await sweeper.sweep(), 1)
        self.assertNotIn(name_of(JPEG + b"\1"), world.left())
        self.assertEqual(len(world.left()), 3)

"""Files that come: taken as they come, or refused in words."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from msgd.config.settings import Uploads as Limits
from msgd.errors import Overloaded
from msgd.jobs.interface import JobFilter
from msgd.notifier.incoming import AHEAD_BYTES, IncomingBody
from msgd.services.thumbnailer.params import THUMBNAIL
from tests.contract.blobs import name_of
from tests.notifier.raw import connect
from tests.notifier.world import header, pause, token
from tests.services.thumbnailer import pictures
from tests.services.uploads.world import BOUNDARY, END, FORM, JPEG, UploadsCase, part


class TakenTest(UploadsCase):
    """What is taken."""

    async def test_one_file(self) -> None:
        """A body that is a file: answered at once, with the addresses to come and the job that fills them."""
        world = await self.taking()
        status, made, response = await world.call("POST", "/api/uploads?name=Katze+%C3%A4.png", raw=JPEG)
        self.assertEqual((status, header(response, "location")), (201, f"/api/uploads/{made['id']}"))
        self.assertEqual((made["name"], made["type"], made["size"]), ("Katze ä.png", "image/jpeg", len(JPEG)))
        self.assertEqual(made["urls"]["small"], f"/uploads/{made['id']}/small")
        self.assertEqual(set(made["urls"]), {"small", "large", "original"})
        job = await world.jobs.get(made["job"])
        self.assertEqual((job.type, job.owner, made["topic"]), ("thumbnail", "ann", f"job.{job.id}"))
        params = THUMBNAIL.decode(job.params)
        self.assertEqual((params.upload, params.name), (made["id"], "Katze ä.png"))
        self.assertEqual(world.left(), [name_of(JPEG)])
        self.assertEqual((await world.call("GET", f"/api/uploads/{made['id']}"))[1]["job"], job.id)

    async def test_form(self) -> None:
        """A form with several files, and other fields, which are passed over."""
        world = await self.taking()
        other = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"\r\n\r\nwhatever\r\n'.encode()
        table = b"a,b\r\n1,2\r\n"
        made = await self.send(world, part(JPEG) + other + part(table, "list.csv") + END, headers=FORM)
        found = [(one["name"], one["type"], one["job"] is None) for one in made]
        self.assertEqual(found, [("cat.jpg", "image/jpeg", False), ("list.csv", "text/csv", True)])
        self.assertEqual(world.left(), sorted([name_of(JPEG), name_of(table)]))

    async def test_without_thumbnails(self) -> None:
        """None are made of other files, nor where none are wanted."""
        world = await self.taking()
        for content, query in ((b"hello", "name=cat.jpg"), (JPEG, "name=x&thumbnails=0"), (pictures.SVG, "name=a.svg")):
            made = await self.send(world, content, query)
            self.assertEqual((made["job"], made["topic"], set(made["urls"])), (None, None, {"original"}))
        self.assertEqual(await world.jobs.list(JobFilter()), [])

    async def test_types(self) -> None:
        """A file is what its bytes say, whatever it is called."""
        world = await self.taking()
        for content, kind in (
            (pictures.of_kind("png"), "image/png"),
            (pictures.of_kind("webp"), "image/webp"),
            (pictures.of_kind("avif"), "image/avif"),
            (pictures.heic(), "image/heic"),
            (pictures.polyglot(), "image/gif"),
            (pictures.SVG, "image/svg+xml"),
            (b"%PDF-1.7\n", "application/pdf"),
            (b"<html><script>alert(1)</script>", "text/html"),
            (b"\0\1\2", "application/octet-stream"),
            ("Grüße".encode(), "text/plain"),
            ("Grüße".encode("latin-1"), "application/octet-stream"),
            (b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom", "video/mp4"),
        ):
            self.assertEqual((await self.send(world, content, "name=a.jpg&thumbnails=0"))["type"], kind)

    async def test_names(self) -> None:
        """Paths, control characters, tricks with the direction of writing and endless names are made harmless."""
        world = await self.taking()
        for given, name in (
            ("../../etc/passwd", "passwd"),
            ("C:\\Windows\\win.ini", "win.ini"),
            ("a\u202egpj.exe", "agpj.exe"),
            (" .. ", "upload"),
            ("", "upload"),
            ("x" * 3000 + ".jpg", "x" * 196 + ".jpg"),
        ):
            self.assertEqual((await self.send(world, part(b"text", given) + END, headers=FORM))["name"], name)
        self.assertEqual((await self.send(world, b"text", "name=a%0D%1Bb%7F.txt"))["name"], "ab.txt")

    async def test_as_it_comes(self) -> None:
        """A body goes to the disk while it comes, and a connection that breaks off leaves nothing."""
        world = await self.taking()
        raw = await connect(world)
        raw.send("POST /api/uploads?name=a", [f"Authorization: Bearer {token()}", "Content-Length: 3000000"])
        raw.transport.write(b"x" * 2_000_000)
        new = world.blobs_folder / "new"
        while [path.stat().st_size for path in new.iterdir()] != [2_000_000]:
            await pause(0.01)
        raw.transport.abortConnection()
        await raw.ended
        while world.left():
            await pause(0.01)
        self.assertEqual((await world.call("GET", "/api/uploads"))[1]["uploads"], [])

    async def test_slow_disk_slows_the_sender(self) -> None:
        """While the disk takes nothing the sender is not read: what waits in memory stays bounded."""
        world = await self.taking()
        gate: Deferred[None] = Deferred()
        most = 0
        real_draft, real_received = world.blobs.draft, IncomingBody.received

        async def draft() -> Any:
            await gate
            return await real_draft()

        def received(body: IncomingBody, data: bytes) -> None:
            nonlocal most
            real_received(body, data)
            most = max(most, body._size)

        self.patch(world.blobs, "draft", draft)
        self.patch(IncomingBody, "received", received)
        content = b"x" * 40_000_000
        sending = Deferred.fromCoroutine(self.send(world, content))
        while most <= AHEAD_BYTES:
            await pause(0.01)
        await pause(0.2)  # if it were read on, it would be by now
        self.assertLess(most, 2 * AHEAD_BYTES)
        gate.callback(None)
        self.assertEqual((await sending)["size"], len(content))
        self.assertLess(most, 2 * AHEAD_BYTES)

    async def test_connection_goes_on(self) -> None:
        """After an upload, taken or refused, the next request of the connection is answered, and no byte of a body is
        taken for a request."""
        world = await self.taking()
        raw = await connect(world)
        body = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 1000
        for sub in ("ann", "eve"):
            right = "submit:thumbnail" if sub == "ann" else "submit:crawl"
            head = [f"Authorization: Bearer {token(sub, right)}", f"Content-Length: {len(body)}"]
            raw.send("POST /api/uploads?name=a", head)
            raw.transport.write(body.encode())
        raw.send("GET /nowhere", [])
        while b"404 Not Found" not in raw.data:
            await pause(0.01)
        self.assertEqual(re.findall(rb"HTTP/1.1 (\d+)", raw.data), [b"201", b"403", b"404"])
        raw.transport.loseConnection()
        await raw.ended


class RefusedTest(UploadsCase):
    """What is refused."""

    async def test_rights(self) -> None:
        """Uploading takes the right to submit what reads uploads, and a picture's thumbnails their own."""
        world = await self.taking()
        self.assertIn(
            "submit:thumbnail or submit:mail", await self.refused(world, JPEG, 403, who=token("a", "submit:crawl"))
        )
        self.assertIn("thumbnail", await self.refused(world, JPEG, 403, who=token("a", "submit:mail")))
        await self.refused(world, JPEG, 401, who=None)
        await self.send(world, b"a,b", "name=a.csv", who=token("a", "submit:mail"))
        await self.send(world, JPEG, "name=a.jpg&thumbnails=0", who=token("a", "submit:mail"))
        await self.send(world, JPEG, who=token("a", "submit:thumbnail"))

    async def test_foreign_page(self) -> None:
        """With the cookie a file must come from a page of ours."""
        world = await self.taking()
        cookie = {"Cookie": f"msgd={token()}"}
        await self.refused(world, JPEG, 403, who=None, headers={**cookie, "Origin": "https://evil.example.com"})
        await self.refused(world, JPEG, 403, who=None, headers=cookie)
        await self.send(world, JPEG, who=None, headers={**cookie, "Origin": world.url})

    async def test_sizes(self) -> None:
        """A file, a request, or a number of files over its limit; all or nothing is taken."""
        world = await self.taking(Limits(file_bytes=1000, request_bytes=8_000_000, files=2))
        self.assertIn("'cat.jpg' is over the limit of 1000 bytes", await self.refused(world, b"x" * 1001, 413))
        await self.refused(world, part(b"fine") + part(b"x" * 1001) + END, 413, headers=FORM)
        self.assertIn("2 files", await self.refused(world, part(b"x") * 3 + END, 413, headers=FORM))
        self.assertIn("8000000", await self.refused(world, b"x" * 8_000_001, 413))
        await self.send(world, b"x" * 1000)

    async def test_empty(self) -> None:
        """A file of no bytes is no file."""
        world = await self.taking()
        self.assertIn("'cat.jpg' is empty", await self.refused(world, b"", 400))
        self.assertIn(
            "'b.png' is empty", await self.refused(world, part(JPEG) + part(b"", "b.png") + END, 400, headers=FORM)
        )
        self.assertIn("no file", await self.refused(world, END, 400, headers=FORM))

    async def test_broken_forms(self) -> None:
        """Forms without an end or a boundary, of endless heads and of ten thousand parts."""
        world = await self.taking()
        flood = "".join(f"X-{number}: y\r\n" for number in range(1000))
        for body, status, headers in (
            (part(JPEG), 400, FORM),
            (part(JPEG)[:-10], 400, FORM),
            (b"--other\r\n\r\n", 400, FORM),
            (b"x" * 300_000, 400, FORM),
            (part(JPEG) + END, 400, {"Content-Type": "multipart/form-data"}),
            (part(JPEG) + END, 400, {"Content-Type": f"multipart/form-data; boundary={'b' * 1000}"}),
            (part(b"x", more=flood) + END, 413, FORM),
            (part(b"x", name="n" * 100_000) + END, 413, FORM),
            (part(b"x") * 10_000 + END, 413, FORM),
            (part(b"x").replace(b"\r\n", b"\n") + END, 400, FORM),
            (part(b"x").replace(b"cat.jpg", b"c\xff\xfe.jpg") + END, 400, FORM),
        ):
            await self.refused(world, body, status, headers=headers)
        self.assertEqual(world.left(), [])
        await self.refused(world, b"x", 400, path="/api/uploads?name=a%00b")

    async def test_full_disk(self) -> None:
        """A full disk is 507, and nothing is left."""
        world = await self.taking()
        real_write = os.write

        def full(number: int, data: Any) -> int:
            if os.readlink(f"/proc/self/fd/{number}").startswith(str(world.blobs_folder)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real_write(number, data)

        self.patch(os, "write", full)
        self.assertIn("no room", await self.refused(world, JPEG, 507))
        await self.refused(world, part(JPEG) + END, 507, headers=FORM)

    async def test_quota(self) -> None:
        """What one owner may have: said in numbers, in the list too; what is made of uploads does not count, what is
        deleted counts no more, and others have their own."""
        world = await self.taking(Limits(quota_bytes=1000, quota_files=3))
        made = await self.send(world, b"x" * 600, "name=a")
        self.assertIn("600 of 1,000 bytes", await self.refused(world, b"x" * 401, 413))
        self.assertIn("600 of 1,000 bytes", await self.refused(world, part(b"x" * 300) * 2 + END, 413, headers=FORM))
        await self.send(world, b"x" * 400, who=token("ben", "submit:thumbnail"))
        await self.send(world, part(b"x" * 200) * 2 + END, headers=FORM)
        self.assertIn("1,000 of 1,000 bytes", await self.refused(world, b"x", 413))
        _, page, _ = await world.call("GET", "/api/uploads")
        self.assertEqual(page["used"], {"bytes": 1000, "files": 3})
        self.assertEqual((page["limits"]["quota_bytes"], page["limits"]["quota_files"]), (1000, 3))
        await world.call("DELETE", f"/api/uploads/{made['id']}")
        await self.send(world, b"x")
        status, problem, _ = await world.call("POST", "/api/uploads?name=a", raw=b"x")
        self.assertEqual((status, problem["code"]), (413, "quota-exceeded"))
        self.assertIn("3 of 3 uploads", problem["detail"])

    async def test_quota_of_many_at_once(self) -> None:
        """Files that come at the same time do not get beyond it together."""
        world = await self.taking(Limits(quota_bytes=1000))
        sending = [world.call("POST", "/api/uploads?name=a", raw=b"%d" % n * 300) for n in range(1, 8)]
        answers = await gatherResults([Deferred.fromCoroutine(one) for one in sending])
        self.assertEqual(sorted(status for status, _, _ in answers), [201] * 3 + [413] * 4)

    async def test_no_quota(self) -> None:
        """0 sets no limit, and the list says so."""
        world = await self.taking(Limits(quota_bytes=0, quota_files=0))
        await self.send(world, b"x")
        _, page, _ = await world.call("GET", "/api/uploads")
        self.assertEqual([page["limits"][name] for name in ("quota_bytes", "quota_files", "days")], [None] * 3)

    async def test_recorder_is_behind(self) -> None:
        """While no jobs are taken no pictures are, before their bytes are asked for; other files are."""
        world = await self.taking()

        def behind() -> None:
            raise Overloaded("too much waits", retry_after=10)

        self.patch(world.notifier._pressure, "check_jobs", behind)
        self.assertIn("too much waits", await self.refused(world, JPEG, 503))
        await self.send(world, JPEG, "name=a.jpg&thumbnails=0")

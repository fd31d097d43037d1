"""The page of uploads in a browser: what one has used, and what has no room."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from twisted.internet.defer import Deferred

from msgd.config.settings import Uploads as Limits
from tests.notifier.pages import PagesCase
from tests.notifier.world import forget_timers
from tests.servers.chromium import Chromium
from tests.services.uploads.world import UploadsWorld

FULL: Final = Limits(file_bytes=4000, quota_bytes=5000, quota_files=4, days=30)


class UploadsPageTest(PagesCase):
    """What people do with files that find no room."""

    async def opened(self, limits: Limits) -> UploadsWorld:
        world = UploadsWorld(limits)
        self.addCleanup(forget_timers)
        self.addCleanup(lambda: Deferred.fromCoroutine(world.stop()))
        await world.start()
        return world

    async def choose(self, chromium: Chromium, name: str, content: bytes) -> None:
        """Choose a file, as in the browser's dialog."""
        path = self.file(name, content)
        await chromium.run(lambda driver: driver.find_element("css selector", "#files").send_keys(path))

    def file(self, name: str, content: bytes) -> str:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        (folder / name).write_bytes(content)
        return str(folder / name)

    async def shows(self, chromium: Chromium, selector: str, *words: str) -> None:
        """Wait until the elements' texts, one after the other, hold these words."""

        def fits(texts: Sequence[str]) -> bool:
            return len(texts) == len(words) and all(word in text for word, text in zip(words, texts, strict=True))

        await chromium.wait_for_texts(selector, fits)

    async def test_full(self) -> None:
        """What is used is shown, and changes as files come and go; what has no room is refused here, or by the server
        where others were faster, and may be tried again when something is deleted."""
        world = await self.opened(FULL)
        ann = await self.visitor(world)
        await self.go(ann, world, "/uploads")
        await self.shows(ann, "#upload-storage", "0 bytes of 5 kB used, 0 of 4 files, kept for 30 days")
        await self.choose(ann, "one", b"x" * 3000)
        await self.shows(ann, "#upload-storage", "3 kB of 5 kB used, 1 of 4 files")
        await self.choose(ann, "two", b"y" * 2500)
        await self.shows(ann, ".upload .wrong:not([hidden])", "you have used 3 kB of 5 kB")
        await self.choose(ann, "three", b"z" * 1500)
        await self.shows(ann, "#upload-storage", "4.5 kB of 5 kB used, 2 of 4 files")
        status, _, _ = await world.call("POST", "/api/uploads?name=by+another+tab", raw=b"0" * 400)
        self.assertEqual(status, 201)
        await self.choose(ann, "four", b"4" * 200)
        await self.shows(ann, ".upload .wrong:not([hidden])", "4,900 of 5,000 bytes", "3 kB of 5 kB")
        for words in ("Delete", "Really delete?"):  # of "one", the last card
            await self.shows(ann, ".upload:last-child .quiet", words)
            await ann.click(".upload:last-child .quiet")
        await self.shows(ann, ".upload-name", "four", "three", "two")
        await self.shows(ann, "#upload-storage", "1.5 kB of 5 kB used, 1 of 4 files")
        await ann.click(".upload:first-child .cluster .button:first-child")
        await self.shows(ann, "#upload-storage", "1.7 kB of 5 kB used, 2 of 4 files")
        await ann.reload()
        await self.shows(ann, "#upload-storage", "2.1 kB of 5 kB used, 3 of 4 files")
        complaints = await ann.complaints()
        self.assertEqual([one for one in complaints if "413" not in one], [], "beside what was refused")

    async def test_without_limits(self) -> None:
        """Where there is no quota, there is nothing to be full."""
        world = await self.opened(Limits(quota_bytes=0, quota_files=0))
        ann = await self.visitor(world)
        await self.go(ann, world, "/uploads")
        await self.choose(ann, "one", b"x" * 3000)
        await self.shows(ann, "#upload-storage", "3 kB used, 1 file")
        self.assertTrue(await self.script(ann, "return document.querySelector('meter').hidden"))

"""Story 4, the picture upload: answered at once with placeholders; pictures appear by themselves, pushed or polled."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from twisted.internet import reactor as _reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from tests.servers import s3
from tests.servers.chromium import Chromium, browser
from tests.services.thumbnailer import pictures
from tests.stories.deployment import PATIENCE_S, Deployment, distributed, embedded, logs_on_failure, until

reactor: Any = _reactor

NO_PUSH: Final = "delete window.WebSocket; delete window.EventSource; delete window.SharedWorker;"
LONG_POLLS: Final = ["*wait=*"]

STATES: Final = """
return Array.from(document.querySelectorAll(".upload"), (one) => [
  one.querySelector(".upload-name").textContent,
  one.querySelector(".upload-frame").dataset.state,
  one.querySelector("img")?.naturalWidth ?? 0,
  one.querySelector(".wrong").textContent])
"""

LONG: Final = "a cat with a very long name, as cameras and people give them, " + "and so on " * 8 + ".png"

BAD: Final = {
    "cut off.jpg": (pictures.jpeg(800, 600)[:9000], "damaged or cut off"),
    "four gigapixels.png": (pictures.bomb(), "4295 million pixels"),
    "nothing at all.jpg": (b"", "It is empty"),
}
"""Files that no pictures are made of, and what the page says of them."""


class PicturesTest(TestCase):
    """What a user of the page sees, in Chromium, with real daemons."""

    timeout = 600

    def files(self, contents: dict[str, bytes]) -> Sequence[str]:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
        return [str(folder / name) for name in contents]

    async def visitor(self, made: Deployment, *, push: bool = True) -> Chromium:
        chromium = await browser(self, reactor)
        if not push:
            script = {"source": NO_PUSH}
            await chromium.run(lambda driver: driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", script))
            await chromium.run(lambda driver: driver.execute_cdp_cmd("Network.enable", {}))
            await chromium.run(lambda driver: driver.execute_cdp_cmd("Network.setBlockedURLs", {"urls": LONG_POLLS}))
        token = await deferToThread(made.token)
        await chromium.open(f"{made.url}/uploads#token={token}")
        await chromium.wait_for_texts("#choose", lambda texts: list(texts) == ["Choose files"])
        if push:  # until it is live it would ask for the pictures, to be told that there are none yet
            await chromium.wait_for_texts("#line", lambda texts: list(texts) == ["Live"])
        return chromium

    async def choose(self, chromium: Chromium, paths: Sequence[str]) -> None:
        """Choose files, as in the browser's dialog."""
        await chromium.run(lambda driver: driver.find_element("css selector", "#files").send_keys("\n".join(paths)))

    async def cards(self, chromium: Chromium, wanted: dict[str, str]) -> dict[str, Any]:
        """The cards by name, once each has the state that is wanted."""
        found: dict[str, Any] = {}

        def look(driver: Any) -> bool:
            found.clear()
            found.update({name: (state, width, words) for name, state, width, words in driver.execute_script(STATES)})
            shown = {name: state for name, (state, width, _) in found.items() if state != "shown" or width}
            return shown == wanted

        await chromium.wait(look, f"the cards {wanted}", seconds=PATIENCE_S)
        return found

    async def story(self, made: Deployment, thumbnailer: str) -> None:
        """Pictures are sent before there is a thumbnailer; then it comes, dies, and comes back."""
        await deferToThread(made.start, *[name for name in made.daemons if name != thumbnailer])
        with logs_on_failure(made):
            chromium = await self.visitor(made)
            many = {f"picture {number}.jpg": pictures.jpeg(3000, 2000, quality=90 + number) for number in range(6)}
            await self.choose(chromium, self.files(many))
            await self.cards(chromium, dict.fromkeys(many, "waiting"))
            uploads = (await deferToThread(made.call, "GET", "/api/uploads"))[1]["uploads"]
            self.assertEqual((await deferToThread(made.call, "GET", uploads[0]["urls"]["small"]))[0], 404)
            await deferToThread(made.launch, thumbnailer)
            jobs = [one["job"] for one in uploads]
            await deferToThread(self.some_run, made, jobs)
            await deferToThread(made.kill, thumbnailer)
            await deferToThread(made.launch, thumbnailer)
            await self.cards(chromium, dict.fromkeys(many, "shown"))
            for job in jobs:
                await deferToThread(made.ended, job)
                events = await deferToThread(made.events, f"job.{job}")
                seen = Counter((event["type"], event["data"].get("name")) for event in events)
                self.assertEqual([seen["thumbnail", name] for name in ("small", "medium", "large")], [1, 1, 1])
                self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
            self.assertEqual(await chromium.complaints(), [])

    def some_run(self, made: Deployment, jobs: Sequence[str]) -> None:
        until(lambda: any(made.job(job)["state"] == "running" for job in jobs), "a job runs")

    async def test_on_rabbitmq_and_postgresql(self) -> None:
        """Placeholders at once, although nobody makes pictures yet; a thumbnailer is killed with -9 in mid-work, and
        all pictures come by push, each once. Blobs lie in S3: there they all are, and no disk of ours keeps any."""
        self.patch(os, "environ", {**os.environ, **s3.CREDENTIALS})
        bucket = await deferToThread(s3.fresh_bucket)
        made = distributed(self, more=f'[blobs]\nurl = "{bucket}"\n')
        made.daemons = ("recorder", "notifier", "thumbnailer")
        await self.story(made, "thumbnailer")
        uploads = (await deferToThread(made.call, "GET", "/api/uploads"))[1]["uploads"]
        urls = [url for one in uploads for url in one["urls"].values()]
        self.assertEqual(len(urls), 6 * 4, "the files, and three pictures of each")
        token = await deferToThread(made.token)
        shown = {await deferToThread(self.name_of, made, token, url) for url in urls}
        keys = await deferToThread(s3.objects, bucket)
        self.assertEqual({key.rpartition("/")[2] for key in keys}, shown)
        self.assertFalse((made.folder / "var" / "blobs").exists())

    def name_of(self, made: Deployment, token: str, url: str) -> str:
        """The name of the blob that is served there."""
        request = urllib.request.Request(made.url + url, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:
            return hashlib.sha256(answer.read()).hexdigest()

    async def everything(self, *, push: bool) -> None:
        made = embedded(self)
        await deferToThread(made.start)
        with logs_on_failure(made):
            chromium = await self.visitor(made, push=push)
            self.assertIn("Nothing here yet", await chromium.text(".empty"))
            good = {
                "a cat with a very long name, as cameras and people give them, "
                + "and so on " * 8
                + ".png": pictures.jpeg(),
                "see-through.webp": pictures.of_kind("see-through"),
                "moving.gif": pictures.animation(),
            }
            other = {"list.csv": b"email\nann@example.com\n", "drawing.svg": pictures.SVG}
            bad = {name: content for name, (content, _) in BAD.items()}
            wanted = dict.fromkeys(good, "shown") | dict.fromkeys(other, "kept") | dict.fromkeys(bad, "failed")
            await self.choose(chromium, self.files(good | other | bad))
            found = await self.cards(chromium, wanted)
            for name, (_, words) in BAD.items():
                self.assertIn(words, found[name][2])
            await chromium.reload()  # what the door refused is gone
            found = await self.cards(chromium, {name: state for name, state in wanted.items() if "nothing" not in name})
            self.assertIn("damaged or cut off", found["cut off.jpg"][2])
            if push:
                await self.pasted(chromium)
                self.assertEqual([one for one in await chromium.complaints() if "410" not in one], [])

    async def pasted(self, chromium: Chromium) -> None:
        """A picture that is dropped, and one that is pasted, are sent too; a deleted one goes."""
        script = """
        const made = new DataTransfer();
        made.items.add(new File([Uint8Array.from(arguments[1])], arguments[2], { type: "image/jpeg" }));
        const event = arguments[0] === "drop"
          ? new DragEvent("drop", { dataTransfer: made, bubbles: true, cancelable: true })
          : new ClipboardEvent("paste", { clipboardData: made, bubbles: true });
        document.body.dispatchEvent(event);
        """
        content = list(pictures.jpeg(60, 40))
        before = {name: state for name, (state, _, _) in (await self.now(chromium)).items()}
        for kind in ("drop", "paste"):
            name = f"{kind}ed.jpg"
            await chromium.run(lambda driver, kind=kind, name=name: driver.execute_script(script, kind, content, name))  # type: ignore[misc]  # mypy infers no default
            before[name] = "shown"
            await self.cards(chromium, before)
        for words in ("Delete", "Really delete?"):
            await chromium.wait_for_texts(".upload:first-child .quiet", lambda texts, words=words: texts == [words])  # type: ignore[misc]  # mypy infers no default
            await chromium.click(".upload:first-child .quiet")
        del before["pasteed.jpg"]
        await self.cards(chromium, before)

    async def now(self, chromium: Chromium) -> dict[str, Any]:
        rows = await chromium.run(lambda driver: driver.execute_script(STATES))
        return {name: (state, width, words) for name, state, width, words in rows}

    async def test_embedded_pushed(self) -> None:
        """Pictures of every kind appear by push; what goes wrong is said in its place, also after a reload."""
        await self.everything(push=True)

    async def test_embedded_polled(self) -> None:
        """The same page without WebSocket, event stream and long-poll asks every two seconds until they are there."""
        await self.everything(push=False)

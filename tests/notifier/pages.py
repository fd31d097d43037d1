"""What tests of the dashboard share: a world that records what is published, a browser that is signed in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgd.notifier
from msgd.jobs.interface import TypeInfo
from tests.notifier.world import World, WorldCase, reactor, token
from tests.servers.chromium import Chromium, browser

HOSTILE = '<img src=x onerror="window.ran=1"><script>window.ran=2</script>'
"""Text that would run if it were anything but text."""

PHONE = (390, 844)

_TOASTS = Path(msgd.notifier.__file__).with_name("static") / "toasts.js"
_LASTING_TOASTS = """
const begin = window.setTimeout;
window.setTimeout = (work, ms, ...given) => begin(work, ms === SHOWN_MS ? 2 ** 31 - 1 : ms, ...given);
""".replace("SHOWN_MS", re.findall(r"SHOWN_MS = (\d+);", _TOASTS.read_text())[0])


class PagesCase(WorldCase):
    """A test of pages."""

    timeout = 600

    async def recording(self) -> World:
        """A world in which whatever is published is journaled."""
        world = await self.world()
        await world.jobs.announce(TypeInfo(name="crawl"))
        await world.scribe.listen()
        await world.outbox.start()
        return world

    async def visitor(self, world: World, sub: str = "ann", *can: str) -> Chromium:
        """A browser in which ``sub`` is signed in, with all rights if none are given. Its toasts stay: a slow machine
        must see them too."""
        chromium = await browser(self, reactor)
        source = {"source": _LASTING_TOASTS}
        await chromium.run(lambda driver: driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", source))
        await chromium.open(f"{world.url}/#token={token(sub, *can)}")
        await self.live(chromium)
        return chromium

    async def go(self, chromium: Chromium, world: World, path: str) -> None:
        """Open a page of the dashboard, and wait until it is live and knows what is unread."""
        await chromium.open(world.url + path)
        await self.live(chromium)

    async def live(self, chromium: Chromium) -> None:
        await chromium.wait_for_texts("#line", lambda texts: list(texts) == ["Live"])
        # What happens before that is history to the page, of which no toast tells.
        await self.true(chromium, "document.querySelector('#nav').getAttribute('aria-busy') === 'false'")

    async def publish(self, world: World, topic: str, type_: str, data: Any, *, who: str = "billing") -> None:
        """An event of somebody else."""
        status, answer, _ = await world.call(
            "POST", "/api/events", {"topic": topic, "type": type_, "data": data}, who=token(who)
        )
        self.assertEqual(status, 202, answer)

    async def script(self, chromium: Chromium, script: str, *arguments: Any) -> Any:
        """What a script in the page returns."""
        return await chromium.run(lambda driver: driver.execute_script(script, *arguments))

    async def true(self, chromium: Chromium, script: str, *arguments: Any) -> None:
        """Wait until a script in the page returns something true."""
        await chromium.wait(lambda driver: driver.execute_script(f"return {script}", *arguments), script)

    async def keys(self, chromium: Chromium, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        await chromium.run(lambda driver: driver.switch_to.active_element.send_keys(*keys))

    async def resize(self, chromium: Chromium, width: int, height: int) -> None:
        """Give the page the size of another screen, narrower than Chromium's windows can be."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await chromium.run(lambda driver: driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics))

    async def prefer(self, chromium: Chromium, scheme: str) -> None:
        """What the system's settings say: ``light`` or ``dark``."""
        features = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        await chromium.run(lambda driver: driver.execute_cdp_cmd("Emulation.setEmulatedMedia", features))

"""A headless Chromium for story tests: Debian's own, driven by Selenium, with a fresh profile.

Selenium's calls block, and Chromium talks to the daemons under test, which may run in this process's reactor: every
call therefore runs in the one thread that a browser has, and the test awaits it.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

T = TypeVar("T")

INSTALL: Final = (
    "These tests need a browser. On Debian: apt-get install chromium chromium-driver "
    "(on Ubuntu both come as a snap: snap install chromium)"
)
PATIENCE_S: Final = 90.0
"""How long a page may take to show what is awaited: two cores run broker, database, daemons and browser at once."""

POLL_S: Final = 0.05

FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # Chromium's own sandbox refuses to run as root, as which CI runs
    "--disable-dev-shm-usage",  # containers have 64 MB of it
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)


class ChromiumMissing(Exception):
    """Chromium or its driver is not installed."""


class HasCleanup(Protocol):
    """A test case."""

    def addCleanup(self, f: Callable[..., object], /, *args: object) -> object: ...


class Chromium:
    """One browser with a profile of its own, and one page in it. Not running until :meth:`start`.

    ``profile``: the folder of a browser that was closed before, whose cookies and storage this one is to have.
    """

    def __init__(self, reactor: Any, profile: Path | None = None) -> None:
        self._reactor = reactor
        self._driver: Chrome | None = None
        self._thread = ThreadPool(0, 1, "chromium")
        self.profile = profile

    async def start(self) -> Chromium:
        """Start the browser with an empty page. Raises ChromiumMissing."""
        binary = shutil.which("chromium") or shutil.which("chromium-browser")
        program = shutil.which("chromedriver")
        if binary is None or program is None:
            raise ChromiumMissing(INSTALL)
        if self.profile is None:
            self.profile = Path(tempfile.mkdtemp(prefix="msgd-chromium-"))
        self.downloads = self.profile / "downloads"
        self.downloads.mkdir(exist_ok=True)
        options = ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={self.profile}"):
            options.add_argument(flag)
        options.add_experimental_option("prefs", {"download.default_directory": str(self.downloads)})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self._thread.start()
        self._driver = await self._defer(lambda: Chrome(options=options, service=ChromeService(program)))
        self._driver.set_script_timeout(PATIENCE_S)
        atexit.register(self._driver.quit)
        return self

    async def close(self, *, keep_profile: bool = False) -> None:
        """End the browser, as a user who shuts it. Closing twice is harmless."""
        driver, self._driver = self._driver, None
        if driver is not None:
            atexit.unregister(driver.quit)
            await self._defer(driver.quit)
        if self._thread.started:
            self._thread.stop()
        if self.profile is not None and not keep_profile:
            shutil.rmtree(self.profile, ignore_errors=True)

    async def run(self, work: Callable[[Chrome], T]) -> T:
        """Whatever Selenium can do with the browser, in the browser's thread."""
        driver = self._driver
        if driver is None:
            raise RuntimeError("this browser is not running")
        return await self._defer(lambda: work(driver))

    async def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded."""
        await self.run(lambda driver: driver.get(url))

    async def reload(self) -> None:
        await self.run(lambda driver: driver.refresh())

    async def text(self, css: str) -> str:
        """The visible text of the first element that ``css`` selects, once there is any."""
        found: str = await self._until(lambda driver: _first(driver, css).text, f"an element {css}")
        return found

    async def texts(self, css: str) -> list[str]:
        """The texts of all elements that ``css`` selects now, read in one go, hidden ones too."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), one => one.textContent)"
        return await self.run(lambda driver: list(driver.execute_script(script, css)))

    async def click(self, css: str) -> None:
        """Click the first element that ``css`` selects, once it can be clicked."""

        def press(driver: Chrome) -> bool:
            _first(driver, css).click()
            return True

        await self._until(press, f"an element {css} to click")

    async def fill(self, css: str, text: str) -> None:
        """Type ``text`` into a field in place of what it holds."""

        def type_in(driver: Chrome) -> bool:
            field = _first(driver, css)
            field.clear()
            field.send_keys(text)
            return True

        await self._until(type_in, f"a field {css}")

    async def wait(self, condition: Callable[[Chrome], T], what: str, *, seconds: float = PATIENCE_S) -> T:
        """Wait until ``condition`` is true and return it; a failure names ``what`` and shows the page's text."""
        return await self._until(condition, what, seconds)

    async def wait_for_texts(
        self, css: str, enough: Callable[[Sequence[str]], bool], *, seconds: float = PATIENCE_S
    ) -> list[str]:
        """Wait until the texts that ``css`` selects are ``enough``, and return them."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), one => one.textContent)"
        seen: list[str] = []

        def look(driver: Chrome) -> bool:
            seen[:] = driver.execute_script(script, css)
            return enough(seen)

        await self._until(look, f"the right elements {css}", seconds)
        return seen

    async def download(self, css: str) -> bytes:
        """Click a link that downloads, and return the file."""
        before = set(self.downloads.iterdir())
        await self.click(css)

        def arrived(_: Chrome) -> list[Path]:
            # Chromium fills a hidden file, then one of that suffix, before it gives the file its name.
            new = set(self.downloads.iterdir()) - before
            return [path for path in new if path.suffix != ".crdownload" and not path.name.startswith(".")]

        paths = await self._until(arrived, f"the download of {css}")
        return paths[0].read_bytes()

    async def complaints(self) -> list[str]:
        """What the page's console got as warnings and errors since last asked, such as a violated security policy."""
        log = await self.run(lambda driver: driver.get_log("browser"))
        return [entry["message"] for entry in log if entry["level"] in ("WARNING", "SEVERE")]

    async def _until(self, condition: Callable[[Chrome], T], what: str, seconds: float = PATIENCE_S) -> T:
        def poll(driver: Chrome) -> T:
            try:
                return WebDriverWait(driver, seconds, POLL_S, ignored_exceptions=[Exception]).until(condition)
            except TimeoutException:
                body = _first(driver, "body").text
                raise AssertionError(
                    f"waited {seconds} s for {what} at {driver.current_url}; there is:\n{body}"
                ) from None

        return await self.run(poll)

    async def _defer(self, work: Callable[[], T]) -> T:
        result: T = await deferToThreadPool(self._reactor, self._thread, work)
        return result


def _first(driver: Chrome, css: str) -> WebElement:
    return driver.find_element(By.CSS_SELECTOR, css)


async def browser(case: HasCleanup, reactor: Any) -> Chromium:
    """A running browser that closes when the test ``case`` ends."""
    chromium = Chromium(reactor)
    case.addCleanup(lambda: Deferred.fromCoroutine(chromium.close()))
    return await chromium.start()

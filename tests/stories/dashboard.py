"""What a user does with the dashboard, and what it shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.servers.chromium import Chromium

CANCEL: Final = "button.danger"

_READ_ROWS: Final = """
const done = arguments[0], view = document.querySelector("[role=tabpanel]:not([hidden]) .grid-view");
const rows = new Map();
function read() {
  for (const row of view.querySelectorAll(".grid-row")) {
    rows.set(Number(row.getAttribute("aria-rowindex")), Array.from(row.children, (cell) => cell.textContent));
  }
  if (rows.size === Number(view.getAttribute("aria-rowcount")) - 1) {
    done([...rows].sort(([a], [b]) => a - b).map(([, cells]) => cells));
  } else {
    const end = view.scrollTop + view.clientHeight >= view.scrollHeight - 1;
    view.scrollTop = end ? 0 : view.scrollTop + view.clientHeight;
    requestAnimationFrame(() => requestAnimationFrame(read));
  }
}
read();
"""
"""Scrolls through the table, which holds only the rows in view, until each of its rows was seen."""

_FIRST_ROW: Final = """
const view = document.querySelector("[role=tabpanel]:not([hidden]) .grid-view");
const under = view.querySelector(".grid-head").getBoundingClientRect().bottom;
const seen = [...view.querySelectorAll(".grid-row")].filter((row) => row.getBoundingClientRect().bottom > under + 1);
return Math.min(...seen.map((row) => Number(row.firstChild.textContent)));
"""

_SCROLL: Final = """
const view = document.querySelector("[role=tabpanel]:not([hidden]) .grid-view");
view.scrollTop = view.querySelector(".grid-row").offsetHeight * (arguments[0] - 1);
"""


class Row(Struct, frozen=True):
    """A row of the results."""

    number: str
    name: str
    value: str
    page: str


class Dashboard:
    """The dashboard at ``url``, in one browser."""

    def __init__(self, chromium: Chromium, url: str) -> None:
        self.browser = chromium
        self._url = url

    async def sign_in(self, token: str) -> None:
        """Follow the link that ``msgd demo`` prints, with the token in its fragment."""
        await self.browser.open(f"{self._url}/#token={token}")
        await self._live()

    async def address(self) -> str:
        address: str = await self.browser.run(lambda driver: driver.current_url)
        return address

    async def crawl(self, url: str, *, kind: str, expression: str, name: str = "", attr: str = "") -> str:
        """Fill the form in, without a delay between requests, and press the button; the job's id."""
        await self.go("/")
        await self.browser.fill("#url", url)
        fields = {"name": name, "kind": kind, "expression": expression, "attr": attr}
        for field, text in fields.items():
            await self.browser.run(_typing(f".criterion [id$=-{field}]", text))
        await self.browser.click("summary")
        await self.browser.fill("#delay", "0")
        await self.browser.click("button.main")
        await self.browser.wait(lambda driver: "/jobs/" in driver.current_url, "the job's page")
        return (await self.address()).rpartition("/")[2]

    async def go(self, path: str) -> None:
        """Go to a page of the dashboard by its address."""
        await self.browser.open(self._url + path)
        await self._live()

    async def _live(self) -> None:
        """Wait until the page is live and knows what is unread: what happened before is history, without toasts."""
        await self.until("#line", "Live")
        counted = "return document.querySelector('#nav').getAttribute('aria-busy') === 'false'"
        await self.browser.wait(lambda driver: driver.execute_script(counted), "what is unread")

    async def until(self, css: str, text: str) -> None:
        """Wait until ``css`` shows ``text``."""
        await self.browser.wait_for_texts(css, lambda texts: texts[:1] == [text])

    async def until_results(self, enough: Callable[[int], bool]) -> int:
        """Wait until the number of results is ``enough``, and return it."""
        texts = await self.browser.wait_for_texts(
            "#tab-result .count", lambda texts: bool(texts) and enough(_int(texts[0]))
        )
        return _int(texts[0])

    async def rows(self) -> list[Row]:
        """All rows of the results, in their order, as one sees them who scrolls through all of them."""
        return [Row(*cells) for cells in await self.browser.run(lambda driver: driver.execute_async_script(_READ_ROWS))]

    async def details(self, row: int) -> dict[str, str]:
        """Open a row in view, counted from 1, read its facts, and close it again."""
        await self.browser.click(f"#panel-result .grid-row[aria-rowindex='{row + 1}']")
        names, values = [await self.browser.texts(f"dialog {tag}") for tag in ("dt", "dd")]
        await self.browser.click("dialog button")
        await self.browser.wait_for_texts("dialog", lambda texts: not texts)
        return dict(zip(names, values, strict=True))

    async def overflows(self) -> bool:
        """Whether something sticks out of the page to the right."""
        script = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
        return bool(await self.browser.run(lambda driver: driver.execute_script(script)))

    async def progress(self) -> float:
        """How full the bar is."""
        value: float = await self.browser.run(
            lambda driver: driver.execute_script("return document.querySelector('progress').value")
        )
        return value

    async def scroll_to(self, row: int) -> None:
        """Bring a row, counted from 1, to the top of the table."""
        await self.browser.run(lambda driver: driver.execute_script(_SCROLL, row))
        await self.until_at(row)

    async def until_at(self, row: int) -> None:
        """Wait until that row is the first in view."""
        await self.browser.wait(lambda driver: driver.execute_script(_FIRST_ROW) == row, f"row {row} at the top")


def _typing(css: str, text: str) -> Callable[[Chrome], Any]:
    def type_in(driver: Chrome) -> None:
        driver.find_element(By.CSS_SELECTOR, css).send_keys(text)

    return type_in


def _int(text: str) -> int:
    return int(text.replace(",", ""))

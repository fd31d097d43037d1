"""HTML of a mail: styles put where mail programs look for them, and the text for those who show none."""

from __future__ import annotations

import re
from typing import Any, Final

import css_inline
from lxml import etree

_BLOCKS: Final = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "table",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
        "tr",
        "ul",
    ]
)
_APART: Final = frozenset(["blockquote", "dl", "h1", "h2", "h3", "h4", "h5", "h6", "ol", "p", "pre", "table", "ul"])
_HIDDEN: Final = frozenset(["head", "script", "style", "template", "title"])
_STYLES: Final = re.compile(r"<style|<link", re.IGNORECASE)
_SPACE: Final = re.compile(r"[ \t\r\n\f\u200b]+")

_INLINER: Final = css_inline.CSSInliner(load_remote_stylesheets=False, keep_style_tags=True)
"""``<style>`` stays beside what was put into the elements: rules for narrow screens can only stand there."""


def inline_styles(source: str) -> str:
    """The same with the rules of its ``<style>`` put into the elements."""
    return _INLINER.inline(source) if _STYLES.search(source) else source


def text_of(source: str) -> str:
    """The text of an HTML part, with a line for each block and the addresses of links behind their words."""
    if not source.strip():
        return ""
    # Not lxml.html's: its elements have classes of their own, chosen by a function in Python.
    parser = etree.HTMLParser(encoding="utf-8", remove_comments=True, remove_pis=True)
    try:
        root = etree.fromstring(source.encode("utf-8", "replace"), parser)
    except etree.LxmlError:
        return ""
    if root is None:
        return ""
    writer = _Writer()
    writer.walk(root)
    return writer.text()


class _Writer:
    """Writes an element tree as lines, without recursion: a hostile one nests thousands deep."""

    def __init__(self) -> None:
        self._lines: list[str] = [""]

    def walk(self, root: Any) -> None:
        hidden = 0
        for event, element in etree.iterwalk(root, events=("start", "end")):
            tag = element.tag if isinstance(element.tag, str) else ""
            if event == "start":
                hidden += tag in _HIDDEN
                if not hidden:
                    self._open(tag)
                    if words := element.text:
                        self._write(words)
            else:
                if not hidden:
                    self._close(tag, element)
                hidden -= tag in _HIDDEN
                if not hidden and element is not root and (words := element.tail):
                    self._write(words)

    def _open(self, tag: str) -> None:
        if tag in _BLOCKS and tag not in ("td", "th"):
            self._break(apart=tag in _APART)
        if tag == "li":
            self._lines[-1] += "* "
        elif tag == "br":
            self._lines.append("")
        elif tag == "hr":
            self._lines[-1] += "-" * 40

    def _close(self, tag: str, element: Any) -> None:
        if tag == "a":
            target = (element.get("href") or "").strip()
            words = "".join(element.itertext()).strip()
            if target.startswith(("http://", "https://", "mailto:")) and words != target.removeprefix("mailto:"):
                self._lines[-1] += f" <{target.removeprefix('mailto:')}>"
        elif tag == "img":
            self._write(element.get("alt") or "")
        elif tag in ("td", "th"):
            self._lines[-1] += "  "
        elif tag in _BLOCKS:
            self._break(apart=tag in _APART)

    def _break(self, *, apart: bool) -> None:
        if self._lines[-1].strip() not in ("", "*"):
            self._lines.append("")
        if apart and len(self._lines) > 1 and self._lines[-2]:
            self._lines.append("")

    def _write(self, text: str) -> None:
        words = _SPACE.sub(" ", text)
        line = self._lines[-1]
        self._lines[-1] = line + (words.lstrip() if not line or line.endswith(" ") else words)

    def text(self) -> str:
        lines = [line.strip() for line in self._lines]
        kept = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
        return "\n".join(kept).strip() + "\n"

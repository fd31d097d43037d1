"""What is looked for in a page, and how it is found.

==========  ==========================================================================================================
``regex``   in the page's visible text (or in each value of ``attr``); the first group if there is one, else the match
``text``    these words in the visible text (or in ``attr``), whatever their case
``css``     the elements that match: their text, or the value of ``attr``
``xpath``   the same, or the strings, numbers and attributes that the expression yields
==========  ==========================================================================================================

A criterion comes from a user and runs on pages from strangers, so it must not be able to hold a thread for ever.
Regular expressions run in the ``regex`` library with a time limit (it releases the interpreter lock, too; ``re`` can
do neither, and RE2 has no look-around). XPath has no time limit in libxml2; what makes it slow is walking the document
again for each element, so walks may be nested only so deep, and on documents only so big.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import regex
from cssselect import HTMLTranslator, SelectorError
from lxml import etree
from msgspec import Struct

EXPRESSION_LENGTH: Final = 1000
"""Characters of one expression: what people write by hand, not what programs make to hurt."""

REGEX_GROUPS: Final = 10
"""How deep the groups of a regular expression may nest. Compiling takes more than twice as long for each further level
that repeats (1 ms for ten, 0.1 s for 16, hours for 40), and it is done at the door, in the reactor's thread."""

REGEX_S: Final = 2.0
"""Seconds for one regular expression on one page; a page of 10 MB takes a sane one 50 ms."""

WALKED_ELEMENTS: Final = (10_000_000, 50_000, 1_000)
"""Elements of a document on which an XPath is run that nests no, one or two walks: n, n² or n³ steps of a few ns."""

VALUE_LENGTH: Final = 1000
"""Characters of a value: results are rows that people look at; longer ones are cut and end with an ellipsis."""

CONTEXT_LENGTH: Final = 80
"""Characters shown on each side of what was found."""

PAGE_RESULTS: Final = 1000
PAGE_RESULT_CHARACTERS: Final = 300_000
"""Different results of one page: an expression that matches everything must not bury the journal."""


class TooSlow(Exception):
    """A criterion that would have taken too long on this page; the message names it."""


class Found(Struct, frozen=True):
    """One thing found: the criterion's name, the value, and what stands around it."""

    name: str
    value: str
    context: str


Search = Callable[["etree._Element | None", str], Iterator[tuple[str, str]]]
"""Yields (value, context) from a page: its root element (None if it is not HTML) and its visible text."""


def squeeze(text: str) -> str:
    """Runs of white space as one space, none at the ends."""
    return " ".join(text.split())


def cut(text: str, length: int = VALUE_LENGTH) -> str:
    """At most ``length`` characters, the last an ellipsis if some are missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def around(text: str, start: int, end: int) -> str:
    """What stands around ``text[start:end]``, with it."""
    first = max(0, start - CONTEXT_LENGTH)
    last = min(len(text), min(end, start + VALUE_LENGTH) + CONTEXT_LENGTH)
    shown = squeeze(text[first:last])
    return f"{'…' if first else ''}{shown}{'…' if last < len(text) else ''}"


# -- the four kinds ---------------------------------------------------------------------------------------------------


def nested_groups(expression: str) -> int:
    """How deep groups nest at most, or more; never fewer, whatever is written to mislead.

    What may be a set or a comment of the verbose form closes no group, but opens one.
    """
    nested = depth = sets = 0
    verbose, comment = _VERBOSE.search(expression) is not None, False
    for sign in _GROUPING.findall(expression):
        if sign == "(":
            depth += 1
            nested = max(nested, depth)
        elif sign == ")":
            depth -= not (sets or comment)
        elif sign[0] == "[":
            sets += 1
        elif sign == "]":
            sets = max(0, sets - 1)
        elif sign in "#\n":
            comment = verbose and sign == "#"
    return nested


_GROUPING: Final = regex.compile(r"\\.|\[\^?\]?|[]()#\n]", regex.DOTALL | regex.VERSION0)

_VERBOSE: Final = regex.compile(r"\(\?\w*x")


def by_regex(expression: str, attr: str) -> Search:
    """Raises ValueError."""
    _check_length(expression)
    if nested_groups(expression) > REGEX_GROUPS:
        raise ValueError(f"groups nest more than {REGEX_GROUPS} deep: it would take too long to compile")
    try:
        pattern = regex.compile(expression)
    except (regex.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{expression!r} is not a regular expression: {error}") from None
    return _search_text(pattern, 1 if pattern.groups else 0, attr)


def by_text(words: str, attr: str) -> Search:
    """Raises ValueError."""
    _check_length(words)
    wanted = words.split()
    if not wanted:
        raise ValueError("there is nothing in it to look for")
    pattern = regex.compile(r"\s+".join(regex.escape(word) for word in wanted), regex.IGNORECASE)
    return _search_text(pattern, 0, attr)


def by_css(expression: str, attr: str) -> Search:
    """Raises ValueError."""
    _check_length(expression)
    try:
        path = HTMLTranslator().css_to_xpath(expression)
    except (SelectorError, RecursionError) as error:
        raise ValueError(f"{expression!r} is not a CSS selector: {error}") from None
    return _search_tree(path, attr, f"the CSS selector {expression!r}")


def by_xpath(expression: str, attr: str) -> Search:
    """Raises ValueError."""
    _check_length(expression)
    return _search_tree(expression, attr, f"the XPath {expression!r}")


def _check_length(expression: str) -> None:
    if len(expression) > EXPRESSION_LENGTH:
        raise ValueError(f"an expression has at most {EXPRESSION_LENGTH} characters; this one has {len(expression)}")


def _search_text(pattern: Any, group: int, attr: str) -> Search:
    def matches(text: str) -> Iterator[tuple[str, str]]:
        for match in pattern.finditer(text, timeout=REGEX_S):
            value = match[group]
            if value is not None:
                yield value, around(text, match.start(), match.end())

    def search(root: etree._Element | None, text: str) -> Iterator[tuple[str, str]]:
        try:
            if not attr:
                yield from matches(text)
            elif root is not None:
                for element in root.iter(etree.Element):
                    value = element.get(attr)
                    if value:
                        yield from matches(value)
        except TimeoutError:
            raise TooSlow(f"the expression {pattern.pattern!r} took more than {REGEX_S:g} s on this page") from None

    return search


def _search_tree(expression: str, attr: str, called: str) -> Search:
    bare = _QUOTED.sub("''", expression)
    unknown = [name for name in _CALL.findall(bare) if name not in _FUNCTIONS] + _VARIABLE.findall(bare)
    if unknown:  # libxml2 says so only when it comes to evaluate them
        raise ValueError(f"{called} uses {unknown[0]!r}, which XPath 1.0 does not know")
    nested = nested_walks(bare)
    if nested >= len(WALKED_ELEMENTS):
        raise ValueError(
            f"{called} nests {nested} walks through the document ('//' and axes within brackets within brackets): "
            f"at most {len(WALKED_ELEMENTS) - 1} are allowed, or it could take hours"
        )
    limit = WALKED_ELEMENTS[nested]
    try:
        # regexp=False: lxml's extension would run Python's re, without a time limit and under the interpreter lock.
        find = etree.XPath(expression, regexp=False, smart_strings=False)
        find(etree.Element("html"))  # "count(" compiles, and fails only here
    except (etree.XPathError, ValueError, TypeError) as error:
        raise ValueError(f"{called} does not compile: {error}") from None

    def search(root: etree._Element | None, text: str) -> Iterator[tuple[str, str]]:
        if root is None:
            return
        if nested and sum(1 for _ in root.iter(etree.Element)) > limit:
            raise TooSlow(f"{called} would take too long on a page of more than {limit} elements")
        try:
            found = find(root)
        except etree.XPathError as error:
            raise TooSlow(f"{called} failed on this page: {error}") from None
        for one in found if isinstance(found, list) else [found]:
            if isinstance(one, etree._Element):
                whole = squeeze("".join(one.itertext(with_tail=False)))
                value = one.get(attr, "") if attr else whole
                yield squeeze(value), _of_parent(one, whole)
            elif not attr:
                if isinstance(one, bool):
                    one = "true" if one else ""
                elif isinstance(one, float):
                    one = f"{one:g}"
                yield squeeze(str(one)), ""

    return search


def _of_parent(element: etree._Element, own: str) -> str:
    """The text of what the element stands in, if that is a line or so; else its own."""
    parent = element.getparent()
    if parent is None or len(own) >= 2 * CONTEXT_LENGTH:
        return cut(own, 2 * CONTEXT_LENGTH)
    pieces: list[str] = []
    length = 0
    for piece in parent.itertext():
        pieces.append(piece)
        length += len(piece)
        if length > 8 * CONTEXT_LENGTH:  # a whole table or page is no context
            return own
    return cut(squeeze("".join(pieces)), 2 * CONTEXT_LENGTH)


_WALK: Final = regex.compile(
    r"//|\b(?:ancestor|ancestor-or-self|descendant|descendant-or-self|following|following-sibling|preceding|"
    r"preceding-sibling)::"
)
_SPREADING: Final = ("following::", "preceding::")
"""Axes that walk the rest of the document for each element also when they stand in no bracket."""

_QUOTED: Final = regex.compile(r"\"[^\"]*\"|'[^']*'")


_CALL: Final = regex.compile(r"([\w:.-]+)\s*\(")
_VARIABLE: Final = regex.compile(r"\$[\w:.-]*")
_CORE: Final = """
    last position count id local-name namespace-uri name string concat starts-with contains substring-before
    substring-after substring string-length normalize-space translate boolean not true false lang number sum floor
    ceiling round comment text processing-instruction node and or div mod
"""
_FUNCTIONS: Final = frozenset(_CORE.split())
"""The functions of XPath 1.0 (§4), its node tests (§2.3), and the operators that may stand before a parenthesis."""


def nested_walks(bare: str) -> int:
    """How many walks through the document an XPath nests at most: with n elements, it takes about n^(1 + that).

    ``bare``: the expression without what stands in quotes.
    """
    nested = depth = 0
    walks = {match.start(): match[0] for match in _WALK.finditer(bare)}
    for at, character in enumerate(bare):
        if at in walks:
            nested = max(nested, depth, walks[at] in _SPREADING)
        if character == "[":
            depth += 1
        elif character == "]":
            depth -= 1
    return nested


# -- all together -----------------------------------------------------------------------------------------------------


class Criterion(Struct, frozen=True):
    """One compiled criterion; ``reads_text``: it looks at the visible text, else at the tree."""

    name: str
    search: Search
    reads_text: bool


KINDS: Final[dict[str, Callable[[str, str], Search]]] = {
    "regex": by_regex,
    "text": by_text,
    "css": by_css,
    "xpath": by_xpath,
}


@lru_cache(maxsize=1000)
def compile_search(kind: str, expression: str, attr: str) -> Search:
    """The search of one kind; raises ValueError, saying what is wrong with the expression."""
    return KINDS[kind](expression, attr)


def search_page(
    criteria: Sequence[Criterion], root: etree._Element | None, text: Callable[[], str]
) -> tuple[list[Found], list[str]]:
    """What all criteria find, each (name, value) once; and what went wrong with some of them.

    ``text`` is called once at most, and after the tree has been searched: making the text may cost parts of the tree.
    """
    found: dict[tuple[str, str], Found] = {}
    characters = 0
    wrong = []
    visible: str | None = None
    for criterion in sorted(criteria, key=lambda one: one.reads_text):
        if criterion.reads_text and visible is None:
            visible = text()
        try:
            for value, context in criterion.search(root, visible or ""):
                value = cut(value.strip())
                if value and (criterion.name, value) not in found:
                    if len(found) == PAGE_RESULTS or characters > PAGE_RESULT_CHARACTERS:
                        wrong.append(f"more than {len(found)} different results: the rest is left out")
                        return list(found.values()), wrong
                    found[criterion.name, value] = Found(criterion.name, value, context)
                    characters += len(value) + len(context)
        except TooSlow as slow:
            wrong.append(f"{criterion.name}: {slow}")
    return list(found.values()), wrong

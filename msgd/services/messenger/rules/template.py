"""The language of conditions and templates: Jinja's syntax, cut down until anybody may write it. Pure, for a thread.

What can be said: print, choose (``if``), loop (``for``), compare, and a few filters. There are no calls, no arithmetic,
no assignments, no includes; names lead only into the event's own data, never to an attribute of a Python object.

Rendering is bounded whatever the template says and however large the event is: each step of a loop, and each value that
a filter or a comparison walks through, is paid from one allowance of :data:`WORK`, and of the output :data:`CHARACTERS`
are kept. What remains (looking a name up, the tests, printing) takes constant time, or comes out.

Source: Jinja's manual, "Sandbox" and "The Meta API": the sandbox alone bounds neither time nor memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

from jinja2 import ChainableUndefined, TemplateError, UndefinedError, nodes
from jinja2.runtime import LoopContext
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import escape

from msgd.errors import InvalidInput
from msgd.messages import json

SOURCE_CHARACTERS: Final = 20_000
CHARACTERS: Final = 16_000
"""Of what comes out: a long mail, and less than an instant message may have."""

WORK: Final = 200_000
"""Of one rendering, in items of lists and objects that are walked through: in a tenth of a second."""

CHARACTERS_AN_ITEM: Final = 8
"""Characters of a text that are walked through in the time of an item."""

NODE_ITEMS: Final = 4
"""Items in whose time one part of a template is evaluated: a step of a loop costs this for each part in it."""

JOINED: Final = 2000
"""Items that are joined, which costs more than walking through them; further ones are left out."""

DEPTH: Final = 20
"""To which a template may be nested; Python's own compiler ends at 20 loops."""

NODES: Final = 2000
"""Parts of a template: it is compiled in milliseconds."""

COMPILED: Final = 2100
"""Templates that are kept, and as many conditions: the subject and the text of all rules that may be enabled, which go
by turns, and some that are tried out. One that was thrown away takes 0.4 to 2 ms to compile, 48 at most, and is
rendered in 0.02; it has 3 to 7 kB, 120 at most."""

_ALLOWED: Final = frozenset(
    {
        *(nodes.Template, nodes.Output, nodes.TemplateData, nodes.If, nodes.For, nodes.CondExpr),
        *(nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const, nodes.List, nodes.Tuple),
        *(nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Filter, nodes.Test),
    }
)
_TESTS: Final = frozenset({"defined", "undefined", "none", "string", "number", "mapping", "sequence", "true", "false"})
_LOOPED: Final = "_looped"
_WALKED: Final = "_walked"
"""The filters through which goes what is looped over, filtered or compared; nobody can name them."""

_WORK_NAME: Final = "_work"


class _Missing(ChainableUndefined):
    """What the event does not have: prints nothing, and is less or more than nothing."""

    def _is_not(self, other: Any) -> bool:
        return False

    __lt__ = __le__ = __gt__ = __ge__ = _is_not  # type: ignore[assignment]  # of Jinja's own, all raise


class TemplateFailed(Exception):
    """A template that could not be rendered with what it was given; says why."""


class _Environment(SandboxedEnvironment):
    """Names lead into JSON values only."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        try:
            if isinstance(obj, LoopContext):
                return getattr(obj, argument) if argument in ("index", "first") else None
            if isinstance(obj, Mapping) or (isinstance(obj, list | str) and isinstance(argument, int)):
                return obj[argument]
        except (LookupError, TypeError):
            pass
        return self.undefined(obj=obj, name=argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        return False

    def is_safe_callable(self, obj: Any) -> bool:
        return False


def _text(value: Any) -> str:
    """A value as it is printed: what is neither text nor number as JSON."""
    if value is None or isinstance(value, ChainableUndefined):
        return ""
    if isinstance(value, bool | dict | list):
        return json.encode(value).decode()
    return str(value)


def _truncate(value: Any, length: int = 80) -> str:
    text = _text(value)
    return text if len(text) <= length else text[: max(length - 1, 0)] + "…"


def _join(value: Any, between: str = ", ") -> str:
    items = value if isinstance(value, list) else [value]
    return str(between)[:10].join(_text(item)[:CHARACTERS] for item in items[:JOINED])


def _length(value: Any) -> int:
    return len(value) if isinstance(value, str | list | dict) else 0


def _default(value: Any, other: Any = "") -> Any:
    return other if value is None or isinstance(value, ChainableUndefined) else value


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, UndefinedError):
        return 0.0


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, str | list) and value else None


def _last(value: Any) -> Any:
    return value[-1] if isinstance(value, str | list) and value else None


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "default": _default,
    "escape": lambda value: str(escape(_text(value))),
    "first": _first,
    "join": _join,
    "json": lambda value: json.encode(None if isinstance(value, ChainableUndefined) else value).decode(),
    "last": _last,
    "length": _length,
    "lower": lambda value: _text(value).lower(),
    "number": _number,
    "round": lambda value, digits=0: round(_number(value), max(0, min(int(digits), 9))),
    "trim": lambda value: _text(value).strip(),
    "truncate": _truncate,
    "upper": lambda value: _text(value).upper(),
}
_LOOKING: Final = frozenset({"default", "first", "last", "length"})
"""Filters that walk through nothing."""


def _environment() -> _Environment:
    environment = _Environment(undefined=_Missing, finalize=_text, trim_blocks=True, lstrip_blocks=True, cache_size=0)
    environment.globals.clear()
    environment.filters.clear()
    environment.filters.update(FILTERS)
    environment.filters[_LOOPED] = lambda values, work, items: work.steps(values, items)
    environment.filters[_WALKED] = lambda value, work: work.walk(value)
    environment.tests = {name: test for name, test in environment.tests.items() if name in _TESTS}
    return environment


class _Work:
    """What is left of the work that one rendering may do."""

    def __init__(self) -> None:
        self._left = WORK

    def steps(self, values: Any, items: int) -> Iterator[Any]:
        """The values for a loop, of which each step costs so much."""
        for value in values if isinstance(values, list | dict) else ():
            self._spend(items)
            yield value

    def walk(self, value: Any) -> Any:
        """The value, which is to be walked through."""
        todo = [value]
        self._spend(1)
        while todo:
            one = todo.pop()
            if isinstance(one, str):
                self._spend(len(one) // CHARACTERS_AN_ITEM)
            elif isinstance(one, dict):
                self._spend(2 * len(one))
                todo.extend(one)
                todo.extend(one.values())
            elif isinstance(one, list | tuple):
                self._spend(len(one))
                todo.extend(one)
        return value

    def _spend(self, items: int) -> None:
        self._left -= items
        if self._left < 0:
            raise TemplateFailed("it takes too much work: its loops make too many steps, or look through too much data")


_ENVIRONMENT: Final = _environment()


class Template:
    """One that was found harmless. Threads may share it."""

    def __init__(self, source: str, where: str) -> None:
        """Raises InvalidInput, which names the line."""
        if len(source) > SOURCE_CHARACTERS:
            raise InvalidInput(f"a template has at most {SOURCE_CHARACTERS} characters", where=where)
        try:
            tree = _ENVIRONMENT.parse(source)
            _check(tree)
            _bound(tree)
            self._template = _ENVIRONMENT.from_string(tree)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            raise InvalidInput(f"{f'line {line}: ' if line else ''}{error}", where=where) from None
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise InvalidInput(f"it is nested too deeply: {type(error).__name__}", where=where) from None

    def render(self, values: Mapping[str, Any]) -> str:
        """What it says of JSON ``values``; raises TemplateFailed."""
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.generate({**values, _WORK_NAME: _Work()}):
                parts.append(part[: CHARACTERS - size])
                size += len(part)
                if size > CHARACTERS:
                    return "".join(parts)[: CHARACTERS - 1] + "…"
        except TemplateFailed:
            raise
        except Exception as error:  # whatever comparing a text with a number, or filters, raise
            raise TemplateFailed(f"{type(error).__name__}: {error}"[:500]) from None
        return "".join(parts)


@lru_cache(maxsize=COMPILED)
def _compiled(source: str) -> Template:
    return Template(source, "text")


def template(source: str, where: str = "text") -> Template:
    """The template of this source; raises InvalidInput."""
    try:
        return _compiled(source)
    except InvalidInput as error:
        raise InvalidInput(error.message, where=where) from None


@lru_cache(maxsize=COMPILED)
def condition(source: str, where: str = "condition") -> Template:
    """An expression as a template that prints something where it holds; raises InvalidInput."""
    if any(mark in source for mark in ("{%", "%}", "{{", "}}", "{#", "#}", "\n")):
        raise InvalidInput("a condition is one expression, such as event.data.total > 100", where=where)
    return Template("{% if " + source + " %}1{% endif %}", where)


def _bound(tree: nodes.Template) -> None:
    """Let all that may take long be paid for."""
    for loop in [*tree.find_all(nodes.For)]:
        parts = sum(1 for _ in loop.find_all(nodes.Node))
        loop.iter = _through(_LOOPED, loop.iter, nodes.Const(NODE_ITEMS * parts))
    for compare in [*tree.find_all(nodes.Compare)]:
        compare.expr = _through(_WALKED, compare.expr)
        for operand in compare.ops:
            operand.expr = _through(_WALKED, operand.expr)
    for taken in [*tree.find_all(nodes.Filter)]:
        if taken.name in FILTERS and taken.name not in _LOOKING:
            assert taken.node is not None  # _check has seen to it
            taken.node = _through(_WALKED, taken.node)
            taken.args = [_through(_WALKED, argument) for argument in taken.args]


def _through(name: str, value: nodes.Node, *arguments: nodes.Expr) -> nodes.Expr:
    """A value after it has gone through one of our own filters."""
    given = [nodes.Name(_WORK_NAME, "load"), *arguments]
    made = nodes.Filter(value, name, given, [], None, None, lineno=value.lineno)
    made.set_environment(_ENVIRONMENT)
    return made


def _check(tree: nodes.Template) -> None:
    """Raises TemplateError for a part that is not allowed."""
    todo: list[tuple[nodes.Node, int]] = [(tree, 0)]
    count = 0
    while todo:
        node, depth = todo.pop()
        count += 1
        _check_node(node, depth, count)
        todo += [(child, depth + 1) for child in node.iter_child_nodes()]


def _check_node(node: nodes.Node, depth: int, count: int) -> None:
    problem = ""
    if type(node) not in _ALLOWED:
        problem = f"{type(node).__name__.lower()} is not allowed here: print, choose, loop, compare and filter"
    elif depth > DEPTH or count > NODES:
        problem = "the template is too large, or nested too deeply"
    elif isinstance(node, nodes.Filter) and node.name not in FILTERS:
        problem = f"there is no filter {node.name!r}; there are: {', '.join(FILTERS)}"
    elif isinstance(node, nodes.Filter) and (node.node is None or node.kwargs or node.dyn_args or node.dyn_kwargs):
        problem = f"the filter {node.name!r} takes plain arguments"
    elif isinstance(node, nodes.Test) and node.name not in _TESTS:
        problem = f"there is no test {node.name!r}; there are: {', '.join(sorted(_TESTS))}"
    elif isinstance(node, nodes.Name) and (node.name.startswith("_") or node.name == "self"):
        problem = f"there is no {node.name!r}"
    elif isinstance(node, nodes.For) and (node.recursive or node.test is not None):
        problem = "loops are plain: for … in …"
    if problem:
        error = TemplateError(problem)
        error.lineno = node.lineno  # type: ignore[attr-defined]  # as Jinja's own errors of syntax have it
        raise error

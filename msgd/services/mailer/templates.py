"""Templates: Jinja2 in its sandbox, in which a variable that nobody gave is an error, and steps are counted.

The sandbox keeps a template from Python's inside. It does not keep it from going on for ever, so what is rendered here
is rendered by :mod:`~msgd.services.mailer.press`, in a process that has little memory and is killed when it takes too
long; the bounds below only make the common mistakes fail with a good reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

from jinja2 import BaseLoader, Environment, FileSystemLoader, StrictUndefined, Template, TemplateNotFound, nodes
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment
from msgspec import Struct

OUTPUT_CHARACTERS: Final = 2_000_000
"""Of one rendered part: four times the largest template, and already more than mail programs show."""

TOKENS: Final = 20_000
"""Of one template's syntax: to read so much of it takes a tenth of a second, and no mail has so much."""

RANGE: Final = 10_000
"""Numbers in one ``range()``: more table rows than a mail can show."""


_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class ContentError(Exception):
    """What is to be mailed cannot be made; the message names the part and the reason."""


class MailingError(ContentError):
    """It is not one recipient's mail that cannot be made: nobody's can."""


class Parts(Struct, frozen=True):
    """The parts of a mail: as they were written, or as they were rendered for somebody."""

    subject: str
    text: str
    html: str


class _Sandbox(SandboxedEnvironment):
    """No arithmetic that makes huge values: a template of a mail counts, it does not compute."""

    intercepted_binops = frozenset({"*", "**", "%", "<<"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Numbers only, and small ones."""
        if operator in ("**", "<<") or not all(isinstance(one, int | float) for one in (left, right)):
            raise SecurityError(f"{operator} is for numbers here" if operator in "*%" else f"there is no {operator}")
        return super().call_binop(context, operator, left, right)


def _range(*arguments: int) -> range:
    made = range(*arguments)
    if len(made) > RANGE:
        raise SecurityError(f"range() gives at most {RANGE} numbers here")
    return made


def environment(*, html: bool, loader: BaseLoader | None = None) -> Environment:
    """An environment for one kind of part; ``html`` escapes what is put in."""
    made = _Sandbox(
        autoescape=html, undefined=StrictUndefined, loader=loader, keep_trailing_newline=True, cache_size=50
    )
    made.globals["range"] = _range
    del made.globals["lipsum"]
    return made


_TEXT: Final = environment(html=False)
_HTML: Final = environment(html=True)


def check_template(source: str, *, html: bool) -> None:
    """Raises ValueError, with the line, for what is no template.

    It is only read, not compiled: compiling works out what is constant, and ``"a"|center(9999999999)`` is.
    """
    made = _HTML if html else _TEXT
    try:
        if next(islice(made.lex(source), TOKENS, None), None) is not None:
            raise ValueError(f"it has more than {TOKENS} words of template syntax")
        tree = made.parse(source)
        for node in tree.find_all((nodes.Filter, nodes.Test)):
            known, kind = (made.filters, "filter") if isinstance(node, nodes.Filter) else (made.tests, "test")
            if node.name not in known:
                raise ValueError(f"line {node.lineno}: there is no {kind} {node.name!r}")
        other = next(tree.find_all((nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)), None)
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: {error.message}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if other is not None:
        raise ValueError(f"line {other.lineno}: other templates are there for those in the folder of templates only")


class Sources:
    """The templates of one mailing, compiled: given as text, or by name out of a folder."""

    def __init__(self, parts: Parts, name: str = "", folder: str = "") -> None:
        """``name``: of templates ``<name>.txt``, ``<name>.html`` and ``<name>.subject`` in ``folder``, of which those
        that exist count. Raises ContentError."""
        if name:
            self._templates = _named(name, folder)
            if parts.subject:
                self._templates["subject"] = _compile("subject", parts.subject)
            if "subject" not in self._templates:
                raise ContentError(f"subject: it is empty, and the template {name} has no {name}.subject")
        else:
            given = {"subject": parts.subject, "text": parts.text, "html": parts.html}
            self._templates = {part: _compile(part, source) for part, source in given.items() if source}

    def render(self, variables: Mapping[str, Any]) -> Parts:
        """The parts for one recipient. Raises ContentError, naming the part and the variable."""
        made = {part: _render(part, template, variables) for part, template in self._templates.items()}
        return Parts(" ".join(_CONTROL.sub(" ", made["subject"]).split()), made.get("text", ""), made.get("html", ""))


def _compile(part: str, source: str) -> Template:
    try:
        return (_HTML if part == "html" else _TEXT).from_string(source)
    except TemplateSyntaxError as error:
        raise ContentError(f"{part}: line {error.lineno}: {error.message}") from None
    except (RecursionError, MemoryError):
        raise ContentError(f"{part}: it is nested too deeply, or too large") from None
    except (TemplateError, SyntaxError, ValueError, OverflowError) as error:  # Python's own compiler has limits
        raise ContentError(f"{part}: it cannot be compiled: {error}") from None


def _named(name: str, folder: str) -> dict[str, Template]:
    if not folder:
        raise ContentError(f"template: there is no {name!r}: the mailer has no folder of templates ([mail] templates)")
    loader = FileSystemLoader(folder)
    found = {}
    for part, ending in (("subject", "subject"), ("text", "txt"), ("html", "html")):
        try:
            found[part] = environment(html=part == "html", loader=loader).get_template(f"{name}.{ending}")
        except TemplateNotFound as error:
            if error.name != f"{name}.{ending}":
                raise ContentError(f"template: {name}.{ending} wants {error.name}, which is not there") from None
        except TemplateSyntaxError as error:
            raise ContentError(f"template: {error.name} line {error.lineno}: {error.message}") from None
    if "text" not in found and "html" not in found:
        raise ContentError(f"template: there is neither {name}.txt nor {name}.html in the folder of templates")
    return found


def _render(part: str, template: Template, variables: Mapping[str, Any]) -> str:
    try:
        return "".join(_bounded(template.generate(variables)))
    except UndefinedError as error:
        raise ContentError(f"{part}: {error.message}") from None
    except (SecurityError, TemplateError) as error:
        raise ContentError(f"{part}: {error.message or type(error).__name__}") from None
    except RecursionError:
        raise ContentError(f"{part}: the template calls itself too often") from None
    except MemoryError:
        raise ContentError(f"{part}: the template takes too much memory") from None
    except ContentError as error:
        raise ContentError(f"{part}: {error}") from None
    except Exception as error:  # a template is a program of its author's: whatever it raises is its author's to mend
        raise ContentError(f"{part}: {type(error).__name__}: {error}") from None


def _bounded(pieces: Iterable[str]) -> Iterator[str]:
    count = 0
    for piece in pieces:
        count += len(piece)
        if count > OUTPUT_CHARACTERS:
            raise ContentError(f"the template writes more than {OUTPUT_CHARACTERS} characters")
        yield piece

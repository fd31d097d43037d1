"""Where values come from: a TOML file, in which each has a line, and the environment laid over it."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from msgspec import Struct

from msgd.config.settings import FAMILIES, JOBS, NAMES, SECTIONS, Job
from msgd.errors import ConfigError

PREFIX: Final = "MSGD_"
CONFIG_VARIABLE: Final = "MSGD_CONFIG"

# What an orchestrator sets for a service called "msgd-notifier"; not meant for us.
_FOREIGN_VARIABLE: Final = re.compile(r"MSGD_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT\w*|PORT|PORT_\d+_(?:TCP|UDP)\w*)")

_LIKE: Final = 0.7
"""How alike (difflib) an unknown environment section must be to one of ours to count as a slip of the pen."""


class Given(Struct, frozen=True):
    """A value as it was given, and where."""

    value: object
    where: str


Table = dict[str, Given]


def read(path: Path) -> dict[tuple[str, ...], Table]:
    """The tables of a TOML file, each value with its line."""
    try:
        text = path.read_text(encoding="utf-8")
        parsed = tomllib.loads(text)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}", where=str(path)) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error.reason} at byte {error.start}", where=str(path)) from None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        raise wrong(f"{path}:{line[1] if line else text.count(chr(10)) + 1}", f"not TOML: {error}") from None

    lines = _lines(text)
    tables: dict[tuple[str, ...], Table] = {}

    def where(*keys: str) -> str:
        while keys and keys not in lines:
            keys = keys[:-1]
        return f"{path}:{lines.get(keys, 1)}"

    def enter(keys: tuple[str, ...], table: object) -> None:
        if not isinstance(table, dict):
            raise wrong(where(*keys), f"{'.'.join(keys)} must be a section, not a value")
        tables[keys] = {key: Given(value, where(*keys, key)) for key, value in table.items()}

    for name, content in parsed.items():
        if name in SECTIONS:
            enter((name,), content)
        elif name in FAMILIES:
            enter((name,), content)
            for inner, table in tables.pop((name,)).items():
                expression, meaning = NAMES[name]
                if not expression.fullmatch(inner):
                    raise wrong(table.where, f"[{name}.{inner!r}] does not name {meaning}")
                enter((name, inner), table.value)
        else:
            raise wrong(where(name), f"there is no section [{name}]{nearest(name, (*SECTIONS, *FAMILIES))}")
    return tables


def override(tables: dict[tuple[str, ...], Table], environ: Mapping[str, str]) -> None:
    """Lay the ``MSGD_<SECTION>_<KEY>`` variables over the tables. Topic patterns cannot be spelled that way."""
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == CONFIG_VARIABLE or _FOREIGN_VARIABLE.fullmatch(variable):
            continue
        section, _, key = variable.removeprefix(PREFIX).lower().partition("_")
        if section in SECTIONS and key:
            path: tuple[str, ...] = (section,)
        elif section == "jobs" and "_" in key:
            type_, key = _split(key)
            path = (section, type_)
        elif section in SECTIONS or section in FAMILIES:
            raise wrong(variable, "write MSGD_<SECTION>_<KEY> or MSGD_JOBS_<TYPE>_<KEY>; topics are set in a file")
        else:
            # MSGD_URL and MSGD_TOKEN are the command line's; but MSGD_BROKR_URL must not be passed over.
            meant = difflib.get_close_matches(section, SECTIONS, 1, _LIKE) if key else []
            if meant:
                right = f"{PREFIX}{meant[0]}_{key}".upper()
                raise wrong(variable, f"there is no section [{section}]: did you mean {right}?")
            continue
        tables.setdefault(path, {})[key] = Given(Text(environ[variable]), variable)


def _split(text: str) -> tuple[str, str]:
    """``crawl_max_pages`` as job type and key: the longest known key at its end counts."""
    forms: tuple[type[Job], ...] = (Job, *JOBS.values())
    for key in sorted({name for form in forms for name in form.__struct_fields__}, key=len, reverse=True):
        if text.endswith(f"_{key}"):
            return text.removesuffix(f"_{key}"), key
    type_, _, key = text.rpartition("_")
    return type_, key


class Text(str):
    """A value out of the environment, where numbers, truth values and lists are text as well."""

    __slots__ = ()


def wrong(where: str, message: str) -> ConfigError:
    return ConfigError(f"{where}: {message}", where=where)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: what was meant, or what there is."""
    names = sorted(known)
    meant = difflib.get_close_matches(word, names, 1)
    return f": did you mean {meant[0]!r}?" if meant else f"; there are {', '.join(names)}"


_HEADER: Final = re.compile(r"\s*\[\s*([^\[\]]+?)\s*\]\s*(?:#.*)?")
_ASSIGNMENT: Final = re.compile(r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""")
_KEY: Final = re.compile(r"""[\w-]+|"[^"]*"|'[^']*'""")


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line on which each section and key first stands; tomllib does not tell.

    A line within a multi-line string may be taken for a key: harmless, as the names looked up are those tomllib found.
    """
    found: dict[tuple[str, ...], int] = {(): 1}
    section: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, assignment = _HEADER.fullmatch(line), _ASSIGNMENT.match(line)
        if header:
            section = _keys(header[1])
            keys = section
        elif assignment:
            keys = section + _keys(assignment[1])
        else:
            continue
        for length in range(1, len(keys) + 1):
            found.setdefault(keys[:length], number)
    return found


def _keys(text: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _KEY.findall(text))

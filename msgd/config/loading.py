"""From file and environment to settings, every value converted and checked."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import FieldInfo

from msgd.config.settings import CHECKS, FAMILIES, SECTIONS, Settings, State, form_of
from msgd.config.sources import CONFIG_VARIABLE, Given, Table, Text, nearest, override, read, wrong


def load(path: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """The settings from the file at ``path`` (or ``MSGD_CONFIG``, or none) and the ``MSGD_<SECTION>_<KEY>`` overrides.

    ``environ`` defaults to the process's. Relative paths count from the working directory. Raises ConfigError.
    """
    environ = os.environ if environ is None else environ
    path = path or environ.get(CONFIG_VARIABLE) or None
    tables = read(Path(path)) if path is not None else {}
    override(tables, environ)
    state = _section(("state",), tables.pop(("state",), {}), lambda value: value)
    directory = os.path.abspath(os.path.expanduser(state.dir))

    def interpolate(value: str) -> str:
        return value.replace("{state}", directory)

    sections: dict[str, Any] = {"state": State(dir=directory)}
    for name in SECTIONS:
        if name != "state":
            sections[name] = _section((name,), tables.pop((name,), {}), interpolate)
    for family in FAMILIES:
        sections[family] = {
            table[1]: _section(table, given, interpolate) for table, given in tables.items() if table[0] == family
        }
    return Settings(**sections)


def _section(path: tuple[str, ...], table: Table, interpolate: Callable[[str], str]) -> Any:
    """The Struct of one table, every value converted and checked."""
    form = form_of(path)
    fields = {field.name: field for field in msgspec.structs.fields(form)}
    values: dict[str, object] = {}
    for key, given in table.items():
        if key not in fields:
            raise wrong(given.where, f"[{'.'.join(path)}] has no key {key!r}{nearest(key, fields)}")
        values[key] = _value(f"{'.'.join(path)}.{key}", fields[key], given)
    for name, field in fields.items():
        value = values.get(name, field.default)
        where = table[name].where if name in table else "the default"
        many = value if isinstance(value, tuple) else (value,)
        ready = tuple(interpolate(one) if isinstance(one, str) else one for one in many)
        check = CHECKS.get((path[0], name))
        if check is not None:
            for one in ready:
                try:
                    check(one)
                except ValueError as error:
                    raise wrong(where, f"{'.'.join(path)}.{name}: {error}") from None
        values[name] = ready if isinstance(value, tuple) else ready[0]
    try:
        return form(**values)
    except ValueError as error:
        where = next((given.where for given in table.values()), "the defaults")
        raise wrong(where, f"[{'.'.join(path)}]: {error}") from None


def _value(name: str, field: FieldInfo, given: Given) -> object:
    """One value as the type of its field; one text may stand for a list of one."""
    value = given.value
    text = isinstance(value, Text)
    if isinstance(field.default, tuple) and isinstance(value, str):
        value = _items(given, value) if text else [value]
    try:
        return msgspec.convert(value, field.type, strict=not text)
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").replace("array", "list").replace("object", "table")
        raise wrong(given.where, f"{name}: {reason[0].lower()}{reason[1:]}") from None


def _items(given: Given, text: str) -> object:
    """A list out of the environment: as the file has it, or its items with commas between them."""
    if not text.lstrip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        return tomllib.loads(f"list = {text}")["list"]
    except tomllib.TOMLDecodeError as error:
        raise wrong(given.where, f"begins with a bracket, but is no list as TOML has them: {error}") from None

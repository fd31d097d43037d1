"""What is given on the command line: JSON where it reads as JSON, else text."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec


def json_or_text(given: str) -> Any:
    """``17``, ``true``, ``{"a": 1}`` as the JSON they are; ``hello`` as text."""
    encoded = given.encode("utf-8", "surrogateescape")  # as the shell gave it
    try:
        return msgspec.json.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return encoded.decode("utf-8", "replace")


def pair(text: str) -> tuple[str, Any]:
    """``KEY=VALUE``. Raises BadParameter."""
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.BadParameter(f"{text!r} is not KEY=VALUE")
    return name, json_or_text(value)


def json_object(source: str) -> dict[str, Any]:
    """The JSON object in a file, or on standard input (``-``). Raises BadParameter."""
    try:
        content = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        return msgspec.json.decode(content, type=dict[str, Any])
    except OSError as error:
        raise click.BadParameter(f"{source}: {error.strerror}", param_hint="--json") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise click.BadParameter(f"{source}: not a JSON object: {error}", param_hint="--json") from None

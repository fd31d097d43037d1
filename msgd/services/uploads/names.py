"""File names: what a sender called a file, made harmless; and the header that says it to a browser."""

from __future__ import annotations

import re
import unicodedata
from typing import Final
from urllib.parse import quote

NAME_CHARACTERS: Final = 200
"""With its ending: what file systems and screens have room for."""

ENDING_CHARACTERS: Final = 12
"""Of a name that is too long, an ending of so much is kept."""

NAMELESS: Final = "upload"


def clean_name(given: str) -> str:
    """The last part of a path, without characters that control a terminal, the direction of writing, or C strings."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", given))[-1]
    shown = "".join(char for char in last if unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp"))
    name = " ".join(shown.split()).strip(". ")
    if len(name) > NAME_CHARACTERS:
        stem, dot, ending = name.rpartition(".")
        ending = dot + ending if stem and len(ending) <= ENDING_CHARACTERS else ""
        name = name[: NAME_CHARACTERS - len(ending)] + ending
    return name or NAMELESS


def disposition(name: str, *, inline: bool) -> str:
    """``Content-Disposition`` for a clean name (RFC 6266): a form for all, and the whole one for those who can."""
    plain = re.sub(r'[^ !#-\[\]-~]|["\\%]', "_", unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode())
    kind = "inline" if inline else "attachment"
    return f"{kind}; filename=\"{plain or NAMELESS}\"; filename*=UTF-8''{quote(name, safe='')}"

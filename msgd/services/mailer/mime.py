"""The written form of a message: header lines and body parts, in 7 bits, with CRLF.

The standard library's ``email`` would do, and its parser is what the tests read this with. But it takes some
milliseconds for each message, and writes long addresses in ``List-Unsubscribe`` as encoded words, which RFC 2047 §5
forbids there.

Sources: RFC 5322 (lines), RFC 2045 (transfer encodings), RFC 2046 (multipart), RFC 2047 (encoded words), RFC 2183 and
2231 (file names).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final
from urllib.parse import quote

LINE: Final = 76
"""Characters of a folded line (RFC 5322 §2.1.1 wants 78 at most)."""

LINE_OCTETS: Final = 990
"""No server need take a line of more than 998 octets."""

_WORD_BYTES: Final = 45
"""UTF-8 in one encoded word: 60 characters of base 64 and 12 around them; it has at most 75."""

_BREAKS: Final = re.compile(r"[\r\n\x00\u2028\u2029]")
_PLAIN_PHRASE: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]*")
_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")


def header(name: str, value: str) -> bytes:
    """A header line whose value is text. Raises ValueError if it holds a line break."""
    if _BREAKS.search(name) or _BREAKS.search(value):
        raise ValueError(f"the header {name[:40]!r} holds a line break")
    if value.isascii() and "=?" not in value and value.isprintable():
        return _folded(f"{name}: {value}").encode()
    return f"{name}: {encoded_words(value)}\r\n".encode()


def raw_header(name: str, value: str) -> bytes:
    """A header line with a form of its own, which is not folded: an id, an address of the web, a mailbox."""
    if _BREAKS.search(name) or _BREAKS.search(value):
        raise ValueError(f"the header {name[:40]!r} holds a line break")
    return f"{name}: {value}\r\n".encode()


def phrase(name: str) -> str:
    """A display name before ``<address>``. Raises ValueError if it holds a line break."""
    if _BREAKS.search(name):
        raise ValueError(f"the name {name[:40]!r} holds a line break")
    if not name.isascii() or "=?" in name or not name.isprintable():
        return encoded_words(name)
    if _PLAIN_PHRASE.fullmatch(name):
        return name
    return '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'


def encoded_words(text: str) -> str:
    """RFC 2047: as many words as it takes, each on a line of its own, none with half a character."""
    words, begun = [], b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(begun) + len(octets) > _WORD_BYTES:
            words.append(begun)
            begun = b""
        begun += octets
    words.append(begun)
    return "\r\n ".join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)


def text_part(content: str, subtype: str) -> bytes:
    """A text with its headers: as it is if it is ASCII with short lines, else quoted-printable."""
    lines = _LINE_BREAK.split(content if content.endswith(("\n", "\r")) else content + "\n")
    if content.isascii() and "\0" not in content and max(map(len, lines)) <= LINE_OCTETS:
        encoding, charset, body = "7bit", "us-ascii", "\r\n".join(lines).encode()
    else:
        octets = "\n".join(lines).encode("utf-8", "replace")
        encoding, charset = "quoted-printable", "utf-8"
        body = binascii.b2a_qp(octets, istext=True).replace(b"\n", b"\r\n")
    head = f'Content-Type: text/{subtype}; charset="{charset}"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n'
    return head.encode() + body


def file_part(name: str, content_type: str, content: bytes) -> bytes:
    """An attachment with its headers."""
    disposition = _parameter("filename", name)
    head = f"Content-Type: {content_type}\r\nContent-Transfer-Encoding: base64\r\n"
    head += f"Content-Disposition: attachment;\r\n {disposition}\r\n\r\n"
    return head.encode() + base64.encodebytes(content).replace(b"\n", b"\r\n")


def multipart(subtype: str, boundary: str, *parts: bytes) -> bytes:
    """Parts in one, with its headers. ``boundary`` stands in none of them."""
    line = b"--" + boundary.encode()
    head = f'Content-Type: multipart/{subtype}; boundary="{boundary}"\r\n\r\n'.encode()
    return head + b"".join(line + b"\r\n" + part + b"\r\n" for part in parts) + line + b"--\r\n"


def _parameter(name: str, value: str) -> str:
    plain = _BREAKS.sub(" ", value)
    if plain.isascii() and plain.isprintable():
        return f'{name}="' + re.sub(r'(["\\])', r"\\\1", plain) + '"'
    return f"{name}*=utf-8''" + quote(plain.encode("utf-8", "replace"), safe="")


def _folded(line: str) -> str:
    """The line, broken before spaces where it is too long; a word that is too long stands on a line of its own."""
    if len(line) <= LINE:
        return line + "\r\n"
    lines, begun = [], ""
    for word in re.split(r"(?<=[^ ])(?= )", line):
        if begun.strip() and len(begun) + len(word) > LINE and begun.rstrip()[-1:] != ":":
            lines.append(begun)
            begun = ""
        begun += word
    if begun.strip():
        lines.append(begun)
    elif lines:
        lines[-1] += begun
    return "\r\n".join(lines) + "\r\n"

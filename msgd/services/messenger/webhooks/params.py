"""What a ``webhook`` job is asked to do."""

from __future__ import annotations

import re
from typing import Annotated, Final

from hyperlink import URL
from msgspec import Meta, Raw, Struct, field

from msgd.errors import InvalidInput
from msgd.messages.wire import parse_time
from msgd.work.interface import JobType

URL_LENGTH: Final = 2000
"""Characters: what every server takes (RFC 9110 §4.1 asks for 8,000, of all servers of today)."""

EVENT: Final = r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$(?!\n)"
"""Full-stop delimited words, as the specification has event types. (Python's ``$`` is also before a last line feed.)"""

WORD: Final = r"^[A-Za-z0-9_-]{0,100}$(?!\n)"
"""An id, which stands in a header, or is looked for in a database."""

Event = Annotated[str, Meta(pattern=EVENT, max_length=200)]


class WebhookParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``params`` of a ``webhook`` job (DESIGN §4.2): to an endpoint, signed, or to a mere URL, without a
    signature."""

    url: Annotated[str, Meta(max_length=URL_LENGTH)] = ""
    endpoint: Annotated[str, Meta(pattern=WORD)] = ""
    event: Event
    data: Raw = field(default_factory=lambda: Raw(b"null"))  # as the bytes that were given
    id: Annotated[str, Meta(pattern=WORD)] = ""  # the webhook-id; empty: the job's id
    time: Annotated[str, Meta(max_length=40)] = ""  # when the event happened; empty: when the job was submitted

    def __post_init__(self) -> None:
        if bool(self.url) == bool(self.endpoint):
            raise ValueError("give either an endpoint or a url")
        if self.url:
            checked_url(self.url)
        if self.time:
            try:
                parse_time(self.time)
            except InvalidInput as error:
                raise ValueError(error.message) from None


def checked_url(text: str) -> str:
    """The URL in ASCII, without a fragment; raises ValueError saying what is wrong with it."""
    shown = repr(text[:200])
    try:
        url = _in_ascii(URL.from_text(text.strip()).normalize())
    except (ValueError, UnicodeError) as error:
        raise ValueError(f"url: {shown} is no URL: {error}") from None
    if url.scheme not in ("http", "https"):
        raise ValueError(f"url: {shown} must begin with https:// or http://")
    if not url.host or url.userinfo:
        raise ValueError(f"url: {shown} must name a host, and hold no user or password")
    if not 0 < (url.port or 0) < 65536:
        raise ValueError(f"url: {shown} has a port that there is not")
    found = url.replace(fragment="").to_text()
    if not found.isascii() or any(character <= " " or character == "\x7f" for character in found):
        raise ValueError(f"url: {shown} has characters that a URL cannot have")
    return found


def _in_ascii(url: URL) -> URL:
    """The URL as it is dialled. Only names of other letters go through IDNA, which knows neither addresses nor names
    with an underscore."""
    if not url.host.isascii():
        return url.to_uri()
    if not re.fullmatch(r"[a-z0-9._-]*|[a-f0-9:.]+", url.host):
        raise ValueError(f"there is no host {url.host!r}")
    return url.replace(host="").to_uri().replace(host=url.host)


WEBHOOK: Final = JobType("webhook", WebhookParams, ("delivered",), "Send an event to an endpoint or a URL.")

"""A whole message out of templates and a recipient: headers, text, HTML, attachments, as the bytes that are sent.

It has 7 bits, but for mailboxes with other characters than ASCII (RFC 6532), so that no server can be without what it
takes (8BITMIME, RFC 6152).

Sources: RFC 5322 (the message), RFC 2369 and 2919 (List-*), RFC 8058 (one click), RFC 3834 (Auto-Submitted).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Any

from msgspec import Struct

from msgd.services.mailer import mime
from msgd.services.mailer.addresses import Named, parse, parse_named
from msgd.services.mailer.markup import inline_styles, text_of
from msgd.services.mailer.params import ADDRESS_HEADERS
from msgd.services.mailer.templates import ContentError, Parts, Sources


class Attachment(Struct, frozen=True):
    """A file that goes along."""

    name: str
    content_type: str
    content: bytes


class Mailing(Struct, frozen=True, kw_only=True):
    """What all mails of a job have in common."""

    parts: Parts  # as templates
    template: str = ""
    folder: str = ""
    sender: Named
    headers: Mapping[str, str] = {}
    list_id: str = ""
    attachments: Sequence[Attachment] = ()
    shown: bool = False  # whether its parts are to be looked at, beside the messages


class Copy(Struct, frozen=True, kw_only=True):
    """What one recipient's mail has of its own."""

    row: int
    email: str
    name: str = ""
    vars: Mapping[str, Any] = {}
    message_id: str  # without its angle brackets
    date_s: int  # since 1970
    unsubscribe_url: str = ""


class Composed(Struct, frozen=True):
    """A message, ready to be signed and sent, and its parts if they are to be looked at."""

    message: bytes
    parts: Parts | None


class Composer:
    """Makes the messages of one mailing."""

    def __init__(self, mailing: Mailing) -> None:
        """Raises ContentError for templates that cannot be used."""
        self._mailing = mailing
        self._sources = Sources(mailing.parts, mailing.template, mailing.folder)
        self._from = _mailbox("From", mailing.sender)
        given = {"MIME-Version": "1.0", **mailing.headers}
        if not any(name.lower() == "auto-submitted" for name in given):
            given["Auto-Submitted"] = "auto-generated"
        self._headers = b"".join(_given(name, value) for name, value in given.items())
        self._files = [mime.file_part(one.name, one.content_type, one.content) for one in mailing.attachments]

    def compose(self, copy: Copy) -> Composed:
        """The message for one recipient. Raises ContentError."""
        variables = {
            **copy.vars,
            "email": copy.email,
            "name": copy.name,
            "row": copy.row,
            "unsubscribe_url": copy.unsubscribe_url,
        }
        parts = self._sources.render(variables)
        parts = Parts(parts.subject, parts.text or text_of(parts.html), inline_styles(parts.html))
        if not parts.subject:
            raise ContentError("subject: it is empty for this recipient")
        try:
            recipient = Named(copy.name, parse(copy.email))
            return Composed(self._message(copy, recipient, parts), parts if self._mailing.shown else None)
        except (ValueError, LookupError) as error:
            raise ContentError(f"the message cannot be built: {error}") from None

    def _message(self, copy: Copy, recipient: Named, parts: Parts) -> bytes:
        mailing = self._mailing
        head = [
            self._from,
            _mailbox("To", recipient),
            mime.header("Subject", parts.subject),
            mime.raw_header("Date", formatdate(copy.date_s)),
            mime.raw_header("Message-ID", f"<{copy.message_id}>"),
        ]
        if copy.unsubscribe_url:
            if mailing.list_id:
                head.append(mime.raw_header("List-Id", f"<{mailing.list_id}>"))
            head.append(mime.raw_header("List-Unsubscribe", f"<{copy.unsubscribe_url}>"))
            head.append(mime.raw_header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"))
        return b"".join([*head, self._headers, self._body(copy, parts)])

    def _body(self, copy: Copy, parts: Parts) -> bytes:
        # Nobody who writes a template or a variable can guess it: the id is a keyed hash.
        boundary = f"=_{copy.message_id.partition('@')[0]}"
        texts = [mime.text_part(parts.text, "plain")] if parts.text or not parts.html else []
        if parts.html:
            texts.append(mime.text_part(parts.html, "html"))
        body = texts[0] if len(texts) == 1 else mime.multipart("alternative", f"{boundary}-a", *texts)
        return mime.multipart("mixed", f"{boundary}-m", body, *self._files) if self._files else body


def _given(name: str, value: str) -> bytes:
    if name.lower() in ADDRESS_HEADERS:
        return _mailbox(name, parse_named(value))
    return mime.raw_header(name, value) if value.isascii() else mime.header(name, value)


def _mailbox(name: str, whose: Named) -> bytes:
    mailbox = whose.address.mailbox
    return mime.raw_header(name, f"{mime.phrase(whose.name)} <{mailbox}>" if whose.name else mailbox)

"""What a mail job is asked to do, checked to the bottom: a wrong address, header or template is told at the door."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Annotated, Any, Final

from msgspec import Meta, Struct, field

from msgd.services.mailer.addresses import Address, Named, check_name, parse, parse_named
from msgd.services.mailer.templates import check_template
from msgd.work.interface import JobType

SUBJECT_CHARACTERS: Final = 1000
TEMPLATE_CHARACTERS: Final = 500_000
"""A newsletter with all its styles has 100,000; the params as a whole are bounded by 1 MiB."""

VARS: Final = 100
HEADERS: Final = 50
HEADER_CHARACTERS: Final = 900
"""RFC 5322 §2.1.1: a line has at most 998 octets, and not every value can be folded."""

ATTACHMENTS: Final = 20
ATTACHED_BYTES: Final = 10 * 1024 * 1024
"""Of all attachments of a mail: every server takes so much, and twenty mails in hand are not half a gigabyte."""

FORBIDDEN: Final = frozenset(
    [
        "from",
        "to",
        "cc",
        "bcc",
        "subject",
        "date",
        "message-id",
        "sender",
        "return-path",
        "received",
        "mime-version",
        "dkim-signature",
        "list-id",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "delivered-to",
        "x-original-to",
        "envelope-to",
        "authentication-results",
        "errors-to",
        "return-receipt-to",
        "disposition-notification-to",
    ]
)
FORBIDDEN_BEGINNINGS: Final = ("content-", "resent-", "arc-", "x-msgd-")
"""Headers that a job cannot set: the mailer sets them itself, or they say who sends to whom."""

ADDRESS_HEADERS: Final = frozenset({"reply-to"})

RESERVED: Final = frozenset({"email", "name", "unsubscribe_url", "row"})
"""Variables that every template has."""

_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,70}")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\u2028\u2029]|\r|\n")
VARIABLE_CHARACTERS: Final = 64
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TEMPLATE_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
UPLOAD_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")

Subject = Annotated[str, Meta(max_length=SUBJECT_CHARACTERS)]
Source = Annotated[str, Meta(max_length=TEMPLATE_CHARACTERS)]


class Recipient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One to whom it goes, and what the templates are to know of them."""

    email: str
    name: str = ""
    vars: dict[str, Any] = {}

    def __post_init__(self) -> None:
        # Ten thousand of them come in one request.
        try:
            parse(self.email)
        except ValueError as error:
            raise ValueError(f"email: {error}") from None
        if self.name:
            _named("name", partial(check_name, self.name))
        if self.vars:
            check_vars(self.vars)

    @property
    def address(self) -> Address:
        return parse(self.email)


class Uploaded(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Recipients in an uploaded CSV: a head line with ``email``, perhaps ``name``, and a column for each variable."""

    upload: str

    def __post_init__(self) -> None:
        _check_upload("upload", self.upload)


class Content(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is mailed, to whomever."""

    subject: Subject = ""
    text: Source = ""
    html: Source = ""
    template: str = ""  # the name of one in the folder that ``[mail] templates`` names
    sender: str = field(default="", name="from")
    headers: dict[str, str] = {}
    attachments: Annotated[list[str], Meta(max_length=ATTACHMENTS)] = []  # ids of uploads
    unsubscribe: bool = True  # whether it has the headers and the address by which one leaves the list

    def check_content(self) -> None:
        """Raises ValueError naming the field."""
        if self.template:
            if self.text or self.html:
                raise ValueError("template: give either a template, or text and html")
            if not _TEMPLATE_NAME.fullmatch(self.template):
                raise ValueError(f"template: {self.template[:80]!r} is not a name of letters, digits, - and _")
        elif not self.text and not self.html:
            raise ValueError("text: the mail is empty; give text, html or both, or a template")
        if not self.subject.strip() and not self.template:
            raise ValueError("subject: it is empty")
        if _CONTROL.search(self.subject):
            raise ValueError("subject: it holds a line break or another control character")
        for name in ("subject", "text", "html"):
            _named(name, partial(check_template, getattr(self, name), html=name == "html"))
        if self.sender:
            _named("from", lambda: parse_named(self.sender))
        _check_headers(self.headers)
        for number, upload in enumerate(self.attachments):
            _check_upload(f"attachments[{number}]", upload)

    @property
    def named_sender(self) -> Named | None:
        """Whom it is from, if it says so."""
        return parse_named(self.sender) if self.sender else None


class MailParams(Content, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``params`` of a ``mail`` job (DESIGN §4.2).

    ``part`` is not for those who submit: the mailer gives it to the parts of a large job, first and last row.
    """

    to: list[Recipient] | Uploaded = []
    part: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.part is not None:
            if self.to or self.subject or self.text or self.html or self.template:
                raise ValueError("part: it is for the mailer alone, and has nothing beside it")
            return
        if isinstance(self.to, list) and not self.to:
            raise ValueError("to: there is nobody to mail to; give a list of {email, name, vars}, or {upload: id}")
        self.check_content()


class Known(Content, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """The params of a job that was accepted, without its recipients, of whom there may be ten thousand: nothing of it
    is checked again."""

    part: tuple[int, int] | None = None


class PreviewParams(Content, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a preview: the params, and one recipient."""

    recipient: Recipient

    def __post_init__(self) -> None:
        self.check_content()


def check_vars(given: dict[str, Any]) -> None:
    """Raises ValueError for what cannot be the variables of a template."""
    if len(given) > VARS:
        raise ValueError(f"vars: {len(given)} variables; at most {VARS} are taken")
    for name in given:
        if not is_variable(name):
            if name in RESERVED:
                raise ValueError(f"vars: {name!r} is given by the mailer itself")
            raise ValueError(f"vars: {name[:80]!r} cannot be the name of a variable")


def is_variable(name: str) -> bool:
    """Whether a column of this name can be asked for in a template."""
    return len(name) <= VARIABLE_CHARACTERS and _is_variable(name)


@lru_cache(1024)
def _is_variable(name: str) -> bool:
    return _VARIABLE.fullmatch(name) is not None and name not in RESERVED


def _check_headers(given: dict[str, str]) -> None:
    if len(given) > HEADERS:
        raise ValueError(f"headers: {len(given)} headers; at most {HEADERS} are taken")
    seen = set()
    for name, value in given.items():
        lowered = name.lower()
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"headers: {name[:80]!r} cannot be the name of a header")
        if lowered in FORBIDDEN or lowered.startswith(FORBIDDEN_BEGINNINGS):
            raise ValueError(f"headers: {name} is set by the mailer alone")
        if lowered in seen:
            raise ValueError(f"headers: {name} is given twice")
        seen.add(lowered)
        if _CONTROL.search(value):
            raise ValueError(f"headers: the value of {name} holds a line break or another control character")
        if len(value.encode("utf-8", "surrogatepass")) > HEADER_CHARACTERS:
            raise ValueError(f"headers: the value of {name} has more than {HEADER_CHARACTERS} bytes")
        if lowered in ADDRESS_HEADERS:
            _named(f"headers: {name}", partial(parse_named, value))


def _check_upload(where: str, upload: str) -> None:
    if not UPLOAD_ID.fullmatch(upload):
        raise ValueError(f"{where}: {upload[:80]!r} is not the id of an upload")


def _named(where: str, check: Callable[[], object]) -> None:
    try:
        check()
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


MAIL: Final = JobType(
    "mail",
    MailParams,
    ("sent", "deferred", "bounced", "suppressed", "unknown"),
    "Mail one message, or a newsletter to thousands, each recipient once.",
)

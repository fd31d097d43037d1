"""``/api/suppressions``, and the page on which one leaves a list (RFC 8058)."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from msgd.errors import InvalidInput, NotFound
from msgd.notifier.interface import Answer, Call, Principal, Route, answer
from msgd.services.mailer.addresses import Address, parse
from msgd.services.mailer.forms import NewSuppression, suppression_view
from msgd.services.mailer.signing import Signer
from msgd.services.mailer.store import signing_key
from msgd.services.mailer.suppressions.store import Database, find, lift, page, suppress

PAGE_DEFAULT: Final = 100
PAGE_MOST: Final = 1000

MAIL: Final = "mail"
"""Who administers a topic of this name may see and change whom mail is kept from: ``admin:mail``, or ``admin:#``."""

ONE_CLICK_BYTES: Final = 4096
"""``List-Unsubscribe=One-Click``, as a form of either kind."""

DETAIL_CHARACTERS: Final = 500

_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title}</title>
<link rel="stylesheet" href="/static/base.css"><link rel="stylesheet" href="/static/parts.css">
<link rel="stylesheet" href="/static/mail.css"></head>
<body class="mail-leave"><main><h1>{title}</h1>{body}</main></body></html>
"""


class SuppressionsApi:
    """Lists, adds and lifts suppressions; lets the owner of an address leave by a signed link."""

    def __init__(self, *, database: Database, now_ms: Callable[[], int], new_key: Callable[[], bytes]) -> None:
        """``new_key``: makes the key of signatures, should no mailer have done so yet."""
        self._database = database
        self._now_ms = now_ms
        self._new_key = new_key
        self._signer: Signer | None = None

    def routes(self) -> Sequence[Route]:
        leave = "/unsubscribe/{word}"
        return (
            Route(method="GET", path="/api/suppressions", endpoint=self.list),
            Route(method="POST", path="/api/suppressions", endpoint=self.add),
            Route(method="DELETE", path="/api/suppressions/{email}", endpoint=self.lift),
            Route(method="GET", path=leave, endpoint=self.ask, open=True, produces=()),
            Route(
                method="POST", path=leave, endpoint=self.leave, open=True, produces=(), takes=(),
                body_bytes=ONE_CLICK_BYTES,
            ),
        )  # fmt: skip

    async def list(self, call: Call) -> Answer:
        """A page of them, by address."""
        _require(call.principal)
        limit = int(call.number("limit", PAGE_DEFAULT, least=1, most=PAGE_MOST))
        search, after = call.text("search").lower(), call.text("after").lower()
        found = await self._database.read(partial(page, search=search, after=after, limit=limit + 1))
        more = len(found) > limit
        found = found[:limit]
        shown = [suppression_view(one) for one in found]
        return answer({"suppressions": shown, "next": parse(found[-1].email).key if more else None})

    async def add(self, call: Call) -> Answer:
        """Send nothing more to an address; one that is suppressed stays as it is."""
        _require(call.principal)
        given = call.json(NewSuppression)
        address = _address(given.email)
        detail = given.detail[:DETAIL_CHARACTERS]
        if "\0" in detail:
            raise InvalidInput("a detail holds no U+0000", where="detail")  # nor does PostgreSQL
        email = given.email.strip()
        write = partial(
            suppress, key=address.key, email=email, reason="added", detail=detail, job="", now_ms=self._now_ms()
        )
        new = await self._database.write(write)
        found = await self._database.read(partial(find, key=address.key))
        assert found is not None
        return answer(suppression_view(found), status=201 if new else 200)

    async def lift(self, call: Call) -> Answer:
        """Send to an address again."""
        _require(call.principal)
        if not await self._database.write(partial(lift, key=_address(call.words["email"]).key)):
            raise NotFound("this address is not suppressed", where="email")
        return Answer(status=204, content_type="")

    # -- whoever has the link ------------------------------------------------------------------------------------------

    async def ask(self, call: Call) -> Answer:
        """A page with a button: mail programs and scanners follow links, and nothing happens by that."""
        key, _ = await self._read(call)
        body = f"<p>No more mail will be sent to <strong>{html.escape(key)}</strong>.</p>"
        body += '<form method="post"><button class="button" type="submit">Unsubscribe</button></form>'
        return _html("Unsubscribe", body)

    async def leave(self, call: Call) -> Answer:
        """By the button, or by a mail program's one click."""
        key, job = await self._read(call)
        write = partial(suppress, key=key, email=key, reason="unsubscribed", detail="", job=job, now_ms=self._now_ms())
        await self._database.write(write)
        return _html("Unsubscribed", f"<p>No more mail will be sent to <strong>{html.escape(key)}</strong>.</p>")

    async def _read(self, call: Call) -> tuple[str, str]:
        if self._signer is None:
            self._signer = Signer(await self._database.write(partial(signing_key, made=self._new_key())))
        found = self._signer.read_unsubscribe(call.words["word"])
        if found is None:
            raise NotFound("this link is not one of ours, or not whole", where="path")
        return found


def _require(who: Principal) -> None:
    who.require(who.administers(MAIL), "changing whom mail is kept from")


def _address(text: str) -> Address:
    try:
        return parse(text)
    except ValueError as error:
        raise InvalidInput(str(error), where="email") from None


def _html(title: str, body: str) -> Answer:
    headers = {"content-security-policy": _POLICY, "cache-control": "no-store"}
    page_ = _PAGE.format(title=title, body=body)
    return Answer(body=page_.encode(), content_type="text/html; charset=utf-8", headers=headers)

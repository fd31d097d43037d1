"""The frontier in the database: functions over an open transaction, called through ``Context.checkpoint``.

A batch of finished pages, the links they had, the counters and the next entries are one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import Executable, and_, bindparam, delete, func, or_, select, update

from msgd.database import Transaction
from msgd.database.bulk import insert
from msgd.messages import json
from msgd.services.crawler.frontier import PAGE, Entry, Link, digest, level_of
from msgd.services.crawler.tables import crawl_urls, crawls
from msgd.services.crawler.urls import Address


class Counts(Struct, frozen=True):
    """What a crawl has done so far, or a batch adds to that."""

    pages: int = 0  # fetched, or tried in vain: what max_pages bounds
    errors: int = 0
    redirects: int = 0
    skipped: int = 0  # robots.txt forbids them
    results: int = 0
    bytes: int = 0

    def plus(self, other: Counts) -> Counts:
        return Counts(
            self.pages + other.pages,
            self.errors + other.errors,
            self.redirects + other.redirects,
            self.skipped + other.skipped,
            self.results + other.results,
            self.bytes + other.bytes,
        )


class Crawl(Struct, frozen=True):
    """A crawl as it was saved last."""

    id: int
    started_ms: int
    sites: Sequence[str]
    next_n: int
    known: int
    handled: int
    counts: Counts

    @property
    def queued(self) -> int:
        """URLs known and not done with."""
        return self.known - self.handled


class Batch(Struct, frozen=True):
    """What is to be saved: finished entries, failed tries of others, new links."""

    done: Sequence[int] = ()  # n
    tries: Sequence[tuple[int, int]] = ()  # n, tries so far
    links: Sequence[Link] = ()
    counts: Counts = Counts()
    sites: Sequence[str] = ()  # all of them, if there are new ones


class Wanted(Struct, frozen=True):
    """Which entries to bring along: at most ``limit`` of ``level`` after ``after``; if there are none, and
    ``next_level`` allows it, the first of the lowest level that has some."""

    level: int
    after: int
    limit: int
    next_level: bool


class Saved(Struct, frozen=True):
    """The state after a save, and the entries that were wanted."""

    crawl: Crawl
    entries: Sequence[Entry]


def open_crawl(transaction: Transaction, job: str, run: int, start: Address, site: str, now_ms: int) -> Crawl:
    """The crawl of this run of a job, begun with its start page if it is new."""
    row = transaction.execute(select(crawls).where(crawls.c.job == job, crawls.c.run == run)).one_or_none()
    if row is not None:
        return Crawl(
            row.id,
            row.started_ms,
            json.decode(row.sites.encode(), list[str]),
            row.next_n,
            row.known,
            row.handled,
            Counts(row.pages, row.errors, row.redirects, row.skipped, row.results, row.bytes),
        )
    # A run of its own: what an earlier one left behind is of no use to anybody.
    transaction.execute(delete(crawls).where(crawls.c.job == job))
    values = {"job": job, "run": run, "started_ms": now_ms, "sites": json.encode([site]).decode()}
    numbers = dict.fromkeys(("handled", "pages", "errors", "redirects", "skipped", "results", "bytes"), 0)
    statement = crawls.insert().values(**values, **numbers, next_n=1, known=1).returning(crawls.c.id)
    id_ = transaction.execute(statement).scalar_one()
    _insert_links(transaction, id_, 0, [Link(start, level_of(0), PAGE)])
    return Crawl(id_, now_ms, [site], 1, 1, 0, Counts())


def save(transaction: Transaction, crawl: Crawl, batch: Batch, wanted: Wanted) -> Saved:
    """Save a batch and bring the next entries. ``crawl``: the state that the last save returned."""
    if batch.done:
        _update(transaction, _MARK_DONE, [{"c": crawl.id, "at": n} for n in batch.done])
    if batch.tries:
        _update(transaction, _COUNT_TRIES, [{"c": crawl.id, "at": n, "count": tries} for n, tries in batch.tries])
    added = _insert_links(transaction, crawl.id, crawl.next_n, batch.links) if batch.links else 0
    state = Crawl(
        crawl.id,
        crawl.started_ms,
        batch.sites or crawl.sites,
        crawl.next_n + len(batch.links),
        crawl.known + added,
        crawl.handled + len(batch.done),
        crawl.counts.plus(batch.counts),
    )
    if state != crawl:
        counts = state.counts
        transaction.execute(
            update(crawls)
            .where(crawls.c.id == crawl.id)
            .values(
                sites=json.encode(state.sites).decode(),
                next_n=state.next_n,
                known=state.known,
                handled=state.handled,
                pages=counts.pages,
                errors=counts.errors,
                redirects=counts.redirects,
                skipped=counts.skipped,
                results=counts.results,
                bytes=counts.bytes,
            )
        )
    return Saved(state, _load(transaction, crawl.id, wanted) if wanted.limit > 0 else ())


def forget(transaction: Transaction, crawl: Crawl) -> None:
    """Delete a crawl that has ended, with its frontier."""
    transaction.execute(delete(crawls).where(crawls.c.id == crawl.id))


_MARK_DONE: Final = (
    update(crawl_urls).where(crawl_urls.c.crawl == bindparam("c"), crawl_urls.c.n == bindparam("at")).values(done=True)
)
_COUNT_TRIES: Final = (
    update(crawl_urls)
    .where(crawl_urls.c.crawl == bindparam("c"), crawl_urls.c.n == bindparam("at"))
    .values(tries=bindparam("count"))
)
# A page may be found again in a way that counts more: by a redirect on a level between that of the first link to it and
# the one being visited, or on the same level under another order of its query arguments, of which the least is fetched.
# Nothing of a level is fetched before all of it is known, so this never changes what was fetched.
_SETTLE: Final = (
    update(crawl_urls)
    .where(
        crawl_urls.c.crawl == bindparam("c"),
        crawl_urls.c.digest == bindparam("known"),
        or_(
            crawl_urls.c.level > bindparam("at"),
            and_(crawl_urls.c.level == bindparam("at"), crawl_urls.c.url > bindparam("found")),
        ),
    )
    .values(level=bindparam("at"), url=bindparam("found"))
)


def _update(transaction: Transaction, statement: Executable, rows: Sequence[dict[str, object]]) -> None:
    transaction.execute(statement, rows)


def _insert_links(transaction: Transaction, crawl: int, first_n: int, links: Sequence[Link]) -> int:
    """Insert those that are new; how many were."""
    rows = [
        {
            "crawl": crawl,
            "n": n,
            "digest": digest(link.address.key, link.kind),
            "url": link.address.url,
            "level": link.level,
            "kind": link.kind,
            "tries": 0,
            "done": False,
        }
        for n, link in enumerate(links, first_n)
    ]
    statement = insert(transaction, crawl_urls).on_conflict_do_nothing(index_elements=["crawl", "digest"])
    done = transaction.execute(statement.execution_options(preserve_rowcount=True), rows)
    settled = [
        {"c": crawl, "known": row["digest"], "at": row["level"], "found": row["url"]}
        for row, link in zip(rows, links, strict=True)
        if link.may_settle
    ]
    if settled:
        _update(transaction, _SETTLE, settled)
    return done.rowcount


def _load(transaction: Transaction, crawl: int, wanted: Wanted) -> Sequence[Entry]:
    entries = _entries(transaction, crawl, wanted.level, wanted.after, wanted.limit)
    if entries or not wanted.next_level:
        return entries
    lowest = select(func.min(crawl_urls.c.level)).where(crawl_urls.c.crawl == crawl, ~crawl_urls.c.done)
    level = transaction.execute(lowest).scalar_one_or_none()
    return [] if level is None else _entries(transaction, crawl, level, -1, wanted.limit)


def _entries(transaction: Transaction, crawl: int, level: int, after: int, limit: int) -> Sequence[Entry]:
    table = crawl_urls.c
    statement = (
        select(table.n, table.url, table.level, table.kind, table.tries)
        .where(table.crawl == crawl, table.level == level, table.n > after, ~table.done)
        .order_by(table.n)
        .limit(limit)
    )
    return [Entry(*row) for row in transaction.execute(statement)]

"""The recipients of a mailing, put into its ledger: those of the params, or those of an uploaded CSV as it is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import aclosing
from functools import partial
from itertools import islice
from typing import Any, Final

from msgd.blobs.interface import Blobs, Upload, Uploads
from msgd.clock import Clock
from msgd.errors import InvalidParams, NotFound
from msgd.services.mailer.csv_rows import CsvError, CsvRows
from msgd.services.mailer.ledger import MailingRow, NewRow
from msgd.services.mailer.maildir import InThread
from msgd.services.mailer.params import Recipient, Uploaded
from msgd.services.mailer.store import load
from msgd.work.interface import Context
from msgd.work.outage import wait_out

BATCH: Final = 500
"""Rows of a file put into the ledger by one step: each may have many variables."""

LISTED: Final = 2000
"""The same of a list, all of which is below a megabyte: some 20 ms, in which nobody else writes on SQLite."""


async def upload_of(uploads: Uploads, owner: str, id_: str, where: str) -> Upload:
    """An upload that a job of this owner may use. Jobs without an owner come from those who have the broker, and may
    use all. Raises InvalidParams."""
    try:
        found = await uploads.get(id_)
    except NotFound:
        found = None
    if found is None or (owner and found.owner != owner):
        raise InvalidParams(f"there is no upload {id_}", where=where)
    return found


class Loading:
    """Puts recipients into the ledger, from where it was left."""

    def __init__(
        self, context: Context[Any], mailing: MailingRow, uploads: Uploads, blobs: Blobs, clock: Clock,
        now_ms: Callable[[], int], in_thread: InThread,
    ) -> None:  # fmt: skip
        self._context = context
        self._mailing = mailing
        self._uploads = uploads
        self._blobs = blobs
        self._clock = clock
        self._now_ms = now_ms
        self._in_thread = in_thread  # a chunk of a file has thousands of rows

    async def run(self, to: list[Recipient] | Uploaded) -> bool:
        """Whether all are there now; False: the slice is over. Raises InvalidParams for a file that is none."""
        if isinstance(to, Uploaded):
            return await self._load_file(to.upload)
        rows = await self._in_thread(lambda: [_row(number, one) for number, one in enumerate(to, 1)])
        for at in range(0, len(rows), LISTED):
            batch = rows[at : at + LISTED]
            await self._save(batch, read=at + len(batch), complete=at + LISTED >= len(rows))
        return True

    async def _load_file(self, id_: str) -> bool:
        upload = await upload_of(self._uploads, self._context.job.owner, id_, "params.to.upload")
        reader = CsvRows()
        batch: list[NewRow] = []
        read = 0
        try:
            async with aclosing(self._blobs.read(upload.blob)) as chunks:
                async for chunk in chunks:
                    read_now = await self._in_thread(lambda chunk=chunk: list(reader.feed(chunk)))
                    rows = (row for row in read_now if row.row > self._mailing.rows)
                    while taken := list(islice(rows, BATCH - len(batch))):
                        batch += taken
                        read = batch[-1].row
                        if len(batch) == BATCH:
                            await self._save(batch, read=read, complete=False)
                            batch = []
                            if self._context.slice_over:
                                return False
            batch += [row for row in reader.end() if row.row > self._mailing.rows]
        except CsvError as error:
            raise InvalidParams(f"the upload {id_}: {error}", where="params.to.upload") from None
        read = batch[-1].row if batch else max(read, self._mailing.rows)
        if not read:
            raise InvalidParams(f"the upload {id_} has a head line, and no recipients", where="params.to.upload")
        await self._save(batch, read=read, complete=True)
        return True

    async def _save(self, batch: Iterable[NewRow], *, read: int, complete: bool) -> None:
        self._context.progress(done=0, total=read)
        write = partial(
            load, mailing=self._mailing.id, given=list(batch), read=read, complete=complete, now_ms=self._now_ms()
        )
        await wait_out(self._clock, partial(self._context.checkpoint, write))


def _row(number: int, one: Recipient) -> NewRow:
    return NewRow(number, one.email.strip(), one.address.key, one.name.strip(), one.vars)

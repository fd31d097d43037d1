"""A body that comes, as drafts of blobs: the files of a form (RFC 7578), or one file by itself."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from msgspec import Struct
from multipart import MultipartError, ParserLimitReached, PushMultipartParser, parse_options_header

from msgd.blobs.interface import Blob, Blobs, Draft, Usage
from msgd.config.settings import Uploads as Limits
from msgd.errors import InvalidInput, TooLarge
from msgd.services.uploads.names import clean_name
from msgd.services.uploads.sniff import SNIFF_BYTES, media_type

FORM: Final = "multipart/form-data"

HEADER_BYTES: Final = 8 * 1024
"""A line in the head of a file: its name, of some kB at most."""

HEADERS: Final = 8
"""Lines in the head of a file; browsers send two."""

OTHER_FIELDS: Final = 16
"""Fields of a form that are no files. What they say is not looked at."""

_BOUNDARY_CHARACTERS: Final = 200
"""RFC 2046 allows 70."""


Fits = Callable[[Usage], None]
"""Raises if so much of a request is more than its sender may have."""


class Received(Struct, frozen=True):
    """One file, whole and safe on our disk, which nobody else sees yet."""

    draft: Draft
    blob: Blob
    name: str
    media_type: str


class _File:
    """A file while it comes."""

    def __init__(self, draft: Draft, name: str, most: int, check: Callable[[int], None]) -> None:
        """``most``: bytes; ``check``: whether there is room for so many more."""
        self.draft = draft
        self._name = name
        self._most = most
        self._check = check
        self._head = b""

    async def write(self, piece: bytes) -> None:
        if self.draft.size + len(piece) > self._most:
            raise TooLarge(f"{self._name!r} is over the limit of {self._most} bytes for a file", where="body")
        self._check(len(piece))
        if len(self._head) < SNIFF_BYTES:
            self._head += piece[: SNIFF_BYTES - len(self._head)]
        await self.draft.write(piece)

    async def finish(self) -> Received:
        if not self.draft.size:
            raise InvalidInput(f"{self._name!r} is empty: a file of 0 bytes", where="body")
        return Received(self.draft, await self.draft.finish(), self._name, media_type(self._head, self._name))


class Receiver:
    """Takes what a request brings."""

    def __init__(self, blobs: Blobs, limits: Limits) -> None:
        self._blobs = blobs
        self._limits = limits

    @asynccontextmanager
    async def receive(
        self, chunks: AsyncGenerator[bytes, None], content_type: str, name: str, fits: Fits
    ) -> AsyncIterator[list[Received]]:
        """The files of a body, in order, once all have come. What is not published inside ``async with`` is forgotten
        after it, as is everything if the body breaks off or one of them is refused.

        ``name``: of a body that is one file; ``fits`` raises what is raised here as soon as what has come is more
        than its sender may have. Raises InvalidInput, TooLarge, StorageFull, StorageUnavailable.
        """
        drafts: list[Draft] = []
        try:
            kind, options = parse_options_header(content_type)
            if kind == FORM:
                yield await self._form(chunks, options.get("boundary", ""), drafts, fits)
            else:
                yield [await self._single(chunks, name, drafts, fits)]
        finally:
            await chunks.aclose()
            for draft in drafts:
                await draft.discard()

    async def _begin(self, name: str, drafts: list[Draft], fits: Fits) -> _File:
        draft = await self._blobs.draft()
        drafts.append(draft)

        def check(size: int) -> None:
            fits(Usage(sum(one.size for one in drafts) + size, len(drafts)))

        check(1)
        return _File(draft, clean_name(name), self._limits.file_bytes, check)

    async def _single(
        self, chunks: AsyncGenerator[bytes, None], name: str, drafts: list[Draft], fits: Fits
    ) -> Received:
        file = await self._begin(name, drafts, fits)
        async for chunk in chunks:
            await file.write(chunk)
        return await file.finish()

    async def _form(
        self, chunks: AsyncGenerator[bytes, None], boundary: str, drafts: list[Draft], fits: Fits
    ) -> list[Received]:
        if not 0 < len(boundary) <= _BOUNDARY_CHARACTERS or not boundary.isascii():
            raise InvalidInput("the form's boundary is missing or cannot be one", where="content-type")
        received: list[Received] = []
        file: _File | None = None
        try:
            parser = PushMultipartParser(
                boundary,
                max_header_size=HEADER_BYTES,
                max_header_count=HEADERS,
                max_segment_count=self._limits.files + OTHER_FIELDS,
            )
            async for chunk in chunks:
                for event in parser.parse(chunk):
                    if isinstance(event, bytes):
                        if file is not None:
                            await file.write(event)
                    elif event is None:
                        if file is not None:
                            received.append(await file.finish())
                            file = None
                    elif event.filename is not None:
                        self._check_room(received)
                        file = await self._begin(event.filename, drafts, fits)
            parser.close()
        except ParserLimitReached as error:
            raise TooLarge(
                f"the form is over a limit ({error}): at most {self._limits.files} files, each with a short head",
                where="body",
            ) from None
        except MultipartError as error:
            raise InvalidInput(f"the form cannot be read: {error}", where="body") from None
        if not received:
            raise InvalidInput("there is no file in the form", where="body")
        return received

    def _check_room(self, received: list[Any]) -> None:
        if len(received) >= self._limits.files:
            raise TooLarge(f"at most {self._limits.files} files in one request", where="body")

"""What a thumbnail job is asked to do."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from msgd.messages.topics import is_word
from msgd.work.interface import JobType

SIZES: Final = 10
"""Pictures of one upload in one job."""

PIXELS: Final = 4096
"""Of the longer side: larger pictures are no thumbnails, and all of a job's are in memory at once."""

NAME_LENGTH: Final = 32
"""A size's name is part of an address."""

RESERVED: Final = frozenset({"original"})
"""The upload itself."""


class ThumbnailParams(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``params`` of a ``thumbnail`` job (DESIGN §4.2)."""

    upload: Annotated[str, Meta(min_length=1, max_length=100)]
    name: Annotated[str, Meta(max_length=1000)] = ""  # what people know the job by: the file's
    sizes: dict[str, Annotated[int, Meta(ge=1, le=PIXELS)]] | None = None

    def __post_init__(self) -> None:
        if not is_word(self.upload):
            raise ValueError(f"upload: {self.upload!r} cannot be an upload's id")
        if self.sizes is None:
            return
        if not 1 <= len(self.sizes) <= SIZES:
            raise ValueError(f"sizes: name 1 to {SIZES} of them, or none at all")
        for name in self.sizes:
            if not is_word(name) or len(name) > NAME_LENGTH or name in RESERVED:
                raise ValueError(f"sizes: {name[:80]!r} cannot be a size's name")


THUMBNAIL: Final = JobType(
    "thumbnail", ThumbnailParams, results=("thumbnail",), summary="Make smaller pictures of an upload."
)

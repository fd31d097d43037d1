"""Job messages: what a worker gets from its queue."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

NORMAL: Final = "normal"
HIGH: Final = "high"
PRIORITIES: Final = frozenset({NORMAL, HIGH})


class JobMessage(Struct, frozen=True, kw_only=True):
    """A call to perform one slice of a job; ``slice`` None: sent by a foreign client, to be adopted first."""

    id: str
    type: str
    params: bytes  # JSON
    slice: int | None = None
    priority: str = NORMAL
    app_id: str = ""
    reply_to: str = ""
    correlation_id: str = ""
    traceparent: str = ""  # W3C Trace Context, passed on as it came

"""How far a mail is that was split into parts: each of them tells only of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from msgd.client import Client
from msgd.clock import sleep
from msgd.errors import Forbidden, MsgdError, NotFound, Unauthenticated
from msgd.jobs.interface import ENDED

LOOK_S: Final = 1.0
"""Between two looks at all parts together."""


def whole_progress(mail: Mapping[str, Any]) -> dict[str, Any]:
    """The progress of a whole mail, as its parts show theirs."""
    states, total = mail["states"], mail["recipients"]
    left = sum(states.get(state, 0) for state in ("queued", "sending", "deferred"))
    return {"done": total - left, "total": total, **({"": "paused"} if mail["paused"] else {}), "states": states}


async def tell_parts(client: Client, job: str, tell: Callable[[str], None]) -> None:
    """Tell now and then how far a mail is in all, once it has parts, to its end."""
    split, said = False, ""
    while True:
        await sleep(client.reactor, LOOK_S)
        try:
            found = await client.job(job)
            split = split or bool(found["children"]) or bool(await client.jobs(parent=job, limit=1))
            if split:
                progress = whole_progress(await client.mail(job))
                text = f"job.{job}: {progress['done']:,} of {progress['total']:,} recipients done"
                if text != said:
                    tell(text)
                said = text
        except (NotFound, Forbidden, Unauthenticated):
            return  # whoever watches says what is wrong
        except MsgdError:
            continue
        if found["state"] in ENDED:
            return

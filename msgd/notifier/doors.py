"""Who is connected: every open WebSocket, event stream and long-poll of this notifier, by whom it speaks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Final, Protocol

from msgd.errors import RateLimited
from msgd.notifier.interface import Principal

CROWDED_S: Final = 30.0
"""When to come again where there are too many: a connection whose client has vanished is noticed after that."""


class OpenDoor(Protocol):
    """Something of a client's that stays open. Hashed by identity."""

    @property
    def principal(self) -> Principal | None:
        """Whom it speaks for now; None before ``hello``. A renewed token changes it, but never its ``sub``."""

    def close(self, code: int, reason: str) -> None:
        """End it, telling the client why; ``code``: one of the close codes of ``operations``. Twice is harmless."""

    def drain(self, reconnect_in_s: float) -> None:
        """This process stops: send the client away, to come back in so many seconds."""


class OpenDoors:
    """All of them. Each adds itself when it opens and removes itself when it has ended, however that came."""

    def __init__(self, most: int = 0) -> None:
        """``most``: how many one principal may have; 0 sets no limit."""
        self._most = most
        self._subs: dict[OpenDoor, str] = {}
        self._by_sub: dict[str, dict[OpenDoor, None]] = {}
        self._watching: list[Callable[[OpenDoor], None]] = []

    def watch(self, opened: Callable[[OpenDoor], None]) -> None:
        """Call ``opened`` with each that is added from now on, while it is being added: it must not close it yet."""
        self._watching.append(opened)

    def add(self, door: OpenDoor) -> None:
        """It is open. To be called again once a principal is known that was not before."""
        self.remove(door)
        sub = door.principal.sub if door.principal is not None else ""
        self._subs[door] = sub
        if sub:
            self._by_sub.setdefault(sub, {})[door] = None
        for opened in self._watching:
            opened(door)

    def remove(self, door: OpenDoor) -> None:
        """It has ended; harmless if it was never added."""
        sub = self._subs.pop(door, "")
        if sub:
            doors = self._by_sub[sub]
            del doors[door]
            if not doors:
                del self._by_sub[sub]

    def check_room(self, who: Principal) -> None:
        """Raises RateLimited unless ``who`` may open one more."""
        if 0 < self._most <= self.count(who.sub):
            raise RateLimited(
                f"{who.sub!r} has {self._most} connections, the most there may be: close some, or come again",
                retry_after=CROWDED_S,
            )

    def of(self, sub: str) -> Sequence[OpenDoor]:
        """Those that speak for ``sub``, oldest first."""
        return list(self._by_sub.get(sub, ()))

    def count(self, sub: str) -> int:
        """How many speak for ``sub``."""
        return len(self._by_sub.get(sub, ()))

    def __len__(self) -> int:
        return len(self._subs)

    def __iter__(self) -> Iterator[OpenDoor]:
        """All, those too whose principal is not known yet; they may come and go meanwhile."""
        return iter(list(self._subs))

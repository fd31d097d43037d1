"""Exchanges and bindings, without I/O: which queues a message goes to (AMQP 0-9-1 §3.1.3)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from msgd.broker.topology import Exchange
from msgd.errors import NotFound
from msgd.messages.topics import matches

Q = TypeVar("Q")

_REMEMBERED: Final = 10_000
"""Routes kept ready; every job has a key of its own, so they are forgotten all at once rather than grow for ever."""


class Router(Generic[Q]):
    """Routes by the kinds of ``exchanges``: direct, topic, fanout, and on to the alternate where nothing is bound."""

    def __init__(self, exchanges: Iterable[Exchange]) -> None:
        self._exchanges = {exchange.name: exchange for exchange in exchanges}
        # key -> queues as a dict without values: a queue is bound once, in order
        self._bindings: dict[str, dict[str, dict[Q, None]]] = {name: {} for name in self._exchanges}
        self._routes: dict[tuple[str, str], tuple[Q, ...]] = {}

    def bind(self, exchange: str, key: str, queue: Q) -> None:
        """Send what comes to ``exchange`` under ``key`` (a pattern, if it is a topic exchange) to ``queue`` too."""
        self._bound(exchange).setdefault(key, {})[queue] = None
        self._routes.clear()

    def unbind(self, exchange: str, key: str, queue: Q) -> None:
        """Undo :meth:`bind`; harmless if it was not bound."""
        bound = self._bound(exchange)
        queues = bound.get(key, {})
        queues.pop(queue, None)
        if not queues:
            bound.pop(key, None)
        self._routes.clear()

    def unbind_all(self, queue: Q) -> None:
        """Undo every binding of ``queue``."""
        for exchange, bound in self._bindings.items():
            for key in [key for key, queues in bound.items() if queue in queues]:
                self.unbind(exchange, key, queue)

    def route(self, exchange: str, key: str) -> tuple[Q, ...]:
        """The queues a message goes to, each once. Raises NotFound for an exchange that there is not."""
        found = self._routes.get((exchange, key))
        if found is None:
            found = tuple(self._find(exchange, key))
            if len(self._routes) >= _REMEMBERED:
                self._routes.clear()
            self._routes[exchange, key] = found
        return found

    def _find(self, exchange: str, key: str) -> dict[Q, None]:
        bound = self._bound(exchange)
        shape = self._exchanges[exchange]
        found: dict[Q, None] = {}
        if shape.kind == "direct":
            found.update(bound.get(key, {}))
        else:
            for pattern, queues in bound.items():
                if shape.kind == "fanout" or matches(pattern, key):
                    found.update(queues)
        if not found and shape.alternate:
            return self._find(shape.alternate, key)
        return found

    def _bound(self, exchange: str) -> dict[str, dict[Q, None]]:
        try:
            return self._bindings[exchange]
        except KeyError:
            raise NotFound(f"there is no exchange {exchange!r}", where="exchange") from None

"""The publishing side of a broker with its wire in the test's hand: what arrives, what is confirmed, when it is cut."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail

from msgd.errors import BrokerRefused, BrokerUnavailable
from msgd.messages.envelope import Message
from msgd.work.once import Once


class Wire:
    """Publishes wait in ``under_way`` until the test says what becomes of them; ``arrived`` is what the broker has."""

    def __init__(self) -> None:
        self.arrived: list[tuple[str, str, Message]] = []
        self.under_way: list[tuple[tuple[str, str, Message], Deferred[None]]] = []
        self._connected = True
        self._mended = Once()

    def publish(self, exchange: str, key: str, message: Message, *, mandatory: bool = False) -> Deferred[None]:
        if not self._connected:
            return fail(BrokerUnavailable("cut"))
        confirm: Deferred[None] = Deferred()
        self.under_way.append(((exchange, key, message), confirm))
        return confirm

    def ready(self) -> Deferred[None]:
        return self._mended.wait() if not self._connected else _at_once()

    def confirm(self, count: int = 1) -> None:
        """The oldest ones arrive, and are confirmed."""
        for _ in range(min(count, len(self.under_way))):
            published, confirm = self.under_way.pop(0)
            self.arrived.append(published)
            confirm.callback(None)

    def refuse(self) -> None:
        """The oldest one is refused."""
        if self.under_way:
            self.under_way.pop(0)[1].errback(BrokerRefused("nack"))

    def cut(self, arrive: int = 0) -> None:
        """The connection is lost. So many of those under way had arrived, and all miss their confirm."""
        lost, self.under_way = self.under_way, []
        self.arrived += [published for published, _ in lost[:arrive]]
        if self._connected:
            self._connected = False
            self._mended = Once()
        for _, confirm in lost:
            confirm.errback(BrokerUnavailable("cut"))

    def mend(self) -> None:
        """The connection is back."""
        self._connected = True
        self._mended.happen()


def _at_once() -> Deferred[None]:
    ready: Deferred[None] = Deferred()
    ready.callback(None)
    return ready

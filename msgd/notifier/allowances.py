"""What each principal and each stranger may ask for, by the settings in ``[limits]``.

A principal is its ``sub``, exactly: whichever of its tokens, connections and transports it uses, it is one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from msgd.config.settings import Limits
from msgd.errors import RateLimited
from msgd.notifier.interface import Principal
from msgd.notifier.quotas import Held, Rate, refuse

BURST_S: Final = 10.0
"""So many seconds' worth may be asked for at once: a page that loads, a client that catches up."""


HELLO_AGAIN_S: Final = 10.0
"""By then those who say nothing have been cut off (``limits.HELLO_S``)."""


class Allowances:
    """Each method takes what it is asked for, or raises RateLimited, saying when to come again."""

    def __init__(self, settings: Limits, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._requests = _rate(settings.requests)
        self._operations = _rate(settings.operations)
        self._publishes = _rate(settings.publishes)
        self._subscriptions = Held(settings.subscriptions)
        self._bad_tokens = _rate(settings.bad_tokens)
        self._strangers = Held(settings.strangers)
        self._before_hello = _rate(settings.operations)

    # -- principals ---------------------------------------------------------------------------------------------------

    def request(self, who: Principal) -> None:
        """One HTTP request."""
        refuse(self._requests.take(who.sub, self._now_s()), "requests")

    def operation(self, who: Principal) -> None:
        """One message on a WebSocket, whether it can be understood or not."""
        refuse(self._operations.take(who.sub, self._now_s()), "operations")

    def publish(self, who: Principal, events: int) -> None:
        """So many events, by whatever transport."""
        refuse(self._publishes.take(who.sub, self._now_s(), events), "events")

    def subscribe(self, who: Principal) -> None:
        """One subscription, until :meth:`unsubscribe`."""
        if not self._subscriptions.take(who.sub):
            most = self._subscriptions.most
            raise RateLimited(f"{who.sub!r} has {most} subscriptions, the most there may be: use patterns")

    def unsubscribe(self, who: Principal, count: int = 1) -> None:
        """So many subscriptions are over."""
        self._subscriptions.give_back(who.sub, count)

    # -- strangers, by address ----------------------------------------------------------------------------------------

    def guess(self, address: str) -> None:
        """A token that was not seen before is about to be verified; takes nothing."""
        if address:
            refuse(self._bad_tokens.is_spent(address, self._now_s()), "bad tokens from your address")

    def guessed_wrong(self, address: str) -> None:
        """It was bad."""
        if address:
            self._bad_tokens.take(address, self._now_s())

    def knock(self, address: str) -> None:
        """A connection that does not say yet whom it speaks for, until :meth:`known`."""
        if address and not self._strangers.take(address):
            raise RateLimited(
                "too many connections from your address have not said hello yet", retry_after=HELLO_AGAIN_S
            )

    def stranger(self, address: str) -> None:
        """One message of a connection that does not say yet whom it speaks for."""
        if address:
            refuse(self._before_hello.take(address, self._now_s()), "operations before hello from your address")

    def known(self, address: str) -> None:
        """A connection has said whom it speaks for, or has ended."""
        if address:
            self._strangers.give_back(address)

    def __len__(self) -> int:
        """Everything that is kept in memory, of all kinds."""
        rates = (self._requests, self._operations, self._publishes, self._bad_tokens, self._before_hello)
        return sum(map(len, rates)) + len(self._subscriptions) + len(self._strangers)


def _rate(a_second: float) -> Rate:
    return Rate(a_second, max(1.0, a_second * BURST_S))

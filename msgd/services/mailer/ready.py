"""The mails of a slice that are ready and wait for their turn, by domain: each domain gets its own. Pure."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable

from msgspec import Struct

from msgd.services.mailer.ledger import Row
from msgd.services.mailer.pace import EARLY_S, Domain
from msgd.services.mailer.transaction import Envelope


class Mail(Struct, frozen=True, eq=False):
    """One that is ready: its row is *sending*."""

    row: Row
    envelope: Envelope
    name: str
    domain: Domain


class Ready:
    """Mails in the order in which they became ready."""

    def __init__(self) -> None:
        self._mails: OrderedDict[str, deque[Mail]] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._mails)

    def put(self, mail: Mail) -> None:
        self._mails.setdefault(mail.row.domain, deque()).append(mail)

    def take(self, now_s: float) -> Mail | None:
        """The next one whose turn may be now."""
        for name, mails in self._mails.items():
            ready_s = mails[0].domain.ready_s(now_s)
            if ready_s is not None and ready_s <= now_s:
                return self._take(name)
        return None

    def _take(self, domain: str) -> Mail:
        mails = self._mails[domain]
        mail = mails.popleft()
        if mails:
            self._mails.move_to_end(domain)  # each domain gets its turn
        else:
            del self._mails[domain]
        return mail

    def take_held(self, now_s: float) -> list[Mail]:
        """Those that have to wait for long, because their domain was slowed down meanwhile."""
        held = [name for name, mails in self._mails.items() if (mails[0].domain.ready_s(now_s) or 0) > now_s + EARLY_S]
        return [mail for name in held for mail in self._mails.pop(name)]

    def take_all(self) -> list[Mail]:
        mails, self._mails = self._mails, OrderedDict()
        return [mail for of_domain in mails.values() for mail in of_domain]

    def soonest_s(self, now_s: float) -> float | None:
        """When there is one whose turn may be, if that is a matter of time: now, or a time to come."""
        times: Iterable[float | None] = (mails[0].domain.ready_s(now_s) for mails in self._mails.values())
        return min((time for time in times if time is not None), default=None)

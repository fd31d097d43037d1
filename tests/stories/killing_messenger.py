"""twistd whose messenger kills itself (-9) once it has sent a message, before it knows that the server has it.

As in ``killing``: with ``MSGD_TEST_KILL=sent|acked`` and a file ``armed`` in the working directory. The product knows
nothing of this: the assembly picks an account, and here it picks ours.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.defer import Deferred

import msgd.app.messaging
from msgd.services.messenger.xmpp.account import Account
from tests.stories.killing import VARIABLE, Trigger

POINT = "sent|acked"


class KillingAccount(Account):
    """Kills the process when a message has left it."""

    def send(self, stanza: Any) -> Deferred[None]:
        trigger = Trigger(os.environ.get(VARIABLE, ""))
        sent = super().send(stanza)
        # The transport writes in the reactor's next turns; the answer takes longer than those, or it came first.
        self._reactor.callLater(0.001, trigger.reach, POINT)
        return sent


if __name__ == "__main__":
    from twisted.scripts.twistd import run

    setattr(msgd.app.messaging, "Account", KillingAccount)  # noqa: B010 - mypy forbids to assign to a class
    run()

"""twistd with a notifier whose patience is short, so that a test need not wait for what takes minutes in the field."""

from __future__ import annotations

from typing import Final

from twisted.scripts.twistd import run

from msgd.notifier import limits

PATIENCE: Final = {"HEARTBEAT_S": 4, "PONG_S": 3, "HELLO_S": 4.0, "IDLE_S": 4, "STALL_S": 4.0}
"""In place of the limits of these names, in seconds: more than a busy machine keeps those waiting who behave."""

if __name__ == "__main__":
    vars(limits).update(PATIENCE)  # before anything else of the notifier is imported, which takes them over
    run()

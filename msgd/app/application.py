"""A worker of your own under ``twistd -y``."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Application
from twisted.python.components import Componentized

from msgd.app.adapters import Adapters
from msgd.app.daemons import all_in_one, workers_only
from msgd.app.service import DaemonService
from msgd.config import load
from msgd.work import Worker


def application(*workers: Worker[Any], config: str | None = None) -> Componentized:
    """What a ``.tac`` file calls ``application``: a process that performs jobs of these workers' types.

    With ``[broker] url = "amqp://…"`` it is one more daemon beside the others; with the embedded broker, which one
    process has to itself, it is all of msgd with these workers added. ``config`` is a file (``MSGD_CONFIG`` otherwise).
    Raises ConfigError.
    """
    from twisted.internet import reactor

    settings = load(config)
    names = "-".join(worker.type.name for worker in workers)
    adapters = Adapters(settings, reactor, names)
    build = all_in_one if settings.broker.embedded else workers_only
    made: Componentized = Application(names)
    DaemonService(reactor, names, lambda: build(adapters, workers)).setServiceParent(made)
    return made

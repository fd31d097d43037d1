"""A worker of your own under ``twistd -y``."""

from __future__ import annotations

from typing import Any

from twisted.application.service import Application
from twisted.python.components import Componentized

from msgd.app.adapters import Adapters
from msgd.app.daemons import BUILT_IN, all_in_one, workers_only
from msgd.app.options import check_shared
from msgd.app.service import DaemonService
from msgd.config import load
from msgd.work import Worker


def application(*workers: Worker[Any], config: str | None = None) -> Componentized:
    """What a ``.tac`` file calls ``application``: a process that performs jobs of these workers' types.

    With ``[broker] url = "amqp://…"`` it is one more daemon beside the others; with the embedded broker, which one
    process has to itself, it is all of msgd with these workers added. ``config`` is a file (``MSGD_CONFIG`` otherwise).
    Raises ConfigError; TypeError without a worker, ValueError for two of one type, or of one that msgd performs itself.
    """
    types = [worker.type.name for worker in workers]
    if not types:
        raise TypeError("application() needs a worker, or several")
    for name in types:
        if name in BUILT_IN or types.count(name) > 1:
            raise ValueError(f"there is another worker of the job type {name!r}")
    from twisted.internet import reactor

    settings = load(config)
    names = "-".join(types)
    if not settings.broker.embedded:
        check_shared(settings)
    build = all_in_one if settings.broker.embedded else workers_only
    made: Componentized = Application(names)
    daemon = DaemonService(reactor, names, lambda: build(Adapters(settings, reactor, names), workers))
    daemon.setServiceParent(made)
    return made

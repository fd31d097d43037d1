"""Assembly: the only place, beside ``cli``, that picks implementations and touches the reactor.

================  =========================================================================
``adapters``      settings to implementations: database, broker, jobs, outbox, journal
``daemons``       the daemons in one table: what each is made of
``service``       a daemon as a Twisted service: start, drain, exit code
``accepted``      job types that are accepted before a worker of theirs has ever run
``listening``     open ports, and a start that nobody waits for
``messaging``     the messenger's workers
``options``       what ``twistd`` is told on the command line
``application``   :func:`application`: a worker of your own under ``twistd -y``
================  =========================================================================
"""

from msgd.app.application import application

__all__ = ["application"]

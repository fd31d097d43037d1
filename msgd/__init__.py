"""msgd: daemons that give any web application a background and a voice.

The map, from the ground up; imports point down only (``tests/test_layers.py``):

====================  ====================================================================
``errors``            every error: its code, whether a retry can help, whose fault it is
``clock``             time as everything below the assembly sees it
``config``            TOML and environment to frozen settings
``messages``          WHAT travels: topics, events, jobs, the AMQP form and its limits
``broker``            HOW it travels: one contract, RabbitMQ and embedded
``database``          the toolkit under every table: engine, group commit, migrations
``jobs``              WHAT was asked, and the outbox
``journal``           WHAT happened: numbered, kept, read by cursor
``work``              the worker runtime: slices, claims, retries, drain
``client``            the Python client of the HTTP and WebSocket interface
``services``          the programs behind the job types, and the recorder
``notifier``          the daemon that serves browsers
``ops``               health, systemd
``app``, ``cli``      assembly: the only places that pick implementations
====================  ====================================================================
"""

__version__ = "0.1.0"

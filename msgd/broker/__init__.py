"""How messages travel: one contract (``interface``), one table of names (``topology``), two implementations.

``amqp`` speaks to RabbitMQ through a hardened txAMQP; ``embedded`` keeps the queues in SQLite, within one process.
Both pass the suite in ``tests/contract/broker.py``.
"""

"""The broker's contract inside one process, over an SQLite file of its own: the default without any configuration.

==============  ==============================================================================
``broker``      EmbeddedBroker: publish, consume, bind; puts the parts below together
``writer``      group commit: what one transaction writes, and what happens when the disk is full
``store``       the file: tables, the statements of a batch, the lock against a second process
``queues``      a durable queue as far as it is in memory: what waits, who consumes
``deliveries``  consumers, and the messages in their hands
``replies``     reply queues, in memory
``routing``     exchanges and bindings (pure)
==============  ==============================================================================
"""

from __future__ import annotations

from msgd.broker.embedded.broker import EmbeddedBroker

__all__ = ["EmbeddedBroker"]

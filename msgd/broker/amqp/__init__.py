"""The broker contract over RabbitMQ, on a hardened txAMQP. Bottom up:

================  ==============================================================================
``spec``          AMQP 0-9-1 as txAMQP wants it described
``codec``         field tables and strings
``content``       content headers: the properties of a message
``methods``       the arguments of methods
``frames``        frames, without I/O
``channel``       calls and answers on one channel
``protocol``      one connection: txAMQP's client over all of the above
``url``           where a broker is, and how to log in
``connection``    a connection that mends itself
``acks``          which acknowledgements to write, without I/O
``subscription``  a consumer's stay on one channel, and deliveries
``standing``      what stands up again on every new channel
``consumer``      consumers
``replies``       reply queues
``publisher``     confirms and returns
``declare``       the topology, by the broker's version
``broker``        :class:`AmqpBroker`, all of it together
================  ==============================================================================
"""

from msgd.broker.amqp.broker import AmqpBroker

__all__ = ["AmqpBroker"]

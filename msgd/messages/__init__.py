"""What travels: pure values and their wire forms, without I/O.

===============  ==========================================================================
``topics``       topic names, patterns, buckets
``cursors``      where a reader is: ``<epoch>-<pos>``
``limits``       sizes at which a message is refused, each with its reason
``json``         UTF-8 JSON in and out, with clear errors
``envelope``     an AMQP message without a broker: body, properties, headers
``events``       events, recorded events, event ids
``jobs``         job messages
``wire``         events and jobs to and from the AMQP form
``live``         what the recorder tells the notifiers: batches and heads
``dead_letters`` a message as it goes to ``msgd.dead``
===============  ==========================================================================
"""

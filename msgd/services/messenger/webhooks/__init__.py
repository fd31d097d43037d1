"""Webhooks, as the Standard Webhooks specification has them.

=============  ==================================================================================================
``worker``     the worker of ``webhook`` jobs: each slice is one try
``params``     what such a job is asked to do
``message``    what is sent, the body and its headers; ``signing``: secrets and signatures
``posting``    one POST within bounds, through the guard of ``work.network``
``turns``      how many of them to one receiver, so that a slow one does not hold up the others
``endpoints``  what an endpoint is
``sealing``    how its secrets lie in the database; ``resealing``: those that were there before
``store``      endpoints and the last tries in the database; ``tables``
``commands``   what can be asked of endpoints, and who may; ``replay``: events of the journal, sent once more
``api``        ``/api/webhooks``
=============  ==================================================================================================
"""

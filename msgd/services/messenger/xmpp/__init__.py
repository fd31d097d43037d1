"""Instant messages over XMPP.

=============  ==================================================================================================
``worker``     the worker of ``message`` jobs; ``params``: what such a job is asked to do
``talk``       messages to people and to rooms, each until it has arrived
``account``    the one connection, which lasts
``stream``     one connection: TLS, login, a session, new or resumed (XEP-0198); ``login``: the account as configured
``acks``       which stanzas the server has taken responsibility for
``stanzas``    what is sent and what comes, as values
``people``     who writes to us, and what they are answered; ``store``, ``tables``: each command once
=============  ==================================================================================================
"""

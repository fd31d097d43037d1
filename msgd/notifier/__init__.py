"""The daemon that serves browsers: HTTP, WebSocket, and the dashboard, all on one port.

The contract, the assembly, and what all of it stands on:

================  ==========================================================================================
``interface``     the contract of routes: Principal, Call, Answer, Route (services' ``api.py`` stand on it)
``service``       all of it as one part of a daemon
``limits``        every limit of this package, with its reason
``tasks``         coroutines that nobody awaits, but somebody owns
================  ==========================================================================================

HTTP, from the socket to a route and back:

================  ==========================================================================================
``http``          the port: every request is routed from here, and every answer written
``calls``         one request, its bounded body, and what an endpoint sees of it
``router``        which route a method and a path mean (pure)
``api``           the routes, by what they are about; those of rooms and presence are in their packages
``views``         jobs and events as JSON; ``results``: a job's results as JSON, NDJSON and CSV
``problems``      errors as RFC 9457 problem documents
``flow``          a streamed answer, written as fast as the client takes it
``origins``       whose pages may call us; ``proxies``: who really asks, behind a proxy (both pure)
``site``          the dashboard's files and their headers; ``static`` holds them
================  ==========================================================================================

Who asks, and what they may:

================  ==========================================================================================
``auth``          tokens to principals: keys, verification, revocation; ``entry`` is where doors ask
``access``        who may read and publish what; ``attendance``: who reads what, and is sent away
``allowances``    how much each may ask for; ``quotas``: token buckets and counts (pure)
``admission``     how fast doors open when a herd comes; ``pressure``: when nothing more is taken in
``rooms``         rooms, their members, private doors; ``keystrokes``: who is typing
``presence``      who reads a topic now, on all notifiers together
``commands``      what any door can ask for: submit, cancel, run again, publish
================  ==========================================================================================

The doors, all of them to one feed:

================  ==========================================================================================
``session``       one ``msgd.v1`` conversation, whatever carries it; ``operations``: its words (pure)
``websocket``     what carries it; ``handshake`` (pure) and ``upgrade``: how an HTTP request becomes one
``streams``       event streams; ``sse``: their bytes (pure)
``longpoll``      one answer, as soon as there is something to say
``doors``         who is connected; ``heartbeat``: who still is
``direct``        written to the socket at once; ``backlog``: what waits for it, bounded
================  ==========================================================================================

The feed, shared by all readers:

================  ==========================================================================================
``feed``          what follows, joined to the broker and the journal
``line``          live messages put in order, and what is missing among them (pure)
``buckets``       which live buckets this process hears
``audience``      who listens to what (pure); ``showing``: what is released is offered to them, in turns
``squads``        readers at one place, sent to as one; ``wave``: the loop over their sockets, in C if it was built
``reader``        one reading of one connection, fed as its outlet drains
``subscription``  its place: at a cursor, paging, or live (pure)
``items``         an event encoded and framed once for all its readers; ``latest``: progress in order (pure)
``history``       pages for those behind; ``gaps``: what they lack (pure)
``resuming``      where many go on, in a few questions to the journal
``recent``        the newest events of topics in use; ``ring``: of one (pure)
================  ==========================================================================================
"""

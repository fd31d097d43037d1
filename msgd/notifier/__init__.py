"""The daemon that serves browsers: HTTP, WebSocket, and the dashboard, all on one port.

==================  ==========================================================================================
``interface``       the contract of routes: Principal, Call, Answer, Route (services' ``api.py`` stand on it)
``auth``            tokens to principals: keys, verification, the secret file (pure but for that file)
``limits``          every limit of this package, with its reason
``problems``        errors as RFC 9457 problem documents
``http``            the door: every request is routed from here, and every answer written
``calls``           one request, its bounded body, and what an endpoint sees of it
``flow``            a streamed answer, written as fast as the client takes it
``router``          which route a method and a path mean (pure)
``origins``         whose pages may call us (pure)
``commands``        what any door can ask for: submit, cancel, run again, publish
``views``           jobs and events as JSON
``results``         a job's results as JSON, NDJSON and CSV (pure writers, paged reader)
``api_*``           the routes, by what they are about
``line``            live messages put in order, and what is missing among them (pure)
``subscription``    one reader's place: at a cursor, paging, or live (pure)
``latest``          progress in order (pure)
``items``           an event encoded and framed once for all its readers
``buckets``         which live buckets this process hears
``tasks``           coroutines that nobody awaits, but somebody owns
``feed``            line and subscriptions joined to the broker and the journal, shared by all readers
``reader``          one subscription of one connection, fed as its outlet drains
``operations``      the words of ``msgd.v1``
``session``         one ``msgd.v1`` conversation, whatever carries it
``websocket``       ``msgd.v1`` on Autobahn
``site``            the dashboard's files and their headers; ``static`` holds them
``service``         all of it as one part of a daemon
==================  ==========================================================================================
"""

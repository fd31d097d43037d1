"""The crawler: the worker of ``crawl`` jobs.

=================  ==================================================================================================
``worker``         what the crawls of a process share; a slice for each claim
``crawl``          one slice: visits under way, their events on the way, the state saved after them
``tally``          what has ended, added up to what is saved next
``alarm``          the bell and the timers of a slice
``visit``          one visit: fetch, read, and say in values what came of it
``params``         what a crawl is asked to do, checked to the bottom
``scope``          which pages belong to it
``criteria``       what is looked for in a page, so that no expression can hold a thread for ever
``page``           reads one page: charset, title, links, text
``coding``         content codings, undone with a bound
``sitemap``        reads sitemaps
``urls``           what a link means, and which links mean the same page
``frontier``       which pages may be fetched now, and why in that order
``tables``         the frontier's tables; ``store``: what is done with them, in the transaction of a checkpoint
``hosts``          what is known of hosts; ``robots``: their rules (RFC 9309); ``politeness``: their pace
``fetch``          one GET within bounds; ``connections``: kept ones; ``http1``: reads responses, without I/O
``offload``        blocking work off the reactor's thread
=================  ==================================================================================================
"""

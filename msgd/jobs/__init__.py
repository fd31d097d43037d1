"""What was asked: jobs, their states, and the outbox through which every change of state speaks.

================  ==================================================================================
``interface``     the contracts: Jobs for those who ask and perform, OutboxStore for the publisher
``transitions``   the rules of DESIGN §3 as a table: pure
``postings``      what a transition says to the world, calls of workers and events: pure
``backoff``       when to try again: pure
``tables``        jobs, their idempotency keys, outbox, job types, dead letters
``rows``          jobs and outbox rows to and from the tables, many at a time
``batch``         a group's jobs in one transaction: locked, moved, written
``core``          what the parts of SqlJobs share; the parts are ``asking`` (with ``submitting``),
                  ``performing``, ``upkeep``, ``types`` and ``dead``
``sql``           SqlJobs, all parts together
``outbox_sql``    SqlOutbox, the outbox as its publisher sees it
``outbox``        Publisher: publishes what was committed here, sweeps up what was left or is due
================  ==================================================================================

A call goes this way: a method of a part makes a step; the database's group collects steps; a batch locks their jobs in
the order of their ids, has the transitions move them, and writes all of it with few statements; after the commit the
rows that were posted go to the publisher, and the values to the callers.
"""

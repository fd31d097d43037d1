"""What was asked: jobs, their states, and the outbox through which every change of state speaks.

================  =========================================================================
``interface``     the contracts: Jobs for those who ask and perform, OutboxStore
``transitions``   the rules of DESIGN §3 as a table: pure
``backoff``       when to try again: pure
``tables``        jobs, outbox, job types, dead letters
``sql*``          the contracts over the database toolkit
``outbox``        the publisher and sweeper of outbox rows
================  =========================================================================
"""

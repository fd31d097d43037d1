"""What happened: events with their numbers, kept and read by cursor. It does not know the broker.

================  =========================================================================
``interface``     the contract
``tables``        head, topics, events, keys, trimmed events, marks of time, followers
``numbering``     which events of a batch are stored, and under which numbers: pure
``statements``    what a batch does to the tables, in each database's fastest form
``append``        the one way in: lock the head, check the lease, number, store
``lease``         who may write
``selection``     which topics a list of patterns names, as conditions on an index
``history``       pages by cursor, both ways; topics
``gaps``          where a reader goes on, and what it has missed
``retention``     trimming and erasing
``sql``           the contract over the database toolkit
================  =========================================================================
"""

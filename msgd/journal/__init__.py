"""What happened: events with their numbers, kept and read by cursor. It does not know the broker.

================  =========================================================================
``interface``     the contract
``tables``        head, topics, events, trimmed ids, followers
``append``        the one way in: drop stale and known, number, store
``history``       pages by cursor, both ways; where a reader has a gap
``retention``     trimming and erasing
``sql``           the contract over the database toolkit
================  =========================================================================
"""

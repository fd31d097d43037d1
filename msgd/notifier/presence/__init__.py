"""Presence: who reads a topic now, on all notifiers together.

============  ================================================================================================
``roster``    the core (pure): what notifiers tell each other, and what each makes of it
``said``      what they tell, as messages on ``msgd.control``
``service``   the core on a broker and a clock; where doors say who comes and goes
``watching``  who wants to be told of changes, paced
``watch``     one connection that is told
``api``       ``GET /api/topics/{topic}/presence``
============  ================================================================================================
"""

"""Rooms: topics ``room.<name>`` with a title, an owner, members, and perhaps a closed door.

=============  ===============================================================================================
``interface``  what a room is
``store``      rooms and members in the database, each change with its event; ``tables``
``directory``  who is admitted to private rooms, in memory, on every notifier
``commands``   what can be asked for, and who may
``forms``      requests and answers
``api``        ``/api/rooms``
=============  ===============================================================================================
"""

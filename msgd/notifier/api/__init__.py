"""The routes of the notifier itself, a module for what each group is about; those of rooms and presence are theirs.

===========  =================================================================================================
``jobs``     ``/api/jobs``: submit, list, show, cancel, run again, results
``events``   ``POST /api/events``: publish
``topics``   ``/api/topics/…/events``, ``GET /api/events``: history, long-poll, event stream, erase
``session``  ``/api/session``: the dashboard's cookie
``revoke``   ``/api/revoke``: tokens taken back
``types``    ``/api/types``: job types listed, paused and resumed
``dead``     ``/api/dead``: dead letters, for whoever administers
``health``   ``/healthz`` and ``/readyz``
===========  =================================================================================================
"""

"""The steps of the schema, in ``versions``: a linear chain with ids that say the order and the owner.

``0001_jobs``, ``0002_journal``, ``0003_crawler``, ...: each file names its id in ``revision`` and the one before in
``down_revision`` (None for the first). A step that has been released is never changed: add another.
"""

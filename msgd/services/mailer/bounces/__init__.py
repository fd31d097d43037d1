"""Bounces that come later, as mail.

============  ==================================================================================
``notice``    what a mail says that could not be delivered: pure
``store``     what that changes, in one transaction
``reading``   Bounces: takes in what arrives in a folder; the contract of folders
``maildir``   a folder on the disk
``imap``      a folder on an IMAP server
``session``   a connection to it; ``words``: what is said there, ``place``: where it is
============  ==================================================================================
"""

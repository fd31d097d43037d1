"""Uploads over HTTP: taken as they come, onto the disk, and given back with the pictures made of them.

=============  =======================================================================
``api``        the routes, and who may do what
``receiving``  a body that comes, as drafts of blobs: a form with files, or one file
``sniff``      what a file is, told by its first bytes
``names``      file names that can be shown, stored and sent back
``serving``    a blob as an answer: ranges, tags, headers that keep browsers safe
=============  =======================================================================
"""

from __future__ import annotations

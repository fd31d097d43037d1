"""The thumbnailer: pictures made smaller, in processes that may die without taking anything with them.

=============  ==========================================================================
``params``     what a job is asked to do
``worker``     a job of type ``thumbnail``: decode, store, record, tell
``decoders``   the pool of decoding processes: limits, timeouts, replacement
``decoding``   what runs in such a process: libvips, with most of its loaders shut
``frames``     what the two say to each other: a length, then so many bytes
=============  ==========================================================================
"""

from __future__ import annotations

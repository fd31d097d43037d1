"""Feeds: RSS, Atom and JSON Feed, each entry once as an event.

=============  ==================================================================================================
``worker``     the worker of ``feed`` jobs: one slice a poll
``params``     what such a job is asked to do
``polling``    what a poll's answer means, and when the next one is: pure
``fetching``   one GET within bounds, hop by hop through the guard of ``work.network``
``parsing``    entries out of the XML of RSS and Atom: pure, for a thread
``json_feed``  the same out of JSON Feed
``text``       anybody's markup as plain text
``store``      which entries were published already
``tables``     its tables
=============  ==================================================================================================
"""

"""The messenger: what msgd tells others than browsers.

=============  ==================================================================================================
``webhooks``   the worker of ``webhook`` jobs: signed HTTP requests (Standard Webhooks)
``feeds``      the worker of ``feed`` jobs: each entry of a feed as an event
``xmpp``       the worker of ``message`` jobs: instant messages, and commands that come back
``rules``      notification rules, and what follows the journal for them
``owned``      whose rules and endpoints are, and pages of them
``counting``   bounds and words of answers that come from anywhere
=============  ==================================================================================================
"""

"""Notification rules: events that match a pattern become mail, messages or webhooks for someone.

=============  ==================================================================================================
``following``  what the messenger does: follows the journal, acts on what the rules ask for
``acting``     which rules an event concerns, and the jobs that come of it: pure
``template``   the language of conditions and templates: Jinja's, cut down until it is harmless
``pace``       how many messages an hour a rule may send: pure
``rule``       what a rule is
``form``       what somebody may write into one
``commands``   what can be asked of rules, and who may
``api``        ``/api/rules``
``store``      rules and what they have collected, in the database
``tables``     its tables
=============  ==================================================================================================
"""

"""The mailer: the worker of ``mail`` jobs.

=================  ==================================================================================================
``worker``         what the mailings of a process share; a slice for each claim
``params``         what is to be mailed, checked to the bottom; ``addresses``: the grammar of those
``loading``        recipients into the ledger; ``csv_rows``: out of a file, row by row
``ledger``         the words of the ledger; ``tables``, ``store``: where it is kept
``sending``        one slice: mails in hand, their events, the ledger after them
``pen``            writes the ledger, in groups; ``telling``: the events; ``beat``: when, for all slices together
``judging``        what becomes of a recipient after an attempt; ``replies``: what a server has said
``pace``           how fast, overall and to each domain; ``bell``: what a slice waits for
``ways``           the contract of the ways out
``pool``           the way to a server; ``smtp``: one connection
``maildir``        the way into a folder
``press``          has messages made, in the process ``press_process``; ``press_life``: one life of that
``turns``          which mailing is next with the press
``composing``      a message out of templates; ``templates``, ``markup``, ``mime``
``signature``      DKIM
``making_out``     from whom, with what, and what each copy has of its own
``signing``        signed words: who unsubscribes, what bounced
``suppressions``   who shall get no more mail, and how one leaves a list
``bounces``        bounces that come later, as mail
``api``            HTTP routes; ``forms``: their JSON; ``counting``: once for all who look
=================  ==================================================================================================
"""

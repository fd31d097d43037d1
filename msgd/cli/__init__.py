"""The ``msgd`` command: one module a group of commands.

================  =========================================================================
``main``          the command, its options, the table of commands
``exits``         exit codes, and the line that explains an error
``running``       a coroutine under the reactor: errors and signals to exit codes
``server``        which server to talk to, and as whom
``values``        what is given on the command line
``output``        what is printed: data to stdout, all else to stderr
``following``     a job shown to its end
``crawl``         ``crawl``
``submit``        ``submit``
``jobs``          ``jobs list|show|cancel|retry|results``
``events``        ``watch``, ``publish``
``rooms``         ``rooms list|create|show|delete|join|leave``
``token``         ``token``
``check``         ``check``
``demo``          ``demo``, on ``sample_site`` and ``sample_pages``
================  =========================================================================
"""

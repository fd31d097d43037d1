"""The ``msgd`` command: one module a group of commands.

================  =========================================================================
``main``          the command and its options
``running``       a coroutine under the reactor, errors to exit codes
``server``        which server to talk to, and as whom
``output``        what is printed: data to stdout, all else to stderr
``crawl``         ``crawl``
``submit``        ``submit``
``jobs``          ``jobs list|show|cancel|retry|results``
``events``        ``watch``, ``publish``
``token``         ``token``
``check``         ``check``
``demo``          ``demo``, on ``sample_site``
================  =========================================================================
"""

"""The Python client of msgd's HTTP and WebSocket interface, on Twisted.

================  =========================================================================
``http``          :class:`Client`: one call a method; errors as in :mod:`msgd.errors`
``watch``         :class:`Watch`: events of topics, in order, over reconnects
``connection``    one WebSocket
``body``          a response piece by piece
``place``         where the server is, and whether it may be shown a token
``refusals``      the error that a refused call stands for
``blocking``      :class:`~msgd.client.blocking.Client` for programs without a reactor: a web application, a script
================  =========================================================================
"""

from msgd.client.http import Client
from msgd.client.watch import Watch

__all__ = ["Client", "Watch"]

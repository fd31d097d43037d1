"""The toolkit under every table: SQLAlchemy Core in threads, on SQLite or PostgreSQL.

==============  ==================================================================================
``schema``      the MetaData that every table of msgd registers with, and column helpers
``engine``      Database: read and write from coroutines, one transaction a call
``group``       Group: many like requests in one transaction (group commit)
``bulk``        statements over many rows that both databases understand
``direct``      whole batches of rows, handed straight to the driver
``pipeline``    on PostgreSQL: several statements in one round trip
``shortcut``    on PostgreSQL: changes that only write, without a thread
``store``       what the two databases have in common, seen from a thread
``sqlite``      SQLite: one writer, WAL, every commit on the disk
``postgresql``  PostgreSQL through psycopg 3: a pool, retried conflicts, reconnects
``failures``    what the drivers' errors mean to msgd
``threads``     worker threads, and what stands in for them in tests
``migrate``     brings a database to the newest schema; ``migrations`` holds the steps
==============  ==================================================================================
"""

from __future__ import annotations

from msgd.database.engine import Database
from msgd.database.group import Group
from msgd.database.schema import metadata
from msgd.database.store import Transaction

__all__ = ["Database", "Group", "Transaction", "metadata"]

"""The one MetaData of all tables, and columns that are alike everywhere.

Times are milliseconds since 1970 in UTC, as BigInteger, in columns named ``*_ms``: one form on both databases, and no
time zone to get wrong.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Column, Integer, MetaData

metadata: Final = MetaData(
    # Migrations can only drop or alter what has a name, and the same name on both databases.
    naming_convention={
        "ix": "ix_%(column_0_N_label)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Serial: Final = BigInteger().with_variant(Integer(), "sqlite")
"""The type of a number that the database gives out: only an INTEGER PRIMARY KEY counts by itself on SQLite.

Add ``sqlite_autoincrement=True`` to a table whose numbers must never come again after the newest row is deleted.
"""


def serial(name: str = "id") -> Column[int]:
    """A primary key that the database counts."""
    return Column(name, Serial, primary_key=True, autoincrement=True)


def time_ms(name: str, *, nullable: bool = False, **options: Any) -> Column[int]:
    """A time in milliseconds since 1970; ``name`` ends with ``_ms``."""
    return Column(name, BigInteger, nullable=nullable, **options)

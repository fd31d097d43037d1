"""Brings a database to the newest schema with Alembic, in the transaction that it is given."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from msgd.database.store import Transaction

MIGRATIONS: Final = Path(__file__).with_name("migrations")

_ALEMBIC: Final = Lock()
"""Alembic keeps the connection it works on in a global: two databases of one process take turns."""


def configuration(connection: Transaction) -> Config:
    """Alembic's configuration without an alembic.ini, for ``connection``."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def standing(connection: Transaction) -> tuple[str | None, str]:
    """The revision of ``connection``'s schema (None: it is empty), and the newest that there is; nothing is changed."""
    newest = ScriptDirectory.from_config(configuration(connection)).get_current_head()
    assert newest is not None
    return MigrationContext.configure(connection).get_current_revision(), newest


def upgrade(connection: Transaction) -> None:
    """Run the migrations that ``connection``'s database lacks, in its open transaction."""
    with _ALEMBIC:
        command.upgrade(configuration(connection), "head")

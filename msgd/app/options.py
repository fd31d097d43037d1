"""What ``twistd DAEMON`` is told on the command line."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.python import usage

from msgd.config import Settings, load
from msgd.errors import ConfigError


class Options(usage.Options):
    """``--config FILE``; a configuration that cannot be used is a usage error, with its file and line."""

    optParameters: ClassVar[list[list[Any]]] = [
        ["config", "c", None, "The configuration file (default: $MSGD_CONFIG, or the built-in defaults)"]
    ]
    settings: Settings

    def postOptions(self) -> None:
        """Load the settings."""
        try:
            self.settings = load(self["config"])
        except ConfigError as error:
            where = f"{error.where}: " if error.where and error.where not in error.message else ""
            raise usage.UsageError(f"{where}{error.message}") from None


class OneOfManyOptions(Options):
    """Of a daemon that is one of several processes."""

    def postOptions(self) -> None:
        """Load the settings, and refuse what several processes cannot share."""
        super().postOptions()
        try:
            check_shared(self.settings)
        except ConfigError as error:
            raise usage.UsageError(error.message) from None


def check_shared(settings: Settings) -> None:
    """Raises ConfigError unless the broker and the database are ones that several processes reach."""
    if settings.broker.embedded:
        raise ConfigError(
            "this daemon alone cannot use the embedded broker, which lives within one process: run all services "
            'with "twistd -n msgd", or set [broker] url = "amqp://…"',
            where="broker.url",
        )
    if settings.database.url.startswith("sqlite:"):
        raise ConfigError(
            "daemons in several processes need a database that all of them reach: set [database] url = "
            '"postgresql://…", or run all services with "twistd -n msgd"',
            where="database.url",
        )

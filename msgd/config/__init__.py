"""TOML and environment to frozen settings; what is wrong is named with its file and line, and what was meant."""

from msgd.config.loading import load
from msgd.config.settings import Crawl, Job, Retention, Settings, without_password
from msgd.config.sources import CONFIG_VARIABLE
from msgd.errors import ConfigError

__all__ = ["CONFIG_VARIABLE", "ConfigError", "Crawl", "Job", "Retention", "Settings", "load", "without_password"]

"""Tests, in the tree of ``msgd`` itself.

``contract`` holds one suite per interface, run on every implementation; ``stories`` what a user sees, in a browser;
``servers`` the real peers (RabbitMQ, PostgreSQL, Chromium), each started for the tests that need it.
"""

from hypothesis import HealthCheck, settings

# How long an example takes says more about the machine than about the code.
settings.register_profile("msgd", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("msgd")

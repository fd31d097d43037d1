"""Tests, in the tree of ``msgd`` itself.

``contract`` holds one suite per interface, run on every implementation; ``stories`` what a user sees, in a browser;
``servers`` the real peers (RabbitMQ, PostgreSQL, Chromium), each started for the tests that need it.
"""

import os

from hypothesis import HealthCheck, settings
from twisted.trial import util

util.DEFAULT_TIMEOUT_DURATION = 300.0
"""Of a test that hangs; two minutes, trial's own, may be what one takes on a busy machine."""

# How long an example takes says more about the machine than about the code. Each run has the same examples, so that one
# that fails fails again; MSGD_TEST_EXAMPLES=10000 looks for others, so many for each property.
_examples = int(os.environ.get("MSGD_TEST_EXAMPLES", "0"))
settings.register_profile(
    "msgd",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not _examples,
    max_examples=_examples or 100,
)
settings.load_profile("msgd")

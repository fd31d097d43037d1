"""Secrets of endpoints stay out of logs and tracebacks."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from msgd.services.messenger.webhooks.endpoints import Endpoint
from msgd.services.messenger.webhooks.signing import new_secret
from msgd.services.messenger.webhooks.worker import _Receiver


class SecretsTest(SynchronousTestCase):
    """What is shown of a value that has a secret."""

    def test_repr(self) -> None:
        """Whose it is, and no secret."""
        new, old = new_secret(), new_secret()
        endpoint = Endpoint(
            id="e1", owner="ann", url="https://a.example/", description="", secret=new, old_secret=old, created_ms=1
        )
        for shown in (repr(endpoint), repr(_Receiver("e1", endpoint.url, [new, old]))):
            self.assertIn("e1", shown)
            self.assertNotIn(new, shown)
            self.assertNotIn(old, shown)
            self.assertNotIn("whsec_", shown)

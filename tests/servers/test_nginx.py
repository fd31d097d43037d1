"""nginx takes the configuration that operators get, and finds the notifier that is there."""

from __future__ import annotations

import urllib.request

from twisted.trial.unittest import SynchronousTestCase

from tests.ports import free_port
from tests.servers.nginx import front
from tests.stories.deployment import embedded


class NginxTest(SynchronousTestCase):
    """``etc/nginx.conf``."""

    def test_next_upstream(self) -> None:
        """Of two notifiers one is not there: every request is answered by the other."""
        made = embedded(self)
        made.start()
        nginx = front(self, free_port(), [free_port(), made.port])
        for _ in range(4):
            with urllib.request.urlopen(f"{nginx.url}/healthz", timeout=60) as answer:
                self.assertEqual(answer.status, 200)

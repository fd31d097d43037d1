"""kill -9 between each pair of neighbouring effects of DESIGN §3, by name, on both brokers."""

from __future__ import annotations

import http.client
import signal

from twisted.trial.unittest import SynchronousTestCase

from tests.stories.checks import check_crawl
from tests.stories.deployment import Deployment, distributed, embedded, logs_on_failure
from tests.stories.killing import ARMED, DOOR_POINTS, RECORDER_POINTS, VARIABLE, WORKER_POINTS
from tests.stories.site import Site, serve

LAUNCHER = ("-m", "tests.stories.killing")
SLICE = "[jobs.crawl]\nslice = 0.3\n"
VICTIMS = {
    **dict.fromkeys(WORKER_POINTS, "crawler"),
    **dict.fromkeys(RECORDER_POINTS, "recorder"),
    **dict.fromkeys(DOOR_POINTS, "notifier"),
}


class KillPointTests(SynchronousTestCase):
    """At every point: the daemon dies there, is started again, and the crawl's events are whole."""

    timeout = 600

    def check(self, made: Deployment) -> None:
        site = serve(self, 40, latency_s=0.05)
        made.start()
        made.token()
        for point, daemon in VICTIMS.items():
            with logs_on_failure(made):
                self.kill_at(made, point, daemon if daemon in made.daemons else "msgd", site)

    def kill_at(self, made: Deployment, point: str, victim: str, site: Site) -> None:
        made.stop(victim)
        made.start(victim, environment={VARIABLE: point})
        armed = made.folder / ARMED
        armed.touch()
        job = f"at-{point.replace('|', '-')}"
        body = {
            "type": "crawl",
            "key": job,
            "params": {"url": site.url, "match": [{"regex": "EUR [0-9.]+"}], "delay": 0, "concurrency": 4},
        }
        try:
            status, answer = made.call("POST", "/api/jobs", body)
        except (OSError, http.client.HTTPException):
            status, answer = 0, None  # the door itself died: whoever asked asks again, under the same key
        self.assertEqual(made.wait(victim), -signal.SIGKILL, f"{victim} did not die at {point}")
        armed.unlink()
        made.start(victim)
        if status != 202:
            status, answer = made.call("POST", "/api/jobs", body)
        self.assertEqual(status, 202, (point, answer))
        self.assertEqual(made.ended(answer["id"])["state"], "done", point)
        try:
            check_crawl(made.events(f"job.{answer['id']}"), site)
        except AssertionError as error:
            self.fail(f"killed at {point}: {error}")

    def test_embedded_every_point(self) -> None:
        """The one process on the embedded defaults dies at each point."""
        self.check(embedded(self, more=SLICE, launcher=LAUNCHER))

    def test_distributed_every_point(self) -> None:
        """The daemon concerned dies at each point, on RabbitMQ and PostgreSQL."""
        self.check(distributed(self, more=SLICE, launcher=LAUNCHER))

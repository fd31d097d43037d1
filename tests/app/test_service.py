"""Daemons under twistd, in processes of their own: up, down, and not up at all."""

from __future__ import annotations

import signal
import socket
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.ports import free_port
from tests.stories.deployment import (
    PATIENCE_S,
    Deployment,
    distributed,
    embedded,
    logs_on_failure,
    until,
)
from tests.stories.site import Turnstile, started


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, case: SynchronousTestCase) -> None:
        # A socket's path has 108 bytes at most: the test's own folder may be deeper.
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        case.addCleanup(self._socket.close)
        self.address = f"@msgd-test-{free_port()}-{time.monotonic_ns()}"
        self._socket.bind("\0" + self.address[1:])
        self._socket.settimeout(PATIENCE_S)

    def hear(self) -> list[str]:
        """The lines of the next message."""
        return self._socket.recv(4096).decode().split("\n")

    def hear_all(self) -> list[list[str]]:
        """What has come until now."""
        self._socket.setblocking(False)
        heard = []
        try:
            while True:
                heard.append(self.hear())
        except BlockingIOError:
            return heard


class LifeTest(SynchronousTestCase):
    """From READY=1 to the end."""

    def test_systemd(self) -> None:
        """systemd hears that it is up once its door is open, then its heartbeat, then that it stops."""
        made, systemd = embedded(self), Systemd(self)
        with logs_on_failure(made):
            made.start(environment={"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"})
            self.assertEqual(systemd.hear(), ["READY=1", "STATUS=msgd is up"])
            self.assertEqual([systemd.hear() for _ in range(3)], [["WATCHDOG=1"]] * 3)
            self.assertEqual(made.stop("msgd"), -signal.SIGTERM)
            last = [heard for heard in systemd.hear_all() if heard != ["WATCHDOG=1"]]
            self.assertEqual(last, [["STOPPING=1", "STATUS=draining"]])
            self.assertNotIn("Traceback", made.log("msgd"))

    def test_drain(self) -> None:
        """A stop saves what is under way, within its grace; the next start goes on there, and nothing comes twice."""
        made, site = embedded(self), started(self, Turnstile(30))
        with logs_on_failure(made):
            made.start()
            site.admit(12)
            job = made.submit("crawl", url=site.url, match=[{"regex": "EUR [0-9.]+"}], delay=0, concurrency=2)
            until(lambda: len(made.events(f"job.{job}")) > 10, "some pages")
            began = time.monotonic()
            self.assertEqual(made.stop("msgd"), -signal.SIGTERM)
            self.assertLess(time.monotonic() - began, 15)
            self.assertNotIn("Traceback", made.log("msgd"))
            site.admit(1000)
            made.start()
            self.assertEqual(made.ended(job)["result"]["pages"], 30)
            events = made.events(f"job.{job}")
            self.assertEqual([event["seq"] for event in events], list(range(1, len(events) + 1)))
            found = [event["data"]["value"] for event in events if event["type"] == "result"]
            self.assertEqual((len(found), len(set(found))), (60, 60))

    def test_stop_before_it_is_up(self) -> None:
        """A daemon that still waits for its broker stops at once."""
        port = free_port()
        made = Deployment(("msgd",), broker=f"amqp://127.0.0.1:{port}/")
        self.addCleanup(made.close)
        made.launch()
        until(lambda: "next try in" in made.log("msgd"), "the first attempt to connect")
        self.assertEqual(made.stop("msgd", seconds=5), -signal.SIGTERM)
        self.assertNotIn("Traceback", made.log("msgd"))


class FailedStartTest(SynchronousTestCase):
    """What cannot start ends with status 1, which systemd sees, and says why in one line."""

    def fails(self, made: Deployment, *words: str) -> None:
        systemd = Systemd(self)
        made.launch(environment={"NOTIFY_SOCKET": systemd.address})
        self.assertEqual(made.wait("msgd"), 1, made.log("msgd"))
        log = made.log("msgd")
        for word in ("msgd cannot start", *words):
            self.assertIn(word, log)
        self.assertNotIn("Traceback", log)
        self.assertNotIn("READY=1", str(systemd.hear_all()))

    def test_port_in_use(self) -> None:
        """A port that is taken."""
        made = embedded(self)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", made.port))
            taken.listen()
            self.fails(made, "cannot listen on", str(made.port), "in use")

    def test_folder_in_use(self) -> None:
        """A state folder that another process has."""
        made = embedded(self)
        made.start()
        second = Deployment(("msgd",))
        self.addCleanup(second.close)
        second.config.write_text(second.config.read_text().replace(f"{second.folder}/var", f"{made.folder}/var"))
        self.fails(second, "another one has its file open")

    def test_no_database(self) -> None:
        """A database that does not answer."""
        self.fails(self.distant(f"postgresql://127.0.0.1:{free_port()}/msgd"), "refused")

    def distant(self, database: str) -> Deployment:
        made = Deployment(("msgd",), database=database)
        self.addCleanup(made.close)
        return made

    def test_not_a_folder(self) -> None:
        """A state folder that is a file."""
        made = embedded(self)
        Path(f"{made.folder}/var").write_text("a file")
        made.launch()
        self.assertEqual(made.wait("msgd"), 1)
        self.assertIn("msgd cannot start", made.log("msgd"))


class AwayBrokerTest(SynchronousTestCase):
    """A notifier that is started while the broker is down."""

    def test_jobs_are_taken(self) -> None:
        """Jobs are accepted and run when the broker is there; events, which only it can keep, are refused till then."""
        from tests.servers import rabbitmq

        node = rabbitmq.spare_node()
        made, site = distributed(self, node=node), started(self, Turnstile(3))
        site.admit(100)
        node.stop()
        self.addCleanup(node.start)
        event = {"topic": "room.a", "type": "said", "data": 1}
        with logs_on_failure(made):
            made.start("notifier")
            job = made.submit("crawl", url=site.url, delay=0)
            self.assertEqual(made.job(job)["state"], "queued")
            status, problem = made.call("POST", "/api/events", event)
            self.assertEqual((status, problem["code"]), (503, "broker-unavailable"))
            node.start()
            made.start("recorder", "crawler")
            self.assertEqual(made.ended(job)["result"]["pages"], 3)
            until(lambda: made.call("POST", "/api/events", event)[0] == 202, "events are taken again")
            for name in made.daemons:
                self.assertEqual(made.stop(name), -signal.SIGTERM)

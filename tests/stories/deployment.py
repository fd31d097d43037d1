"""msgd as its users run it: daemons under twistd in processes of their own, on real servers, killed with -9 at will."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from tests.ports import free_port

T = TypeVar("T")

ROOT: Final = Path(__file__).resolve().parents[2]
PATIENCE_S: Final = 180.0
"""How long something may take on a busy machine before a test calls it broken."""

LOOK_S: Final = 0.05
"""How often a condition is looked at; no test's outcome depends on it."""


class DaemonDied(Exception):
    """A daemon ended by itself; the message ends with its log."""


def until(condition: Callable[[], T], what: str, *, seconds: float = PATIENCE_S) -> T:
    """The first true value of ``condition``; AssertionError saying ``what`` did not come."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > end:
            raise AssertionError(f"after {seconds:.0f} s still not: {what}")
        time.sleep(LOOK_S)  # between two looks at another process, which has no Clock of ours


class Deployment:
    """Some daemons on one configuration, in a temporary folder. Everything is ended by :meth:`close`."""

    def __init__(
        self, daemons: Sequence[str], *, broker: str = "embedded:", database: str = "", more: str = "",
        launcher: Sequence[str] = ("-c", "from twisted.scripts.twistd import run; run()"),
    ) -> None:  # fmt: skip
        self.daemons = tuple(daemons)
        self.folder = Path(tempfile.mkdtemp(prefix="msgd-story-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.config = self.folder / "msgd.toml"
        self.broker = broker
        self.database = database
        self._launcher = tuple(launcher)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        lines = [
            f'[state]\ndir = "{self.folder}/var"',
            f'[broker]\nurl = "{broker}"',
            f'[notifier]\nlisten = "tcp:{self.port}:interface=127.0.0.1"',
            '[network]\nallow = ["127.0.0.0/8"]',
            more,
        ]
        if database:
            lines.append(f'[database]\nurl = "{database}"')
        self.config.write_text("\n".join(lines))
        self._token = ""

    # -- daemons ------------------------------------------------------------------------------------------------------

    def start(self, *names: str, environment: dict[str, str] | None = None) -> None:
        """Start these daemons (all, if none is named) and wait until the notifier's door is open, if it is there."""
        self.launch(*names, environment=environment)
        if {"msgd", "notifier"} & set(names or self.daemons):
            until(self._open, f"{self.url}/healthz answers")

    def launch(self, *names: str, environment: dict[str, str] | None = None) -> None:
        """Start these daemons (all, if none is named), whatever becomes of them."""
        for name in names or self.daemons:
            log = (self.folder / f"{name}.log").open("ab")
            self._running[name] = subprocess.Popen(
                [sys.executable, *self._launcher, "-n", "--pidfile=", name, "--config", str(self.config)],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            log.close()

    def _open(self) -> bool:
        for name, process in self._running.items():
            if process.poll() not in (None, -signal.SIGKILL):
                raise DaemonDied(f"{name} ended with {process.returncode}:\n{self.log(name)[-4000:]}")
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(f"{self.url}/healthz") as page:
            return bool(page.status == 200)
        return False

    def pid(self, name: str) -> int:
        return self._running[name].pid

    def alive(self, name: str) -> bool:
        return name in self._running and self._running[name].poll() is None

    def kill(self, name: str) -> None:
        """kill -9."""
        self._running[name].kill()
        self._running.pop(name).wait()

    def stop(self, name: str, *, seconds: float = PATIENCE_S) -> int:
        """SIGTERM; the exit status."""
        process = self._running.pop(name)
        process.terminate()
        return process.wait(seconds)

    def wait(self, name: str, *, seconds: float = PATIENCE_S) -> int:
        """The exit status of a daemon that ends by itself (negative: the signal)."""
        return self._running.pop(name).wait(seconds)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text("utf-8", "replace")

    def close(self) -> None:
        """End all daemons and delete the folder."""
        for process in self._running.values():
            process.kill()
        for process in self._running.values():
            process.wait()
        self._running.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- the command and the interface --------------------------------------------------------------------------------

    def command(self, *arguments: str, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        """Run ``msgd ARGUMENTS`` on this configuration."""
        return subprocess.run(
            [sys.executable, "-m", "msgd.cli", "--config", str(self.config), *arguments],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def token(self, sub: str = "ann", *can: str) -> str:
        """A token as ``msgd token`` prints it."""
        rights = [part for right in can or ("admin:#",) for part in ("--can", right)]
        made = self.command("token", "--sub", sub, *rights)
        assert made.returncode == 0, made.stderr
        return made.stdout.strip()

    def call(
        self, method: str, path: str, body: Any = None, *, token: str | None = None, raw: bytes | None = None
    ) -> tuple[int, Any]:
        """An HTTP call; its status, and its body as JSON where it is JSON, else as text."""
        self._token = self._token or self.token()
        data = raw if raw is not None else (None if body is None else json.dumps(body).encode())
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("Authorization", f"Bearer {self._token if token is None else token}")
        request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                return answer.status, _decoded(answer.read(), answer.headers.get_content_type())
        except urllib.error.HTTPError as error:
            return error.code, _decoded(error.read(), error.headers.get_content_type())

    def submit(self, type_: str, **params: Any) -> str:
        """Submit a job; its id."""
        status, answer = self.call("POST", "/api/jobs", {"type": type_, "params": params})
        assert status == 202, (status, answer)
        return str(answer["id"])

    def job(self, job: str) -> dict[str, Any]:
        status, answer = self.call("GET", f"/api/jobs/{job}")
        assert status == 200, (status, answer)
        return dict(answer)

    def ended(self, job: str, *, seconds: float = PATIENCE_S) -> dict[str, Any]:
        """The job, once it has ended."""

        def look() -> dict[str, Any] | None:
            found = self.job(job)
            return found if found["state"] in ("done", "failed", "cancelled") else None

        return until(look, f"job {job} has ended", seconds=seconds) or {}

    def events(self, topic: str) -> list[dict[str, Any]]:
        """All kept events of a topic."""
        found: list[dict[str, Any]] = []
        since = "0"
        while True:
            status, page = self.call("GET", f"/api/topics/{topic}/events?since={since}&limit=500")
            assert status == 200, (status, page)
            found += page["events"]
            if not page["events"]:
                return found
            since = page["cursor"]


def _decoded(body: bytes, kind: str) -> Any:
    return json.loads(body) if body and kind.endswith("json") else body.decode("utf-8", "replace")


ALL_IN_ONE: Final = ("msgd",)
SEPARATE: Final = ("recorder", "notifier", "crawler")


def embedded(case: SynchronousTestCase, *, more: str = "", **options: Any) -> Deployment:
    """All services in one process, on the embedded defaults; not started yet."""
    made = Deployment(ALL_IN_ONE, more=more, **options)
    case.addCleanup(made.close)
    return made


def distributed(case: SynchronousTestCase, *, node: Any = None, more: str = "", **options: Any) -> Deployment:
    """One process a daemon, on RabbitMQ and PostgreSQL; not started yet."""
    from tests.servers import postgres, rabbitmq

    server = node or rabbitmq.node()
    vhost = rabbitmq.fresh_vhost(case) if node is None else "/"  # a node of its own may be wiped, "/" comes again
    database = postgres.fresh_database(case)
    made = Deployment(SEPARATE, broker=server.url(vhost), database=database, more=more, **options)
    case.addCleanup(made.close)
    return made


def another(
    case: SynchronousTestCase, made: Deployment, *daemons: str, more: str = "", **options: Any
) -> Deployment:  # fmt: skip
    """More daemons beside those of ``made``, which has been started: on the same servers, with the same secret, and a
    port of their own; not started yet."""
    secret = f'[auth]\nsecret_file = "{made.folder}/var/secret"\n'
    other = Deployment(daemons, broker=made.broker, database=made.database, more=secret + more, **options)
    case.addCleanup(other.close)
    return other


@contextlib.contextmanager
def logs_on_failure(*deployments: Deployment) -> Iterator[None]:
    """Print the daemons' logs if the block fails: a story's reason lies in another process."""
    try:
        yield
    except BaseException:
        for made in deployments:
            for log in sorted(made.folder.glob("*.log")):
                sys.stderr.write(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-6000:]}\n")
        raise

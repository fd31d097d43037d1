"""The command as a process of its own against a real daemon, which all tests of this folder share."""

from __future__ import annotations

import atexit
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

from twisted.trial.unittest import SynchronousTestCase

from tests.stories.deployment import PATIENCE_S, ROOT, Deployment, until

MODULE: Final = ("-m", "msgd.cli")


@lru_cache(maxsize=1)
def deployment() -> Deployment:
    """All services in one process on the embedded defaults, started now and ended at exit."""
    made = Deployment(("msgd",))
    atexit.register(made.close)
    made.start()
    return made


def environment(**more: str) -> dict[str, str]:
    """What commands run in: nothing of msgd's, no colours forced or forbidden."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MSGD_", "FORCE_", "NO_COLOR"))}
    return {**kept, "PYTHONPATH": str(ROOT), "COLUMNS": "200", **more}


class CommandCase(SynchronousTestCase):
    """A test that calls ``msgd``."""

    def pause_type(self, name: str) -> None:
        """Pause a job type until the test ends or resumes it, and wait until the worker has heard of it."""
        words = f"jobs of type {name} are paused"
        before = deployment().log("msgd").count(words)  # other tests pause it too
        self.msgd("types", "pause", name)
        self.addCleanup(self.msgd, "types", "resume", name)
        until(lambda: deployment().log("msgd").count(words) > before, f"{name} is paused")

    def msgd(
        self, *arguments: str, code: int = 0, given: bytes = b"", config: bool = True, env: dict[str, str] | None = None
    ) -> tuple[str, str]:
        """stdout and stderr of ``msgd ARGUMENTS``, which must end with ``code`` and without a traceback."""
        prefix = ["--config", str(deployment().config)] if config else []
        done = subprocess.run(
            [sys.executable, *MODULE, *prefix, *arguments],
            cwd=deployment().folder, env=env or environment(), input=given,
            capture_output=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        out, err = done.stdout.decode(), done.stderr.decode()
        self.assertEqual(done.returncode, code, f"{arguments}:\n{out[-2000:]}\n{err[-4000:]}")
        self.assertNotIn("Traceback", err)
        return out, err

    def lines(self, *arguments: str, code: int = 0) -> list[Any]:
        """The JSON lines that a command prints."""
        return [json.loads(line) for line in self.msgd(*arguments, code=code)[0].splitlines()]

    def begin(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        """A command that goes on until it is told to end, or the test ends."""
        process = subprocess.Popen(
            [sys.executable, *MODULE, "--config", str(deployment().config), *arguments],
            cwd=deployment().folder, env=environment(PYTHONUNBUFFERED="1"),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **more,
        )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def interrupted(self, process: subprocess.Popen[bytes], *, by: int = signal.SIGINT) -> tuple[int, str, str]:
        """Ctrl-C: the exit code, and what was still printed."""
        process.send_signal(by)
        out, err = process.communicate(timeout=PATIENCE_S)
        self.assertNotIn(b"Traceback", err)
        return process.returncode, out.decode(), err.decode()


def read_until(process: subprocess.Popen[bytes], stream: Any, wanted: bytes) -> bytes:
    """What ``stream`` has brought once ``wanted`` is in it."""
    seen = b""
    while wanted not in seen:
        ready, _, _ = select.select([stream], [], [], PATIENCE_S)
        piece = os.read(stream.fileno(), 65536) if ready else b""
        if not piece:
            raise AssertionError(f"{wanted!r} did not come, but {seen!r}")
        seen += piece
    return seen


class Terminal:
    """A command on a terminal of its own, of a given width; ``screen`` is all that was written to it."""

    def __init__(
        self, case: SynchronousTestCase, arguments: Sequence[str], *, columns: int = 100, stdout: Any = None, **env: str
    ) -> None:
        """``stdout``: a file that gets it instead."""
        near, far = pty.openpty()
        variables = environment(TERM="xterm-256color", COLUMNS=str(columns), LINES="24", **env)
        self.process = subprocess.Popen(
            [sys.executable, *MODULE, "--config", str(deployment().config), *arguments],
            cwd=deployment().folder, env=variables, stdin=far, stdout=stdout or far, stderr=far, start_new_session=True,
        )  # fmt: skip
        os.close(far)
        self._near = near
        self._case = case
        self.screen = ""
        case.addCleanup(os.close, near)
        case.addCleanup(self.process.wait)
        case.addCleanup(self.process.kill)

    def see(self, condition: Callable[[str], bool], what: str) -> str:
        """Everything shown so far, once ``condition`` holds of it."""
        end = time.monotonic() + PATIENCE_S
        while not condition(self.screen):
            if not self._read(end - time.monotonic()):
                raise AssertionError(f"{what} was not shown, but {self.screen[-2000:]!r}")
        return self.screen

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read(PATIENCE_S):
            pass
        return self.process.wait(PATIENCE_S)

    def _read(self, seconds: float) -> bool:
        ready, _, _ = select.select([self._near], [], [], max(0.0, seconds))
        try:
            piece = os.read(self._near, 65536) if ready else b""
        except OSError:  # the other end is closed
            return False
        self.screen += piece.decode("utf-8", "replace")
        return bool(piece)


def ended(job: str) -> dict[str, Any]:
    """A job of the shared deployment, once it has ended."""
    return deployment().ended(job)


def state(job: str, *wanted: str) -> dict[str, Any]:
    """The job, once its state is one of ``wanted``."""

    def look() -> dict[str, Any] | None:
        found = deployment().job(job)
        return found if found["state"] in wanted else None

    return until(look, f"job {job} is {wanted}") or {}

"""nginx in front of notifiers: etc/nginx.conf as operators get it, on free ports, its files in a temporary folder."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

ROOT: Final = Path(__file__).resolve().parents[2]
INSTALL: Final = "These tests need nginx. On Debian or Ubuntu: apt-get install nginx"
START_S: Final = 30.0


class NginxMissing(Exception):
    """nginx is not installed."""


class NginxFailed(Exception):
    """It did not start; the message holds what it said."""


class HasCleanup(Protocol):
    """A test case."""

    def addCleanup(self, f: Callable[..., object], /, *args: object) -> object: ...


def configuration(port: int, upstreams: Sequence[int]) -> str:
    """etc/nginx.conf with other ports."""
    text = (ROOT / "etc" / "nginx.conf").read_text(encoding="utf-8")
    servers = "\n".join(f"    server 127.0.0.1:{upstream} max_fails=0;" for upstream in upstreams)
    text, replaced = re.subn(
        r"(?:^    server 127\.0\.0\.1:\d+ max_fails=0;.*\n)+", servers + "\n", text, count=1, flags=re.MULTILINE
    )
    text, listening = re.subn(r"listen 127\.0\.0\.1:80;", f"listen 127.0.0.1:{port};", text)
    if (replaced, listening) != (1, 1):
        raise NginxFailed("etc/nginx.conf is not of the form that the tests adapt")
    return text


class Nginx:
    """One nginx in front of notifiers on loopback ports."""

    def __init__(self, port: int, upstreams: Sequence[int]) -> None:
        """Write the configuration. Raises NginxMissing."""
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise NginxMissing(INSTALL)
        self.port = port
        self.url = f"http://127.0.0.1:{port}"
        self._folder = Path(tempfile.mkdtemp(prefix="msgd-nginx-"))
        temporary = "".join(
            f"    {name}_temp_path {self._folder}/{name};\n"
            for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (self._folder / "msgd.conf").write_text(configuration(port, upstreams), encoding="utf-8")
        (self._folder / "nginx.conf").write_text(
            # As root its workers would be nobody, who may not enter the folder.
            ("user root;\n" if os.geteuid() == 0 else "")
            + f"daemon off;\nworker_processes 1;\npid {self._folder}/pid;\nerror_log {self._folder}/error.log;\n"
            "events { worker_connections 4096; }\n"
            f"http {{\n    access_log off;\n{temporary}    include {self._folder}/msgd.conf;\n}}\n",
            encoding="utf-8",
        )
        self._command = (program, "-p", str(self._folder), "-c", str(self._folder / "nginx.conf"), "-e", "stderr")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Nginx:
        """Begin to listen. Raises NginxFailed."""
        output = (self._folder / "output").open("wb")
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
        output.close()
        end = time.monotonic() + START_S
        while True:
            if self._process.poll() is not None or time.monotonic() > end:
                raise NginxFailed((self._folder / "output").read_text("utf-8", "replace"))
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)  # another process, without a clock of ours
            else:
                return self

    def close(self) -> None:
        """End it and delete its files."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()  # at once; its workers go with it
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def front(case: HasCleanup, port: int, upstreams: Sequence[int]) -> Nginx:
    """An nginx that runs, ended with the test."""
    made = Nginx(port, upstreams)
    case.addCleanup(made.close)
    return made.start()

"""Prosody, an XMPP server, on a free loopback port with a certificate of the tests, its files in a temporary folder."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from tests.ports import free_port
from tests.servers.certificates import Authority

INSTALL: Final = "These tests need Prosody. On Debian or Ubuntu: apt-get install prosody"
START_S: Final = 60.0
HOST: Final = "localhost"
ROOMS: Final = f"conference.{HOST}"

PASSWORD: Final = "pass word"
"""Of every account."""


class ProsodyMissing(Exception):
    """Prosody is not installed."""


class ProsodyFailed(Exception):
    """It did not start; the message holds what it said."""


class HasCleanup(Protocol):
    """A test case."""

    def addCleanup(self, f: Callable[..., object], /, *args: object) -> object: ...


def _configuration(folder: Path, port: int) -> str:
    return f"""
daemonize = false
run_as_root = true
pidfile = "{folder}/pid"
data_path = "{folder}/data"
log = {{ info = "{folder}/log" }}
interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
modules_enabled = {{ "roster", "saslauth", "tls", "disco", "ping", "smacks", "carbons", "offline" }}
modules_disabled = {{ "s2s", "posix" }}
authentication = "internal_plain"
c2s_require_encryption = true
smacks_hibernation_time = 60
ssl = {{ key = "{folder}/key.pem"; certificate = "{folder}/certificate.pem"; }}
VirtualHost "{HOST}"
Component "{ROOMS}" "muc"
"""


class Prosody:
    """One server with the accounts that it is told."""

    def __init__(self, *accounts: str) -> None:
        """Write configuration, certificate and accounts, which are of HOST. Raises ProsodyMissing."""
        program = shutil.which("prosody") or shutil.which("prosody", path="/usr/bin:/usr/local/bin")
        if program is None:
            raise ProsodyMissing(INSTALL)
        self.port = free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="msgd-prosody-"))
        authority = Authority("Prosody of the tests")
        self.ca_file = self._folder / "ca.pem"
        authority.write_certificate(self.ca_file)
        authority.issue(self._folder / "certificate.pem", self._folder / "key.pem", HOST, ROOMS)
        self.password_file = self._folder / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        known = self._folder / "data" / HOST / "accounts"
        known.mkdir(parents=True)
        for account in accounts:
            (known / f"{account}.dat").write_text(f'return {{ ["password"] = "{PASSWORD}"; }};\n')
        configuration = self._folder / "prosody.cfg.lua"
        configuration.write_text(_configuration(self._folder, self.port))
        self._command = (program, "--config", str(configuration), "-F")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> str:
        """Where it listens, as ``[xmpp] server`` says it."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> Prosody:
        """Begin to listen. Raises ProsodyFailed."""
        output = (self._folder / "output").open("ab")
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env={**os.environ}
        )
        output.close()
        end = time.monotonic() + START_S
        while True:
            if self._process.poll() is not None or time.monotonic() > end:
                raise ProsodyFailed(f"{(self._folder / 'output').read_text('utf-8', 'replace')}\n{self.log()}")
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.02)  # another process, without a clock of ours
            else:
                return self

    def log(self) -> str:
        """What it has logged."""
        path = self._folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    def kill(self) -> None:
        """kill -9: what it had in memory is lost, its files stay."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Within it the server does nothing, and its connections stand."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and delete its files."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def server(case: HasCleanup, *accounts: str) -> Prosody:
    """A Prosody that runs, ended with the test."""
    made = Prosody(*accounts)
    case.addCleanup(made.close)
    return made.start()

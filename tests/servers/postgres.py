"""A PostgreSQL cluster for tests: made in a temporary folder, on a free loopback port, ended with the test run.

One cluster serves a whole run (:func:`cluster`), each test a database of its own (:func:`fresh_database`). Writes are
not synced to the disk unless asked for: a ``kill -9`` of the server loses nothing by that, only a power cut would.
"""

from __future__ import annotations

import atexit
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Final

import psycopg
from twisted.trial.unittest import SynchronousTestCase

from tests.ports import free_port

INSTALL: Final = (
    "These tests need PostgreSQL's server programs (initdb, postgres). On Debian or Ubuntu: apt-get install postgresql"
)
START_S: Final = 60.0
STOP_S: Final = 30.0
USER: Final = "msgd"

_STARTER: Final = ThreadPoolExecutor(1)
"""Servers are started by this thread, which lives to the end: the death that the kernel looks for is that of the thread
that forked (PR_SET_PDEATHSIG of prctl(2)), and a test may well start the first server in a thread of its own."""


class PostgresMissing(Exception):
    """PostgreSQL is not installed."""


class Cluster:
    """One server and its folder. Not running until :meth:`start`."""

    def __init__(self, *, fsync: bool = False) -> None:
        """Make the folder with initdb. Raises PostgresMissing."""
        self._programs = _programs()
        self._user = _unprivileged_user()
        self.folder = Path(tempfile.mkdtemp(prefix="msgd-postgres-"))
        self.port = free_port()
        self.log = self.folder / "log"
        self._password = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        secret = self.folder / "password"
        secret.write_text(self._password)
        if self._user is not None:
            for path in (self.folder, secret):
                shutil.chown(path, self._user)
        self._run(
            "initdb",
            f"--pgdata={self.folder / 'data'}",
            f"--username={USER}",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-locale",
            "--no-sync",
        )
        self._settings = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "64MB",
            "jit": "off",
            "fsync": "on" if fsync else "off",
            "full_page_writes": "on" if fsync else "off",
        }

    def url(self, database: str = "postgres") -> str:
        """The URL of a database over TCP, with its password."""
        return f"postgresql://{USER}:{self._password}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database: str = "postgres") -> str:
        """The URL of a database over the Unix socket in the folder."""
        return f"postgresql://{USER}:{self._password}@/{database}?host={self.folder}&port={self.port}"

    def start(self) -> None:
        """Start the server and wait until it answers. Harmless if it runs."""
        if self._process is not None:
            return
        arguments = [f"--{name}={value}" for name, value in self._settings.items()]
        with self.log.open("ab") as log:

            def begin() -> subprocess.Popen[bytes]:
                # A killed test run leaves no server behind: the kernel ends it (setpriv(1) is in every Debian).
                command = ["setpriv", "--pdeathsig=QUIT", str(self._programs / "postgres"), "-D"]
                return subprocess.Popen(
                    [*command, str(self.folder / "data"), *arguments],
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    user=self._user,
                    group=self._group(),
                    extra_groups=[] if self._user is not None else None,
                    start_new_session=True,  # Ctrl-C on the test run is not for the server: it is stopped at exit
                )

            self._process = _STARTER.submit(begin).result()
        deadline = time.monotonic() + START_S
        while True:
            try:
                psycopg.connect(self.url(), connect_timeout=5).close()
                return
            except psycopg.OperationalError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL did not start: {error}\n{self._tail()}") from error
            time.sleep(0.02)

    def stop(self) -> None:
        """Shut down fast: sessions are cut, everything is written. Harmless if it does not run."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        self.stop()
        self.start()

    def kill(self) -> None:
        """``kill -9`` of the server and all its processes, in mid-work."""
        if self._process is None:
            return
        # The children live in sessions of their own, and would go on for a moment without the first process.
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._process.send_signal(signal.SIGSTOP)  # it starts no more of them
        for child in children:
            _signal(int(child), signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._process = None
        deadline = time.monotonic() + STOP_S
        while any(_alive(child) for child in children):  # they still hold the shared memory
            if time.monotonic() > deadline:
                raise RuntimeError("processes of PostgreSQL outlived kill -9")
            time.sleep(0.01)

    def close(self) -> None:
        """Stop the server and remove its folder."""
        self._end(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)

    def create_database(self) -> str:
        """A new, empty database; returns its name."""
        name = f"test_{secrets.token_hex(8)}"
        self._administer(f'CREATE DATABASE "{name}"')
        return name

    def drop_database(self, name: str) -> None:
        """Remove a database, cutting whoever uses it."""
        self.start()
        self._administer(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def _administer(self, statement: str) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement.encode())

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [str(self._programs / program), *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            user=self._user,
            group=self._group(),
            extra_groups=[] if self._user is not None else None,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")

    def _group(self) -> int | None:
        return None if self._user is None else pwd.getpwnam(self._user).pw_gid

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-20:])


@lru_cache(maxsize=1)
def cluster() -> Cluster:
    """The cluster of this test run, running; it ends with the run."""
    shared = Cluster()
    atexit.register(shared.close)
    shared.start()
    return shared


def fresh_database(case: SynchronousTestCase) -> str:
    """The URL of an empty database that goes when the test ``case`` ends."""
    server = cluster()
    name = server.create_database()
    case.addCleanup(server.drop_database, name)
    return server.url(name)


def _programs() -> Path:
    """The folder of the newest server programs: Debian keeps them out of PATH."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    program = shutil.which("initdb")
    if program is None:
        raise PostgresMissing(INSTALL)
    return Path(program).resolve().parent


def _unprivileged_user() -> str | None:
    """Whom to run as: PostgreSQL refuses root. None: the present user."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise PostgresMissing("PostgreSQL does not run as root, and there is no user 'postgres' or 'nobody' to run it as")


def _alive(pid: str) -> bool:
    """Whether a process still runs: one that only waits to be reaped holds nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass

"""A RabbitMQ node for tests: its own folder, ports, epmd, cookie and HOME; nothing is shared with the system's service.

One node serves a whole run (:func:`node`); each test takes a vhost of its own (:func:`fresh_vhost`). The node keeps its
Erlang shell on a pipe. That makes an order (a vhost, an alarm) a matter of milliseconds where ``rabbitmqctl`` takes a
second, and ends the node by itself when the test process dies, however it dies.

All calls block; where the reactor must go on meanwhile, use ``deferToThread``.
"""

from __future__ import annotations

import atexit
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from tests.ports import free_port
from tests.servers.certificates import Authority

INSTALL: Final = (
    "These tests need RabbitMQ's server and Erlang's epmd. On Debian or Ubuntu: apt-get install rabbitmq-server"
)
START_S: Final = 90.0
STOP_S: Final = 30.0
ORDER_S: Final = 120.0
USER: Final = "msgd"

_SCRIPT_FOLDERS: Final = ("/usr/lib/rabbitmq/bin", "/opt/rabbitmq/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")
"""Where the server's own script lives; Debian's /usr/sbin/rabbitmq-server is a wrapper that changes to its own user."""


class RabbitMissing(Exception):
    """RabbitMQ is not installed."""


class RabbitFailed(Exception):
    """The node did not start, or refused an order; the message ends with its output."""


class HasCleanup(Protocol):
    """A test case."""

    def addCleanup(self, f: Callable[..., object], /, *args: object) -> object: ...


class Node:
    """One node and its folder. Not running until :meth:`start`."""

    def __init__(
        self, *, tls: bool = False, consumer_timeout_ms: int | None = None, feature_flags: str | None = None
    ) -> None:
        """Choose ports and write the configuration. Raises RabbitMissing.

        ``tls`` adds a listener with a certificate for localhost and 127.0.0.1, signed by a CA made for it
        (:attr:`ca_file`); ``consumer_timeout_ms`` is how long a delivery may stay unacknowledged; ``feature_flags``
        (their names, with commas) are all that is switched on, as after an upgrade from an old version.
        """
        self._script, self._epmd_program = _programs()
        self.folder = Path(tempfile.mkdtemp(prefix="msgd-rabbitmq-"))
        self.port, self.tls_port, self._distribution_port, self._epmd_port = (free_port() for _ in range(4))
        self.password = secrets.token_hex(16)
        self.ca_file = self.folder / "ca.pem"
        self._output = self.folder / "output"
        self._data = self.folder / "data"
        self._feature_flags = feature_flags
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        home = self.folder / "home"
        home.mkdir()
        cookie = home / ".erlang.cookie"
        cookie.write_text(secrets.token_hex(16))
        cookie.chmod(0o400)
        settings = [
            f"default_user = {USER}",
            f"default_pass = {self.password}",
            "loopback_users = none",
            f"listeners.tcp.default = 127.0.0.1:{self.port}",
            "log.console = false",
            "log.file.level = info",
            "disk_free_limit.absolute = 1MB",
        ]
        if consumer_timeout_ms is not None:
            settings.append(f"consumer_timeout = {consumer_timeout_ms}")
        if tls:
            certificate, key = self.folder / "server.pem", self.folder / "server.key"
            authority = Authority("msgd tests")
            authority.write_certificate(self.ca_file)
            authority.issue(certificate, key, "localhost", "127.0.0.1")
            settings += [
                f"listeners.ssl.default = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self.ca_file}",
                f"ssl_options.certfile = {certificate}",
                f"ssl_options.keyfile = {key}",
                "ssl_options.verify = verify_none",
            ]
        (self.folder / "rabbitmq.conf").write_text("\n".join(settings) + "\n")
        (self.folder / "enabled_plugins").write_text("[].\n")

    # -- life ----------------------------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Returns when the node takes connections and orders. Raises RabbitFailed."""
        if self.running:
            return
        self._start_epmd()
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("RABBITMQ_", "ERL_"))}
        environment.update(
            HOME=str(self.folder / "home"),
            ERL_EPMD_PORT=str(self._epmd_port),
            ERL_EPMD_ADDRESS="127.0.0.1",
            RABBITMQ_NODENAME=f"msgd{self.port}@localhost",
            RABBITMQ_DIST_PORT=str(self._distribution_port),
            RABBITMQ_MNESIA_BASE=str(self._data),
            RABBITMQ_LOG_BASE=str(self.folder / "log"),
            RABBITMQ_CONFIG_FILE=str(self.folder / "rabbitmq.conf"),
            RABBITMQ_ENABLED_PLUGINS_FILE=str(self.folder / "enabled_plugins"),
            RABBITMQ_CONF_ENV_FILE=str(self.folder / "no-environment-file"),
            RABBITMQ_ALLOW_INPUT="1",
        )
        if self._feature_flags is not None:
            environment["RABBITMQ_FEATURE_FLAGS"] = self._feature_flags
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(
                [self._script],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.folder,
                start_new_session=True,
            )
        self._await_listeners(time.monotonic() + START_S)

    def stop(self) -> None:
        """Stop in an orderly way; data stays. Stopping what does not run is harmless."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            self._write("init:stop().\n")
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
        self._reap(process)

    def kill(self) -> None:
        """``kill -9``; data stays as it is."""
        process = self._process
        if process is not None:
            process.kill()
            self._reap(process)

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nothing answers, as when a machine hangs."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo :meth:`freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Remove all data of a node that does not run: it starts empty, as on a new machine."""
        assert not self.running, "stop or kill the node first"
        shutil.rmtree(self._data, ignore_errors=True)

    def close(self) -> None:
        """Kill the node and its epmd, and remove the folder."""
        self.kill()
        if self._epmd is not None:
            assert self._epmd.stdin is not None
            self._epmd.stdin.close()
            self._epmd.wait(STOP_S)
            self._epmd = None
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- orders --------------------------------------------------------------------------------------------------------

    def order(self, expression: str) -> str:
        """Evaluate an Erlang expression in the node and return its value as Erlang prints it. Raises RabbitFailed."""
        with self._lock:
            mark = secrets.token_hex(8)
            start = self._output.stat().st_size
            # The mark is put together by Erlang, so that an echo of the order is not taken for its answer.
            self._write(
                f'io:format("~n<~s~s ~0p>~n", ["{mark}", "=", try {expression} catch C:E -> {{failed, C, E}} end]).\n'
            )
            pattern = re.compile(rf"<{mark}= (.*)>\r?\n", re.DOTALL)
            deadline = time.monotonic() + ORDER_S
            while True:
                with self._output.open("rb") as output:
                    output.seek(start)
                    found = pattern.search(output.read().decode("utf-8", "replace"))
                if found is not None:
                    break
                if not self.running or time.monotonic() > deadline:
                    raise RabbitFailed(f"no answer to {expression}\n{self._tail()}")
                time.sleep(0.005)
        value = found[1].strip()
        if value.startswith("{failed,"):
            raise RabbitFailed(f"{expression}: {value}")
        return value

    def add_vhost(self, name: str) -> None:
        """Make a vhost that :data:`USER` may use wholly."""
        self.order(f'rabbit_vhost:add(<<"{name}">>, <<"tests">>)')
        everything = '<<".*">>, <<".*">>, <<".*">>'
        self.order(
            f'rabbit_auth_backend_internal:set_permissions(<<"{USER}">>, <<"{name}">>, {everything}, <<"tests">>)'
        )

    def delete_vhost(self, name: str) -> None:
        """Remove a vhost with all that is in it."""
        self.order(f'rabbit_vhost:delete(<<"{name}">>, <<"tests">>)')

    def delete_queue(self, vhost: str, name: str) -> None:
        """Delete a queue as an administrator would; its consumers get ``basic.cancel``."""
        resource = f'rabbit_misc:r(<<"{vhost}">>, queue, <<"{name}">>)'
        self.order(
            f'rabbit_amqqueue:with({resource}, fun(Q) -> rabbit_amqqueue:delete(Q, false, false, <<"tests">>), ok end)'
        )

    def cut_connections(self, vhost: str) -> None:
        """Close every connection of a vhost from the server's side."""
        self.order(
            '[rabbit_networking:close_connection(P, "cut by a test") || '
            f'[{{pid, P}}, {{vhost, <<"{vhost}">>}}] <- rabbit_networking:connection_info_all([pid, vhost])]'
        )

    def set_memory_alarm(self, *, on: bool) -> None:
        """What ``rabbitmqctl set_vm_memory_high_watermark`` does: block all publishers, or let them go on."""
        self.order(f"vm_memory_monitor:set_vm_memory_high_watermark({'0.0000001' if on else '0.6'})")

    def url(self, vhost: str = "/", *, tls: bool = False) -> str:
        """``amqp://`` or, verified against :attr:`ca_file`, ``amqps://``."""
        place = f"{quote(vhost, safe='')}"
        if tls:
            return f"amqps://{USER}:{self.password}@localhost:{self.tls_port}/{place}?cacertfile={self.ca_file}"
        return f"amqp://{USER}:{self.password}@127.0.0.1:{self.port}/{place}"

    # -- inside --------------------------------------------------------------------------------------------------------

    def _start_epmd(self) -> None:
        if self._epmd is not None and self._epmd.poll() is None:
            return
        # The shell waits on a pipe of ours, so that epmd ends with the test process, however that ends.
        until_end_of_input = '"$@" & read _; kill $!; wait'
        epmd = [self._epmd_program, "-address", "127.0.0.1", "-port", str(self._epmd_port)]
        self._epmd = subprocess.Popen(
            ["/bin/sh", "-c", until_end_of_input, "epmd", *epmd],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + START_S
        while not _answers(self._epmd_port):
            if self._epmd.poll() is not None or time.monotonic() > deadline:
                raise RabbitFailed("epmd did not start")
            time.sleep(0.02)

    def _await_listeners(self, deadline: float) -> None:
        # The listener opens before the node is done booting; the answer to an order that waits for it says more.
        while not _answers(self.port):
            if not self.running or time.monotonic() > deadline:
                raise RabbitFailed(f"the RabbitMQ node did not start\n{self._tail()}")
            time.sleep(0.05)
        self.order("rabbit:await_startup()")

    def _write(self, text: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(text.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died; whoever waits for the answer says so

    def _reap(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        if process.stdin is not None:
            try:
                process.stdin.close()
            except BrokenPipeError:
                pass
        self._process = None

    def _tail(self) -> str:
        return self._output.read_text("utf-8", "replace")[-2000:]


@lru_cache(maxsize=1)
def node() -> Node:
    """The node shared by this process, with a TLS listener, started now and ended at exit. Raises RabbitMissing.

    Leave it as it was found: tests that stop, kill or wipe a node take :func:`spare_node`, or make one of their own.
    """
    shared = Node(tls=True)
    atexit.register(shared.close)
    shared.start()
    return shared


@lru_cache(maxsize=1)
def spare_node() -> Node:
    """A second node of this process, running, for tests that stop, kill or wipe it; ended at exit."""
    spare = Node()
    atexit.register(spare.close)
    spare.start()
    return spare


def fresh_vhost(test: HasCleanup, server: Node | None = None) -> str:
    """A new vhost on ``server`` (by default the shared node), deleted when ``test`` ends; returns its name."""
    where = node() if server is None else server
    name = f"test-{secrets.token_hex(4)}"
    where.add_vhost(name)
    if server is None:
        test.addCleanup(where.delete_vhost, name)
    return name


def _programs() -> tuple[str, str]:
    script = next((f"{folder}/rabbitmq-server" for folder in _SCRIPT_FOLDERS if _is_program(folder)), None)
    epmd = shutil.which("epmd") or next(iter(map(str, Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))), None)
    if script is None or epmd is None:
        raise RabbitMissing(INSTALL)
    return script, epmd


def _is_program(folder: str) -> bool:
    return os.access(f"{folder}/rabbitmq-server", os.X_OK)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True

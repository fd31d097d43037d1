"""The servers that the fan-out benches compare, each with the door that a crowd comes in by and the way to publish.

* **msgd**: recorder and one or two notifiers, each a process under twistd with its default settings but for the limits
  on what one principal may open and how fast, on RabbitMQ and PostgreSQL (``fsync=on``, over its Unix socket, as a
  server on the same machine is reached). Published to ``msgd.events``, persistent, with a ``message_id``, as a web
  application does. Also all in one process on the defaults (embedded broker, SQLite with ``synchronous=FULL``),
  published by ``POST /api/events``.
* **nchan**: Debian's nginx with libnginx-mod-nchan, one worker (with two it was no faster here: the second takes the
  processor that the crowd needs), in memory, ``tcp_nodelay`` on, no access log, a message buffer larger than the run.
  Published by POSTs in one kept connection, pipelined, so that nobody waits for answers.
* **RabbitMQ Web-STOMP**: the plugin, on the very broker that msgd uses; a topic subscription for each client, which
  acknowledges nothing, under a server's default options with TCP_NODELAY. Published to ``amq.topic``.
* **Tornado and pika**: ``bench/_tornado_fanout.py``, one process. Published to its fanout exchange.

What is published to nchan and to RabbitMQ are bytes of ours for one ``send``, so that servers are measured and no
client's library.
All on loopback, on free ports and in temporary folders, and ended by pid.
"""

from __future__ import annotations

import contextlib
import glob
import http.client
import json
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import pamqp.header
import pika
from pamqp import commands, frame
from pamqp.exceptions import UnmarshalingException

from bench._crowd import Door, raise_limit
from msgd.broker import topology
from tests.ports import free_port
from tests.servers.postgres import Cluster
from tests.servers.rabbitmq import USER, Node
from tests.stories.deployment import Deployment, until

TOPIC: Final = "bench.fanout"
CHANNEL: Final = "bench"
BACKLOG: Final = 1024

BODY_HEAD: Final = struct.Struct(">BHI")
"""Of an AMQP frame: its type, channel and size (AMQP 0-9-1 §2.3.5)."""

FRAME_END: Final = b"\xce"

UNLIMITED: Final = {
    f"MSGD_{name}": "0"
    for name in (
        "NOTIFIER_HANDSHAKES",
        "LIMITS_REQUESTS",
        "LIMITS_CONNECTIONS",
        "LIMITS_SUBSCRIPTIONS",
        "LIMITS_OPERATIONS",
    )
}
"""What the crowd needs of msgd beyond its defaults, for all of it is one principal and comes at once."""

NGINX: Final = """
load_module {module};
daemon off;
pid {folder}/pid;
error_log {folder}/error.log warn;
worker_processes 1;
worker_rlimit_nofile 65536;
events {{ worker_connections 32768; }}
http {{
    access_log off;
    tcp_nodelay on;
    keepalive_requests 1000000;
    keepalive_timeout 1h;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    nchan_shared_memory_size 256M;
    server {{
        listen 127.0.0.1:{port} backlog={backlog};
        nchan_channel_id {channel};
        location = /publish {{ nchan_publisher http; nchan_message_buffer_length 2000; nchan_message_timeout 10m; }}
        location = /now {{ nchan_subscriber websocket; nchan_subscriber_first_message newest; }}
        location = /all {{ nchan_subscriber websocket; nchan_subscriber_first_message oldest; }}
    }}
}}
"""

INSTALL_NCHAN: Final = "This needs nginx with nchan. On Debian or Ubuntu: apt-get install nginx libnginx-mod-nchan"


@contextlib.contextmanager
def servers() -> Iterator[tuple[Node, Cluster]]:
    """RabbitMQ and PostgreSQL, started and in the end stopped; this process may open the files of a crowd."""
    raise_limit()
    with contextlib.closing(Node()) as node, contextlib.closing(Cluster(fsync=True)) as cluster:
        node.start()
        cluster.start()
        yield node, cluster


class Pusher(Protocol):
    """A server that is measured."""

    name: str

    def door(self, *, since: str = "") -> Door:
        """Where a crowd connects; ``since``: ``"0"``, to be sent all there is, too."""

    def publish(self, bodies: Iterator[bytes]) -> None:
        """Publish these, as fast as they come; returns when they are on their way."""


class Grows(Pusher, Protocol):
    """One whose memory is measured."""

    def processes(self) -> Sequence[int]:
        """The pids of what grows with its connections."""


# -- publishing -------------------------------------------------------------------------------------------------------


class _Amqp:
    """Publishes to RabbitMQ bytes made ready before, as nchan is published to: no client library is measured with it,
    of which pika takes 0.3 ms for a message, of the 7 ms that all of it takes."""

    def __init__(self, url: str, exchange: str, key: str, **properties: Any) -> None:
        parameters = pika.URLParameters(url)
        self._socket = socket.create_connection((parameters.host, parameters.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""
        login = f"\0{parameters.credentials.username}\0{parameters.credentials.password}"
        self._socket.sendall(pamqp.header.ProtocolHeader().marshal())
        self._await(commands.Connection.Start)
        self._say(commands.Connection.StartOk(mechanism="PLAIN", response=login))
        tune = self._await(commands.Connection.Tune)
        # Without heartbeats: this connection is not served between two publishes.
        self._say(commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0))
        self._say(commands.Connection.Open(parameters.virtual_host))
        self._await(commands.Connection.OpenOk)
        self._say(commands.Channel.Open(), 1)
        self._await(commands.Channel.OpenOk)
        self._method = frame.marshal(commands.Basic.Publish(exchange=exchange, routing_key=key), 1)
        self._properties = properties

    def _say(self, method: Any, channel: int = 0) -> None:
        self._socket.sendall(frame.marshal(method, channel))

    def _await(self, kind: type[Any]) -> Any:
        """The next method, which is of this kind."""
        while True:
            with contextlib.suppress(UnmarshalingException):  # of half a frame
                used, _, found = frame.unmarshal(self._received)
                self._received = self._received[used:]
                assert isinstance(found, kind), found
                return found
            more = self._socket.recv(65536)
            if not more:
                raise RuntimeError("RabbitMQ has closed the connection")
            self._received += more

    def _head(self, size: int) -> bytes:
        """What comes before the body of the next message, which has so many bytes."""
        properties = commands.Basic.Properties(
            content_type="application/json", message_id=uuid.uuid4().hex, **self._properties
        )
        header = pamqp.header.ContentHeader(body_size=size, properties=properties)
        return self._method + frame.marshal(header, 1) + BODY_HEAD.pack(3, 1, size)

    def publish(self, bodies: Iterator[bytes]) -> None:
        head, size = b"", -1
        for body in bodies:
            if len(body) != size:  # as the first one
                head, size = self._head(len(body)), len(body)
            self._socket.sendall(head + body + FRAME_END)
            head = self._head(size)

    def close(self) -> None:
        self._say(commands.Connection.Close(200, "goodbye", 0, 0))
        self._socket.close()


# -- msgd -------------------------------------------------------------------------------------------------------------


def _msgd_door(ports: Sequence[int], token: str, since: str) -> Door:
    subscribe = {"op": "subscribe", "topic": TOPIC, "ref": 1} | ({"since": since} if since else {})
    return Door(
        ports=ports,
        path="/ws",
        subprotocol="msgd.v1",
        authorization=f"Bearer {token}",
        opening=[json.dumps(subscribe)],
        ready='"subscribed"',
    )


class Msgd:
    """Daemons of ours on RabbitMQ and PostgreSQL."""

    def __init__(self, node: Node, cluster: Cluster, *, notifiers: int = 1) -> None:
        self.name = "msgd" if notifiers == 1 else f"msgd, {notifiers} notifiers"
        vhost = f"msgd-{uuid.uuid4().hex[:8]}"
        node.add_vhost(vhost)
        broker, database = node.url(vhost), cluster.socket_url(cluster.create_database())
        first = Deployment(("recorder", "notifier"), broker=broker, database=database)
        self.deployments = [first]
        try:
            first.start(environment=UNLIMITED)
            secret = f'[auth]\nsecret_file = "{first.folder}/var/secret"\n'
            for _ in range(notifiers - 1):
                more = Deployment(("notifier",), broker=broker, database=database, more=secret)
                self.deployments.append(more)
                more.start(environment=UNLIMITED)
            self._token = first.token()
            until(self._ready, "every notifier is ready")
            self._publisher = _Amqp(broker, topology.EVENTS, TOPIC, message_type="tick", delivery_mode=2)
        except BaseException:
            self.close()
            raise

    def _ready(self) -> bool:
        return all(one.call("GET", "/readyz", token=self._token)[0] == 200 for one in self.deployments)

    def door(self, *, since: str = "") -> Door:
        return _msgd_door([one.port for one in self.deployments], self._token, since)

    def publish(self, bodies: Iterator[bytes]) -> None:
        self._publisher.publish(bodies)

    def processes(self) -> Sequence[int]:
        return [one.pid("notifier") for one in self.deployments] + [self.deployments[0].pid("recorder")]

    def close(self) -> None:
        for one in self.deployments:
            one.close()


class MsgdAlone:
    """All of msgd in one process, on its embedded defaults."""

    name = "msgd, all in one, embedded"

    def __init__(self) -> None:
        self._deployment = Deployment(("msgd",))
        try:
            self._deployment.start(environment=UNLIMITED)
            self._token = self._deployment.token()
        except BaseException:
            self.close()
            raise

    def door(self, *, since: str = "") -> Door:
        return _msgd_door([self._deployment.port], self._token, since)

    def publish(self, bodies: Iterator[bytes]) -> None:
        events = b",".join(b'{"topic":"%s","type":"tick","data":%s}' % (TOPIC.encode(), body) for body in bodies)
        status, answer = self._deployment.call("POST", "/api/events", raw=b"[%s]" % events, token=self._token)
        assert status == 202, answer

    def processes(self) -> Sequence[int]:
        return [self._deployment.pid("msgd")]

    def close(self) -> None:
        self._deployment.close()


# -- the peers --------------------------------------------------------------------------------------------------------


class Nchan:
    """nginx with nchan."""

    name = "nchan"

    def __init__(self) -> None:
        program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
        module = next(iter(glob.glob("/usr/lib/nginx/modules/ngx_nchan_module.so")), None)
        if program is None or module is None:
            raise RuntimeError(INSTALL_NCHAN)
        self._folder = Path(tempfile.mkdtemp(prefix="msgd-bench-nchan-"))
        self._folder.chmod(0o755)  # the worker is another user, if this one is root
        self._port = free_port()
        settings = self._folder / "nginx.conf"
        settings.write_text(
            NGINX.format(module=module, folder=self._folder, port=self._port, backlog=BACKLOG, channel=CHANNEL)
        )
        self._process = subprocess.Popen([program, "-p", str(self._folder), "-e", "stderr", "-c", str(settings)])
        self._socket: socket.socket | None = None
        try:
            until(self._answers, "nginx answers")
        except BaseException:
            self.close()
            raise

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            self._socket = socket.create_connection(("127.0.0.1", self._port))
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return True
        return False

    def door(self, *, since: str = "") -> Door:
        return Door(ports=[self._port], path="/all" if since else "/now")

    def publish(self, bodies: Iterator[bytes]) -> None:
        assert self._socket is not None
        head = b"POST /publish HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        posted = 0
        for body in bodies:
            self._socket.sendall(head % len(body) + body)
            posted += 1
        with self._socket.makefile("rb") as answers:
            for _ in range(posted):
                _skip_answer(answers)

    def processes(self) -> Sequence[int]:
        return [self._process.pid, *_children(self._process.pid)]

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
        _end(self._process)
        shutil.rmtree(self._folder, ignore_errors=True)


def _skip_answer(answers: Any) -> None:
    status = answers.readline()
    if b" 201 " not in status and b" 202 " not in status:  # 201: somebody was subscribed
        raise RuntimeError(f"nchan answered {status!r}")
    length = int(http.client.parse_headers(answers).get("Content-Length", "0"))
    answers.read(length)


class WebStomp:
    """RabbitMQ's plugin on a node made by :func:`stomp_node`."""

    name = "RabbitMQ Web-STOMP"

    def __init__(self, node: Node, port: int) -> None:
        self._node, self._port = node, port
        self._publisher = _Amqp(node.url(), "amq.topic", CHANNEL)

    def door(self, *, since: str = "") -> Door:
        assert not since, "it keeps nothing"
        connect = (
            f"CONNECT\naccept-version:1.2\nhost:/\nheart-beat:0,0\nlogin:{USER}\npasscode:{self._node.password}\n\n"
        )
        subscribe = f"SUBSCRIBE\nid:0\ndestination:/topic/{CHANNEL}\nack:auto\nreceipt:stands\n\n"
        return Door(
            ports=[self._port],
            path="/ws",
            subprotocol="v12.stomp",
            opening=[connect, subscribe],
            ready="RECEIPT",
            nul=True,
        )

    def publish(self, bodies: Iterator[bytes]) -> None:
        self._publisher.publish(bodies)

    def close(self) -> None:
        self._publisher.close()


def stomp_node() -> tuple[Node, int]:
    """A node, not running yet, with the Web-STOMP plugin on a port."""
    node, port = Node(), free_port()
    with (node.folder / "rabbitmq.conf").open("a") as settings:
        settings.write(
            "stomp.listeners.tcp = none\n"
            f"web_stomp.tcp.ip = 127.0.0.1\nweb_stomp.tcp.port = {port}\n"
            f"web_stomp.tcp.backlog = {BACKLOG}\n"
        )
    (node.folder / "enabled_plugins").write_text("[rabbitmq_web_stomp].\n")
    return node, port


class Tornado:
    """Tornado and pika."""

    name = "Tornado and pika"

    def __init__(self, node: Node) -> None:
        exchange = "bench-tornado"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench._tornado_fanout", node.url(), exchange], stdout=subprocess.PIPE, text=True
        )
        try:
            assert self._process.stdout is not None
            self._port = int(self._process.stdout.readline())
            self._publisher = _Amqp(node.url(), exchange, "")
        except BaseException:
            self.close()
            raise

    def door(self, *, since: str = "") -> Door:
        assert not since, "it keeps nothing"
        return Door(ports=[self._port], path="/")

    def publish(self, bodies: Iterator[bytes]) -> None:
        self._publisher.publish(bodies)

    def processes(self) -> Sequence[int]:
        return [self._process.pid]

    def close(self) -> None:
        _end(self._process)


# -- processes --------------------------------------------------------------------------------------------------------


def resident_kb(pids: Sequence[int]) -> int:
    """The memory of these processes in KB. What they share is dealt out among them (Pss of proc(5)), not counted for
    each."""
    return sum(_pss_kb(pid) for pid in pids)


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise RuntimeError(f"no Pss of {pid}")


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()

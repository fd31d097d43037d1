"""A fan-out server on Tornado and pika, a peer of ours: ``python -m bench._tornado_fanout AMQP_URL EXCHANGE``.

What one writes who needs no journal: one process, one exclusive queue at a fanout exchange, acknowledged by the broker,
and ``write_message`` to each WebSocket that is open. Text frames, no compression, TCP_NODELAY. It prints its port.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import pika
from pika.adapters.tornado_connection import TornadoConnection
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketClosedError, WebSocketHandler

clients: set[Client] = set()


class Client(WebSocketHandler):
    """One WebSocket."""

    def check_origin(self, origin: str) -> bool:
        return True

    def open(self, *_: str) -> None:
        self.set_nodelay(True)
        clients.add(self)

    def on_message(self, message: str | bytes) -> None: ...

    def on_close(self) -> None:
        clients.discard(self)


def received(_channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
    """To everybody."""
    text = body.decode()
    for client in list(clients):
        try:
            client.write_message(text)
        except WebSocketClosedError:
            clients.discard(client)


def serve(url: str, exchange: str) -> None:
    """Serve for ever; print the port when messages arrive."""
    (listener,) = bind_sockets(0, "127.0.0.1", backlog=1024)
    server = HTTPServer(Application([("/", Client)]))
    server.add_socket(listener)

    def opened(connection: Any) -> None:
        connection.channel(on_open_callback=declare)

    def declare(channel: Any) -> None:
        channel.exchange_declare(
            exchange,
            "fanout",
            callback=lambda _: channel.queue_declare("", exclusive=True, callback=partial(bind, channel)),
        )

    def bind(channel: Any, declared: Any) -> None:
        queue = declared.method.queue
        channel.queue_bind(queue, exchange, callback=lambda _: consume(channel, queue))

    def consume(channel: Any, queue: str) -> None:
        channel.basic_consume(queue, received, auto_ack=True)
        print(listener.getsockname()[1], flush=True)

    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    TornadoConnection(parameters, on_open_callback=opened)
    IOLoop.current().start()


if __name__ == "__main__":
    serve(*sys.argv[1:])

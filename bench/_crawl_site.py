"""A static site for crawl benchmarks: ``python -m bench._crawl_site PAGES`` prints its port, and serves until killed.

Answers are made in advance and written by a bare epoll loop: some 30,000 a second on one core, so that the crawlers are
what is measured.
"""

from __future__ import annotations

import select
import socket
import sys
from typing import Final

LINKS: Final = 20
PAGE_BYTES: Final = 10_000
FILL: Final = "<p>Paragraph {} of page {}: the quick brown fox jumps over the lazy dog and counts {} sheep.</p>\n"


def page(number: int, pages: int) -> bytes:
    """A page of about 10 KB with 20 links, to the pages that a tree of degree 20 has below it (and round again)."""
    links = ((number * LINKS + nth + 1) % pages for nth in range(LINKS))
    items = "".join(f'<li><a href="/page/{link}.html">To page {link}</a></li>\n' for link in links)
    head = f"<!doctype html><html><head><meta charset=utf-8><title>Page {number}</title></head><body>"
    text = f"{head}<h1>Page {number}</h1><ul>{items}</ul>"
    nth = 0
    while len(text) < PAGE_BYTES:
        text += FILL.format(nth, number, number * nth)
        nth += 1
    return f"{text}</body></html>".encode()


def serve(pages: int) -> None:
    """Serve for ever."""
    head = b"HTTP/1.1 %s\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\n\r\n"
    answers = {}
    for number in range(pages):
        body = page(number, pages)
        answers[b"/page/%d.html" % number] = head % (b"200 OK", len(body)) + body
    answers[b"/"] = answers[b"/page/0.html"]
    missing = head % (b"404 Not Found", 0)

    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    print(listener.getsockname()[1], flush=True)
    polled = select.epoll()
    polled.register(listener, select.EPOLLIN)
    connections: dict[int, tuple[socket.socket, bytearray, bytearray]] = {}
    while True:
        for number, _ in polled.poll():
            if number == listener.fileno():
                connection, _address = listener.accept()
                connection.setblocking(False)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[connection.fileno()] = connection, bytearray(), bytearray()
                polled.register(connection, select.EPOLLIN)
                continue
            connection, asked, told = connections[number]
            try:
                data = connection.recv(65536)
            except BlockingIOError:
                data = None
            except OSError:
                data = b""
            if data == b"":
                polled.unregister(number)
                connection.close()
                del connections[number]
                continue
            asked += data or b""
            while (end := asked.find(b"\r\n\r\n")) >= 0:
                told += answers.get(bytes(asked[4 : asked.index(b" ", 4)]), missing)
                del asked[: end + 4]
            try:
                del told[: connection.send(told)]
            except OSError:
                pass  # full: more when it drains; gone: the next recv tells
            polled.modify(number, select.EPOLLIN | (select.EPOLLOUT if told else 0))


if __name__ == "__main__":
    serve(int(sys.argv[1]))

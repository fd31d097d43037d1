"""Hostile requests are refused with the right status or code by every door, and nobody else notices."""

from __future__ import annotations

import base64
import json
from typing import Any, Final

from tests.stories.deployment import until
from tests.stories.hostile import HostileCase, Peer, frame

BAD_TOKEN: Final = 4101
FOREIGN: Final = "Origin: https://evil.example"
JSON: Final = "Content-Type: application/json"


def _part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


class TokensTest(HostileCase):
    """Who shows a token that is none, on whichever transport."""

    def test_tokens_and_origins(self) -> None:
        """A bad token is refused by all doors alike; the cookie is no use to a foreign page."""
        good = self.token()
        head, claims, signature = good.split(".")
        none = f"{_part({'alg': 'none', 'typ': 'JWT'})}.{claims}."
        bad = {
            "forged": f"{head}.{_part({'sub': 'root', 'exp': 1 << 40, 'can': ['admin:#']})}.{signature}",
            "signature": f"{head}.{claims}.{signature[:-4]}AAAA",
            "expired": self.token(ttl_s=60, now_s=1_000_000_000),
            "none": none,
            "None": none.replace("bm9uZSI", "Tm9uZSI"),
            "unsigned": f"{head}.{claims}.",
            "other algorithm": f"{_part({'alg': 'RS256'})}.{claims}.{signature}",
            "critical": f"{_part({'alg': 'HS256', 'crit': ['x'], 'x': 1})}.{claims}.{signature}",
            "key within": f"{_part({'alg': 'HS256', 'jwk': {'kty': 'oct', 'k': 'AAAA'}})}.{claims}.{signature}",
            "oversized": good + "A" * 10_000,
            "no token": "x",
            "dots": "." * 1000,
            "deep": f"{base64.urlsafe_b64encode(b'[' * 3000).decode()}.{claims}.{signature}",
        }
        for name, token in bad.items():
            with self.subTest(name):
                self.check_token(token)
        self.assertEqual(self.status(f"Authorization: Bearer {good}"), 200)
        cookie = f"Cookie: msgd={good}"
        self.assertEqual(self.status(cookie), 200)
        for origin in (
            FOREIGN,
            "Origin: null",
            f"Origin: http://127.0.0.1:{self.made.port}.evil.example",
            "Origin: \xff",
        ):
            self.assertEqual(self.posted(b'{"topic":"room.a","type":"x"}', cookie, JSON, origin), 403)
            self.assertEqual(self.peer().opening("", cookie, origin).status(), 403)
            self.assertEqual(self.posted(json.dumps({"token": good}).encode(), JSON, origin, path="/api/session"), 403)
        self.assertEqual(self.posted(b'{"topic":"room.a","type":"x"}', cookie, JSON), 403)  # nobody says whose page
        own = f"Origin: http://127.0.0.1:{self.made.port}"
        self.assertEqual(self.posted(b'{"topic":"room.a","type":"x"}', cookie, own, "Content-Type: text/plain"), 415)
        self.assertEqual(self.posted(b'{"topic":"room.a","type":"x"}', cookie, own, JSON), 202)
        for peer in self.peers:
            peer.close()
        self.check_others()

    def setUp(self) -> None:
        super().setUp()
        self.peers: list[Peer] = []

    def peer(self) -> Peer:
        self.peers.append(super().peer())
        return self.peers[-1]

    def status(self, *lines: str, path: str = "/api/topics/room.a/events") -> int:
        return self.peer().request(*lines, "Connection: close", path=path).status()

    def posted(self, body: bytes, *lines: str, path: str = "/api/events") -> int:
        peer = self.peer().request(*lines, f"Content-Length: {len(body)}", method="POST", path=path)
        return peer.send(body).status()

    def check_token(self, token: str) -> None:
        bearer = f"Authorization: Bearer {token}"
        self.assertIn(self.status(bearer), (401, 400))
        self.assertIn(self.status(bearer, path="/api/topics/room.a/events?wait=5"), (401, 400))
        self.assertIn(self.status(bearer, "Accept: text/event-stream"), (401, 400))
        by_hello = self.peer().open().say("hello", token=token)
        self.assertIn(by_hello.message()["code"], ("unauthenticated", "token-expired"))
        self.assertEqual(by_hello.closed(), BAD_TOKEN)
        peer = self.peer().opening(token)
        status = peer.status()
        if status == 101:  # browsers hide a refused handshake from scripts; a close code they show
            self.assertEqual(peer.closed(), BAD_TOKEN)
        else:
            self.assertIn(status, (400, 401))


class RequestsTest(HostileCase):
    """Requests that two servers may read differently, and texts that nobody should have to read."""

    def answers(self, data: bytes) -> list[int]:
        """The statuses of all that is answered until the connection ends."""
        peer = self.peer().send(data).finish()
        found = b""
        while data := peer.socket.recv(65536):
            found += data
        peer.close()
        return [int(part[1:4]) for part in found.split(b"HTTP/1.1")[1:] if part[1:4].isdigit()]

    def test_smuggling(self) -> None:
        """A request whose length, target or head is doubtful is refused, and what follows it is not performed."""
        bearer = f"Authorization: Bearer {self.token()}\r\n".encode()
        host = b"Host: x\r\n"
        event = b'{"topic":"room.smuggled","type":"x"}'
        inner = b"POST /api/events HTTP/1.1\r\n" + host + bearer + b"Content-Length: %d\r\n\r\n%b" % (len(event), event)
        post = b"POST /api/session HTTP/1.1\r\n" + host
        for doubtful in (
            b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(inner),
            b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % len(inner),
            b"Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
            b"Transfer-Encoding: chunked\r\n\r\n0x0\r\n\r\n",
            b"Content-Length: -1\r\n\r\n",
            b"Content-Length: +0\r\n\r\n",
            b"Content-Length: 0_0\r\n\r\n",
            b"Content-Length : 0\r\n\r\n",
            b"X: y\r\n" * 1000 + b"\r\n",
            b"X: " + b"y" * 20_000 + b"\r\n\r\n",
        ):
            self.assertIn(self.answers(post + doubtful + inner), ([], [400]), doubtful[:60])
        for target in (
            b"http://evil.example/api/events",
            b"//api/events",
            b"/api/events%00",
            b"/\xff",
            b"/" + b"a" * 9000,
        ):
            got = self.answers(b"GET " + target + b" HTTP/1.1\r\n" + host + bearer + b"Connection: close\r\n\r\n")
            self.assertIn(got, ([400], [404], []), target[:40])
        self.assertEqual(self.made.events("room.smuggled"), [])
        self.check_others()

    def test_texts(self) -> None:
        """NULs, lone surrogates, depth, and numbers beyond all measure: refused in whatever field they come."""
        peer = self.opened()
        for wrong in ("\\u0000", "\\ud800", "\\udfff\\ud800"):
            for operation in (
                '{"op":"subscribe","topic":"room.%s"}', '{"op":"subscribe","topic":"room.a","since":"%s"}',
                '{"op":"unsubscribe","topic":"%s"}', '{"op":"presence","topic":"room.%s"}', '{"op":"%s"}',
                '{"op":"typing","topic":"room.%s"}', '{"op":"publish","topic":"room.%s","type":"x"}',
                '{"op":"publish","topic":"room.a","type":"%s"}', '{"op":"publish","topic":"b","type":"x","id":"%s"}',
                '{"op":"cancel","job":"%s"}', '{"op":"submit","type":"%s"}',
                '{"op":"submit","type":"crawl","params":{"url":"http://127.0.0.1:1/"},"key":"%s"}',
            ):  # fmt: skip
                answer = peer.send(frame((operation % wrong).encode())).message()
                self.assertEqual(answer["op"], "error", operation)
            for field in ('"name":"%s"', '"name":"n","title":"%s"', '"name":"n","members":["%s"]'):
                self.posted("/api/rooms", ("{" + field % wrong + "}").encode(), 400)
        deep = b"[" * 30_000 + b"]" * 30_000
        self.assertEqual(peer.send(frame(b'{"op":"ping","x":' + deep + b"}")).message()["op"], "error")
        self.posted("/api/events", b'{"topic":"room.a","type":"x","data":' + deep + b"}", 400)
        self.posted("/api/events", b'{"topic":"room.a","type":"x","data":1e999}', 400)
        self.posted(
            "/api/rooms", json.dumps({"name": "n", "members": [f"m{n}" for n in range(100_000)]}).encode(), 413, 400
        )
        for path in (
            "/api/rooms/%00",
            "/api/rooms?after=%00",
            "/api/topics/%00/events",
            "/api/jobs/%00",
            "/api/rooms/%ff",
        ):
            status, problem = self.made.call("GET", path)
            self.assertIn((status, problem["code"]), ((400, "invalid"), (400, "invalid-topic")), path)
        number = 10**200
        self.assertEqual(peer.say("ping", ref=number).message(), {"op": "ok", "ref": number})
        self.assertEqual(peer.send(frame(b'{"op":"ping","ref":1%s}' % (b"0" * 5000))).message()["op"], "error")
        until(lambda: peer.say("ping", ref="x" * 60_000).message()["op"] == "ok", "a ref of any length comes back")
        peer.close()
        self.check_others()

    def posted(self, path: str, body: bytes, *statuses: int) -> None:
        status, problem = self.made.call("POST", path, raw=body)
        self.assertIn(status, statuses, (body[:80], problem))

"""Hostile WebSockets are refused with the right code, leave nothing behind, and nobody else notices (RFC 6455)."""

from __future__ import annotations

import json
from random import Random
from typing import Final

from msgd.notifier.limits import FRAME_BYTES, SUBSCRIPTIONS
from tests.stories.deployment import until
from tests.stories.hostile import BINARY, CLOSE, CONTINUED, PING, PONG, TEXT, TOPIC, HostileCase, frame

WRONG_PROTOCOL, NOT_UTF8, TOO_BIG = 1002, 1007, 1009
BAD_TOKEN, CROWDED, NOT_SPOKEN = 4101, 4002, 4100
PING_OPERATION: Final = b'{"op":"ping","ref":7}'
BAD_UTF8: Final = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80")
"""A byte that is none, an overlong form, a surrogate, beyond U+10FFFF, cut short, out of turn."""


class FramesTest(HostileCase):
    """What is no frame, and frames that are wrong."""

    def closes(self, data: bytes, *codes: int) -> None:
        """Sent after the handshake, ``data`` ends the connection with one of these codes."""
        peer = self.opened()
        code = peer.send(data).closed()
        self.assertIn(code, codes, f"{code} after {data[:40]!r}")
        peer.close()

    def test_wrong_frames(self) -> None:
        """Each is told what is wrong by the code with which the connection closes."""
        for bit in (1, 2, 4, 7):
            self.closes(frame(PING_OPERATION, reserved=bit), WRONG_PROTOCOL)
        for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
            self.closes(frame(b"", opcode), WRONG_PROTOCOL)
        for control in (CLOSE, PING, PONG):
            self.closes(frame(b"\x03\xe8", control, fin=False), WRONG_PROTOCOL, *((0,) if control == CLOSE else ()))
            self.closes(frame(b"x" * 126, control), WRONG_PROTOCOL)
        self.closes(frame(PING_OPERATION, masked=False), WRONG_PROTOCOL)
        self.closes(frame(b"continued", CONTINUED), WRONG_PROTOCOL)
        self.closes(frame(b'{"op":', fin=False) + frame(PING_OPERATION), WRONG_PROTOCOL)
        self.closes(frame(b"", BINARY, fin=False) + frame(b"", BINARY), WRONG_PROTOCOL)
        self.closes(b"\x81\xfe\x00\x05" + bytes(9), WRONG_PROTOCOL)  # a length of 5 in the long form
        self.closes(b"\x81\xff" + bytes(7) + b"\x05" + bytes(9), WRONG_PROTOCOL)
        self.closes(b"\x81\xff\xff" + bytes(7) + bytes(4), WRONG_PROTOCOL)  # a negative length
        self.closes(frame(b"\x03", CLOSE), 0, WRONG_PROTOCOL)
        self.closes(frame(b"\x03\xee", CLOSE), 0, WRONG_PROTOCOL)  # 1006, which no frame may say
        self.closes(frame(b"\x00\x00", CLOSE), 0, WRONG_PROTOCOL)
        self.closes(frame(b"\x03\xe8\xff", CLOSE), NOT_UTF8, 0, WRONG_PROTOCOL)
        self.closes(frame(b"\x03\xe8bye", CLOSE), 1000)
        self.closes(frame(PING_OPERATION, BINARY), NOT_SPOKEN)
        self.check_others()

    def test_what_follows_something_wrong(self) -> None:
        """It is parsed, and means nothing: no operation is performed, no ping of whatever length is answered."""
        said = frame(b'{"op":"publish","topic":"room.never","type":"said"}')
        for wrong in (frame(b"", 3), frame(b"\xff"), frame(b"", BINARY), frame(b"x" * 300, PING)):
            self.closes(wrong + frame(b"x" * 300, PING) + said, WRONG_PROTOCOL, NOT_UTF8, NOT_SPOKEN)
        self.assertEqual(self.made.events("room.never"), [])
        self.check_others()

    def test_too_big(self) -> None:
        """More than 64 KiB is refused as soon as it is known: by a header, or by the fragments together."""
        self.closes(frame(b"x" * (FRAME_BYTES + 1)), TOO_BIG)
        self.closes(frame(b"", says=FRAME_BYTES + 1), TOO_BIG)
        self.closes(frame(b"", says=(1 << 63) - 1), TOO_BIG)
        half = b"x" * (FRAME_BYTES // 2)
        self.closes(frame(half, fin=False) + frame(half, CONTINUED, fin=False) + frame(b"xx", CONTINUED), TOO_BIG)
        peer = self.opened()
        largest = b'{"op":"ping","ref":"' + b"x" * (FRAME_BYTES - 22) + b'"}'
        self.assertEqual(peer.send(frame(largest)).message()["op"], "ok")
        peer.close()
        self.check_others()

    def test_utf8(self) -> None:
        """What is not UTF-8 is refused, also where a character is split over two fragments; what is, is taken."""
        for text in BAD_UTF8:
            self.closes(frame(b'{"op":"' + text + b'"}'), NOT_UTF8)
            self.closes(frame(text[:1], fin=False) + frame(text[1:], CONTINUED), NOT_UTF8)
            self.closes(frame(text[:1], fin=False) + frame(b"", PING) + frame(text[1:], CONTINUED), NOT_UTF8)
        peer = self.opened()
        whole = '{"op":"ping","ref":"€"}'.encode()
        for at in range(len(whole)):
            peer.send(frame(whole[:at], fin=False) + frame(b"here?", PING) + frame(whole[at:], CONTINUED))
            self.assertEqual(peer.message(), {"op": "ok", "ref": "€"})
        peer.close()
        self.check_others()

    def test_fuzz(self) -> None:
        """Whatever bytes come after the handshake, the connection is answered or closed with a code of the protocol."""
        random = Random(20261121)
        for number in range(300):
            peer = self.opened()
            noise = random.randbytes(random.randrange(1, 400))
            kind = number % 4
            if kind == 0:
                peer.send(noise)
            elif kind == 1:  # a good header before it
                peer.send(frame(noise, random.choice((TEXT, BINARY, CONTINUED, PING, PONG)), fin=random.random() < 0.5))
            elif kind == 2:  # a length that is a lie
                peer.send(frame(noise, says=random.randrange(0, 1 << random.randrange(1, 63))))
            else:  # an operation with some bytes changed
                changed = bytearray(frame(b'{"op":"subscribe","topic":"room.x","since":"0","ref":1}'))
                for _ in range(random.randrange(1, 6)):
                    changed[random.randrange(len(changed))] = random.randrange(256)
                peer.send(bytes(changed))
            # Whatever it is taken for, an end must come of it: this is none of these things' continuation.
            peer.send(frame(b"", CLOSE)).finish()
            self.assertIn(peer.closed(), (0, 1000, 1005, WRONG_PROTOCOL, NOT_UTF8, TOO_BIG, NOT_SPOKEN))
            peer.close()
        self.check_others()


class SocketsTest(HostileCase):
    """Peers that take their time, take too much, or take nothing."""

    # So many operations that nobody is made to wait: that is tested elsewhere, and would take its time here.
    more = "[limits]\nsubscriptions = 500\nconnections = 40\noperations = 50_000\n"

    def test_slow_and_half_open(self) -> None:
        """Who drips a handshake, says no hello, finishes no message, answers no ping or reads nothing is cut off."""
        dripping = self.peer()
        stuck = self.peer().send(b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgr")
        nothing = self.peer()
        silent = self.peer().open()
        unfinished = self.opened().send(frame(b'{"op":', fin=False))
        promised = self.opened().send(frame(b"", says=1000))
        half_open = self.opened()
        full = self.opened().say("subscribe", topic="room.large")
        self.assertEqual(full.until("subscribed")["topic"], "room.large")
        stream = self.peer().request(
            f"Authorization: Bearer {self.token()}", "Accept: text/event-stream", path="/api/topics/room.large/events"
        )
        self.assertEqual(stream.status(), 200)
        large = "x" * 500_000
        for _ in range(40):  # more than all buffers on the way hold
            status, _ = self.made.call("POST", "/api/events", {"topic": "room.large", "type": "x", "data": large})
            self.assertEqual(status, 202)
        slowly = self.peer()
        key = b"Sec-WebSocket-Key: " + b"A" * 22 + b"==\r\n"
        for byte in b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" + key:
            slowly.send(bytes((byte,)))
        slowly.send(b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: msgd.v1\r\n\r\n")
        self.assertEqual(slowly.status(), 101)
        for byte in frame(b'{"op":"hello","token":"' + self.token().encode() + b'"}'):
            slowly.send(bytes((byte,)))
        self.assertEqual(slowly.message()["op"], "welcome")
        while True:  # a byte at a time, which is not getting on
            dripping.send(b"X").socket.settimeout(0.2)
            try:
                if not dripping.socket.recv(4096):
                    break
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
        self.assertEqual(silent.closed(), BAD_TOKEN)
        for peer in (stuck, nothing, unfinished, promised, half_open, slowly):
            self.assertTrue(peer.ended())
        # These two read nothing until the process is rid of them.
        self.check_others()

    def test_thousands_of_subscriptions(self) -> None:
        """128 are given to one connection; each of the others is refused, and answered. All are free again after the
        end, as are its connections."""
        for _ in range(2):
            peer = self.opened()
            operations = b"".join(
                frame(json.dumps({"op": "subscribe", "topic": f"room.s{n}", "ref": n}).encode()) for n in range(5000)
            )
            sent = 0
            answers: dict[int, str] = {}
            while len(answers) < 5000:
                if sent < len(operations):
                    sent += peer.socket.send(operations[sent : sent + 50_000])
                answer = peer.message()
                self.assertIn(answer["op"], ("subscribed", "error"))
                answers[answer["ref"]] = answer.get("code", "")
            codes = list(answers.values())
            self.assertEqual(codes.count(""), SUBSCRIPTIONS)
            self.assertLessEqual(set(codes) - {""}, {"overloaded", "rate-limited"})
            peer.close()
            peers = [self.opened() for _ in range(40)]
            crowded = self.peer().open(self.token())
            self.assertEqual(crowded.closed(), CROWDED)
            for one in (*peers, crowded):
                one.close()
            until(lambda: self.count_sockets() <= self.sockets, "all connections are closed")
        self.check_others()

    def test_a_flood_of_questions(self) -> None:
        """Who asks and never reads the answers is stopped, and then cut off."""
        for question in (frame(PING_OPERATION), frame(b"x" * 100, PING), frame(b"{nope"), frame(b'{"op":"fly"}')):
            peer = self.opened()
            peer.socket.settimeout(1.0)
            with self.assertRaises(OSError):  # nothing more is taken
                for _ in range(2000):
                    peer.socket.sendall(question * 1000)
            peer.close()
        self.check_others()

    def test_interleaved(self) -> None:
        """Operations that come while others are under way are all answered; the watched topic is as good as any."""
        peer = self.opened()
        for turn in range(50):
            peer.say("subscribe", topic=TOPIC, since="0", ref=turn).say("unsubscribe", topic=TOPIC, ref=turn)
        peer.say("ping", ref="last")
        while peer.until("ok").get("ref") != "last":
            pass
        peer.close()
        self.check_others()

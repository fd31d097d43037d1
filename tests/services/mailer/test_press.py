"""The press: whatever the templates do, each message is made, or there is an error that says whose fault it is."""

from __future__ import annotations

import io
import os
import signal
import sys
from typing import Any

import msgspec
from msgspec import Raw
from twisted.internet import reactor as global_reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.trial.unittest import SynchronousTestCase, TestCase

from msgd.errors import Unavailable
from msgd.services.mailer import press as press_module
from msgd.services.mailer.composing import Copy, Mailing
from msgd.services.mailer.press import Press
from msgd.services.mailer.press_process import (
    HEAD,
    Answer,
    Begun,
    Drop,
    Later,
    Made,
    Make,
    Missing,
    Ready,
    Request,
    Set,
    Wrong,
    framed,
    serve,
)
from msgd.services.mailer.templates import ContentError, MailingError
from tests.services.mailer.test_composing import COPY, mailing

reactor: Any = global_reactor

ENDLESS = "{% for a in range(9999) %}" * 4 + "{% endfor %}" * 4


def copy(row: int, **more: Any) -> Copy:
    return msgspec.structs.replace(COPY, row=row, **more)


def raw(what: Copy | Mailing) -> Raw:
    return Raw(msgspec.msgpack.encode(what))


class PressTests(TestCase):
    """The process in which messages are made outlives every template, or is replaced."""

    timeout = 180

    def press(self, patience_s: float = 2.0, **options: Any) -> Press:
        made = Press(reactor, patience_s=patience_s, **options)
        self.addCleanup(lambda: Deferred.fromCoroutine(made.stop()))
        return made

    def making(self, press: Press, number: int, *rows: int) -> list[Deferred[Any]]:
        return [Deferred.fromCoroutine(press.make(number, copy(row))) for row in rows]

    def kill(self, press: Press) -> None:
        """The process that there is, as an administrator or the system would, short of memory."""
        assert press._life is not None
        os.kill(press._life.transport.pid, signal.SIGKILL)

    async def test_bombs(self) -> None:
        """Time, memory, recursion: each is an error of its mail, and the next mail is made."""
        press = self.press()
        good = await press.open(mailing())
        grow = "{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
        for text, reason in (
            (ENDLESS, "too long"),
            ("{{ 'a' | center(99999999999) }}", "memory"),
            ("{% set n = namespace(x='aaaaaaaa') %}" + grow, "memory"),
            ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls itself"),
            ("{{ ''.__class__ }}", "unsafe"),
            ("{{ 'x' * 2 }}", "numbers"),
            ("{{ 9 ** 9 ** 9 }}", "**"),
            ("{% for i in range(99999) %}x{% endfor %}", "range()"),
            ("{% for i in range(9999) %}{{ 'x' | center(9999) }}{% endfor %}", "more than"),
            ('{{ "\\ud800" }}', "half a character"),
        ):
            number = await press.open(mailing(text=text))
            error = await self.assertFailure(Deferred.fromCoroutine(press.make(number, COPY)), ContentError)
            self.assertIn(reason, str(error))
            press.close(number)
        self.assertIn(b"Hello", (await press.make(good, COPY)).message)

    async def test_others_are_made_all_the_same(self) -> None:
        """Of mails under way together only the one at fault fails."""
        press = self.press()
        number = await press.open(mailing(text="{% if row == 3 %}" + ENDLESS + "{% endif %}{{ row }}"))
        made = self.making(press, number, *range(1, 6))
        bad = made.pop(2)
        results = await gatherResults(made)
        self.assertEqual([one.parts.text for one in results], ["1", "2", "4", "5"])
        await self.assertFailure(bad, ContentError)

    async def test_a_death_is_nobodys_fault(self) -> None:
        """What the process was at when it was killed is made by the next one, which has all that is in hand."""
        press = self.press()
        one, other = await press.open(mailing(text="one {{ row }}")), await press.open(mailing(text="other {{ row }}"))
        made = [*self.making(press, one, 1, 2), *self.making(press, other, 3, 4)]
        self.kill(press)
        results = await gatherResults(made)
        self.assertEqual([result.parts.text for result in results], ["one 1", "one 2", "other 3", "other 4"])
        self.kill(press)
        self.assertIn(b"other 5", (await press.make(other, copy(5))).message)

    async def test_a_mailing_at_fault(self) -> None:
        """With the third recipient that takes the process with it the mailing is given up; others have their turns."""
        press = self.press(1.5)
        bad = mailing(text="{% if row > 1 %}" + ENDLESS + "{% endif %}")
        number, again = await press.open(bad, "job/1"), await press.open(bad, "job/1")
        self.assertEqual(number, again, "its slices share one turn")
        good = await press.open(mailing(text="{{ row }}"), "other/1")
        first, *others = self.making(press, number, 1, 2, 3, 4, 5)
        waits = gatherResults(self.making(press, good, *range(200)))
        self.assertTrue((await first).message)
        for one in others[:2]:
            error = await self.assertFailure(one, ContentError)
            self.assertNotIsInstance(error, MailingError)
        self.assertEqual(len(await waits), 200)
        self.assertFalse(others[-1].called)
        for one in [*others[2:], *self.making(press, number, 1)]:
            await self.assertFailure(one, MailingError)
        press.close(number)
        press.close(again)
        await self.assertFailure(Deferred.fromCoroutine(press.open(bad, "job/1")), MailingError)
        number = await press.open(bad, "job/2")  # run again, it is given another chance
        self.assertTrue((await press.make(number, copy(1))).message)

    async def test_others_come_first_for_a_while(self) -> None:
        """After a mailing has ended a process twice, one that asks for a message at a time has the press for itself."""
        self.patch(press_module, "HOLD_S", 10.0)  # in which a new process begins, on the slowest machine too
        press = self.press(1.5)
        bad = await press.open(mailing(text=ENDLESS), "job/1")
        good = await press.open(mailing(text="{{ row }}"), "other/1")
        first, second = self.making(press, bad, 1, 2)
        first.addErrback(lambda failure: failure.trap(ContentError))
        for row in range(20):
            await press.make(good, copy(row))
        self.assertTrue(first.called)
        self.assertFalse(second.called)
        await self.assertFailure(second, ContentError)

    async def test_templates_at_fault(self) -> None:
        """What cannot even be taken in hand fails when it is opened; so does what is wrong with its variables."""
        press = self.press()
        bomb = mailing(text="{{ 'a' | center(99999999999) }}")
        error = await self.assertFailure(Deferred.fromCoroutine(press.open(mailing(text="{% if %}"))), ContentError)
        self.assertIn("text: line 1", str(error))
        number = await press.open(bomb)
        await self.assertFailure(Deferred.fromCoroutine(press.make(number, COPY)), ContentError)
        number = await press.open(mailing())
        huge = press.make(number, copy(7, vars={"n": 2**70}))
        self.assertIn("row 7", str(await self.assertFailure(Deferred.fromCoroutine(huge), ContentError)))
        press.close(number)
        press.close(number)
        await self.assertFailure(Deferred.fromCoroutine(press.make(number, COPY)), Unavailable)

    async def test_no_process(self) -> None:
        """One that cannot be started is no recipient's fault: whoever waits tries later."""
        press = self.press(program=(sys.executable, "-c", "raise SystemExit(3)"))
        error = await self.assertFailure(Deferred.fromCoroutine(press.open(mailing())), Unavailable)
        self.assertIn("cannot be started", str(error))

    async def test_stopped(self) -> None:
        """Who waits when the mailer stops is told so; who asks afterwards too."""
        press = self.press()
        number = await press.open(mailing())
        (waits,) = self.making(press, number, 1)
        await press.stop()
        await self.assertFailure(waits, Unavailable)
        await self.assertFailure(Deferred.fromCoroutine(press.open(mailing())), Unavailable)


class ProcessTests(SynchronousTestCase):
    """What the process answers to what it reads: to each request as many answers as it says."""

    def answers(self, *requests: Request | bytes) -> list[Answer]:
        source = io.BytesIO(b"".join(one if isinstance(one, bytes) else framed(one) for one in requests))
        target = io.BytesIO()
        serve(source, target)
        written, found = target.getvalue(), []
        while written:
            length = int.from_bytes(written[:4], "big")
            found.append(msgspec.msgpack.decode(written[4 : 4 + length], type=Answer))
            written = written[4 + length :]
        self.assertIsInstance(found.pop(0), Begun)
        return found

    def test_made(self) -> None:
        """A mailing is set, messages are made, it is dropped."""
        made = self.answers(
            Set(1, raw(mailing())), Make(1, [raw(copy(1)), raw(copy(2))]), Drop(1), Make(1, [raw(COPY)])
        )
        self.assertEqual([type(one) for one in made], [Ready, Made, Made, Missing])

    def test_unreadable(self) -> None:
        """What cannot be read is answered, and what comes next is made."""
        garbage = HEAD.pack(5, 3) + b"\xc1abcd"
        nested = HEAD.pack(100_000, 1) + b"\x91" * 100_000
        copies = [raw(COPY), Raw(msgspec.msgpack.encode({"row": "one"})), raw(copy(3))]
        made = self.answers(garbage, nested, Set(1, Raw(b"\x01")), Set(2, raw(mailing())), Make(2, copies))
        kinds = [Wrong, Wrong, Wrong, Wrong, Wrong, Ready, Made, Wrong, Made]
        self.assertEqual([type(one) for one in made], kinds)

    def test_a_turn_ends(self) -> None:
        """What has not begun when the turn is over is for later."""
        slow = mailing(text="{% for a in range(9999) %}{% for b in range(20) %}{% endfor %}{% endfor %}")
        made = self.answers(Set(1, raw(slow)), Make(1, [raw(copy(row)) for row in range(200)]))
        kinds = [type(one) for one in made[1:]]
        self.assertEqual(len(kinds), 200)
        self.assertEqual(kinds, sorted(kinds, key=[Made, Later].index))
        self.assertIn(Later, kinds)

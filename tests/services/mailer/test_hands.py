"""What is made ready, whose turn it is, and what waits meanwhile: all without a server."""

from __future__ import annotations

from collections import Counter

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.mailer.hands import IN_HAND, LEAST, Hands
from msgd.services.mailer.ledger import Row
from msgd.services.mailer.means import Saved
from msgd.services.mailer.pace import Pace
from msgd.services.mailer.ready import Mail, Ready
from msgd.services.mailer.sending import look_again
from msgd.services.mailer.transaction import Envelope
from msgd.services.mailer.waiting import KEPT, Waiting


def row(number: int, domain: str = "a.example") -> Row:
    email = f"p{number}@{domain}"
    return Row(row=number, email=email, key=email, name="", vars={}, state="queued", attempt=0, reply="", first_ms=None)


class Slice:
    """So many mails that are ready, each handed over as soon as its turn comes, or held until told."""

    def __init__(self, hands: Hands, ready: int, *, at_once: bool = False) -> None:
        self.hands = hands
        self.ready = ready
        self.at_once = at_once
        self.begun = 0
        self.offered = 0
        hands.join(self)

    def begin_one(self) -> bool:
        if not self.ready:
            return False
        self.ready -= 1
        self.begun += 1
        self.hands.begin()
        if self.at_once:
            self.hands.end()
        return True

    @property
    def wanting(self) -> int:
        return self.ready

    def offer(self) -> None:
        self.offered += 1


class HandsTests(SynchronousTestCase):
    """The counts of a process."""

    def test_a_slow_server_has_few_waiting(self) -> None:
        """As many are made ready as it takes meanwhile, from the number of connections up to half of all."""
        for a_second, free in ((1, 10), (100, 10), (1000, 100), (10_000, IN_HAND // 2)):
            clock = Clock()
            hands = Hands(10, clock_s=clock.seconds)
            for _ in range(40):
                hands.made_ready(0.05)
            for _ in range(a_second * 2):
                clock.advance(1 / a_second)
                hands.take(1)
                hands.begin()
                hands.end()
                hands.give(1)
            self.assertAlmostEqual(hands.free, free, delta=free // 10)

    def test_a_fast_server_has_many_soon(self) -> None:
        """Twice as many from one round to the next, where all that are ready are taken before more of them are."""
        clock = Clock()
        hands = Hands(10, clock_s=clock.seconds)
        found = []
        for _ in range(8):
            count = hands.free
            hands.take(count)
            clock.advance(0.025)
            hands.made_ready(0.025)
            for _ in range(count):
                hands.begin()
                hands.end()
            hands.give(count)
            found.append(hands.free)
        self.assertLessEqual(found[1], 40)
        self.assertEqual(found[-1], IN_HAND // 2)

    def test_a_slow_server_that_stalls_has_few_waiting(self) -> None:
        """Then it answers at once what each connection has, a mail and the one that follows it."""
        clock = Clock()
        hands = Hands(10, clock_s=clock.seconds)
        hands.made_ready(0.025)
        found = []
        for _ in range(5):
            hands.take(20)
            for _ in range(20):
                hands.begin()
            clock.advance(1.0)
            for _ in range(20):
                clock.advance(0.0002)
                hands.end()
            hands.give(20)
            found.append(hands.free)
        self.assertLessEqual(max(found), 20)

    def test_a_rate_has_few_waiting(self) -> None:
        """Under a limit no more are made ready than go out in a quarter of a second, one at least."""
        for rate, free in ((0.1, 1), (8.0, 2), (20.0, 5)):
            self.assertEqual(Hands(10, clock_s=Clock().seconds, rate=rate).free, free)

    def test_never_more(self) -> None:
        """What is handed over and not yet saved counts too."""
        clock = Clock()
        hands = Hands(2, clock_s=clock.seconds, most=6)
        for _ in range(6):
            hands.take(1)
            hands.begin()
            hands.end()
        self.assertEqual(hands.free, 0)
        hands.give(4)
        self.assertEqual(hands.free, 2)

    def test_a_few_for_each(self) -> None:
        """A slice that has nothing gets some though another has taken all, up to what a process may have."""
        hands = Hands(20, clock_s=Clock().seconds)
        hands.take(hands.free)
        self.assertEqual((hands.free_for(idle=False), hands.free_for(idle=True)), (0, LEAST))
        hands.take(IN_HAND - 20 - 1)
        self.assertEqual(hands.free_for(idle=True), 1)

    def test_turns_go_round(self) -> None:
        """Each slice gets its turn, though another has more that is ready."""
        hands = Hands(2, clock_s=Clock().seconds)
        many, few = Slice(hands, 100), Slice(hands, 3)
        hands.take(103)
        hands.give_turns()
        self.assertEqual((many.begun, few.begun), (1, 1))
        for _ in range(4):
            hands.end()
        self.assertEqual((many.begun, few.begun), (3, 3))
        for _ in range(4):
            hands.end()
        self.assertEqual((many.begun, few.begun), (7, 3))

    def test_a_turn_is_passed_on(self) -> None:
        """Another may have the turn of one that needs it no more; there are as many turns as before."""
        hands = Hands(2, clock_s=Clock().seconds)
        slice_ = Slice(hands, 4)
        hands.take(4)
        hands.give_turns()
        self.assertEqual((slice_.begun, hands.pass_on()), (2, True))
        self.assertEqual((slice_.begun, hands.turn), (3, False))
        hands.end(followed=True)
        self.assertEqual((slice_.begun, hands.turn), (3, False))
        hands.end()
        self.assertEqual((slice_.begun, hands.turn, hands.pass_on()), (4, False, False))
        self.assertFalse(hands.turn)
        hands.end()
        self.assertTrue(hands.turn)

    def test_mails_that_end_at_once(self) -> None:
        """However many: none begins inside the end of another."""
        hands = Hands(2, clock_s=Clock().seconds)
        slice_ = Slice(hands, 5000, at_once=True)
        hands.take(5000)
        hands.give_turns()
        self.assertEqual((slice_.begun, hands.turn), (5000, True))


class WaitingTests(SynchronousTestCase):
    """Rows before they are made ready."""

    def setUp(self) -> None:
        self.pace = Pace(rate=0.0, per_domain=10)
        self.waiting = Waiting(self.pace)

    def test_domains_in_turn(self) -> None:
        """As many of each as of the others, in the order of their rows."""
        self.waiting.add([row(number, "big.example") for number in range(100)])
        self.waiting.add([row(number, f"d{number % 4}.example") for number in range(100, 120)])
        chosen = self.waiting.choose(25, 0.0)
        self.assertEqual(set(Counter(one.domain for one in chosen).values()), {5})
        self.assertEqual([one.row for one in chosen if one.domain == "big.example"], [0, 1, 2, 3, 4])
        self.assertEqual(len(self.waiting), 95)

    def test_a_held_domain_does_not_hold_up_the_others(self) -> None:
        """A few of its rows are kept, however many come first, and none is made ready long before its time."""
        self.pace.domain("held.example").pushed_back(0.0)
        kept = self.waiting.add([row(number, "held.example") for number in range(500)])
        self.assertEqual((len(kept), self.waiting.open), (KEPT, 0))
        self.waiting.add([row(500), row(501)])
        self.assertEqual([one.row for one in self.waiting.choose(50, 0.0)], [500, 501])
        self.assertEqual(self.waiting.choose(50, 0.4), [])
        self.assertEqual(self.waiting.later_s(0.0), 0.5)
        self.assertEqual([one.row for one in self.waiting.choose(50, 0.5)], [0, 1, 2, 3, 4])

    def test_put_back(self) -> None:
        """What is put back comes before the others of its domain."""
        self.waiting.add([row(1), row(2), row(3)])
        first, second = self.waiting.choose(2, 0.0)
        for one in (second, first):
            self.waiting.put_back(one)
        self.assertEqual([one.row for one in self.waiting.choose(9, 0.0)], [1, 2, 3])


class PausedTests(SynchronousTestCase):
    """A paused mailing."""

    def test_looked_at_less_and_less_often(self) -> None:
        """From half a second to five, and what else is known is kept."""
        state, pauses = Saved(tried=True).state(), []
        for _ in range(6):
            again = look_again(Saved.of(state), lambda _: None)
            state = again.state
            pauses.append(again.after_s)
        self.assertEqual(pauses, [0.5, 1.0, 2.0, 4.0, 5.0, 5.0])
        self.assertEqual(state, {"tried": True, "looks": 6})
        self.assertEqual((Saved.of(None), Saved.of("parts")), (Saved(), Saved()))


class ReadyTests(SynchronousTestCase):
    """Mails before their turn."""

    def test_of_a_domain_that_is_held_meanwhile(self) -> None:
        """They give way to others, and are put back if that is for long."""
        pace = Pace(rate=0.0, per_domain=10)
        ready = Ready()
        for number, name in enumerate(("held.example", "held.example", "b.example")):
            one = row(number, name)
            ready.put(Mail(one, Envelope("", one.key, b""), str(number), pace.domain(name)))
        pace.domain("held.example").pushed_back(0.0)
        taken = ready.take(0.0)
        self.assertEqual((taken.name if taken else None, ready.take(0.0), ready.soonest_s(0.0)), ("2", None, 1.0))
        self.assertEqual(ready.take_held(0.8), [])
        self.assertEqual([mail.name for mail in ready.take_held(0.0)], ["0", "1"])
        self.assertFalse(ready)

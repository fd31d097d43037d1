"""Messages a second through the press: templates rendered and MIME written, in its process. ``python -m bench.press``

Three newsletters: a text of 1 KB; the same with HTML and a style sheet that is put into it; and HTML of 22 KB with a
style sheet, without a text, which is then made of it. Beside the rate stands the processor time of one message, in the
mailer's own process and in that of the press.
"""

from __future__ import annotations

import argparse
import resource
import statistics
from collections.abc import Mapping
from time import perf_counter
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import react

from msgd.services.mailer.addresses import Named, parse
from msgd.services.mailer.composing import Copy, Mailing
from msgd.services.mailer.press import Press
from msgd.services.mailer.templates import Parts

REPETITIONS: Final = 3
IN_HAND: Final = 40
"""Mails made at once: twice as many as a mailer has connections."""

GOAL: Final = 2500.0
"""Of the small one: what leaves room for all else that a mail takes."""

LINES: Final = "this is a line of a newsletter, as many others before it were.\n" * 12
TEXT: Final = f"Hello {{{{ name }}}},\n\n{LINES}{{{{ n }}}}\n\nLeave: {{{{ unsubscribe_url }}}}\n"
STYLE: Final = "<style>p { color: #333; font: 14px sans-serif } .a { margin: 0 } td { padding: 3px }</style>"
HTML: Final = f"<html><head>{STYLE}</head><body>{'<p class=a>Hello {{ name }}, this is a line</p>' * 12}</body></html>"
RULES: Final = "\n".join(f".c{n} {{ color: #{n + 16:02x}{n + 16:02x}00; padding: {n}px }}" for n in range(40))
ROWS: Final = "".join(
    f'<tr><td class="c{n % 40}"><p>Hello {{{{ name }}}}, this is a paragraph of a larger newsletter, with some words in'
    f' it.</p><a href="https://news.example/{{{{ n }}}}">more</a></td></tr>'
    for n in range(120)
)
LARGE: Final = f"<html><head><style>{RULES}</style></head><body><table>{ROWS}</table></body></html>"
NEWSLETTERS: Final[Mapping[str, tuple[Parts, int]]] = {
    "text of 1 KB": (Parts("News for {{ name }}", TEXT, ""), 6000),
    "text and HTML with styles": (Parts("News for {{ name }}", TEXT, HTML), 3000),
    "HTML of 22 KB with styles": (Parts("News for {{ name }}", "", LARGE), 400),
}
"""What is made of how many."""


def copy(number: int) -> Copy:
    return Copy(
        row=number,
        email=f"person{number}@example.com",
        name=f"Person {number}",
        vars={"n": number},
        message_id=f"abcdefghijklmnopqrstuvwxyz234567{number}@news.example",
        date_s=1_700_000_000,
        unsubscribe_url=f"https://news.example/unsubscribe/{'x' * 80}{number}",
    )


async def rate(press: Press, parts: Parts, count: int) -> float:
    """Messages a second."""
    mailing = Mailing(parts=parts, sender=Named("The News", parse("news@news.example")), list_id="news.example")
    number = await press.open(mailing)
    rows = iter(range(count))

    async def make() -> None:
        for row in rows:
            await press.make(number, copy(row))

    began_s = perf_counter()
    await gatherResults([Deferred.fromCoroutine(make()) for _ in range(IN_HAND)])
    taken_s = perf_counter() - began_s
    press.close(number)
    return count / taken_s


async def measure(reactor: Any, repetitions: int) -> None:
    for name, (parts, count) in NEWSLETTERS.items():
        press = Press(reactor)
        await rate(press, parts, IN_HAND)  # Python and its libraries are loaded
        own_s, other_s = _taken_s(resource.RUSAGE_SELF), _taken_s(resource.RUSAGE_CHILDREN)
        rates = [await rate(press, parts, count) for _ in range(repetitions)]
        own_s = _taken_s(resource.RUSAGE_SELF) - own_s
        await press.stop()  # its time is known when it has ended
        other_s = _taken_s(resource.RUSAGE_CHILDREN) - other_s
        each = 1e6 / (count * repetitions)
        shown = ", ".join(f"{one:,.0f}" for one in rates)
        print(f"{name:26} {statistics.median(rates):8,.0f} messages/s   ({shown})")
        print(f"{'':26} processor: {own_s * each:,.0f} µs here, {other_s * each:,.0f} µs in the press")
        if name == next(iter(NEWSLETTERS)):
            print(f"{'goal':26} {GOAL:8,.0f} messages/s   {statistics.median(rates) / GOAL:.2f} times")


def _taken_s(whose: int) -> float:
    used = resource.getrusage(whose)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("repetitions", nargs="?", type=int, default=REPETITIONS)
    given = parser.parse_args()
    react(lambda reactor: Deferred.fromCoroutine(measure(reactor, given.repetitions)))


if __name__ == "__main__":
    main()

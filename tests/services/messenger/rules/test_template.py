"""The language of conditions and templates: what it says, and what it refuses to."""

from __future__ import annotations

import time
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import InvalidInput
from msgd.services.messenger.rules.store import ENABLED
from msgd.services.messenger.rules.template import (
    CHARACTERS,
    COMPILED,
    Template,
    TemplateFailed,
    condition,
    template,
)

DATA: dict[str, Any] = {
    "a": [1, 2, {"x": "y"}],
    "items": 7,
    "t": "Hi",
    "n": None,
    "big": "x" * 1_000_000,
    "many": list(range(150_000)),
    "twin": list(range(150_000)),
    "marks": '"' * 50_000,
}
VALUES = {"event": {"topic": "app.x", "data": DATA}, "events": [{"type": "a"}, {"type": "b"}]}


def said(source: str) -> str:
    return Template(source, "text").render(VALUES)


class SayingTests(SynchronousTestCase):
    """What can be said."""

    def test_prints(self) -> None:
        """Data is printed as it is, what is none as JSON, what is missing as nothing."""
        for source, expected in (
            ("{{ event.data.t }} {{ event.data['t'] }} {{ event.data.a[2].x }}", "Hi Hi y"),
            ("{{ event.data.a }}{{ event.data.n }}{{ event.data.no.such }}{{ event.data.a[9] }}", '[1,2,{"x":"y"}]'),
            ("{{ event.data.items }}", "7"),
            ("{{ 'a' if event.data.n else 'b' }}", "b"),
            ("{% for one in events %}{{ loop.index }}{{ one.type }} {% endfor %}", "1a 2b "),
            ("{% for one in event.data.t %}x{% else %}none{% endfor %}", "none"),
            ("{{ event.data.t|lower }} {{ event.data.no|default('x') }} {{ event.data.a|length }}", "hi x 3"),
            ("{{ '3'|number > 2 }} {{ 3.14159|round(2) }} {{ '<b>'|escape }}", "true 3.14 &lt;b&gt;"),
            ("{{ event.data.a|first }} {{ [1, 2]|join('-') }} {{ event.data.t is string }}", "1 1-2 true"),
        ):
            self.assertEqual(said(source), expected, source)

    def test_conditions(self) -> None:
        """An expression holds or not; what an event does not have is neither more nor less than anything."""
        for source, holds in (
            ("event.data.t == 'Hi'", True),
            ("event.data.total > 100", False),
            ("event.data.total|number <= 100", True),
            ("'H' in event.data.t and not event.data.n", True),
        ):
            self.assertEqual(bool(condition(source).render(VALUES)), holds, source)

    def test_what_cannot_be_compared(self) -> None:
        """An error while rendering says what it was."""
        error = self.assertRaises(TemplateFailed, said, "{% if event.data.t > 3 %}a{% endif %}")
        self.assertIn("not supported between", str(error))


class KeepingTests(SynchronousTestCase):
    """What is compiled once."""

    def test_all_rules_by_turns(self) -> None:
        """A subject and a text of each rule that may be enabled are kept, whoever asks for them under which name."""
        self.assertGreaterEqual(COMPILED, 2 * ENABLED)
        self.assertIs(template("{{ event.type }}", "subject"), template("{{ event.type }}"))
        for where in ("subject", "text"):
            with self.assertRaises(InvalidInput) as caught:
                template("{{", where)
            self.assertEqual(caught.exception.where, where)


class RefusingTests(SynchronousTestCase):
    """What is refused."""

    def test_forms(self) -> None:
        """No calls, arithmetic, assignments, includes, other filters or tests; the line is named."""
        for source in (
            "{{ event.data.t.upper() }}", "{{ range(9) }}", "{{ 2 ** 99 }}", "{{ 1 + 1 }}", "{{ 'a' * 9 }}",
            "{{ 'a' ~ 'b' }}", "{{ '%s' % 1 }}", "{% set x = 1 %}", "{% include 'x' %}", "{% extends 'x' %}",
            "{% macro a() %}{% endmacro %}", "{% import 'x' as x %}", "{% block a %}{% endblock %}",
            "{% call x() %}{% endcall %}", "{{ x|attr('y') }}", "{{ x|map('y')|list }}", "{{ x is callable }}",
            "{{ event|_bounded(_steps) }}", "{{ _steps }}", "{{ self }}", "{% for x in y recursive %}{% endfor %}",
            "{% for x in y if x %}{% endfor %}", "{{ x[1:2] }}", "{{ {'a': 1} }}", "{{ x|truncate(length=3) }}",
            "{% filter upper %}x{% endfilter %}", "{{", "{% if %}", "{% endfor %}", "{{ 1 if }}",
            "{{ x|truncate(*y) }}",
        ):  # fmt: skip
            error = self.assertRaises(InvalidInput, Template, "\n" + source, "text")
            self.assertEqual(error.where, "text")
            self.assertIn("line 2", error.message, source)

    def test_conditions(self) -> None:
        """A condition is one expression."""
        for source in ("", "1 }}{{", "x if y", "%}{%", "a\nb", "x = 1", "event.data.f()", "#}"):
            self.assertRaises(InvalidInput, condition, source)

    def test_pythons_own(self) -> None:
        """No name leads to an attribute of a Python object."""
        for source in ("{{ ''.__class__ }}", "{{ event['__class__'] }}", "{{ [].append }}", "{{ event.data.a.sort }}",
                       "{{ event.keys }}", "{{ caller }}", "{{ cycler }}"):  # fmt: skip
            self.assertEqual(said(source), "", source)

    def test_depth(self) -> None:
        """What is nested deeper than anybody writes is refused, and ends nothing."""
        for source in (
            "{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}",
            "{% if a %}" * 200 + "{% endif %}" * 200,
            "{% for a in b %}" * 30 + "{% endfor %}" * 30,
            "{{ " + "not " * 900 + "1 }}",
            "{{ a }}" * 2500,
            "x" * 30_000,
        ):
            self.assertRaises(InvalidInput, Template, source, "text")

    def test_bounds(self) -> None:
        """Loops have so many steps in all, the output so many characters, and neither takes long."""
        began = time.process_time()
        loop = "{% for x in event.data.many %}"
        for source in (f"{loop}x{{% endfor %}}", f"{loop}{loop}x{{% endfor %}}{{% endfor %}}"):
            self.assertIn("steps", str(self.assertRaises(TemplateFailed, said, source)))
        self.assertEqual(len(said("{{ event.data.big }}" * 300)), CHARACTERS)
        self.assertLess(time.process_time() - began, 1.0)

    def test_work(self) -> None:
        """Whatever walks through much data over and over ends before long, in a loop or in a row."""
        whole, text = "event.data", "event.data.big"
        for expression in (
            f"{whole}|json|length < 0", f"{text}|upper|length < 0", f"{text}|number > 0", f"{text}|trim == 'y'",
            f"'ab' in {text}", f"'y' in {whole}.many", f"{whole}.many == {whole}.twin", f"{whole}.many < {whole}.twin",
            f"[{whole}, {whole}]|join|length < 0", f"1|join({whole})|length < 0", f"{whole}|truncate(0) == 'y'",
            f"{whole}.marks|json|json|json|json|json|json|json|json|length < 0", f"{whole}.marks|escape|length < 0",
            f"[{', '.join([whole] * 20)}]|json|length < 0", f"{text}|lower in [{text}]", f"{whole}|round == 1.5",
        ):  # fmt: skip
            check = f"{{% if {expression} %}}x{{% endif %}}"
            for source in (f"{{% for x in event.data.many %}}{check}{{% endfor %}}", check * 40):
                began = time.process_time()
                try:
                    said(source)
                except TemplateFailed:
                    pass
                self.assertLess(time.process_time() - began, 0.5, source[:200])

    def test_steps_of_many_parts(self) -> None:
        """A step costs what is in it: many short steps of much each are no way around."""
        source = "{% for x in event.data.many %}" + "{% if x.a.b.c.d.e %}y{% endif %}" * 200 + "{% endfor %}"
        began = time.process_time()
        self.assertIn("steps", str(self.assertRaises(TemplateFailed, said, source)))
        self.assertLess(time.process_time() - began, 0.5)

    def test_constants(self) -> None:
        """What is constant is not worked out while compiling: each of these doubles its text."""
        began = time.process_time()
        source = "{{ '" + '"' * 5000 + "'" + "|json" * 12 + "|length }}"
        self.assertIn("work", str(self.assertRaises(TemplateFailed, said, source)))
        self.assertLess(time.process_time() - began, 0.5)

    def test_room(self) -> None:
        """What people write has room: the largest event once, a hundred small ones many times."""
        orders = [{"id": f"order {number}", "total": number, "text": "x" * 70} for number in range(10_000)]
        self.assertEqual(Template("{{ l|json|length }}", "text").render({"l": orders}), "1127781")
        self.assertEqual(len(Template("{% for x in l %}{{ x }}{% endfor %}", "text").render({"l": [1] * 5000})), 5000)
        events = [{"data": {"title": "T" * 100, "text": "x" * 1000, "tags": ["a"] * 10}} for _ in range(100)]
        source = (
            "{% for e in events %}{{ loop.index }} {{ e.data.title|upper|truncate(20) }}{% if 'a' in e.data.tags %}"
            "{{ e.data.text|trim|truncate(80)|escape }}{% endif %}{% for tag in e.data.tags %}{{ tag|lower }}"
            "{% endfor %};{% endfor %}"
        )
        shown = Template(source, "text").render({"events": events})
        self.assertEqual(shown.count(";"), 100)

    @settings(max_examples=200, deadline=None)
    @given(st.text(alphabet="{}%#|.()[]'\"_-+*/~ abxefinordl\n01", max_size=60))
    def test_anything(self, source: str) -> None:
        """Whatever is written is refused, fails, or says something."""
        try:
            template(source).render(VALUES)
        except (InvalidInput, TemplateFailed):
            pass

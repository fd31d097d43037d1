"""Who listens to what."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.messages.topics import is_pattern, matches
from msgd.notifier import audience
from msgd.notifier.audience import Audience

TOPICS = ("a", "a.b", "a.c", "b.c", "a.b.c")
PATTERNS = (*TOPICS, "*", "a.*", "a.#", "#", "*.c")


class Listener:
    def __init__(self, patterns: tuple[str, ...]) -> None:
        self.patterns = patterns


def wants(listener: Listener, topic: str) -> bool:
    return any(one == topic or (is_pattern(one) and matches(one, topic)) for one in listener.patterns)


class AudienceTest(SynchronousTestCase):
    """Groups of listeners."""

    @given(
        st.lists(st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=3), max_size=6),
        st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.sampled_from(TOPICS)), max_size=30),
    )
    def test_each_once(self, wanted: list[list[str]], steps: list[tuple[bool, int, str]]) -> None:
        """Whoever comes and goes, an event's groups hold exactly those that want it, each once."""
        listeners = [Listener(tuple(dict.fromkeys(patterns))) for patterns in wanted]
        there: set[Listener] = set()
        found: Audience[Listener] = Audience()
        for comes, number, topic in steps:
            if number < len(listeners):
                listener = listeners[number]
                (found.add if comes else found.remove)(listener)
                (there.add if comes else there.discard)(listener)
            shown = [listener for group in found.of(topic) for listener in group.listeners]
            self.assertEqual(len(shown), len(set(shown)))
            self.assertEqual(set(shown), {listener for listener in there if wants(listener, topic)})
            self.assertEqual(set(found), there)
            self.assertEqual(set(found.patterns), {one for listener in there for one in listener.patterns})

    def test_remembers_little(self) -> None:
        """The memory for topics is bounded."""
        self.patch(audience, "REMEMBERED", 3)
        found: Audience[Listener] = Audience()
        found.add(Listener(("a.*",)))
        for number in range(10):
            self.assertEqual(len(found.of(f"a.{number}")), 1)
        self.assertEqual(len(found._found), 3)

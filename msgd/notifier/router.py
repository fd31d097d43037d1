"""Which route a method and a path mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from urllib.parse import unquote_to_bytes

from msgspec import Struct

from msgd.errors import InvalidInput, NotFound
from msgd.notifier.interface import Route
from msgd.notifier.problems import MethodNotAllowed


class Found(Struct, frozen=True):
    """A route, and what stands in the path for its words."""

    route: Route
    words: Mapping[str, str]


class Router:
    """Routes by the number of their segments, fixed words before words in braces."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._by_length: dict[int, list[tuple[tuple[str, ...], dict[str, Route]]]] = {}
        for route in routes:
            self._add(route)

    def _add(self, route: Route) -> None:
        template = _split(route.path)
        paths = self._by_length.setdefault(len(template), [])
        for known, methods in paths:
            if known == template:
                if route.method in methods:
                    raise ValueError(f"{route.method} {route.path} has two routes")
                methods[route.method] = route
                return
        paths.append((template, {route.method: route}))
        # More fixed words first, so that /api/jobs/types would win over /api/jobs/{id}.
        paths.sort(key=lambda path: sum(_is_variable(word) for word in path[0]))

    def find(self, method: str, path: str) -> Found:
        """The route of a request. Raises NotFound, MethodNotAllowed, or InvalidInput for a path that is no text."""
        words = tuple(_decode(word) for word in _split(path))
        for template, methods in self._by_length.get(len(words), ()):
            if all(_is_variable(one) or one == word for one, word in zip(template, words, strict=True)):
                found = methods.get(method) or (methods.get("GET") if method == "HEAD" else None)
                if found is None:
                    raise MethodNotAllowed(method, allowed(methods))
                values = {one[1:-1]: word for one, word in zip(template, words, strict=True) if _is_variable(one)}
                return Found(found, values)
        raise NotFound(f"there is nothing at {path[:200]}", where="path")

    def methods(self, path: str) -> str:
        """The methods of a path, as in an ``Allow`` header. Raises NotFound."""
        try:
            self.find("", path)
        except MethodNotAllowed as error:
            return error.allowed
        raise AssertionError("a route without a method")


def allowed(methods: Mapping[str, Route]) -> str:
    """The value of an ``Allow`` header."""
    names = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    return ", ".join(sorted(names))


def _split(path: str) -> tuple[str, ...]:
    return tuple(path.removeprefix("/").split("/"))


def _is_variable(word: str) -> bool:
    return word.startswith("{")


def _decode(word: str) -> str:
    try:
        decoded = unquote_to_bytes(word).decode()
    except UnicodeDecodeError:
        raise InvalidInput("the path is not UTF-8", where="path") from None
    if "\0" in decoded:  # no name holds it, and not every database can be asked for it
        raise InvalidInput("the path holds the character U+0000", where="path")
    return decoded

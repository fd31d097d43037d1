"""Imports point down: every module of msgd has a layer, and knows only what lies below (DESIGN §4)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

ROOT: Final = Path(__file__).parent.parent

GROUND, WORDS, CONTRACTS, ADAPTERS, RUNTIME, PROGRAMS, ASSEMBLY = range(7)

LAYERS: Final = {
    "msgd": GROUND,
    "msgd.clock": GROUND,
    "msgd.credentials": GROUND,
    "msgd.errors": GROUND,
    "msgd.sockets": GROUND,
    "msgd.config": GROUND,
    "msgd.messages": WORDS,
    "msgd.database": CONTRACTS,
    "msgd.broker": CONTRACTS,
    "msgd.broker.amqp": ADAPTERS,
    "msgd.broker.embedded": ADAPTERS,
    "msgd.jobs": ADAPTERS,
    "msgd.jobs.__init__": CONTRACTS,
    "msgd.jobs.backoff": CONTRACTS,
    "msgd.jobs.interface": CONTRACTS,
    "msgd.jobs.tables": CONTRACTS,
    "msgd.jobs.transitions": CONTRACTS,
    "msgd.journal": ADAPTERS,
    "msgd.journal.__init__": CONTRACTS,
    "msgd.journal.interface": CONTRACTS,
    "msgd.journal.tables": CONTRACTS,
    "msgd.blobs": ADAPTERS,
    "msgd.blobs.__init__": CONTRACTS,
    "msgd.blobs.interface": CONTRACTS,
    "msgd.blobs.tables": CONTRACTS,
    "msgd.work": RUNTIME,
    "msgd.client": RUNTIME,
    "msgd.services": PROGRAMS,
    "msgd.notifier": PROGRAMS,
    "msgd.notifier.interface": CONTRACTS,
    "msgd.ops": PROGRAMS,
    "msgd.app": ASSEMBLY,
    "msgd.cli": ASSEMBLY,
    "twisted.plugins": ASSEMBLY,
}
"""The nearest name counts; ``__init__`` stands for the package's own module apart from what is in it."""


@cache
def modules() -> dict[str, Path]:
    """Every module of ours by its dotted name, packages without ``.__init__``."""
    found = {}
    for folder in ("msgd", "twisted"):
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def layer(module: str) -> int | None:
    """The layer of a module; None where the table has no place for it."""
    if f"{module}.__init__" in LAYERS:
        return LAYERS[f"{module}.__init__"]
    name = module
    while name:
        # "msgd" is the place of the root module alone, not of whatever new package appears in it.
        if name in LAYERS and (name != "msgd" or module == "msgd"):
            return LAYERS[name]
        name = name.rpartition(".")[0]
    return None


def part(module: str) -> str:
    """What must not be entangled with its like: a service, an adapter, the notifier, …"""
    words = module.split(".")
    return ".".join(words[: 3 if words[1:2] in (["services"], ["broker"]) else 2])


def _imports(module: str, path: Path) -> Iterator[tuple[str, str]]:
    """What a module imports, wherever in it, as (module, name); name is empty for ``import module``."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                yield (f"{base}.{alias.name}", "") if f"{base}.{alias.name}" in modules() else (base, alias.name)


@cache
def edges() -> tuple[tuple[str, str, str], ...]:
    """Every import between modules of ours, as (importer, imported, name)."""
    return tuple(
        (module, target, name)
        for module, path in sorted(modules().items())
        for target, name in _imports(module, path)
        if target == "msgd" or target.startswith("msgd.")
    )


class LayersTest(SynchronousTestCase):
    """The rules, each over every import there is."""

    def refuse(self, rule: str, broken: list[str]) -> None:
        self.assertEqual(broken, [], f"{rule}:\n  " + "\n  ".join(broken))

    def test_every_module_has_a_layer(self) -> None:
        """Whoever adds a package says where it lies."""
        self.assertGreater(len(modules()), 20)
        self.refuse("modules without a layer", [module for module in modules() if layer(module) is None])

    def test_imports_exist(self) -> None:
        """Every import of ours names a module that is there; of one in C, the stub is."""
        stubs = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in (ROOT / "msgd").rglob("*.pyi")}
        there = {*modules(), *stubs}
        self.refuse("imports of nothing", [f"{a} imports {b}" for a, b, _ in edges() if b not in there])

    def test_imports_point_down(self) -> None:
        """No module knows one of a higher layer."""
        self.refuse(
            "imports that point up",
            [f"{a} ({layer(a)}) imports {b} ({layer(b)})" for a, b, _ in edges() if (layer(b) or 0) > (layer(a) or 0)],
        )

    def test_programs_see_contracts_only(self) -> None:
        """Neither the runtime nor a program knows which broker or database there is."""
        self.refuse(
            "adapters seen from above",
            [f"{a} imports {b}" for a, b, _ in edges() if layer(a) in (RUNTIME, PROGRAMS) and layer(b) == ADAPTERS],
        )

    def test_programs_have_tables_in_their_store(self) -> None:
        """Of a program only ``store`` and its ``tables`` work with the database; others may hand a Transaction on."""
        self.refuse(
            "the database toolkit outside a store",
            [
                f"{a} imports {b}.{name}"
                for a, b, name in edges()
                if layer(a) == PROGRAMS
                and part(b) == "msgd.database"
                and a.rpartition(".")[2] not in ("store", "tables")
                and name != "Transaction"
            ],
        )

    def test_adapters_do_not_know_each_other(self) -> None:
        """The two brokers, the jobs and the journal meet in the assembly only."""
        self.refuse(
            "adapters that know another",
            [f"{a} imports {b}" for a, b, _ in edges() if layer(a) == layer(b) == ADAPTERS and part(a) != part(b)],
        )

    def test_services_do_not_know_each_other(self) -> None:
        """No service imports another one, nor the notifier; the notifier imports no service."""
        self.refuse(
            "programs that know another",
            [
                f"{a} imports {b}"
                for a, b, _ in edges()
                if layer(a) == layer(b) == PROGRAMS
                and part(a) != part(b)
                and ("msgd.services" in (a[:13], b[:13]))
                and part(b) != "msgd.ops"
            ],
        )

    def test_journal_does_not_know_the_broker(self) -> None:
        """Storing and transport meet in the recorder only."""
        self.refuse(
            "the journal knows the broker",
            [f"{a} imports {b}" for a, b, _ in edges() if part(a) == "msgd.journal" and b.startswith("msgd.broker")],
        )

    def test_reactor_is_injected(self) -> None:
        """The global reactor is imported in app and cli only; all others are given a clock."""
        self.refuse(
            "imports of the reactor",
            [
                module
                for module, path in sorted(modules().items())
                if part(module) not in ("msgd.app", "msgd.cli")
                and any(
                    target == "twisted.internet.reactor" or (target, name) == ("twisted.internet", "reactor")
                    for target, name in _imports(module, path)
                )
            ],
        )

    def test_plugins_stay_where_twisted_looks(self) -> None:
        """twisted/ holds the plugin file and no ``__init__.py``, which would hide Twisted itself."""
        self.refuse("packages in twisted/", [str(path) for path in (ROOT / "twisted").rglob("__init__.py")])

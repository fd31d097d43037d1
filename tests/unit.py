"""The test modules that need no server, browser or network, for ``make unit``: ``python -m tests.unit`` names them."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
SERVERS: Final = "tests.servers"
OTHERS: Final = {"tests.test_packaging": "builds and installs, which takes half a minute and a package index"}


@cache
def needs_servers(module: str) -> bool:
    """Whether a module of the tests imports a real server, itself or through another."""
    path = ROOT.joinpath(*module.split(".")).with_suffix(".py")
    if module.startswith(SERVERS) or module in OTHERS or not path.exists():
        return module.startswith(SERVERS) or module in OTHERS
    imported: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    return any(needs_servers(name) for name in imported if name.startswith("tests.") and name != module)


def unit_modules() -> list[str]:
    """The names of all test modules that run without servers."""
    paths = sorted((ROOT / "tests").rglob("test_*.py"))
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths]
    return [name for name in names if not needs_servers(name)]


if __name__ == "__main__":
    print("\n".join(unit_modules()))  # noqa: T201

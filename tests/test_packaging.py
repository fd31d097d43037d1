"""What pip makes of the project: a wheel and an editable install both give twistd the daemons, and miss no file."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

ROOT: Final = Path(__file__).parent.parent
DAEMONS: Final = ("msgd", "recorder", "notifier", "crawler", "messenger", "thumbnailer")
BUILD_S: Final = 900
"""pip fetches the build backend first."""


HAS_COMPILER: Final = (
    bool(shutil.which("cc") or shutil.which("gcc")) and Path(sysconfig.get_path("include"), "Python.h").exists()
)
"""Whether the loop in C can be built here."""


def run(*command: str | Path, environment: Mapping[str, str] = {}) -> str:
    """Run a command and return what it prints; a failure shows it."""
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=BUILD_S,
        env={**os.environ, **environment},
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{' '.join(map(str, command))} left with {done.returncode}:\n{done.stdout}")
    return done.stdout


class PackagingTest(SynchronousTestCase):
    """The project is copied first, as a build leaves its traces in the tree."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.tree = self.folder / "tree"
        for name in ("msgd", "twisted"):
            shutil.copytree(
                ROOT / name, self.tree / name, ignore=shutil.ignore_patterns("__pycache__", "dropin.cache*", "*.so")
            )
        for name in ("setup.cfg", "setup.py", "pyproject.toml", "README.rst"):
            shutil.copy(ROOT / name, self.tree)

    def environment(self, *what: str | Path, compiler: str = "") -> Path:
        """The interpreter of a new virtual environment with msgd installed; the libraries are those of this one."""
        home = self.folder / "environment"
        run(sys.executable, "-m", "venv", "--without-pip", home)
        python = home / "bin" / "python"
        packages = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        # A path out of a .pth file comes last, and .pth files in there are not read: the tree under test stays unseen.
        Path(packages, "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
        run(
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            "install",
            "--quiet",
            "--no-deps",
            *what,
            environment={"CC": compiler} if compiler else {},
        )
        return python

    def works(self, python: Path) -> None:
        """The daemons are known to twistd, and the command runs."""
        shown = run(python, "-I", "-c", "from twisted.scripts.twistd import run; run()", "--help")
        known = {line.split()[0] for line in shown.partition("Commands:")[2].splitlines() if line.strip()}
        self.assertLessEqual(set(DAEMONS), known)
        self.assertIn("msgd", run(python.with_name("msgd"), "--version"))

    def is_in_c(self, python: Path) -> bool:
        """Whether what is installed has the loop in C."""
        shown = run(python, "-I", "-c", "from msgd.notifier.wave import IN_C; print(IN_C)")
        return {"True": True, "False": False}[shown.strip()]

    def test_wheel(self) -> None:
        """A wheel has every module and every file beside them, what was compiled for its source, no tests, and an
        install of it works."""
        # Of the copy: in the tree itself other tests may just now have Python and Twisted write their caches.
        source = {
            path.relative_to(self.tree).as_posix()
            for name in ("msgd", "twisted")
            for path in (self.tree / name).rglob("*")
            if path.is_file() and path.suffix != ".c"
        }
        run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", self.folder, self.tree)
        (wheel,) = self.folder.glob("*.whl")
        packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
        compiled = {name for name in packed if name.endswith(".so")}
        self.assertEqual(
            {name.partition(".")[0] for name in compiled}, {"msgd/notifier/_wave"} if HAS_COMPILER else set()
        )
        self.assertEqual(packed - compiled, source)
        python = self.environment(wheel)
        where = run(python, "-I", "-c", "import msgd; print(msgd.__file__)")
        self.assertTrue(where.startswith(str(self.folder / "environment")), where)
        self.assertEqual(self.is_in_c(python), HAS_COMPILER)
        self.works(python)

    def test_editable(self) -> None:
        """``pip install --editable .`` without further settings shows the plugins to twistd, and runs the tree."""
        python = self.environment("--editable", self.tree)
        where = run(python, "-I", "-c", "import msgd; print(msgd.__file__)")
        self.assertEqual(where.strip(), str(self.tree / "msgd" / "__init__.py"))
        self.assertEqual(self.is_in_c(python), HAS_COMPILER)
        self.works(python)

    def test_without_a_compiler(self) -> None:
        """So does one where nothing can be compiled, with the loop in Python."""
        python = self.environment("--editable", self.tree, compiler="/bin/false")
        self.assertFalse(self.is_in_c(python))
        self.works(python)

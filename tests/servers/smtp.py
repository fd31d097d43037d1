"""An SMTP server in a process of its own: aiosmtpd, whose answers are told by the recipient's address.

What stands before the ``@``, up to a ``.``, is the script; the last two digits, if there are any, say how many times it
is played before the mail is taken (``r451x2.anna@example.com``):

===============  =====================================================================
``r550``         RCPT is answered with that code (``r550-5-7-1`` has an enhanced code)
``d554``         the end of the data is, without taking the mail
``drop``         the connection ends instead of an answer to RCPT
``hang``         RCPT is never answered
``mid``          the connection ends after 354, before the data
``lost``         the mail is taken, and the connection ends before the answer
``slow``         the answer to the end of the data takes half a second
===============  =====================================================================

All else is taken. What was taken is written down at once, a line of JSON each.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

PATIENCE_S: Final = 90.0

ROOT: Final = Path(__file__).resolve().parents[2]


class SmtpServer:
    """The process. Call :meth:`stop` in the end."""

    def __init__(self, folder: Path, *options: str) -> None:
        """``options``: of ``smtp_process``."""
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "received.jsonl"
        self._port = folder / "port"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.smtp_process", str(self.log), str(self._port), *options],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
        )
        end = time.monotonic() + PATIENCE_S
        while not self._port.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                raise AssertionError("the SMTP server did not start")
            time.sleep(0.02)  # between two looks at another process
        self.port = int(self._port.read_text())

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def received(self) -> list[dict[str, Any]]:
        """What was taken so far: ``to``, ``sender``, ``message``, ``options``, ``tls`` and ``user``."""
        if not self.log.exists():
            return []
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.endswith("}")]

    def recipients(self) -> list[str]:
        return [one["to"] for one in self.received()]

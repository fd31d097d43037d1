"""A worker for a new job type, as the README shows it, in a process of its own."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from textwrap import dedent
from typing import Final

from twisted.trial.unittest import SynchronousTestCase

from tests.stories.deployment import ROOT, Deployment, logs_on_failure

LAUNCHER: Final = (
    "-c",
    "import sys; sys.argv = 'twistd --pidfile= -noy shout.py'.split(); import twisted.scripts.twistd as t; t.run()",
)


def example() -> str:
    """The code of ``shout.py`` in the README."""
    readme = (ROOT / "README.rst").read_text(encoding="utf-8")
    found = re.search(r"This is ``shout\.py``[^\n]*::\n\n((?:    .*\n|\n)+)", readme)
    assert found is not None, "the README shows no shout.py"
    return dedent(found[1])


class ThirdPartyTests(SynchronousTestCase):
    def test_the_example(self) -> None:
        """The README's worker runs under twistd beside the services, is announced, checked at the door, and performs;
        it takes 20 lines of code."""
        code = example()
        lines = [line for line in code.splitlines() if line.strip()]
        self.assertLessEqual(len(lines), 20)
        deployment = Deployment(("msgd",), launcher=LAUNCHER)
        self.addCleanup(deployment.close)
        (Path(deployment.folder) / "shout.py").write_text(code, encoding="utf-8")
        with logs_on_failure(deployment):
            deployment.start(environment={"MSGD_CONFIG": str(deployment.config)})
            job = deployment.submit("shout", text="hello", times=3)
            self.assertEqual(deployment.ended(job)["state"], "done")
            events = deployment.events(f"job.{job}")
            self.assertEqual([event["type"] for event in events], ["started", "result", "result", "result", "done"])
            self.assertEqual([event["data"] for event in events[1:4]], [{"text": "HELLO"}] * 3)
            status, problem = deployment.call("POST", "/api/jobs", {"type": "shout", "params": {"text": 7}})
            self.assertEqual(
                (status, problem["code"], problem["where"]), (400, "invalid-params", "params.text"), problem
            )
            self.assertEqual(deployment.stop("msgd"), -signal.SIGTERM)  # twistd ends by the signal, after the drain

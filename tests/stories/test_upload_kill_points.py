"""kill -9 between each pair of effects of an upload, by name: it is there with its pictures, or not at all."""

from __future__ import annotations

import http.client
import signal

from twisted.trial.unittest import SynchronousTestCase

from tests.services.thumbnailer import pictures
from tests.stories.deployment import embedded, logs_on_failure
from tests.stories.killing import ARMED, UPLOAD_POINTS, VARIABLE

KEPT = ("row|publish",)
"""Where the upload and its job are committed, though nobody was told."""


class UploadKillPointTests(SynchronousTestCase):
    """At every point: the process dies there, is started again, and no upload waits for pictures for ever."""

    timeout = 300

    def test_every_point(self) -> None:
        """On the embedded defaults."""
        made = embedded(self, launcher=("-m", "tests.stories.killing"))
        made.start()
        made.token()
        for point in UPLOAD_POINTS:
            with logs_on_failure(made):
                made.stop("msgd")
                made.start(environment={VARIABLE: point})
                (made.folder / ARMED).touch()
                name = f"{point.replace('|', '-')}.jpg"
                with self.assertRaises((OSError, http.client.HTTPException)):  # it dies before it answers
                    made.call("POST", f"/api/uploads?name={name}", raw=pictures.jpeg())
                self.assertEqual(made.wait("msgd"), -signal.SIGKILL, f"it did not die at {point}")
                (made.folder / ARMED).unlink()
                made.start()
                found = [one for one in made.call("GET", "/api/uploads")[1]["uploads"] if one["name"] == name]
                self.assertEqual(len(found), 1 if point in KEPT else 0, point)
                for one in found:
                    self.assertEqual(made.ended(one["job"])["state"], "done", point)
                    self.assertEqual(made.call("GET", one["urls"]["small"])[0], 200)

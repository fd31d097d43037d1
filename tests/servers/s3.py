"""An S3 server for tests: moto's, in a process of its own on a free loopback port, one for a whole run.

Each test takes a bucket of its own (:func:`fresh_bucket`). moto keeps everything in memory and trusts every key.
"""

from __future__ import annotations

import atexit
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from functools import lru_cache
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

INSTALL: Final = "These tests need moto, an S3 server: pip install '.[test]'"
START_S: Final = 60.0
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "msgd", "AWS_SECRET_ACCESS_KEY": "of the tests"}
_NUMBERS: Final = itertools.count(1)


class S3Failed(Exception):
    """It did not start; the message holds what it said."""


class S3Server:
    """One server, ended with this process."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="msgd-s3-"))
        # In a folder of its own and without our settings: whoever runs the tests may have an account.
        hidden = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self._folder / "output").open("wb"),
            env=hidden | CREDENTIALS,
            cwd=self._folder,
        )
        atexit.register(self.close)
        self.endpoint = self._started()

    def _started(self) -> str:
        end = time.monotonic() + START_S
        while True:
            said = (self._folder / "output").read_text("utf-8", "replace")
            found = re.search(r"Running on (http://127\.0\.0\.1:\d+)", said)
            if found:
                return found[1]
            if self._process.poll() is not None or time.monotonic() > end:
                raise S3Failed(f"{said}\n{INSTALL}")
            time.sleep(0.02)  # another process, without a clock of ours

    def make_bucket(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")).close()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def objects(url: str) -> list[str]:
    """The keys of a fresh bucket's objects, up to a thousand."""
    listing = f"{server().endpoint}/{urlsplit(url).netloc}?list-type=2"
    with urllib.request.urlopen(listing) as answer:
        return re.findall(r"<Key>([^<]*)</Key>", answer.read().decode())


@lru_cache(maxsize=1)
def server() -> S3Server:
    """The server of this run."""
    return S3Server()


def fresh_bucket() -> str:
    """An empty bucket's URL, as ``[blobs] url`` has it; the credentials are in :data:`CREDENTIALS`."""
    name = f"bucket-{os.getpid()}-{next(_NUMBERS)}"
    server().make_bucket(name)
    return f"s3://{name}/of/tests?endpoint={server().endpoint}&region=us-east-1"

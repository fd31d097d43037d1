"""Mails a second: a newsletter through msgd, and smtp-source, each into the same smtp-sink (both of Debian's postfix).

Ours is the whole way of a newsletter: recipients into the ledger, templates rendered, each mail's event journaled and
its row saved before and after it; in one process on the embedded defaults, and by recorder, notifier and mailer on
RabbitMQ and PostgreSQL. smtp-source sends one message of about the same size over and over, with as many sessions, once
with a new connection for each mail (its default) and once with connections that stay (``-d``). DKIM is off. They take
turns, so that what else the machine does meets all of them. ``python -m bench.mail [COUNT]``.
"""

from __future__ import annotations

import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Final

from tests.ports import free_port
from tests.servers.postgres import Cluster
from tests.servers.rabbitmq import Node
from tests.stories.deployment import Deployment, until

COUNT: Final = 10_000
SESSIONS: Final = 10
TEXT: Final = "Hello {{ n }},\n\n" + "this is a line of a newsletter, as many others before it were.\n" * 12
BYTES: Final = 1100
"""Of one of our messages; smtp-source is told to send as many."""

REPEATS: Final = 3
LIMIT_S: Final = 180.0
"""For one run."""

UNPACKED: Final = Path(__file__).resolve().parents[1] / "build" / "postfix"
"""Debian's package, unpacked and not installed: installing it would start a mail server."""

INSTALL: Final = (
    "smtp-source and smtp-sink are missing, and Debian's package postfix cannot be fetched by apt-get download"
)


def program(name: str) -> str:
    """Where one of postfix's programs is."""
    installed = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if installed is not None:
        return installed
    unpacked = UNPACKED / "usr/sbin" / name
    if not unpacked.exists():
        UNPACKED.mkdir(parents=True, exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "postfix"], cwd=UNPACKED, check=True, capture_output=True)
            (package,) = UNPACKED.glob("postfix_*.deb")
            subprocess.run(["dpkg", "-x", str(package), str(UNPACKED)], check=True)
        except (OSError, subprocess.CalledProcessError, ValueError):
            sys.exit(INSTALL)
    return str(unpacked)


ENVIRONMENT: Final = {**os.environ, "LD_LIBRARY_PATH": str(UNPACKED / "usr/lib/postfix")}


def source(port: int, count: int, *options: str) -> float:
    """Mails a second of smtp-source."""
    command = [program("smtp-source"), "-s", str(SESSIONS), "-m", str(count), "-l", str(BYTES), *options]
    began = time.perf_counter()
    envelope = ["-f", "a@sender.example", "-t", "b@example.com", f"127.0.0.1:{port}"]
    subprocess.run([*command, *envelope], check=True, timeout=LIMIT_S, env=ENVIRONMENT)
    return count / (time.perf_counter() - began)


def ours(made: Deployment, count: int) -> float:
    """Mails a second of a newsletter, from its submission to its end."""
    try:
        made.start()
        made.token()
        # The first job of a process has modules and connections to make.
        made.ended(made.submit("mail", to=[{"email": "warm@example.com"}], subject="x", text="y"))
        to = [{"email": f"p{number}@example.com", "vars": {"n": number}} for number in range(count)]
        job = made.submit("mail", to=to, subject="News for {{ n }}", text=TEXT)

        def sent() -> int:
            found: int = made.call("GET", f"/api/mail/{job}")[1]["states"].get("sent", 0)
            return found

        # The job itself has all its recipients in its answer: asking for it would be the larger part of the work.
        until(lambda: sent() == count, f"{count} mails are sent", seconds=LIMIT_S)
        ended = made.ended(job)
        if ended["state"] != "done" or ended["result"]["sent"] != count:
            sys.exit(f"the newsletter ended as {ended['state']}: {ended.get('result')}")
        begun, end = (datetime.fromisoformat(ended[name]) for name in ("created", "ended"))
        return count / (end - begun).total_seconds()
    finally:
        made.close()


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else COUNT
    port = free_port()
    lines = ["[mail]", f'smtp = "smtp://127.0.0.1:{port}"', 'starttls = "off"', f"connections = {SESSIONS}"]
    more = "\n".join([*lines, f"per_domain = {SESSIONS}", ""])
    sink = subprocess.Popen(
        [program("smtp-sink"), "-u", "nobody", f"127.0.0.1:{port}", "1000"], env=ENVIRONMENT, stderr=subprocess.DEVNULL
    )
    node, cluster = Node(), Cluster(fsync=True)
    try:
        until(lambda: _open(port), "smtp-sink listens")
        node.start()
        cluster.start()
        rates: dict[str, list[float]] = {
            "smtp-source": [],
            "smtp-source -d": [],
            "one process": [],
            "three daemons": [],
        }
        for number in range(REPEATS):
            rates["smtp-source"].append(source(port, count))
            rates["one process"].append(ours(Deployment(("msgd",), more=more), count))
            rates["smtp-source -d"].append(source(port, count, "-d"))
            vhost = f"mail-{number}"
            node.add_vhost(vhost)
            broker, database = node.url(vhost), cluster.url(cluster.create_database())
            made = Deployment(("recorder", "notifier", "mailer"), broker=broker, database=database, more=more)
            rates["three daemons"].append(ours(made, count))
    finally:
        sink.kill()
        sink.wait()
        node.close()
        cluster.close()
    medians = {name: statistics.median(found) for name, found in rates.items()}
    for name, rate in medians.items():
        all_of_them = ", ".join(f"{one:,.0f}" for one in rates[name])
        print(f"{name:16} {rate:10,.0f} mails/s   ({all_of_them})")
    for name in ("one process", "three daemons"):
        print(f"{name} beside smtp-source: {medians[name] / medians['smtp-source']:.2f}")


def _open(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            return True
    except OSError:
        return False


if __name__ == "__main__":
    main()

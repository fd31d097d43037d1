"""A crawl of 3,000 static pages of 10 KB with 20 links each, beside Scrapy's: ``python -m bench.crawl``

Both look for one element on each page, with the same concurrency, no delay, robots.txt off. msgd's figure is that of
the whole way: the job submitted, every page and result published, recorded in the journal (synced to the disk), the
frontier saved; Scrapy keeps its frontier in memory and writes its items to a file. The two take turns, and start anew
each time; start-up does not count.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

REPETITIONS: Final = 3
GOAL: Final = 5.0
"""Times Scrapy's rate."""


def once(module: str, url: str, concurrency: int, target: Path, pages: int) -> float:
    """Pages a second of one crawl in a process of its own."""
    command = [sys.executable, "-m", f"bench.{module}", url, str(concurrency), str(target)]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    count, seconds = int(printed[-2]), float(printed[-1])
    if count != pages + 1:  # the first page has two URLs
        raise SystemExit(f"{module} found {count} results on {pages + 1} pages")
    return count / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=3000)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=REPETITIONS)
    given = parser.parse_args()
    server = subprocess.Popen([sys.executable, "-m", "bench._crawl_site", str(given.pages)], stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        ours, theirs = [], []
        for _ in range(given.repetitions):
            with tempfile.TemporaryDirectory(prefix="msgd-bench-") as folder:
                ours.append(once("_crawl_msgd", url, given.concurrency, Path(folder), given.pages))
                items = Path(folder) / "items.jsonl"
                theirs.append(once("_crawl_scrapy", url, given.concurrency, items, given.pages))
    finally:
        server.kill()
        server.wait()
    print(f"crawl of {given.pages} pages, {given.concurrency} at a time, median of {given.repetitions}")
    for name, rates in (("msgd", ours), ("Scrapy", theirs)):
        print(f"{name:8} {statistics.median(rates):>8,.0f} pages/s   ({min(rates):,.0f} to {max(rates):,.0f})")
    print(f"ratio    {statistics.median(ours) / statistics.median(theirs):>8.1f}   (goal {GOAL:g})")


if __name__ == "__main__":
    main()

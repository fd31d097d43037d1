"""The peer of ``bench.crawl``: the spider of Scrapy's tutorial. ``python -m bench._crawl_scrapy URL CONCURRENCY FILE``

Prints the pages crawled and the seconds from the start of the engine to its end; items go to FILE as JSON lines.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Any

import scrapy
from scrapy.crawler import CrawlerProcess


class Spider(scrapy.Spider):
    name = "bench"

    def parse(self, response: Any, **_: Any) -> Iterator[Any]:
        for heading in response.css("h1::text").getall():
            yield {"url": response.url, "title": response.css("title::text").get(), "value": heading}
        yield from response.follow_all(response.css("a::attr(href)"), callback=self.parse)


def main() -> None:
    url, concurrency, items = sys.argv[1:]
    process = CrawlerProcess(
        {
            "ROBOTSTXT_OBEY": False,
            "CONCURRENT_REQUESTS": int(concurrency),
            "CONCURRENT_REQUESTS_PER_DOMAIN": int(concurrency),
            "DOWNLOAD_DELAY": 0,
            "LOG_LEVEL": "ERROR",
            "TELNETCONSOLE_ENABLED": False,
            "FEEDS": {items: {"format": "jsonlines"}},
        }
    )
    crawler = process.create_crawler(Spider)
    process.crawl(crawler, start_urls=[url])
    begun = time.perf_counter()
    process.start()
    seconds = time.perf_counter() - begun
    assert crawler.stats is not None
    print(crawler.stats.get_value("item_scraped_count"), seconds)


if __name__ == "__main__":
    main()

"""Story 7, calling it as RPC: any AMQP client publishes a job with reply_to and reads its events there."""

from __future__ import annotations

import json
import time
from typing import Any

import pika
from twisted.trial.unittest import SynchronousTestCase

from tests.stories.deployment import PATIENCE_S, Deployment, distributed, logs_on_failure, until
from tests.stories.site import serve

DIRECT_REPLY = "amq.rabbitmq.reply-to"


class Caller:
    """A foreign client: pika, and nothing of msgd."""

    def __init__(self, url: str, reply_queue: str = "") -> None:
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()
        self.replies: list[tuple[Any, bytes]] = []
        if reply_queue == DIRECT_REPLY:
            self.reply_to = reply_queue
        else:
            self.reply_to = self.channel.queue_declare("", exclusive=True).method.queue
        self.channel.basic_consume(self.reply_to, self._reply, auto_ack=True)

    def _reply(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        self.replies.append((properties, body))

    def call(self, type_: str, params: Any, *, message_id: str, body: bytes | None = None) -> None:
        self.channel.basic_publish(
            "msgd.jobs",
            type_,
            json.dumps(params).encode() if body is None else body,
            pika.BasicProperties(
                message_id=message_id, reply_to=self.reply_to, correlation_id=f"call-{message_id}",
                content_type="application/json", delivery_mode=2,
            ),
        )  # fmt: skip

    def until_end(self) -> list[tuple[Any, bytes]]:
        """All replies, once the end is among them."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            self.connection.process_data_events(0.2)
            if any(properties.type in ("done", "failed", "cancelled") for properties, _ in self.replies):
                return self.replies
        raise AssertionError(f"no end among {[properties.type for properties, _ in self.replies]}")


class RpcTests(SynchronousTestCase):
    """One deployment serves all: calls do not disturb one another."""

    def setUp(self) -> None:
        self.made: Deployment = distributed(self)
        self.made.start()
        until(lambda: "crawl" in str(self.made.call("GET", "/api/types")), "the crawler has announced its type")
        self.broker_url = self.made.config.read_text().split('[broker]\nurl = "')[1].split('"')[0]
        self.site = serve(self, 12)

    def caller(self, reply_queue: str = "") -> Caller:
        made = Caller(self.broker_url, reply_queue)
        self.addCleanup(made.connection.close)
        return made

    def check_replies(self, caller: Caller, job: str) -> None:
        with logs_on_failure(self.made):
            caller.call(
                "crawl", {"url": self.site.url, "match": [{"regex": "EUR [0-9.]+"}], "delay": 0}, message_id=job
            )
            replies = caller.until_end()
        self.assertEqual({properties.correlation_id for properties, _ in replies}, {f"call-{job}"})
        kept = [(properties, body) for properties, body in replies if properties.type != "progress"]
        self.assertEqual(kept[0][0].type, "started")
        self.assertEqual(kept[-1][0].type, "done")
        seqs = [properties.headers["msgd-seq"] for properties, _ in kept]
        self.assertEqual(seqs, list(range(1, len(seqs) + 1)))
        values = {json.loads(body)["value"] for properties, body in kept if properties.type == "result"}
        self.assertEqual(values, {value for _, value in self.site.results()})

    def test_a_foreign_client_reads_started_results_and_done_on_its_reply_queue(self) -> None:
        """pika publishes a job with reply_to and correlation_id; its queue gets every event, in seq order."""
        self.check_replies(self.caller(), "rpc-1")

    def test_direct_reply_to_works_too(self) -> None:
        """The same with RabbitMQ's amq.rabbitmq.reply-to."""
        self.check_replies(self.caller(DIRECT_REPLY), "rpc-2")

    def test_a_bad_call_is_answered_with_its_reason_and_the_next_one_works(self) -> None:
        """Unknown type, broken JSON and wrong params: each gets a failed event, nothing else stops."""
        with logs_on_failure(self.made):
            for job, type_, body, code in (
                ("bad-type", "no-such-type", b"{}", "unknown-type"),
                ("bad-json", "crawl", b"{not json", "not-json"),
                ("bad-params", "crawl", b'{"url": 7}', "invalid-params"),
                ("bad-regex", "crawl", b'{"url": "http://127.0.0.1/", "match": [{"regex": "("}]}', "invalid-params"),
            ):
                caller = self.caller()
                caller.call(type_, None, message_id=job, body=body)
                properties, answer = caller.until_end()[-1]
                self.assertEqual(properties.type, "failed", job)
                self.assertEqual(json.loads(answer)["code"], code, (job, answer))
        self.check_replies(self.caller(), "after-the-bad-ones")

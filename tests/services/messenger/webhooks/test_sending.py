"""Webhooks as they are sent, to receivers of every kind."""

from __future__ import annotations

from typing import Any

import msgspec
from twisted.internet.endpoints import serverFromString
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import BrowserLikePolicyForHTTPS
from twisted.web.server import Site

from msgd.jobs.interface import State
from tests.servers.certificates import Authority
from tests.services.messenger.webhooks.receiving import WebhookCase, reactor, status
from tests.work.world import BEGIN_S


class SendingTest(WebhookCase):
    """To a receiver that behaves."""

    async def test_delivered(self) -> None:
        """The body has type, time and data; the job is done with the status and the time it took."""
        await self.open()
        job = await self.world.ended(await self.send())
        (request,) = self.receiver.requests
        self.assertEqual(
            request.json,
            {"type": "invoice.created", "timestamp": "2023-11-14T22:13:20.000Z", "data": {"number": 17}},
        )
        self.assertEqual(request.headers["content-type"], "application/json")
        self.assertEqual(request.headers["webhook-id"], job.id)
        self.assertEqual(request.headers["webhook-timestamp"], str(int(BEGIN_S)))
        self.assertEqual(self.data(await self.world.event(job.id, "delivered")), {"status": 204, "ms": 0})

    async def test_retried(self) -> None:
        """What is not answered by 2xx comes again, under the same id; redirects are not followed."""
        await self.open()
        self.receiver.answers = [status(302, location="/elsewhere"), status(500), status(200)]
        id_ = await self.send()
        await self.world.event(id_, "retrying")
        await self.world.until(self.has(3), passing_s=10.0)
        await self.world.ended(id_)
        self.assertEqual({one.headers["webhook-id"] for one in self.receiver.requests}, {id_})
        self.assertEqual({one.path for one in self.receiver.requests}, {"/hook"})
        self.assertEqual(len({one.body for one in self.receiver.requests}), 1)

    async def test_gone(self) -> None:
        """410 ends it at once."""
        await self.open()
        self.receiver.answers = [status(410)]
        job = await self.world.ended(await self.send(), State.FAILED)
        assert job.error is not None
        self.assertEqual(job.error.code, "gone")
        self.assertEqual(len(self.receiver.requests), 1)

    def has(self, count: int) -> Any:
        async def condition() -> bool:
            return len(self.receiver.requests) >= count

        return condition

    def data(self, event: Any) -> Any:
        return msgspec.json.decode(event.data)


class TlsTest(WebhookCase):
    """Over https."""

    async def secure(self, authority: Authority) -> str:
        """The URL of the receiver over TLS."""
        folder = self._folder()
        authority.issue(folder / "certificate.pem", folder / "key.pem", "localhost")
        description = f"ssl:0:interface=127.0.0.1:privateKey={folder}/key.pem:certKey={folder}/certificate.pem"
        port: Any = await serverFromString(reactor, description).listen(Site(self.receiver))
        self.addCleanup(port.stopListening)
        return f"https://localhost:{port.getHost().port}/hook"

    def trusting(self, authority: Authority) -> BrowserLikePolicyForHTTPS:
        path = self._folder() / "ca.pem"
        authority.write_certificate(path)
        return BrowserLikePolicyForHTTPS(trustRootFromCertificates([Certificate.loadPEM(path.read_bytes())]))

    async def test_certificate(self) -> None:
        """A certificate that holds is good; one of another authority ends it, and nothing is sent."""
        good, other = Authority("Good"), Authority("Other")
        await self.open(tls=self.trusting(good))
        await self.world.ended(await self.send(await self.secure(good)))
        id_ = await self.send(await self.secure(other))
        self.assertIn("certificate verify failed", self.data(await self.world.event(id_, "retrying"))["message"])
        self.assertEqual(len(self.receiver.requests), 1)

    def data(self, event: Any) -> Any:
        return msgspec.json.decode(event.data)

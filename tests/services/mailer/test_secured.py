"""STARTTLS, TLS from the first byte, and logins, with a real server and certificates of our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from OpenSSL.crypto import FILETYPE_PEM, load_certificate
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates
from twisted.trial.unittest import TestCase

from msgd.services.mailer.pool import Server, SmtpWay
from msgd.services.mailer.replies import Accepted
from msgd.services.mailer.smtp import Login, Unreachable
from msgd.services.mailer.transaction import Envelope
from tests.servers.certificates import Authority
from tests.servers.smtp import SmtpServer
from tests.services.mailer.mails import reactor

MAIL = Envelope("news@sender.example", "anna@example.com", b"Subject: x\r\n\r\nHello\r\n")


class SecuredTests(TestCase):
    """A way to a server that wants to know who comes."""

    timeout = 180

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        authority = Authority("tests")
        authority.write_certificate(self.folder / "ca.pem")
        authority.issue(self.folder / "cert.pem", self.folder / "key.pem", "localhost")
        Authority("somebody else").write_certificate(self.folder / "other.pem")

    def serve(self, *options: str) -> SmtpServer:
        certificate = ("--certificate", str(self.folder / "cert.pem"), "--key", str(self.folder / "key.pem"))
        server = SmtpServer(self.folder / "smtp", *certificate, *options)
        self.addCleanup(server.stop)
        return server

    def way(
        self, server: SmtpServer, *, roots: str = "ca.pem", tls: bool = False, host: str = "localhost", **more: Any
    ) -> SmtpWay:
        root = Certificate(load_certificate(FILETYPE_PEM, (self.folder / roots).read_bytes()))
        options = optionsForClientTLS(host, trustRoot=trustRootFromCertificates([root]))
        plain: Any = HostnameEndpoint(reactor, "127.0.0.1", server.port)
        made = SmtpWay(
            Server(host, server.port, tls, **more),
            reactor,
            endpoint=lambda: wrapClientTLS(options, plain) if tls else plain,
            tls=options,
            connections=2,
            identity="client.test",
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(made.stop()))
        return made

    async def refusal(self, way: SmtpWay) -> Unreachable:
        try:
            outcome = await way.deliver(MAIL, "m")
        except Unreachable as error:
            return error
        raise AssertionError(f"delivered: {outcome}")

    async def test_starttls_and_login(self) -> None:
        """The mail goes through TLS, under the account's name."""
        server = self.serve("--user", "ann", "--password", "secret word")
        outcome = await self.way(server, login=Login("ann", "secret word")).deliver(MAIL, "m")
        self.assertIsInstance(outcome, Accepted)
        (received,) = server.received()
        self.assertEqual((received["tls"], received["user"]), (True, "ann"))

    async def test_tls_from_the_first_byte(self) -> None:
        """smtps://."""
        server = self.serve("--implicit", "--user", "ann", "--password", "secret word")
        outcome = await self.way(server, tls=True, login=Login("ann", "secret word")).deliver(MAIL, "m")
        self.assertIsInstance(outcome, Accepted)

    async def test_wrong_password(self) -> None:
        """Nothing is sent, and the reason does not tell the password."""
        server = self.serve("--user", "ann", "--password", "secret word")
        way = self.way(server, login=Login("ann", "other word"))
        error = await self.refusal(way)
        self.assertIn("535", error.message)
        self.assertNotIn("other word", error.message)
        self.assertEqual(server.received(), [])

    async def test_certificates_are_verified(self) -> None:
        """Of an authority that is not trusted, or for another name: nothing is sent."""
        server = self.serve()
        for way in (self.way(server, roots="other.pem"), self.way(server, host="other.example")):
            await self.refusal(way)
        self.assertEqual(server.received(), [])

    async def test_no_starttls(self) -> None:
        """Where it is required nothing is sent without; where it is not, it is."""
        server = SmtpServer(self.folder / "plain")
        self.addCleanup(server.stop)
        await self.refusal(self.way(server))
        outcome = await self.way(server, starttls="opportunistic").deliver(MAIL, "m")
        self.assertIsInstance(outcome, Accepted)
        self.assertEqual([one["tls"] for one in server.received()], [False])

    async def test_nobody_there(self) -> None:
        """The reason names the server."""
        server = self.serve()
        server.stop()
        error = await self.refusal(self.way(server))
        self.assertIn(f"localhost:{server.port}", error.message)

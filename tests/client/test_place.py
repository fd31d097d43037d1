"""To whom a token is shown, and over what."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.ssl import PrivateCertificate
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from msgd import errors
from msgd.client import Client, Watch, blocking
from tests.notifier.world import World, WorldCase, reactor, token
from tests.servers.certificates import Authority

Make = Callable[..., Any]


class ClearTextTest(SynchronousTestCase):
    """Servers over http."""

    def made(self) -> list[Make]:
        """How either client is made."""
        return [lambda *given, **more: Client(reactor, *given, **more), blocking.Client]

    def test_refused(self) -> None:
        """To another machine a token does not go in clear text, whether it is known already or fetched later."""
        for make in self.made():
            for url in ("http://msgd.example:8080", "http://10.1.2.3", "http://127.0.0.1.example", "http://[fe80::1]/"):
                for given in ("secret", lambda: "secret"):
                    error = self.assertRaises(errors.InvalidInput, make, url, given)
                    self.assertIn("in clear text", error.message)
                    self.assertNotIn("secret", error.message)
                    self.assertEqual(error.where, "url")

    def test_allowed(self) -> None:
        """It does on this machine, with TLS, and where one says so; without a token there is nothing to hide."""
        for make in self.made():
            for url in ("http://127.0.0.1:8080", "http://localhost", "http://[::1]:1/x", "https://msgd.example"):
                self.assertEqual(make(f"{url}/", "secret").url, url.rstrip("/"))
            make("http://msgd.example", "secret", clear_text=True)
            make("http://msgd.example")


class TlsTest(WorldCase):
    """A server over https."""

    async def secured(self) -> tuple[World, str]:
        """A world that is served over https too, and its address there."""
        world = await self.world()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        authority = Authority("test CA")
        authority.issue(self.folder / "certificate", self.folder / "key", "localhost", "127.0.0.1")
        authority.write_certificate(self.folder / "ca.pem")
        Authority("another CA").write_certificate(self.folder / "other.pem")
        pem = (self.folder / "certificate").read_bytes() + (self.folder / "key").read_bytes()
        options = PrivateCertificate.loadPEM(pem).options()
        port = reactor.listenSSL(0, world.notifier.site, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        return world, f"https://127.0.0.1:{port.getHost().port}"

    def client(self, url: str, ca: str) -> Client:
        client = Client(reactor, url, token(), ca_file=str(self.folder / ca) if ca else "")
        self.addCleanup(lambda: Deferred.fromCoroutine(client.close()))
        return client

    async def test_trusted(self) -> None:
        """A server whose certificate is from the authority that was named: calls, and a watch."""
        world, url = await self.secured()
        client = self.client(url, "ca.pem")
        self.assertEqual(await client.jobs(), [])
        watch = Watch(client, ["room.a"], jitter=random.random)
        self.addCleanup(lambda: Deferred.fromCoroutine(watch.stop()))
        messages = watch.__aiter__()
        self.assertEqual((await messages.__anext__())["op"], "subscribed")
        await world.scribe.record([world.event("room.a", data=1)])
        self.assertEqual((await messages.__anext__())["data"], 1)

    async def test_not_trusted(self) -> None:
        """One whose certificate is from another one is not asked for anything."""
        _, url = await self.secured()
        for ca in ("other.pem", ""):
            client = self.client(url, ca)
            for call in (client.jobs(), Watch(client, ["room.a"], jitter=random.random, patient=False).__anext__()):
                try:
                    await call
                except errors.Unavailable as error:
                    self.assertIn("certificate", error.message)
                else:
                    raise AssertionError(f"a server that {ca or 'this machine'} does not vouch for was asked")

    async def test_blocking(self) -> None:
        """The same for the client that blocks."""
        _, url = await self.secured()

        def ask(ca: str) -> Any:
            with blocking.Client(url, token(), ca_file=str(self.folder / ca), patience_s=0.0) as client:
                return client.jobs()

        self.assertEqual(await deferToThread(ask, "ca.pem"), [])
        try:
            await deferToThread(ask, "other.pem")
        except errors.Unavailable as error:
            self.assertIn("certificate", error.message)
        else:
            raise AssertionError("a server that nobody vouches for was asked")

    async def test_no_such_file(self) -> None:
        """What is no file of certificates is told at once."""
        for made, kind in ((lambda: Client(reactor, "https://a.example", ca_file="/none"), errors.ConfigError),
                           (lambda: blocking.Client("https://a.example", ca_file="/none"), OSError)):  # fmt: skip
            self.assertRaises(kind, made)

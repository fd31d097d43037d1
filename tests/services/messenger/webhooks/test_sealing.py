"""Secrets that lie sealed in the database, and keys that change."""

from __future__ import annotations

import time
from base64 import b64encode
from functools import partial
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import ConfigError
from msgd.services.messenger.webhooks import resealing
from msgd.services.messenger.webhooks.endpoints import Endpoint
from msgd.services.messenger.webhooks.resealing import Resealing
from msgd.services.messenger.webhooks.sealing import Seal, Unopened, keys_in
from msgd.services.messenger.webhooks.signing import new_secret
from tests.services.messenger.webhooks.receiving import WebhookCase

OLD, NEW = b"o" * 32, b"n" * 32


class SealTest(SynchronousTestCase):
    """What is stored of a secret."""

    def test_closed_and_opened(self) -> None:
        """It shows nothing, differs each time, and opens with its key in its own row only; unsealed ones stay."""
        secret = new_secret()
        seal = Seal([NEW, OLD])
        stored = seal.closed(secret, "e1")
        self.assertNotIn(secret[6:], stored)
        self.assertNotEqual(seal.closed(secret, "e1"), stored)
        for one in (seal, Seal([OLD, NEW])):
            self.assertEqual(one.opened(stored, "e1"), secret)
        for one, whose in ((seal, "e2"), (Seal([OLD]), "e1"), (Seal(), "e1")):
            self.assertRaises(Unopened, one.opened, stored, whose)
        self.assertEqual((Seal().closed(secret, "e1"), seal.opened(secret, "e1")), (secret, secret))
        self.assertEqual(seal.closed("", "e1"), "", "there is no old secret")

    @given(st.text())
    def test_anything_stored(self, text: str) -> None:
        """What was not sealed here does not open, and says which key it wants."""
        seal = Seal([NEW])
        for stored in (f"sealed:{text}", seal.beginning + text):
            error = self.assertRaises(Unopened, seal.opened, stored, "e1")
            self.assertIn("messenger.secrets_key_file", error.message)

    def test_keys(self) -> None:
        """One a line, whatever ends it; what is none is told by its line, and not shown."""
        file = Path(self.mktemp())
        lines = [b64encode(key) for key in (NEW, OLD)]
        file.write_bytes(b"\r\n".join([*lines, b""]))
        self.assertEqual(keys_in(str(file)), [NEW, OLD])
        for content, said in ((b"\n", "no key"), (lines[0] + b"\nc2hvcnQ=", "line 2 of"), (b"p\xe4", "line 1 of")):
            file.write_bytes(content)
            error = self.assertRaises(ConfigError, keys_in, str(file))
            self.assertIn(said, error.message)
            self.assertNotIn("c2hvcnQ", error.message)
        self.assertIn("cannot read", self.assertRaises(ConfigError, keys_in, "/nowhere/keys").message)


class SealedTest(WebhookCase):
    """Endpoints whose secrets are sealed."""

    async def seal(self, *keys: bytes) -> None:
        await Resealing(self.world.database, Seal(keys)).start()

    async def texts(self, *endpoints: Endpoint) -> list[str]:
        """What lies in the database."""
        found = [await self.stored(endpoint) for endpoint in endpoints]
        return [text for one in found for text in (one.secret, one.old_secret)]

    async def test_sealed_later(self) -> None:
        """What lies there already is sealed, a few at a time; what is sealed is sealed with a new key; and it signs."""
        self.patch(resealing, "AT_ONCE", 2)
        now_ms = time.time_ns() // 1_000_000  # which the package compares with the time of this machine
        await self.open(seal=Seal([NEW]), now_ms=lambda: now_ms)
        old = new_secret()
        endpoints = [await self.endpoint(old_secret=old, old_until_ms=now_ms + 1) for _ in range(5)]
        await self.seal()
        self.assertEqual(await self.texts(*endpoints), [text for one in endpoints for text in (one.secret, old)])
        for keys in ((OLD,), (NEW, OLD)):
            await self.seal(*keys)
            texts = await self.texts(*endpoints)
            self.assertTrue(all(text.startswith(Seal(keys).beginning) for text in texts), texts)
        await self.seal(NEW, OLD)
        self.assertEqual(await self.texts(*endpoints), texts, "what is sealed stays")
        await self.world.ended(await self.tell(endpoints[4]))
        (request,) = self.receiver.requests
        for secret in (endpoints[4].secret, old):
            self.assertEqual(Webhook(secret).verify(request.body, request.headers), request.json)

    async def test_key_is_missing(self) -> None:
        """Without its key nothing is sent, the try is made again, and the endpoint is not blamed; others are sealed."""
        await self.open()
        lost, other = await self.endpoint(), await self.endpoint()
        await self.seal(OLD)
        plain = await self.endpoint()
        await self.seal(NEW)
        texts = await self.texts(lost, plain)
        self.assertEqual(
            [text[:16] for text in texts if text], [Seal([OLD]).beginning[:16], Seal([NEW]).beginning[:16]]
        )
        id_ = await self.tell(other)
        await self.world.until(partial(self.retried, id_))
        self.assertEqual(self.receiver.requests, [])
        self.assertIsNone((await self.stored(other)).failing_since_ms)

    async def retried(self, id_: str) -> bool:
        job = await self.world.jobs.get(id_)
        return job.error is not None and job.error.code == "sealed"

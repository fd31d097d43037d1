"""Signatures, as the specification's own library reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError
from twisted.trial.unittest import SynchronousTestCase

from msgd.services.messenger.webhooks.message import headers
from msgd.services.messenger.webhooks.signing import new_secret, signature


class SigningTest(SynchronousTestCase):
    """``webhook-signature``."""

    def test_as_specified(self) -> None:
        """The specification's own example."""
        found = signature(
            ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1614265330,
            b'{"test": 2432232314}',
        )
        self.assertEqual(found, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")

    @given(st.binary(max_size=200), st.from_regex("[A-Za-z0-9_-]{1,40}", fullmatch=True))
    @settings(max_examples=50, deadline=None)
    def test_verified(self, content: bytes, id_: str) -> None:
        """Whatever is signed verifies with each secret, by the ``standardwebhooks`` package; with no other one."""
        now_s = int(datetime.now(UTC).timestamp())
        old, new = new_secret(), new_secret()
        content = b'{"data":"' + content.hex().encode() + b'"}'
        made = headers(id_, now_s, content, [new, old])
        for secret in (old, new):
            Webhook(secret).verify(content, made)
        for secret, body in ((new_secret(), content), (new, content + b" ")):
            with self.assertRaises(WebhookVerificationError):
                Webhook(secret).verify(body, made)

    def test_unsigned(self) -> None:
        """Without a secret there is no signature, but an id and a time."""
        self.assertEqual(headers("a", 1, b"", []), {"webhook-id": "a", "webhook-timestamp": "1"})

"""Messages: what the standard library's parser reads out of what we write."""

from __future__ import annotations

import base64
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.errors import ConfigError
from msgd.services.mailer.addresses import Named, parse
from msgd.services.mailer.composing import Attachment, Composer, Copy, Mailing
from msgd.services.mailer.markup import text_of
from msgd.services.mailer.signature import Signature
from msgd.services.mailer.templates import ContentError, Parts

SENDER = Named("The News", parse("news@sender.example"))
COPY = Copy(row=1, email="anna@example.com", name="Anna", message_id="abc@sender.example", date_s=1_700_000_000)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=120)


def mailing(subject: str = "Hello", text: str = "Hello", html: str = "", **more: Any) -> Mailing:
    return Mailing(parts=Parts(subject, text, html), sender=more.pop("sender", SENDER), shown=True, **more)


def parsed(message: bytes) -> EmailMessage:
    found = message_from_bytes(message, policy=policy.default)
    assert isinstance(found, EmailMessage)
    return found


def body(message: EmailMessage, kind: str) -> str:
    part = message.get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


class ComposingTests(SynchronousTestCase):
    """Read back by an independent parser."""

    def test_whole(self) -> None:
        """Headers, both texts, styles, attachments, the ways to leave."""
        made = Composer(
            mailing(
                "Grüße, {{ name }}",
                "",
                "<style>p {color: red}</style><p>Hello {{ name }} &amp; {{ x }}</p>",
                headers={"Reply-To": "Bell, Änna <a@b.example>", "X-Campaign": "7"},
                list_id="news.sender.example",
                attachments=[Attachment("Rechnung ü.pdf", "application/pdf", b"%PDF" * 100)],
            )
        ).compose(Copy(**{**_fields(COPY), "vars": {"x": "<b>"}, "unsubscribe_url": f"https://m.example/{'u' * 200}"}))
        self.assertTrue(made.message.isascii())
        self.assertNotIn(b"\n", made.message.replace(b"\r\n", b""))
        self.assertLessEqual(max(map(len, made.message.split(b"\r\n"))), 998)
        message = parsed(made.message)
        self.assertEqual(str(message["subject"]), "Grüße, Anna")
        self.assertEqual(str(message["to"]), "Anna <anna@example.com>")
        self.assertEqual(message["reply-to"].addresses[0].display_name, "Bell, Änna")
        self.assertEqual(str(message["list-unsubscribe"]), f"<https://m.example/{'u' * 200}>")
        self.assertEqual(str(message["list-unsubscribe-post"]), "List-Unsubscribe=One-Click")
        self.assertEqual(str(message["list-id"]), "<news.sender.example>")
        self.assertEqual(str(message["message-id"]), "<abc@sender.example>")
        self.assertIn('<p style="color: red;">Hello Anna &amp; &lt;b&gt;</p>', body(message, "html"))
        self.assertEqual(body(message, "plain").strip(), "Hello Anna & <b>")
        (file,) = message.iter_attachments()
        self.assertEqual((file.get_filename(), file.get_content()), ("Rechnung ü.pdf", b"%PDF" * 100))

    @given(TEXT, TEXT, TEXT)
    def test_whatever_is_put_in(self, name: str, subject: str, text: str) -> None:
        """Variables never become headers, and texts come back as they were."""
        composer = Composer(mailing("x {{ s }}", "{{ t }}"))
        made = composer.compose(Copy(**{**_fields(COPY), "name": "", "vars": {"s": subject, "t": text, "n": name}}))
        message = parsed(made.message)
        wanted = {"from", "to", "subject", "date", "message-id", "mime-version", "auto-submitted", "content-type"}
        self.assertEqual({key.lower() for key in message} - {"content-transfer-encoding"}, wanted)
        self.assertEqual(message.defects, [])
        told = body(message, "plain")
        lines = text.replace("\r\n", "\n").replace("\r", "\n")
        self.assertEqual(told.rstrip("\n"), lines.rstrip("\n"))

    def test_no_header_by_a_variable(self) -> None:
        """Not by a subject, a name, nor by what looks like an encoded word."""
        composer = Composer(mailing("{{ s }}"))
        hostile = "a\r\nBcc: evil@example.com\r\n\r\nbody"
        made = composer.compose(Copy(**{**_fields(COPY), "vars": {"s": hostile}}))
        self.assertNotIn("bcc", {key.lower() for key in parsed(made.message)})
        made = composer.compose(Copy(**{**_fields(COPY), "vars": {"s": "=?utf-8?q?x=0ABcc=3A_y?="}}))
        self.assertEqual(str(parsed(made.message)["subject"]), "=?utf-8?q?x=0ABcc=3A_y?=")
        for name in ("Anna\r\nBcc: x", 'An"na\\', "=?utf-8?q?x?=", "Bell, Anna", "Änna"):
            try:
                made = composer.compose(Copy(**{**_fields(COPY), "name": name, "vars": {"s": "x"}}))
            except ContentError:
                continue
            self.assertEqual(parsed(made.message)["to"].addresses[0].display_name, name)

    def test_undefined(self) -> None:
        """A variable that is not there is named; defaults and tests for it are the template's to use."""
        error = self.assertRaises(ContentError, Composer(mailing(text="Hello {{ town }}")).compose, COPY)
        self.assertEqual(str(error), "text: 'town' is undefined")
        text = "{{ town | default('you') }}{% if town is defined %}x{% endif %}"
        self.assertEqual(body(parsed(Composer(mailing(text=text)).compose(COPY).message), "plain").strip(), "you")

    def test_named_templates(self) -> None:
        """Out of a folder, which they do not leave."""
        folder = Path(self.mktemp())
        folder.mkdir()
        files = {
            "w.txt": "{% include 'foot.txt' %}",
            "foot.txt": "Bye",
            "w.subject": "S",
            "e.txt": "{% include '../x' %}",
        }
        for name, content in files.items():
            (folder / name).write_text(content)

        def compose(name: str, subject: str) -> Parts:
            parts = Composer(mailing(subject, "", template=name, folder=str(folder))).compose(COPY).parts
            assert parts is not None
            return parts

        self.assertEqual(compose("w", ""), Parts("S", "Bye", ""))
        for name in ("none", "e"):
            self.assertRaises(ContentError, compose, name, "x")

    def test_dkim(self) -> None:
        """The signature holds; not when From is added to, or the text changed."""
        key = rsa.generate_private_key(65537, 2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        record = b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)
        signed = Signature("sender.example", "s1", pem).sign(Composer(mailing()).compose(COPY).message)

        def holds(message: bytes) -> bool:
            return bool(dkim.verify(message, dnsfunc=lambda name, timeout=5: record))

        self.assertTrue(holds(signed))
        self.assertFalse(holds(signed + b"x\r\n"))
        self.assertFalse(holds(b"From: evil@example.com\r\n" + signed))
        self.assertRaises(ConfigError, Signature, "sender.example", "s1", b"no key")

    def test_text_of_html(self) -> None:
        """Blocks are lines, links have their address, scripts and styles are not read; deep nesting does no harm."""
        html = "<h1>A &amp; B</h1><p>c <a href='https://x.example/'>d</a></p><ul><li>e<li>f</ul><script>g</script>"
        self.assertEqual(text_of(html), "A & B\n\nc d <https://x.example/>\n\n* e\n* f\n")
        self.assertIsInstance(text_of("<div>" * 20_000 + "deep"), str)


def _fields(copy: Copy) -> dict[str, Any]:
    return {name: getattr(copy, name) for name in copy.__struct_fields__}

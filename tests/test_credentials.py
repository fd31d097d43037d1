"""Passwords and trusted certificates out of files, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from msgd.credentials import certificates_in, password_in, tls_to
from msgd.errors import ConfigError
from tests.servers.certificates import Authority


class CredentialsTest(SynchronousTestCase):
    """Files that an operator names."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def file(self, content: bytes) -> str:
        path = self.folder / "file"
        path.write_bytes(content)
        return str(path)

    def certificate(self, name: str) -> bytes:
        Authority(name).write_certificate(self.folder / name)
        return (self.folder / name).read_bytes()

    def refused(self, reads: Any, path: str) -> str:
        """What is said of a file; the setting is named apart."""
        error = self.assertRaises(ConfigError, reads, path, where="mail.some_file")
        self.assertEqual(error.where, "mail.some_file")
        self.assertIn(path, error.message)
        return str(error.message).replace(path, "FILE")

    def test_certificates(self) -> None:
        """All that are in a file, whatever stands between them and however lines end."""
        one, other = self.certificate("one"), self.certificate("other")
        content = b"# One\n" + one + b"# Other\n" + other.replace(b"\n", b"\r\n")
        found = certificates_in(self.file(content), where="")
        self.assertEqual([one.getSubject().CN for one in found], [b"one", b"other"])
        self.assertIsNotNone(tls_to("a.example", ca_file=self.file(one), where=""))
        self.assertIsNotNone(tls_to("127.0.0.1", where=""), "this machine's authorities")

    def test_no_certificates(self) -> None:
        """What is wrong is said, with the file's name: none there, none in it, which one is broken."""
        one = self.certificate("one")
        key = b"-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\n"
        for content in (b"", key, one[:-30], b"\xff\x00\x30\x82"):
            said = self.refused(certificates_in, self.file(content))
            self.assertEqual(said, "there is no certificate in FILE, which must have them in PEM form")
        broken = one.replace(one.splitlines()[2], b"?" * 64)
        self.assertEqual(self.refused(certificates_in, self.file(one + broken)), "certificate 2 of 2 in FILE is broken")
        for reads in (certificates_in, password_in):
            self.assertEqual(self.refused(reads, "/nowhere/at-all"), "cannot read FILE: No such file or directory")
            self.assertEqual(self.refused(reads, str(self.folder)), "cannot read FILE: Is a directory")

    def test_password(self) -> None:
        """Without the line end that editors add, and else as it stands: it may begin with a blank."""
        for content in (" word \n", " word \r\n", " word "):
            self.assertEqual(password_in(self.file(content.encode()), where=""), " word ")
        said = self.refused(password_in, self.file(b"\xff"))
        self.assertEqual(said, "the password in FILE is not UTF-8: invalid start byte")

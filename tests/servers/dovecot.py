"""Dovecot, an IMAP server, on free loopback ports with a certificate of the tests, its files in a temporary folder."""

from __future__ import annotations

import contextlib
import grp
import imaplib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from tests.ports import free_port
from tests.servers.certificates import Authority

INSTALL: Final = "These tests need Dovecot. On Debian or Ubuntu: apt-get install dovecot-imapd"
START_S: Final = 60.0
HOST: Final = "localhost"
USER: Final = "bounces@sender.example"
PASSWORD: Final = 'pass "word" é'


class DovecotMissing(Exception):
    """Dovecot is not installed."""


class DovecotFailed(Exception):
    """It did not start; the message holds what it said."""


class HasCleanup(Protocol):
    """A test case."""

    def addCleanup(self, f: Callable[..., object], /, *args: object) -> object: ...


def _configuration(folder: Path, port: int, tls_port: int, more: str) -> str:
    # As root it gives up its rights by itself, to users of the package; else all of it runs as whoever tests.
    root = os.geteuid() == 0
    me = "nobody" if root else pwd.getpwuid(os.geteuid()).pw_name
    group = "nogroup" if root else grp.getgrgid(os.getegid()).gr_name
    alone = f"default_internal_user = {me}\ndefault_internal_group = {group}\ndefault_login_user = {me}"
    return f"""
base_dir = {folder}/run
state_dir = {folder}/state
log_path = {folder}/log
listen = 127.0.0.1
protocols = imap
ssl = yes
ssl_cert = <{folder}/certificate.pem
ssl_key = <{folder}/key.pem
auth_failure_delay = 0
first_valid_uid = 1
first_valid_gid = 1
mail_uid = {me}
mail_gid = {group}
mail_location = maildir:{folder}/mail/%n
mail_max_userip_connections = 50
{"" if root else alone}
namespace inbox {{
  inbox = yes
  separator = /
}}
passdb {{
  driver = passwd-file
  args = scheme=PLAIN {folder}/users
}}
userdb {{
  driver = static
  args = uid={me} gid={group} home={folder}/mail
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = {tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
}}
{more}
"""


class Dovecot:
    """One server with one account."""

    def __init__(self, *, more: str = "") -> None:
        """Write configuration, certificate and account. ``more``: of the configuration. Raises DovecotMissing."""
        program = shutil.which("dovecot") or shutil.which("dovecot", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise DovecotMissing(INSTALL)
        self.port, self.tls_port = free_port(), free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="msgd-dovecot-"))
        self._folder.chmod(0o755)  # it reads its mail as another user
        authority = Authority("Dovecot of the tests")
        self.ca_file = self._folder / "ca.pem"
        authority.write_certificate(self.ca_file)
        authority.issue(self._folder / "certificate.pem", self._folder / "key.pem", HOST)
        self.password_file = self._folder / "password"
        self.password_file.write_text(f"{PASSWORD}\n")
        (self._folder / "users").write_text(f"{USER}:{PASSWORD}\n")
        (self._folder / "users").chmod(0o644)
        mail = self._folder / "mail"
        mail.mkdir()
        if os.geteuid() == 0:
            shutil.chown(mail, "nobody", "nogroup")
        configuration = self._folder / "dovecot.conf"
        configuration.write_text(_configuration(self._folder, self.port, self.tls_port, more))
        self._command = (program, "-F", "-c", str(configuration))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Dovecot:
        """Begin to listen. Raises DovecotFailed."""
        output = (self._folder / "output").open("ab")
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that it can be killed with all that it began
        )
        output.close()
        end = time.monotonic() + START_S
        while True:
            if self._process.poll() is not None or time.monotonic() > end:
                raise DovecotFailed(f"{(self._folder / 'output').read_text('utf-8', 'replace')}\n{self.log()}")
            try:
                with self.client():
                    return self
            except (OSError, imaplib.IMAP4.error):
                time.sleep(0.05)  # another process, without a clock of ours

    def stop(self) -> None:
        """End it as an operator does: connections are told, and closed."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.wait(30)

    def log(self) -> str:
        """What it has logged."""
        path = self._folder / "log"
        return path.read_text("utf-8", "replace") if path.exists() else ""

    @contextlib.contextmanager
    def client(self, folder: str = "INBOX") -> Iterator[imaplib.IMAP4]:
        """Another client, with a folder open: that of the standard library."""
        with imaplib.IMAP4("127.0.0.1", self.port, timeout=30) as made:
            made.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
            made.select(folder)
            yield made

    def deliver(self, *mails: bytes, folder: str = "INBOX") -> None:
        """Put mails into a folder."""
        with self.client() as client:
            for mail in mails:
                said, why = client.append(folder, "", "", mail.replace(b"\n", b"\r\n"))
                assert said == "OK", why

    def flags(self, folder: str = "INBOX") -> list[set[str]]:
        """Of each mail in a folder, in their order."""
        with self.client(folder) as client:
            _, lines = client.fetch("1:*", "(FLAGS)") if client.select(folder)[1] != [b"0"] else ("", [])
            parsed = (imaplib.ParseFlags(line) for line in lines if isinstance(line, bytes))
            return [{flag.decode() for flag in flags} - {"\\Recent"} for flags in parsed]

    def make_folder(self, name: str) -> None:
        """``name``, here and elsewhere, as the protocol has it."""
        with self.client() as client:
            said, why = client.create(name)
            assert said == "OK", why

    def close(self) -> None:
        """End it at once and delete its files."""
        process, self._process = self._process, None
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)


def server(case: HasCleanup, **options: str) -> Dovecot:
    """A Dovecot that runs, ended with the test."""
    made = Dovecot(**options)
    case.addCleanup(made.close)
    return made.start()

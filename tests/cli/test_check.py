"""``msgd check`` on configurations that are good, and on what is wrong with others."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from joserfc.jwk import OKPKey, RSAKey

from tests.cli.deployed import CommandCase, deployment
from tests.ports import free_port


class CheckCase(CommandCase):
    """A test that checks a configuration of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def check(self, *lines: str, code: int) -> dict[str, dict[str, Any]]:
        """The findings by name."""
        file = self.folder / "msgd.toml"
        file.write_text("\n".join([f'[state]\ndir = "{self.folder}/var"', *lines]))
        out, err = self.msgd("--config", str(file), "check", "--json", code=code, config=False)
        self.assertEqual(err, "")
        return {found["name"]: found for found in map(json.loads, out.splitlines())}

    def notifier(self, port: int | None = None) -> str:
        return f'[notifier]\nlisten = "tcp:{port or deployment().port}:interface=127.0.0.1"'

    def wrong(self, findings: dict[str, dict[str, Any]]) -> list[str]:
        return [name for name, found in findings.items() if not found["good"]]


class EmbeddedTest(CheckCase):
    """The defaults: nothing but files."""

    def test_good(self) -> None:
        """What runs is good; marks and details are aligned."""
        out, err = self.msgd("check")
        self.assertEqual(err, "")
        self.assertEqual([line[0] for line in out.splitlines()], ["✓"] * 11)
        self.assertEqual({line[17] for line in out.splitlines()} & {" "}, set())
        self.assertIn(f"answers at {deployment().url}", out)

    def test_nothing_is_made(self) -> None:
        """Before the first start it is told what will be made, and nothing is made yet."""
        findings = self.check(self.notifier(), code=0)
        self.assertIn("made at the first start", findings["state folder"]["detail"])
        self.assertIn("made at the first start", findings["database"]["detail"])
        self.assertEqual([path.name for path in self.folder.iterdir()], ["msgd.toml"])

    def test_nobody_answers(self) -> None:
        """A notifier that does not run is exit code 3."""
        port = free_port()
        findings = self.check(self.notifier(port), code=3)
        self.assertEqual(self.wrong(findings), ["notifier"])
        self.assertIn(f"127.0.0.1:{port}", findings["notifier"]["detail"])
        self.assertIn("twistd -n msgd", findings["notifier"]["detail"])

    def test_wrong_key(self) -> None:
        """A wrong key is all that is told: what follows would be guesses."""
        findings = self.check("[jobs.crawl]", "concurency = 3", code=2)
        self.assertEqual(list(findings), ["configuration"])
        self.assertIn(f"{self.folder}/msgd.toml:4", findings["configuration"]["detail"])
        self.assertIn("concurrency", findings["configuration"]["detail"])

    def test_state_folder(self) -> None:
        """A state folder that cannot be one."""
        (self.folder / "var").write_text("a file")
        findings = self.check(self.notifier(), code=2)
        self.assertIn("state folder", self.wrong(findings))
        self.assertIn("state.dir", findings["state folder"]["detail"])

    def test_access(self) -> None:
        """A door open to a network without a key; a secret that everybody can read, is too short, or missing."""
        findings = self.check(f'[notifier]\nlisten = "tcp:{deployment().port}"', code=2)
        self.assertEqual(self.wrong(findings), ["access"])
        self.assertIn("auth.secret_file", findings["access"]["detail"])
        secret = self.folder / "secret"
        auth = f'[auth]\nsecret_file = "{secret}"'
        self.assertIn("No such file", self.check(self.notifier(), auth, code=2)["access"]["detail"])
        secret.write_text("short")
        secret.chmod(0o600)
        self.assertIn("32 bytes", self.check(self.notifier(), auth, code=2)["access"]["detail"])
        secret.write_text("x" * 40)
        self.assertTrue(self.check(self.notifier(), auth, code=0)["access"]["good"])
        secret.chmod(0o644)
        findings = self.check(self.notifier(), auth, code=2)
        self.assertIn(f"chmod o= {secret}", findings["access"]["detail"])

    def test_secrets(self) -> None:
        """The keys of the messenger's secrets: how many there are, or what is wrong with the file."""
        file = self.folder / "keys"
        given = f'[messenger]\nsecrets_key_file = "{file}"'
        self.assertIn("No such file", self.check(self.notifier(), given, code=2)["secrets"]["detail"])
        file.write_text("AAAA\n")
        file.chmod(0o600)
        self.assertIn(f"line 1 of {file}", self.check(self.notifier(), given, code=2)["secrets"]["detail"])
        file.write_text(f"{'A' * 43}=\n{'B' * 43}=\n")
        found = self.check(self.notifier(), given, code=0)["secrets"]
        self.assertIn(f"sealed with the first of 2 keys in {file}", found["detail"])
        file.chmod(0o644)
        self.assertIn(f"chmod o= {file}", self.check(self.notifier(), given, code=2)["secrets"]["detail"])

    def test_public_keys(self) -> None:
        """A key file and a JWKS: how many keys there are, or what is wrong with them; a provider that does not answer
        is exit code 3."""
        file = self.folder / "keys.json"
        auth = f'[auth]\nkeys_file = "{file}"'
        self.assertIn("No such file", self.check(self.notifier(), auth, code=2)["access"]["detail"])
        file.write_text("{}")
        self.assertIn(str(file), self.check(self.notifier(), auth, code=2)["access"]["detail"])
        keys: list[Any] = [RSAKey.generate_key(2048), OKPKey.generate_key("Ed25519")]
        file.write_text(json.dumps({"keys": [key.as_dict(private=False) for key in keys]}))
        found = self.check(self.notifier(), auth, code=0)["access"]
        self.assertEqual(found["detail"], f"tokens signed with one of 2 keys (EdDSA, RS256) in {file}")
        url = f"http://127.0.0.1:{free_port()}/jwks"
        findings = self.check(self.notifier(), f'{auth}\njwks_url = "{url}"', code=3)
        self.assertEqual(self.wrong(findings), ["access"])
        self.assertIn(url, findings["access"]["detail"])
        findings = self.check(self.notifier(), '[auth]\njwks_url = "http://id.example.com/jwks"', code=2)
        self.assertIn("https://", findings["configuration"]["detail"])

    def test_database(self) -> None:
        """A file that is no database, and one of another program."""
        (self.folder / "var").mkdir()
        file = self.folder / "var" / "msgd.sqlite3"
        sqlite3.connect(file).close()
        self.assertIn("empty", self.check(self.notifier(), code=0)["database"]["detail"])
        file.write_bytes(b"not a database at all" * 100)
        findings = self.check(self.notifier(), code=3)
        self.assertEqual(self.wrong(findings), ["database"])
        self.assertIn("not a database", findings["database"]["detail"])


class ServersTest(CheckCase):
    """RabbitMQ and PostgreSQL."""

    def test_good(self) -> None:
        """Both answer: their versions and addresses are told, without passwords."""
        from tests.servers import postgres, rabbitmq

        broker = rabbitmq.node().url(rabbitmq.fresh_vhost(self))
        database = postgres.fresh_database(self)
        findings = self.check(self.notifier(), f'[broker]\nurl = "{broker}"', f'[database]\nurl = "{database}"', code=0)
        self.assertRegex(findings["broker"]["detail"], r"^RabbitMQ [34]\.\d+\.\d+ at ")
        self.assertIn("tables are made at the first start", findings["database"]["detail"])

    def test_streams_switched_off(self) -> None:
        """A broker that was once an old one dead-letters at most once, in silence: what to do is told; exit code 2.

        From RabbitMQ 3.12 on none can be without streams.
        """
        from tests.servers import rabbitmq

        node = rabbitmq.Node(feature_flags="quorum_queue")
        self.addCleanup(node.close)
        node.start()
        lines = (self.notifier(), f'[broker]\nurl = "{node.url()}"')
        if node.order("rabbit_feature_flags:is_enabled(stream_queue)") == "false":
            detail = self.check(*lines, code=2)["broker"]["detail"]
            self.assertIn("rabbitmqctl enable_feature_flag stream_queue", detail)
            node.order("rabbit_feature_flags:enable(stream_queue)")
        self.check(*lines, code=0)

    def test_nobody_there(self) -> None:
        """Neither answers: the reasons are told, without passwords; exit code 3."""
        one, other = free_port(), free_port()
        findings = self.check(
            self.notifier(),
            f'[broker]\nurl = "amqp://ann:sesame@127.0.0.1:{one}/"',
            f'[database]\nurl = "postgresql://ann:sesame@127.0.0.1:{other}/msgd"',
            code=3,
        )
        self.assertEqual(self.wrong(findings), ["database", "broker"])
        for name, port in (("broker", one), ("database", other)):
            self.assertIn(str(port), findings[name]["detail"])
            self.assertIn("refused", findings[name]["detail"])
            self.assertNotIn("sesame", findings[name]["detail"])

    def test_not_let_in(self) -> None:
        """A wrong password, a vhost and a database that are not there are told."""
        from tests.servers import postgres, rabbitmq

        broker = rabbitmq.node().url(rabbitmq.fresh_vhost(self))
        database = postgres.fresh_database(self)
        head, _, rest = broker.partition("://")
        wrong_user = f"{head}://nobody:sesame@{rest.rpartition('@')[2]}"
        findings = self.check(
            self.notifier(), f'[broker]\nurl = "{wrong_user}"', f'[database]\nurl = "{database}-none"', code=3
        )
        self.assertIn("ACCESS_REFUSED", findings["broker"]["detail"])
        self.assertNotIn("sesame", findings["broker"]["detail"])
        self.assertIn("does not exist", findings["database"]["detail"])


class MailTest(CheckCase):
    """The server that mail is handed to: a real one, of aiosmtpd."""

    def test_server(self) -> None:
        """It is told where mail goes, and what is wrong with a server that takes none."""
        from tests.servers.certificates import Authority
        from tests.servers.smtp import SmtpServer

        self.assertIn(f"written into {self.folder}/var/outbox", self.check(self.notifier(), code=0)["mail"]["detail"])
        nobody = free_port()
        findings = self.check("[mail]", f'smtp = "smtp://localhost:{nobody}"', self.notifier(), code=3)
        self.assertEqual(self.wrong(findings), ["mail"])
        self.assertIn(f"localhost:{nobody}: Connection was refused", findings["mail"]["detail"])
        authority = Authority("tests")
        authority.write_certificate(self.folder / "ca.pem")
        authority.issue(self.folder / "cert.pem", self.folder / "key.pem", "localhost")
        files = ("--certificate", str(self.folder / "cert.pem"), "--key", str(self.folder / "key.pem"))
        server = SmtpServer(self.folder / "smtp", *files, "--user", "ann", "--password", "sesame")
        self.addCleanup(server.stop)
        url, word = f"smtp://localhost:{server.port}", self.folder / "word"
        mail = ("[mail]", f'smtp = "{url}"', f'ca_file = "{self.folder}/ca.pem"', 'user = "ann"',
                f'password_file = "{word}"', self.notifier())  # fmt: skip
        word.write_text("sesame")
        self.assertEqual(self.check(*mail, code=0)["mail"]["detail"], f"{url} takes mail of ann")
        word.write_text("barley")
        findings = self.check(*mail, code=3)
        self.assertEqual(self.wrong(findings), ["mail"])
        self.assertIn("535", findings["mail"]["detail"])
        self.assertNotIn("barley", findings["mail"]["detail"])
        self.assertEqual(server.received(), [])


class BouncesTest(CheckCase):
    """Where bounces are read from: a maildir, or a folder on a real Dovecot."""

    def test_folder(self) -> None:
        """It is told whether the folder can be opened, and what is wrong if it cannot."""
        from tests.servers import dovecot

        mail = '[mail]\nbounces = "bounces@sender.example"'
        findings = self.check(mail, f'bounce_folder = "{self.folder}/mail"', self.notifier(), code=2)
        self.assertEqual(self.wrong(findings), ["bounces"])
        self.assertIn("is no maildir", findings["bounces"]["detail"])
        (self.folder / "mail" / "new").mkdir(parents=True)
        self.check(mail, f'bounce_folder = "{self.folder}/mail"', self.notifier(), code=0)
        server = dovecot.server(self)
        server.deliver(b"Subject: x\n\n")
        rest = (f'bounce_ca_file = "{server.ca_file}"', self.notifier())
        known = f'bounce_password_file = "{server.password_file}"'
        url = f"imaps://{dovecot.USER}@localhost:{server.tls_port}"
        found = self.check(mail, known, f'bounce_folder = "{url}"', *rest, code=0)["bounces"]
        self.assertEqual(
            found["detail"],
            f"INBOX of {dovecot.USER} on localhost:{server.tls_port}, 1 mails, which tells of new ones",
        )
        findings = self.check(mail, known, f'bounce_folder = "{url}/Nowhere"', *rest, code=3)
        self.assertEqual(self.wrong(findings), ["bounces"])
        self.assertIn("the folder 'Nowhere' cannot be opened", findings["bounces"]["detail"])
        findings = self.check(mail, known, 'bounce_done = "Nowhere"', f'bounce_folder = "{url}"', *rest, code=3)
        self.assertIn("no folder 'Nowhere' to move mails to", findings["bounces"]["detail"])
        wrong = self.folder / "wrong"
        wrong.write_text("wrong\n")
        findings = self.check(mail, f'bounce_password_file = "{wrong}"', f'bounce_folder = "{url}"', *rest, code=3)
        self.assertIn(f"refuses the login of {dovecot.USER}", findings["bounces"]["detail"])


class XmppTest(CheckCase):
    """An account on a real Prosody."""

    def test_account(self) -> None:
        """It is told whether the account works, and what is wrong if it does not."""
        from tests.servers import prosody

        server = prosody.server(self, "msgd")
        account = ("[xmpp]", f'server = "{server.server}"', f'ca_file = "{server.ca_file}"')
        known = f'password_file = "{server.password_file}"'
        findings = self.check(*account, 'jid = "msgd@localhost"', known, self.notifier(), code=0)
        self.assertEqual(findings["xmpp"]["detail"], "connects as msgd@localhost/msgd-check")
        findings = self.check(*account, 'jid = "eve@localhost"', known, self.notifier(), code=3)
        self.assertEqual(self.wrong(findings), ["xmpp"])
        self.assertIn("refuses the login of eve@localhost", findings["xmpp"]["detail"])
        findings = self.check(*account, 'jid = "msgd@localhost"', self.notifier(), code=2)
        self.assertIn("set xmpp.password_file", findings["xmpp"]["detail"])

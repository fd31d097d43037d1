"""``msgd check`` on configurations that are good, and on what is wrong with others."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

from tests.cli.deployed import CommandCase, deployment
from tests.client.peers import unused_port


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
        self.assertEqual([line[0] for line in out.splitlines()], ["✓"] * 6)
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
        port = unused_port()
        findings = self.check(self.notifier(port), code=3)
        self.assertEqual(self.wrong(findings), ["notifier"])
        self.assertIn(f"127.0.0.1:{port}", findings["notifier"]["detail"])

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
        """A door open to a network without a key; a secret that everybody can read, is too short, or missing; keys
        that are not supported."""
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
        findings = self.check(self.notifier(), '[auth]\nkeys_file = "keys.pem"', code=2)
        self.assertIn("not supported yet", findings["access"]["detail"])

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

    def test_nobody_there(self) -> None:
        """Neither answers: the reasons are told, without passwords; exit code 3."""
        one, other = unused_port(), unused_port()
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

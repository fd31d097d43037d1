"""The daemons' table, and settings that become parts."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from joserfc.jwk import RSAKey
from msgspec import Struct
from twisted.application.service import IService, IServiceMaker
from twisted.internet import reactor
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from msgd.app import application
from msgd.app.daemons import Daemon, keys, rules
from msgd.app.service import DaemonService
from msgd.config import Settings, load
from msgd.errors import ConfigError
from msgd.journal.interface import Retention
from msgd.messages.topics import covers, matches
from msgd.notifier.auth.jwks import JwksKeys
from msgd.notifier.auth.keys_file import FileKeys, SecretKeys
from msgd.work import Context, Done, job
from twisted.plugins import msgd_plugins


class Nothing(Struct):
    """Params of jobs that do nothing."""


@job("nothing", Nothing)
async def nothing(context: Context[Nothing]) -> Done:
    """Does nothing."""
    return Done()


@job("crawl", Nothing)
async def other_crawl(context: Context[Nothing]) -> Done:
    """Takes the name of another."""
    return Done()


DAEMONS: Final = ("recorder", "notifier", "crawler", "mailer", "messenger", "thumbnailer")
"""One process each."""


class AssemblyCase(SynchronousTestCase):
    """A test with a configuration."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def config(self, text: str = "") -> str:
        path = self.folder / "msgd.toml"
        path.write_text(f'[state]\ndir = "{self.folder}/var"\n{text}')
        return str(path)

    def settings(self, text: str = "") -> Settings:
        return load(self.config(text), {})


class PluginTest(AssemblyCase):
    """What twistd finds."""

    def test_plugins(self) -> None:
        """Each plugin names a daemon of its own name, whose service does nothing before it is started."""
        makers = [one for one in vars(msgd_plugins).values() if IServiceMaker.providedBy(one)]
        self.assertEqual({maker.tapname for maker in makers}, {*DAEMONS, "msgd"})
        config = self.config('[broker]\nurl = "amqp://localhost:1/"\n[database]\nurl = "postgresql://localhost:1/none"')
        for maker in makers:
            daemon = namedAny(maker.module)
            assert isinstance(daemon, Daemon)
            self.assertEqual(daemon.name, maker.tapname)
            self.assertIn("msgd", maker.description)
            options = maker.options()
            options.parseOptions(["--config", config])
            service = maker.makeService(options)
            self.assertIsInstance(service, DaemonService)
            self.assertEqual(service.name, maker.tapname)
        self.assertEqual(os.listdir(self.folder), ["msgd.toml"])


class RulesTest(AssemblyCase):
    """``[topics]`` as the journal's rules, of which the first that matches decides."""

    def test_most_specific_first(self) -> None:
        """However they stand in the file, a narrower pattern comes before each that covers it."""
        patterns = ("#", "room.#", "*.log", "room.*", "room.kitchen", "room.*.log", "room.kitchen.*", "job.#", "*.*")
        for order in (patterns, tuple(reversed(patterns))):
            text = "\n".join(f'[topics."{pattern}"]\nkeep = {len(pattern)}' for pattern in order)
            made = [rule.pattern for rule in rules(self.settings(text))]
            self.assertEqual(set(made), set(patterns))
            for at, pattern in enumerate(made):
                for earlier in made[:at]:
                    self.assertFalse(covers(earlier, pattern), f"{earlier} hides {pattern}")
            self.assertEqual(next(one for one in made if matches(one, "room.kitchen")), "room.kitchen")

    def test_units(self) -> None:
        """Days become milliseconds; 0 is no limit."""
        text = '[topics."a"]\nkeep = 10\ndays = 0.5\n[topics."#"]\n'
        self.assertEqual(rules(self.settings(text)), [Retention("a", 10, 43_200_000), Retention("#", None, None)])


class KeysTest(AssemblyCase):
    """What tokens are verified with."""

    def test_own_secret(self) -> None:
        """Without a key there is a secret of our own, for us alone, and loopback alone."""
        keys(self.settings(), reactor)
        secret = self.folder / "var" / "secret"
        self.assertEqual(secret.stat().st_mode & 0o777, 0o600)
        before = secret.read_bytes()
        keys(self.settings(), reactor)
        self.assertEqual(secret.read_bytes(), before)
        open_door = self.settings('[notifier]\nlisten = ["tcp:1:interface=127.0.0.1", "tcp:8080"]')
        error = self.assertRaises(ConfigError, keys, open_door, reactor)
        self.assertIn("tcp:8080", error.message)

    def test_given_secret(self) -> None:
        """A secret of the operator's opens any door; one that is missing is not made."""
        file = self.folder / "given"
        text = f'[auth]\nsecret_file = "{file}"\n[notifier]\nlisten = "tcp:8080"'
        self.assertIn(str(file), self.assertRaises(ConfigError, keys, self.settings(text), reactor).where)
        file.write_text("x" * 40)
        self.assertEqual([type(one) for one in keys(self.settings(text), reactor)], [SecretKeys])

    def test_several(self) -> None:
        """Secret, key file and JWKS go together, and open any door; a key file must be usable."""
        secret, file = self.folder / "given", self.folder / "keys.pem"
        secret.write_text("x" * 40)
        text = (
            f'[auth]\nsecret_file = "{secret}"\nkeys_file = "{file}"\njwks_url = "https://id.example.com/jwks"\n'
            '[notifier]\nlisten = "tcp:8080"'
        )
        error = self.assertRaises(ConfigError, keys, self.settings(text), reactor)
        self.assertIn(str(file), error.message)
        file.write_bytes(RSAKey.generate_key(2048, private=False).as_pem(private=False))
        sources = keys(self.settings(text), reactor)
        self.assertEqual([type(one) for one in sources], [SecretKeys, FileKeys, JwksKeys])


class ApplicationTest(AssemblyCase):
    """Workers of one's own."""

    def test_service(self) -> None:
        """It is an application with one service, named after the workers' types, that has done nothing yet."""
        made = application(nothing, config=self.config())
        (service,) = list(IService(made))
        self.assertIsInstance(service, DaemonService)
        self.assertEqual(service.name, "nothing")
        self.assertEqual(os.listdir(self.folder), ["msgd.toml"])

    def test_refused(self) -> None:
        """No worker, two of one type, a type of msgd's own, or a database that the other processes do not reach."""
        self.assertRaises(TypeError, application, config=self.config())
        self.assertRaises(ValueError, application, nothing, nothing, config=self.config())
        self.assertRaises(ValueError, application, other_crawl, config=self.config())
        amqp = self.config('[broker]\nurl = "amqp://localhost/"')
        error = self.assertRaises(ConfigError, application, nothing, config=amqp)
        self.assertIn("postgresql://", error.message)
        self.assertRaises(ConfigError, application, nothing, config="/no/such/file")

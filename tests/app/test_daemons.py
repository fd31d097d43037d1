"""The daemons' table, and settings that become parts."""

from __future__ import annotations

import os
from pathlib import Path

from msgspec import Struct
from twisted.application.service import IService, IServiceMaker
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from msgd.app import application
from msgd.app.daemons import Daemon, keys, rules
from msgd.app.service import DaemonService
from msgd.config import Settings, load
from msgd.errors import ConfigError
from msgd.journal.interface import Retention
from msgd.messages.topics import covers, matches
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
        self.assertEqual({maker.tapname for maker in makers}, {"msgd", "recorder", "notifier", "crawler"})
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
        keys(self.settings())
        secret = self.folder / "var" / "secret"
        self.assertEqual(secret.stat().st_mode & 0o777, 0o600)
        before = secret.read_bytes()
        keys(self.settings())
        self.assertEqual(secret.read_bytes(), before)
        open_door = self.settings('[notifier]\nlisten = ["tcp:1:interface=127.0.0.1", "tcp:8080"]')
        error = self.assertRaises(ConfigError, keys, open_door)
        self.assertIn("tcp:8080", error.message)

    def test_given_secret(self) -> None:
        """A secret of the operator's opens any door; one that is missing is not made."""
        file = self.folder / "given"
        text = f'[auth]\nsecret_file = "{file}"\n[notifier]\nlisten = "tcp:8080"'
        self.assertIn(str(file), self.assertRaises(ConfigError, keys, self.settings(text)).where)
        file.write_text("x" * 40)
        keys(self.settings(text))

    def test_not_supported(self) -> None:
        """Keys that nothing reads are refused: to pass them over would leave the door to the secret."""
        for line in ('keys_file = "keys.pem"', 'jwks_url = "https://id.example.com/jwks"'):
            error = self.assertRaises(ConfigError, keys, self.settings(f"[auth]\n{line}"))
            self.assertIn("not supported", error.message)


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

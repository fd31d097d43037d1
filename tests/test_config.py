"""Configuration: defaults, files, environment, and what a wrong key is answered with."""

from __future__ import annotations

import os
import re
import string
import tomllib
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from msgd.config import ConfigError, Crawl, Settings, load, without_password
from msgd.config.settings import FAMILIES, SECTIONS, form_of

SAMPLE = Path(__file__).parent.parent / "etc" / "msgd.toml"


class ConfigCase(SynchronousTestCase):
    """Loads text as a file."""

    def load(self, text: str, **environ: str) -> Settings:
        self.path = self.mktemp()
        Path(self.path).write_text(text, encoding="utf-8")
        return load(self.path, environ)

    def wrong(self, text: str, line: int, *words: str, **environ: str) -> None:
        """Loading ``text`` must fail, naming ``line`` and ``words``."""
        error = self.assertRaises(ConfigError, self.load, text, **environ)
        self.assertEqual(error.where, f"{self.path}:{line}")
        for word in (error.where, *words):
            self.assertIn(word, error.message)


class DefaultsTest(ConfigCase):
    """What holds when nothing is said."""

    def test_nothing_is_needed(self) -> None:
        """Without file and environment everything is embedded, under ./var."""
        found = load(None, {})
        state = os.path.abspath("var")
        self.assertTrue(found.broker.embedded)
        self.assertEqual(found.database.url, f"sqlite:///{state}/msgd.sqlite3")
        self.assertEqual(found.blobs.url, f"file://{state}/blobs")
        self.assertEqual(found.secret_file, f"{state}/secret")
        self.assertFalse(found.auth.configured)
        self.assertEqual(found.notifier.listen, ("tcp:8080:interface=127.0.0.1",))

    def test_job_types_of_others(self) -> None:
        """A job type that the configuration does not name has the defaults; crawl has its own form."""
        found = load(None, {})
        self.assertEqual(found.job("resize").slice, 20)
        self.assertIsInstance(found.job("crawl"), Crawl)
        self.assertTrue(found.crawl.robots)

    def test_file_named_by_environment(self) -> None:
        """MSGD_CONFIG names the file where no argument does."""
        path = self.mktemp()
        Path(path).write_text('[state]\ndir = "/srv/msgd"\n')
        self.assertEqual(load(None, {"MSGD_CONFIG": path}).state.dir, "/srv/msgd")


class FileTest(ConfigCase):
    """What a file can say."""

    def test_one_or_many_urls(self) -> None:
        """A list may be written as its only item."""
        self.assertEqual(self.load('broker.url = "amqp://a/"').broker.url, ("amqp://a/",))
        self.assertEqual(
            self.load('[broker]\nurl = ["amqp://a/", "amqps://b/"]').broker.url, ("amqp://a/", "amqps://b/")
        )

    def test_state_is_interpolated_as_absolute_path(self) -> None:
        """{state} becomes the absolute state folder, so that a later change of directory moves nothing."""
        found = self.load('[state]\ndir = "there"\n[auth]\nsecret_file = "{state}/key"')
        self.assertEqual(found.auth.secret_file, os.path.abspath("there/key"))
        self.assertTrue(found.auth.configured)

    def test_families(self) -> None:
        """Topic patterns and job types each have a section of their own."""
        found = self.load('[topics."room.*"]\nkeep = 10\n[jobs.crawl]\nslice = 5\n[jobs.resize]\nconcurrency = 1')
        self.assertEqual(found.topics["room.*"].keep, 10)
        self.assertEqual(found.crawl.slice, 5.0)
        self.assertEqual((found.job("resize").concurrency, found.job("resize").slice), (1, 20.0))

    def test_sample_has_every_key_at_its_default(self) -> None:
        """etc/msgd.toml names every section and key, each at the value that holds without it."""
        sample = tomllib.loads(SAMPLE.read_text(encoding="utf-8"))
        self.assertEqual(set(sample), {*SECTIONS, *FAMILIES})
        tables: dict[tuple[str, ...], Any] = {(name,): sample[name] for name in SECTIONS}
        tables |= {("topics", name): table for name, table in sample["topics"].items()}
        tables |= {("jobs", name): table for name, table in sample["jobs"].items()}
        for path, table in tables.items():
            defaults = msgspec.structs.asdict(form_of(path)())
            stated = {
                key: (value,) if key in {"url", "listen"} and path[0] in {"broker", "notifier"} else value
                for key, value in table.items()
            }
            stated = {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}
            self.assertEqual(stated, defaults, path)

    def test_sample_loads_as_nothing_at_all(self) -> None:
        """Loading etc/msgd.toml gives the settings that no file gives."""
        sample, nothing = load(SAMPLE, {}), load(None, {})
        for name in SECTIONS:
            self.assertEqual(getattr(sample, name), getattr(nothing, name))
        self.assertEqual(sample.crawl, nothing.crawl)

    def test_sample_explains_every_key(self) -> None:
        """In etc/msgd.toml a comment stands above every key, or above its neighbours."""
        for block in SAMPLE.read_text(encoding="utf-8").split("\n\n"):
            self.assertTrue(block.startswith(("#", "[")), block)
            self.assertIn("#", block)


class WrongFileTest(ConfigCase):
    """What a wrong file is answered with."""

    def test_unknown_key(self) -> None:
        """An unknown key is named with its line and the key that was meant."""
        self.wrong('[broker]\n# here\nurll = "embedded:"', 3, "'urll'", "did you mean 'url'?")

    def test_unknown_section(self) -> None:
        """An unknown section is named with its line and the section that was meant."""
        self.wrong("\n[notifer]", 2, "[notifer]", "did you mean 'notifier'?")

    def test_unknown_word_like_nothing(self) -> None:
        """Where nothing is alike, all that there is is listed."""
        self.wrong("[zzz]", 1, "there are auth, blobs,")

    def test_key_in_inline_and_dotted_tables(self) -> None:
        """Inline tables and dotted keys have lines too."""
        self.wrong("\n[jobs]\ncrawl = {concurency = 3}", 3, "did you mean 'concurrency'?")
        self.wrong("\njobs.crawl.slices = 3", 2, "did you mean 'slice'?")
        self.wrong('[topics."a.*"]\n[topics."b.*"]\nkeeps = 1', 3, "[topics.b.*]", "did you mean 'keep'?")

    def test_wrong_type(self) -> None:
        """A value of the wrong type is named with what is expected."""
        self.wrong("[broker]\nurl = 1", 2, "broker.url: expected list, got int")
        self.wrong('[jobs.crawl]\nrobots = "yes"', 2, "jobs.crawl.robots: expected bool, got str")
        self.wrong("broker = 3", 1, "must be a section")

    def test_out_of_range(self) -> None:
        """A number outside its range is named with the range."""
        self.wrong("[jobs.crawl]\nslice = 0", 2, "expected float > 0")
        self.wrong("[jobs.crawl]\nconcurrency = 0", 2, "expected int >= 1")

    def test_wrong_values(self) -> None:
        """URLs, networks, origins, endpoints and names are checked at once."""
        self.wrong('[broker]\nurl = "http://x/"', 2, "'http://x/' must start with embedded: or amqp://")
        self.wrong('[broker]\nurl = ["embedded:", "amqp://x/"]', 2, "beside other URLs")
        self.wrong("[broker]\nurl = []", 2, "length >= 1")
        self.wrong('[network]\nallow = ["10.0.0.1/8"]', 2, "has host bits set")
        self.wrong('[notifier]\norigins = ["https://x/path"]', 2, "not an origin")
        self.wrong('[notifier]\nlisten = "8080"', 2, "not a Twisted endpoint")
        self.wrong('[topics."a..b"]', 1, "topic pattern")

    def test_bounce_folders(self) -> None:
        """A folder on a server is named without a password, in an address with a user; its file is named too."""
        mail = '[mail]\nbounces = "b@a.example"\nbounce_folder = '
        for folder, said in (
            ("imaps://mail.example/INBOX", "neither a maildir nor imaps://user@host"),
            ("pop3://ann@mail.example", "neither a maildir nor imaps://user@host"),
            ("imaps://ann@mail.example:0/", "neither a maildir nor imaps://user@host"),
            ("imaps://ann@mail.example:x/", "Port could not be cast"),
            ("imaps://ann:secret@mail.example", "bounce_password_file"),
            ("imaps://ann@mail.example/a?b", "%3F"),
            ("imaps://ann@mail.example/a%0d%0aA1 DELETE INBOX", "nobody can see"),
            ("imaps://ann@mail.example/a", "set bounce_password_file"),
        ):
            path = Path(self.mktemp())
            path.write_text(f'{mail}"{folder}"')
            error = self.assertRaises(ConfigError, load, path, {})
            self.assertIn(said, error.message)
            self.assertNotIn("secret", error.message)
        self.load(f'{mail}"imaps://ann@mail.example/a"\nbounce_password_file = "f"\nbounce_done = "Read"')
        self.load(f'{mail}"/var/mail/bounces"')

    def test_no_toml(self) -> None:
        """A syntax error is named with its line, also at the end of the file."""
        self.wrong("[state]\ndir = \n", 2, "not TOML")
        self.wrong("[state]\n\n[bro", 3, "not TOML")

    def test_no_file(self) -> None:
        """A file that is not there, or not text, is named."""
        error = self.assertRaises(ConfigError, load, "/nowhere/msgd.toml", {})
        self.assertIn("cannot read /nowhere/msgd.toml: No such file", error.message)
        path = self.mktemp()
        Path(path).write_bytes(b"[state]\n\xff")
        self.assertIn("not UTF-8", self.assertRaises(ConfigError, load, path, {}).message)

    @given(st.text(string.printable, max_size=80))
    @settings(max_examples=200, deadline=None)
    def test_any_text(self, text: str) -> None:
        """Whatever the file holds, it loads or is a ConfigError that names a line."""
        path = Path("any.toml")
        path.write_text(text, encoding="utf-8")
        try:
            load(path, {})
        except ConfigError as error:
            self.assertRegex(error.where, r"^any\.toml:\d+$")


class EnvironmentTest(ConfigCase):
    """What the environment overrides, and what in it is not ours."""

    def refused(self, *words: str, **environ: str) -> None:
        error = self.assertRaises(ConfigError, load, None, environ)
        self.assertEqual(error.where, next(iter(environ)))
        for word in words:
            self.assertIn(word, error.message)

    def test_overrides(self) -> None:
        """A variable overrides the file's value, with text read as the key's type."""
        found = self.load(
            '[broker]\nurl = "amqp://file/"',
            MSGD_BROKER_URL="amqp://a/, amqp://b/",
            MSGD_JOBS_CRAWL_CONTACT="testbot",
            MSGD_JOBS_CRAWL_ROBOTS="false",
            MSGD_JOBS_SEND_MAIL_SLICE="2.5",
        )
        self.assertEqual(found.broker.url, ("amqp://a/", "amqp://b/"))
        self.assertEqual((found.crawl.contact, found.crawl.robots), ("testbot", False))
        self.assertEqual(found.job("send_mail").slice, 2.5)

    def test_lists(self) -> None:
        """A list may be written as in the file, or with commas alone."""
        for text in ("10.0.0.0/8, 127.0.0.0/8", ' ["10.0.0.0/8", "127.0.0.0/8"]', '["10.0.0.0/8",\n"127.0.0.0/8"]'):
            self.assertEqual(load(None, {"MSGD_NETWORK_ALLOW": text}).network.allow, ("10.0.0.0/8", "127.0.0.0/8"))
        self.assertEqual(load(None, {"MSGD_NETWORK_ALLOW": "[]"}).network.allow, ())
        self.refused("no list as TOML has them", MSGD_NETWORK_ALLOW='["10.0.0.0/8"')
        self.refused("expected str", MSGD_NETWORK_ALLOW="[1]")

    def test_wrong_key(self) -> None:
        """A wrong key or value in a variable is named with the variable."""
        self.refused("did you mean 'url'?", MSGD_BROKER_URLL="x")
        self.refused("expected int", MSGD_JOBS_CRAWL_CONCURRENCY="many")
        self.refused("did you mean MSGD_BROKER_URL?", MSGD_BROKR_URL="x")
        self.refused("topics are set in a file", MSGD_TOPICS_ROOM_KEEP="1")

    def test_foreign_variables(self) -> None:
        """What an orchestrator sets for services of our name, and the command line's own variables, is left alone."""
        load(
            None, {"MSGD_SERVICE_HOST": "x", "MSGD_NOTIFIER_PORT_8080_TCP_ADDR": "x", "MSGD_NOTIFIER_SERVICE_PORT": "1"}
        )
        load(None, {"MSGD_URL": "http://x/", "MSGD_TOKEN": "t", "HOME": "/root"})


class SecretsTest(ConfigCase):
    """Passwords stay out of sight."""

    def test_no_password_in_representations(self) -> None:
        """Neither repr nor rich shows a password, nor does an error about its URL."""
        found = self.load('[broker]\nurl = "amqp://me:hunter2@h/"\n[database]\nurl = "postgresql://me:hunter2@h/db"')
        self.assertNotIn("hunter2", repr(found))
        self.assertIn("amqp://me:***@h/", repr(found))
        self.assertNotIn("hunter2", str(list(found.broker.__rich_repr__())))
        error = self.assertRaises(ConfigError, self.load, '[broker]\nurl = "ampq://me:hunter2@h/"')
        self.assertNotIn("hunter2", error.message)

    def test_without_password(self) -> None:
        """User, host and the rest stay readable."""
        for url, shown in (
            ("amqp://me:a@b@h:5672/v", "amqp://me:***@h:5672/v"),
            ("amqp://h/v", "amqp://h/v"),
            ("postgresql://h/db?user=me&password=s3cret&x=1", "postgresql://h/db?user=me&password=***&x=1"),
        ):
            self.assertEqual(without_password(url), shown)

    @given(st.from_regex(re.compile(r"[!-?A-~]{6,20}", re.ASCII), fullmatch=True))
    @settings(max_examples=200, deadline=None)
    def test_any_password(self, password: str) -> None:
        """No password of printable characters shows, however badly it was quoted."""
        self.assertEqual(without_password(f"amqp://me:{password}@host/"), "amqp://me:***@host/")

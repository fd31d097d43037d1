"""The command as a whole: its help, its exit codes, how fast it starts, whom it talks to as whom."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from click import Context
from joserfc import jwt
from joserfc.jwk import OKPKey
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from msgd import __version__, errors
from msgd.cli.exits import exit_code
from msgd.cli.main import COMMANDS, command
from msgd.cli.server import Server
from msgd.config.endpoints import address
from msgd.notifier.auth.tokens import Algorithms
from tests.cli.deployed import CommandCase, deployment, environment

SLOW = ("twisted.internet.reactor", "treq", "autobahn", "sqlalchemy", "rich", "lxml", "alembic", "txamqp")


class HelpTest(CommandCase):
    """What is told of the commands."""

    def test_table(self) -> None:
        """The table of commands says what they say themselves."""
        context = Context(command)
        for name, (_, summary) in COMMANDS.items():
            one = command.get_command(context, name)
            assert one is not None
            self.assertEqual(one.name, name)
            assert one.help is not None
            self.assertTrue(one.help.replace("\n", " ").startswith(summary.rstrip(".")), f"{name}: {one.help}")

    def test_help(self) -> None:
        """--help and -h list all commands and exit codes; a command without arguments helps as well."""
        out, _ = self.msgd("--help", config=False)
        for name in COMMANDS:
            self.assertRegex(out, rf"(?m)^  {name} +\w")
        self.assertIn("3 the server could not be reached", " ".join(out.split()))
        self.assertLessEqual(max(map(len, out.splitlines())), 100)
        self.assertEqual(self.msgd("-h", config=False)[0], out)
        for name in COMMANDS:
            text = self.msgd(name, "--help", config=False)[0]
            self.assertTrue(text.startswith(f"Usage: msgd {name}"), text)
        self.assertEqual(self.msgd("--version", config=False)[0], f"msgd, version {__version__}\n")

    def test_usage_errors(self) -> None:
        """Wrong usage has exit code 2 and names what is wrong."""
        for arguments, words in (
            (("no-such",), "no-such"),
            (("jobs", "no-such"), "no-such"),
            (("--no-such",), "--no-such"),
        ):
            self.assertIn(words, self.msgd(*arguments, code=2)[1])

    def test_clear_text(self) -> None:
        """A token goes to another machine over http only where one says so; what is wrong is said before anything is
        sent."""
        url = ("--url", "http://msgd.example:8080", "--token", "t0ken")
        err = self.msgd(*url, "jobs", "list", code=2, config=False)[1]
        self.assertIn("in clear text", err)
        self.assertIn("--clear-text", err)
        self.assertNotIn("t0ken", err)
        server = Server(None, url[1], url[3], clear_text=True)
        self.assertEqual(server.client(Clock()).url, url[1])

    def test_light(self) -> None:
        """Help needs nothing that is slow to import, a token only what signs it."""
        for arguments, slow in ((["--help"], (*SLOW, "twisted")), (["token", "--help"], SLOW)):
            script = (
                "import sys\nfrom msgd.cli.main import command\n"
                f"command.main({arguments!r}, standalone_mode=False)\n"
                f"print([name for name in {slow!r} if name in sys.modules], file=sys.stderr)"
            )
            done = subprocess.run(
                [sys.executable, "-c", script],
                env=environment(),
                capture_output=True,
                text=True,
                check=True,
                timeout=180,
            )
            self.assertEqual(done.stderr, "[]\n")


class ServerTest(CommandCase):
    """Whom commands talk to, and as whom."""

    def test_address(self) -> None:
        """The address of the first endpoint, from here."""
        for endpoint, url in (
            ("tcp:8080:interface=127.0.0.1", "http://127.0.0.1:8080"),
            ("tcp:8080", "http://127.0.0.1:8080"),
            ("tcp:port=81:interface=0.0.0.0", "http://127.0.0.1:81"),
            ("ssl:443:privateKey=a.pem:certKey=b.pem", "https://127.0.0.1:443"),
            ("tcp6:8080:interface=\\:\\:1", "http://[::1]:8080"),
            ("tcp:8080:interface=\\:\\:", "http://127.0.0.1:8080"),
            ("tcp:8080:interface=10.1.2.3", "http://10.1.2.3:8080"),
        ):
            self.assertEqual(address(endpoint), url)
        for endpoint in ("unix:/run/msgd/http.sock", "systemd:domain=INET:index=0", "tcp:http"):
            error = self.assertRaises(errors.ConfigError, address, endpoint)
            self.assertIn("--url", error.message)

    def test_environment(self) -> None:
        """MSGD_URL and MSGD_TOKEN stand for --url and --token, MSGD_CONFIG for --config."""
        made = deployment()
        env = environment(MSGD_URL=made.url, MSGD_TOKEN=made.token("newcomer", "submit:none"))
        self.assertIn("no jobs", self.msgd("jobs", "list", config=False, env=env)[1])
        self.msgd("jobs", "list", "--state", "done", config=False, env=environment(MSGD_CONFIG=str(made.config)))

    def test_no_token_for_strangers(self) -> None:
        """Our own secret makes no tokens for a server that is named with --url."""
        _, err = self.msgd("--url", deployment().url, "jobs", "list", code=4)
        self.assertIn("token", err)

    def test_who_is_not_there(self) -> None:
        """A server that cannot be reached is named, with exit code 3."""
        for arguments in (("jobs", "list"), ("crawl", "http://x/"), ("publish", "a", "b"), ("submit", "crawl")):
            _, err = self.msgd("--url", "http://127.0.0.1:1", "--token", "x", *arguments, code=3)
            self.assertRegex(err, r"^msgd: http://127\.0\.0\.1:1 could not be reached: .*refused")
        self.assertIn("rubbish", self.msgd("--url", "rubbish", "jobs", "list", code=2)[1])

    def test_wrong_configuration(self) -> None:
        """A key that there is not is named with its line by every command that reads the configuration."""
        file = Path(self.mktemp()).absolute()
        file.write_text("[notifier]\nlisten = 'tcp:1:interface=127.0.0.1'\norigin = []\n")
        for arguments in (("jobs", "list"), ("token", "--sub", "a", "--can", "admin:#")):
            _, err = self.msgd("--config", str(file), *arguments, code=2, config=False)
            self.assertIn(f"{file}:3", err)
            self.assertIn("origins", err)
        _, err = self.msgd("--config", "/no/such/file", "jobs", "list", code=2, config=False)
        self.assertIn("/no/such/file", err)


class TokenTest(CommandCase):
    """``msgd token``."""

    def test_token(self) -> None:
        """The token and nothing else is printed; it opens what it names, and nothing else, for as long as it says."""
        out, err = self.msgd(
            "token", "--sub", "ann", "--can", "publish:room.*", "--can", "subscribe:room.*", "--ttl", "5m"
        )
        self.assertRegex(out, r"^[\w-]+\.[\w-]+\.[\w-]+\n$")
        self.assertEqual(err, "")
        self.msgd("--token", out.strip(), "publish", "room.a", "said")
        self.msgd("--token", out.strip(), "publish", "app.a", "said", code=4)

    def test_new_secret(self) -> None:
        """Where there was no secret one is made, and whoever is in the wrong folder is told where."""
        folder = Path(self.mktemp()).absolute()
        env = environment(MSGD_STATE_DIR=str(folder))
        given = ("token", "--sub", "ann", "--can", "admin:#")
        out, err = self.msgd(*given, config=False, env=env)
        self.assertRegex(out, r"^[\w-]+\.[\w-]+\.[\w-]+\n$")
        self.assertIn(f"made a secret in {folder}/secret", err)
        self.assertEqual(self.msgd(*given, config=False, env=env)[1], "")

    def test_private_key(self) -> None:
        """With a private key it is signed by that, and says which; the issuer and audience of the configuration are in
        it."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        key, config = folder / "key.pem", folder / "msgd.toml"
        private = OKPKey.generate_key("Ed25519")
        key.write_bytes(private.as_pem(private=True))
        config.write_text('[auth]\njwks_url = "https://id.example.com/jwks"\nissuer = "us"\naudience = "msgd"\n')
        given = ("token", "--sub", "ann", "--can", "admin:#", "--jti", "one")
        out, _ = self.msgd("--config", str(config), *given, "--key", str(key), "--kid", "mine", config=False)
        made = jwt.decode(out.strip(), private, registry=Algorithms(frozenset({"EdDSA"})))
        self.assertEqual(made.header, {"alg": "EdDSA", "typ": "JWT", "kid": "mine"})
        self.assertEqual([made.claims[name] for name in ("sub", "jti", "iss", "aud")], ["ann", "one", "us", "msgd"])
        _, err = self.msgd("--config", str(config), *given, code=2, config=False)
        self.assertIn("--key", err)
        key.write_text("no key")
        self.msgd("--config", str(config), *given, "--key", str(key), code=2, config=False)

    def test_wrong_input(self) -> None:
        """Rights, times and names that no server would take."""
        good = {"--sub": "ann", "--can": "admin:#", "--ttl": "1h"}
        for option, wrong in (("--can", "fly:#"), ("--can", "publish"), ("--can", "publish:a b"), ("--ttl", "soon"),
                              ("--ttl", "0"), ("--ttl", "-1h"), ("--sub", ""), ("--sub", "x" * 100)):  # fmt: skip
            given = [part for pair in {**good, option: wrong}.items() for part in pair]
            out, err = self.msgd("token", *given, code=2)
            self.assertEqual(out, "")
            self.assertTrue(re.search(r"--ttl|right|sub", err), err)
        self.msgd("token", "--sub", "ann", code=2)


class ExitCodeTest(SynchronousTestCase):
    """Errors as exit codes."""

    def test_codes(self) -> None:
        """2: ours to mend; 3: not to be reached; 4: not allowed; 1: the rest."""
        for kind, code in (
            (errors.ConfigError, 2), (errors.InvalidInput, 2), (errors.UnknownType, 2), (errors.NotFound, 2),
            (errors.Conflict, 2), (errors.TooLarge, 2), (errors.Unavailable, 3), (errors.BrokerUnavailable, 3),
            (errors.PeerError, 3), (errors.Overloaded, 3), (errors.Unauthenticated, 4), (errors.TokenExpired, 4),
            (errors.Forbidden, 4), (errors.MsgdError, 1),
        ):  # fmt: skip
            self.assertEqual(exit_code(kind("x")), code, kind)

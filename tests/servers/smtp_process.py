"""The process of :mod:`tests.servers.smtp`."""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import ssl
from pathlib import Path
from typing import Any, Final

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword
from msgspec import Struct

SLOW_S: Final = 0.5
HANGS_S: Final = 3600.0
_SCRIPT: Final = re.compile(
    r"(?P<what>[rd]\d{3}|drop|hang|mid|lost|slow)(?P<enhanced>(?:-\d+){3})?(?:x(?P<times>\d+))?\."
)


class Step(Struct, frozen=True):
    """What to play: r, d, drop, hang, mid, lost, slow, or nothing; and the reply, where there is one."""

    what: str = ""
    reply: str = ""


class Handler:
    """aiosmtpd's events, played as the addresses say."""

    def __init__(self, log: Any, *, pipelining: bool, quick: bool) -> None:
        self._log = log
        self._pipelining = pipelining
        self._quick = quick
        self._played: dict[str, int] = {}

    def _step(self, address: str) -> Step:
        found = _SCRIPT.match(address)
        if found is None:
            return Step()
        self._played[address] = self._played.get(address, 0) + 1
        if self._played[address] > int(found["times"] or 1_000_000):
            return Step()
        what = found["what"]
        enhanced = (found["enhanced"] or "").lstrip("-").replace("-", ".")
        return Step(what[0], f"{what[1:]} {enhanced} {address}") if what[1:].isdigit() else Step(what)

    async def handle_EHLO(self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]) -> Any:
        session.host_name = hostname
        return [*responses[:-1], *(["250-PIPELINING"] if self._pipelining else []), responses[-1]]

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: Any) -> str:
        step = envelope.step = self._step(address)
        if step.what == "r":
            return step.reply
        if step.what == "drop":
            server.transport.close()
        elif step.what == "hang":
            await asyncio.sleep(HANGS_S)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        step: Step = envelope.step
        if step.what == "d":
            return step.reply
        taken = {
            "to": envelope.rcpt_tos[0],
            "sender": envelope.mail_from,
            "options": envelope.mail_options,
            "tls": session.ssl is not None,
            "user": getattr(session, "given_user", ""),
            "peer": session.peer[1],
            "message": "" if self._quick else envelope.original_content.decode("latin-1"),
        }
        self._log.write(json.dumps(taken) + "\n")
        if step.what == "lost":
            server.transport.close()
        elif step.what == "slow":
            await asyncio.sleep(SLOW_S)
        return "250 2.0.0 taken"


class Server(SMTP):
    """One connection."""

    async def smtp_DATA(self, arg: str) -> None:
        if getattr(self.envelope, "step", Step()).what == "mid":
            await self.push("354 go on")
            self.transport.close()  # type: ignore[union-attr]  # it is there while connected
        else:
            await super().smtp_DATA(arg)


class Accounts:
    """The one account there is."""

    def __init__(self, user: str, password: str) -> None:
        self._right = LoginPassword(user.encode(), password.encode())

    def __call__(self, server: Any, session: Any, envelope: Any, mechanism: str, given: Any) -> AuthResult:
        session.given_user = given.login.decode()
        return AuthResult(success=given == self._right, handled=False)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("log", type=Path)
    parser.add_argument("port", type=Path)
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--implicit", action="store_true")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--pipelining", action="store_true")
    parser.add_argument("--utf8", action="store_true")
    parser.add_argument("--quick", action="store_true", help="keep no messages")
    given = parser.parse_args()
    context = None
    if given.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(given.certificate, given.key)
    options: dict[str, Any] = {"enable_SMTPUTF8": given.utf8, "hostname": "smtp.test"}
    if given.user:
        options |= {"authenticator": Accounts(given.user, given.password), "auth_required": True}
        options["auth_require_tls"] = not given.implicit
    if not given.implicit:
        options["tls_context"] = context
    handler = Handler(given.log.open("a", buffering=1), pipelining=given.pipelining, quick=given.quick)

    async def serve() -> None:
        implicit = context if given.implicit else None
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Server(handler, **options), "127.0.0.1", 0, ssl=implicit)
        temporary = given.port.with_suffix(".new")
        temporary.write_text(str(server.sockets[0].getsockname()[1]))
        temporary.rename(given.port)
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()

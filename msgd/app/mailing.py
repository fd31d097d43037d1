"""The mailer out of its settings."""

from __future__ import annotations

import random
import socket
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.threads import deferToThreadPool

from msgd.app.adapters import Adapters
from msgd.config.settings import Mail
from msgd.credentials import password_in, tls_to
from msgd.services.mailer.bounces.imap import ImapFolder
from msgd.services.mailer.bounces.maildir import MaildirFolder
from msgd.services.mailer.bounces.place import Place, is_imap, place
from msgd.services.mailer.bounces.reading import Bounces, Folder, bounce_address
from msgd.services.mailer.bounces.session import Session, open_session
from msgd.services.mailer.judging import Patience
from msgd.services.mailer.maildir import InThread, MaildirWay
from msgd.services.mailer.making_out import Identity
from msgd.services.mailer.pool import CONNECT_S, SmtpWay, server
from msgd.services.mailer.press import Press
from msgd.services.mailer.signature import Signature, read_signature
from msgd.services.mailer.smtp import Login
from msgd.services.mailer.ways import Way
from msgd.services.mailer.worker import Mailer
from msgd.work.parts import Part


def mailer(adapters: Adapters) -> Mailer:
    """The worker of mail jobs. Raises ConfigError."""
    settings = adapters.settings.mail
    return Mailer(
        jobs=adapters.jobs,
        database=adapters.database,
        uploads=adapters.uploads,
        blobs=adapters.blobs,
        way=way(settings, adapters.reactor),
        press=Press(adapters.reactor),
        identity=identity(settings),
        reactor=adapters.reactor,
        clock=adapters.reactor,
        now_ms=adapters.now_ms,
        jitter=random.random,
        rate=settings.rate,
        per_domain=settings.per_domain,
        patience=Patience(settings.defer, settings.give_up),
        signature=_signature(settings),
    )


def bounces(adapters: Adapters) -> list[Part]:
    """The reader of bounces, where a folder of theirs is configured. Raises ConfigError."""
    settings = adapters.settings.mail
    if not settings.bounce_folder:
        return []
    made = Bounces(
        bounce_folder(settings, adapters),
        settings.bounces,
        database=adapters.database,
        jobs=adapters.jobs,
        in_thread=in_thread(adapters.reactor),
        clock=adapters.reactor,
        now_ms=adapters.now_ms,
    )
    return [made]


def bounce_folder(settings: Mail, adapters: Adapters) -> Folder:
    """Where bounces arrive. Raises ConfigError."""
    reactor = adapters.reactor
    if not is_imap(settings.bounce_folder):
        folder = Path(settings.bounce_folder)
        return MaildirFolder(folder, in_thread=in_thread(reactor), clock=reactor, now_ms=adapters.now_ms)
    return ImapFolder(
        bounce_place(settings),
        bounce_session(settings, reactor),
        bounce_address(settings.bounces),
        clock=reactor,
        jitter=random.random,
    )


def bounce_place(settings: Mail) -> Place:
    """The folder on an IMAP server."""
    return place(settings.bounce_folder, starttls=settings.bounce_starttls, done=settings.bounce_done)


def bounce_session(settings: Mail, reactor: Any) -> Callable[[], Awaitable[Session]]:
    """Makes connections to it. The password is read anew for each: whoever puts in the right one need not restart us.
    Raises ConfigError."""
    where = bounce_place(settings)
    tls = tls_to(where.host, ca_file=settings.bounce_ca_file, where="mail.bounce_ca_file")

    async def connect() -> Session:
        password = password_in(settings.bounce_password_file, where="mail.bounce_password_file")
        return await open_session(reactor, where, password, tls)

    return connect


def in_thread(reactor: Any) -> InThread:
    """Calls in the reactor's threads."""
    return partial(deferToThreadPool, reactor, reactor.getThreadPool())


def identity(settings: Mail) -> Identity:
    """Who mails."""
    return Identity(
        sender=settings.sender,
        list_id=settings.list_id,
        unsubscribe=settings.unsubscribe,
        bounces=settings.bounces,
        templates=settings.templates,
    )


def _signature(settings: Mail) -> Signature | None:
    if not settings.dkim_domain:
        return None
    return read_signature(settings.dkim_domain, settings.dkim_selector, settings.dkim_key_file)


def way(settings: Mail, reactor: Any) -> Way:
    """Where mail goes. Raises ConfigError."""
    if settings.smtp.startswith("maildir:"):
        return MaildirWay(Path(settings.smtp.removeprefix("maildir:")), in_thread(reactor))
    target = server(settings.smtp, starttls=settings.starttls, login=_login(settings))
    tls = tls_to(target.host, ca_file=settings.ca_file, where="mail.ca_file")

    def endpoint() -> Any:
        plain: Any = HostnameEndpoint(reactor, target.host, target.port, timeout=CONNECT_S)
        return wrapClientTLS(tls, plain) if target.tls else plain

    return SmtpWay(
        target,
        reactor,
        endpoint=endpoint,
        tls=tls,
        connections=settings.connections,
        identity=settings.hostname or socket.gethostname(),  # asking DNS would block
    )


def _login(settings: Mail) -> Login | None:
    if not settings.user:
        return None
    return Login(settings.user, password_in(settings.password_file, where="mail.password_file"))

"""The messenger's workers, made of what the settings say."""

from __future__ import annotations

import random
from typing import Any

from msgd.app.adapters import Adapters
from msgd.config.settings import Messenger, Xmpp
from msgd.messages.ids import new_id
from msgd.services.messenger.feeds.worker import Feeds
from msgd.services.messenger.webhooks.resealing import Resealing
from msgd.services.messenger.webhooks.sealing import Seal, keys_in
from msgd.services.messenger.webhooks.worker import Webhooks
from msgd.services.messenger.xmpp.account import Account
from msgd.services.messenger.xmpp.login import Login
from msgd.services.messenger.xmpp.people import People
from msgd.services.messenger.xmpp.talk import Talk
from msgd.services.messenger.xmpp.worker import Messages
from msgd.work import Worker
from msgd.work.cancel import cancel
from msgd.work.network import Reach, parse_networks
from msgd.work.parts import Part


def messenger(adapters: Adapters) -> list[Worker[Any]]:
    """The workers of all that is told to others than browsers."""
    settings = adapters.settings
    reach = Reach(parse_networks(settings.network.allow))
    webhook = settings.webhook
    webhooks = Webhooks(
        adapters.reactor,
        reach,
        adapters.jobs,
        answer_s=webhook.timeout,
        at_once=webhook.at_once,
        attempts=webhook.attempts,
        patience_days=webhook.patience,
        seal=seal(settings.messenger),
        now_ms=adapters.now_ms,
    )
    return [webhooks, Feeds(adapters.reactor, reach, now_ms=adapters.now_ms), messages(adapters)]


def seal(settings: Messenger) -> Seal:
    """What secrets are sealed with. Raises ConfigError."""
    return Seal(keys_in(settings.secrets_key_file)) if settings.secrets_key_file else Seal()


def resealing(adapters: Adapters) -> Part:
    """To be started before secrets are used. Raises ConfigError."""
    return Resealing(adapters.database, seal(adapters.settings.messenger))


def messages(adapters: Adapters) -> Worker[Any]:
    """Instant messages, over one connection to the account's server."""
    xmpp, reactor = adapters.settings.xmpp, adapters.reactor
    account = Account(reactor, login(xmpp), jitter=random.random)
    talk = Talk(account, reactor, xmpp.nick)
    people = People(
        account,
        talk,
        adapters.jobs,
        adapters.database,
        people=xmpp.subs,
        subscriptions=xmpp.subscriptions,
        cancel=lambda job: cancel(adapters.jobs, adapters.broker, reactor, job),
        clock=reactor,
        new_id=new_id,
    )
    return Messages(reactor, login(xmpp), account, talk, people)


def login(xmpp: Xmpp) -> Login:
    """The account of ``[xmpp]``."""
    return Login(jid=xmpp.jid, password_file=xmpp.password_file, server=xmpp.server, ca_file=xmpp.ca_file)

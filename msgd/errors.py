"""Every error msgd raises on purpose: one root, each with a code, whether a retry can help, and whose fault it is.

Codes are part of the outer forms: they stand in problem documents, in ``error`` operations, in ``failed`` events and in
dead letters. A message says what was wrong, where, and what to do.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Fault(enum.Enum):
    """Whose mistake an error is: it decides the HTTP status family and whether anyone is woken at night."""

    CALLER = "caller"
    PEER = "peer"
    OURS = "ours"


class MsgdError(Exception):
    """The root of all errors raised on purpose."""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False
    fault: ClassVar[Fault] = Fault.OURS

    def __init__(self, message: str, *, where: str = "", retry_after: float | None = None) -> None:
        """``where``: the field, file or address at fault; ``retry_after``: seconds after which a retry makes sense."""
        super().__init__(message)
        self.message = message
        self.where = where
        self.retry_after = retry_after

    @property
    def reason(self) -> str:
        """Code, place and message in one line, as a dead letter says it: ``invalid-params: params.url: …``."""
        return f"{self.code}: {self.where}: {self.message}" if self.where else f"{self.code}: {self.message}"


# -- what a caller can mend ------------------------------------------------------------------------------------------


class ConfigError(MsgdError):
    """A configuration that cannot be used; ``where`` is ``file:line`` or the environment variable."""

    code = "config"
    fault = Fault.CALLER


class InvalidInput(MsgdError):
    """Input that does not fit its form; ``where`` names the field (``params.match[0].regex``)."""

    code = "invalid"
    fault = Fault.CALLER


class InvalidTopic(InvalidInput):
    """A topic or pattern that breaks the naming rules."""

    code = "invalid-topic"


class InvalidCursor(InvalidInput):
    """A cursor that is not of the form ``<epoch>-<pos>``."""

    code = "invalid-cursor"


class InvalidParams(InvalidInput):
    """Job parameters that the job's type does not accept."""

    code = "invalid-params"


class UnknownType(InvalidInput):
    """A job type that no worker has announced."""

    code = "unknown-type"


class NotJson(InvalidInput):
    """A body that is not UTF-8 JSON."""

    code = "not-json"


class TooLarge(InvalidInput):
    """A body over its limit."""

    code = "too-large"


class Unauthenticated(MsgdError):
    """No token, or one that cannot be trusted."""

    code = "unauthenticated"
    fault = Fault.CALLER


class TokenExpired(Unauthenticated):
    """A token past its ``exp``."""

    code = "token-expired"


class TokenRevoked(Unauthenticated):
    """A token taken back before its ``exp``."""

    code = "token-revoked"


class Forbidden(MsgdError):
    """A known principal that lacks the right."""

    code = "forbidden"
    fault = Fault.CALLER


class NotFound(MsgdError):
    """Something asked for by name that is not there (or not the asker's to see)."""

    code = "not-found"
    fault = Fault.CALLER


class Gone(MsgdError):
    """Something that was to come and will not, or that was here and is no more."""

    code = "gone"
    fault = Fault.CALLER


class Conflict(MsgdError):
    """A request that the present state does not allow, such as running an unfinished job again."""

    code = "conflict"
    fault = Fault.CALLER


class RateLimited(MsgdError):
    """Too many requests of one principal; ``retry_after`` says when the next is welcome."""

    code = "rate-limited"
    retryable = True
    fault = Fault.CALLER


# -- what passes ------------------------------------------------------------------------------------------------------


class Unavailable(MsgdError):
    """Something needed is not there right now; nothing was changed, or a repeat is harmless."""

    code = "unavailable"
    retryable = True
    fault = Fault.PEER


class BrokerUnavailable(Unavailable):
    """Not connected to a broker, or the connection was lost before the broker took responsibility.

    The message may or may not have arrived: publish it again under the same id.
    """

    code = "broker-unavailable"


class BrokerRefused(Unavailable):
    """The broker answered a publish with ``basic.nack``: it could not take responsibility."""

    code = "broker-refused"


class DatabaseUnavailable(Unavailable):
    """The database did not answer, or gave up the transaction for a reason that passes."""

    code = "database-unavailable"


class Overloaded(Unavailable):
    """A limit of ours is reached (recorder lag, disk full): said at the door with ``Retry-After``."""

    code = "overloaded"
    fault = Fault.OURS


class StorageUnavailable(Unavailable):
    """The storage of blobs did not answer, or refused for a reason that may pass."""

    code = "storage-unavailable"


class StorageFull(Overloaded):
    """No room is left where blobs are stored; nothing was kept of what came."""

    code = "storage-full"


class PeerError(MsgdError):
    """A host that we called answered wrongly or not at all."""

    code = "peer"
    retryable = True
    fault = Fault.PEER


# -- what ends one attempt and no more --------------------------------------------------------------------------------


class Unroutable(MsgdError):
    """A mandatory message that no queue took (AMQP ``basic.return``)."""

    code = "unroutable"


class AddressRefused(MsgdError):
    """An address outside the networks that may be reached; ``where`` is the URL."""

    code = "address-refused"
    fault = Fault.CALLER


class Superseded(MsgdError):
    """The claim is no longer current: another worker has the job, or it ended. Stop, publish nothing."""

    code = "superseded"


class LeaseLost(MsgdError):
    """Another recorder holds the journal's lease. Stop, acknowledge nothing."""

    code = "lease-lost"


class Poison(MsgdError):
    """A slice that took its worker down too often; kept as a dead letter."""

    code = "poison"

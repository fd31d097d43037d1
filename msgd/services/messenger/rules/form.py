"""What somebody may write into a rule, checked to the bottom."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from msgd.errors import InvalidInput, InvalidTopic
from msgd.messages import json
from msgd.messages.limits import TYPE_BYTES
from msgd.messages.topics import check_pattern
from msgd.services.messenger.rules.acting import Shown, job_params
from msgd.services.messenger.rules.rule import WEBHOOK, Rule
from msgd.services.messenger.rules.template import condition, template
from msgd.work.interface import JobType

PATTERNS: Final = 16
TARGETS: Final = 20
"""To whom one rule tells an event; whoever wants more has a list or a room for it."""

DIGEST_MOST_S: Final = 86_400.0
DIGEST_LEAST_S: Final = 5.0
"""Below it a digest is one event."""

HOURLY_MOST: Final = 3600
"""One a second, for long: what is more is no notification."""

_Line = Annotated[str, Meta(max_length=1000)]
_Texts = Annotated[list[Annotated[str, Meta(min_length=1, max_length=3000)]], Meta(min_length=1, max_length=TARGETS)]


class RuleForm(Struct, kw_only=True, forbid_unknown_fields=True):
    """A whole rule, as it is made."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    topics: Annotated[list[str], Meta(min_length=1, max_length=PATTERNS)]
    types: Annotated[list[str], Meta(max_length=PATTERNS)] = []
    condition: _Line = ""
    action: Literal["mail", "message", "webhook"]
    to: _Texts
    subject: _Line = ""
    text: str = ""
    digest: Annotated[float, Meta(ge=0, le=DIGEST_MOST_S)] = 0.0
    hourly: Annotated[int, Meta(ge=1, le=HOURLY_MOST)] = 60
    enabled: bool = True

    def check(self, types: Mapping[str, JobType[Any]]) -> None:
        """Raises InvalidInput naming the field; ``types``: the job types whose params are known here."""
        if not self.name.strip():
            raise InvalidInput("a name cannot be empty", where="name")
        for number, topic in enumerate(self.topics):
            try:
                check_pattern(topic)
            except InvalidTopic as error:
                raise InvalidTopic(error.message, where=f"topics[{number}]") from None
        for number, type_ in enumerate(self.types):
            if not 0 < len(type_.encode("utf-8", "surrogatepass")) <= TYPE_BYTES:
                raise InvalidInput(f"an event type has 1 to {TYPE_BYTES} bytes", where=f"types[{number}]")
        for name in ("name", "condition", "subject", "text"):
            if not _storable(getattr(self, name)):
                raise InvalidInput("it holds a character that cannot be kept", where=name)
        if self.condition:
            condition(self.condition, "condition")
        template(self.subject, "subject")
        template(self.text, "text")
        if 0 < self.digest < DIGEST_LEAST_S:
            raise InvalidInput(f"0 (none), or {DIGEST_LEAST_S:g} to {DIGEST_MOST_S:g} seconds", where="digest")
        self._check_targets(types)

    def _check_targets(self, types: Mapping[str, JobType[Any]]) -> None:
        if self.action == WEBHOOK and len(self.to) > 1:
            raise InvalidInput("one endpoint or URL: make a rule for each", where="to[1]")
        if not all(map(_storable, self.to)):
            raise InvalidInput("it holds a character that cannot be kept", where="to")
        known = types.get(self.action)
        if known is None:
            raise InvalidInput(f"nobody here performs {self.action!r} jobs", where="action")
        sample = Shown("subject", "text", {"type": "test", "topic": "test"}, ())
        for params in job_params(self.action, tuple(self.to), sample, rule="", name=self.name):
            try:
                known.decode(json.encode(params))
            except InvalidInput as error:
                raise InvalidInput(error.message, where="to") from None


class RuleChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """Fields of a rule that are to be other ones; what is left out stays."""

    name: str | UnsetType = UNSET
    topics: list[str] | UnsetType = UNSET
    types: list[str] | UnsetType = UNSET
    condition: str | UnsetType = UNSET
    action: str | UnsetType = UNSET
    to: list[str] | UnsetType = UNSET
    subject: str | UnsetType = UNSET
    text: str | UnsetType = UNSET
    digest: float | UnsetType = UNSET
    hourly: int | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET

    @property
    def given(self) -> dict[str, Any]:
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not UNSET}


def changed_form(rule: Rule, change: RuleChange) -> RuleForm:
    """The whole form after a change; raises InvalidInput naming the field."""
    return json.decode(json.encode(form_of(rule) | change.given), RuleForm, where="body")


def form_of(rule: Rule) -> dict[str, Any]:
    """The fields of a stored rule, as a form has them."""
    names = [name for name in RuleForm.__struct_fields__ if name != "digest"]
    values: dict[str, Any] = msgspec.to_builtins({name: getattr(rule, name) for name in names})
    return values | {"digest": rule.digest_s}


def _storable(text: str) -> bool:
    """Whether databases and JSON can hold it."""
    return "\0" not in text and text.encode("utf-8", "replace").decode() == text

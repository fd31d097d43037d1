"""The AMQP 0-9-1 specification in txAMQP's form, made from pamqp's table of commands.

txAMQP's wheel ships no specification file. pamqp's table is generated from RabbitMQ's own, with its extensions:
confirms, nack, the server's consumer-cancel, connection.blocked and exchange bindings.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from pamqp import base, commands, constants
from txamqp.spec import Class, Constant, Field, Method, Spec

MAJOR: Final = 0
MINOR: Final = 9

CONTENT: Final = frozenset({"Basic.Publish", "Basic.Return", "Basic.Deliver", "Basic.GetOk"})
"""The methods that a content header and body follow (AMQP 0-9-1 §1.8.3)."""

_CONSTANTS: Final = {
    "frame-method": constants.FRAME_METHOD,
    "frame-header": constants.FRAME_HEADER,
    "frame-body": constants.FRAME_BODY,
    "frame-heartbeat": constants.FRAME_HEARTBEAT,
    "frame-end": constants.FRAME_END,
}


@lru_cache(maxsize=1)
def specification() -> Spec:
    """The specification; made once, it is never changed."""
    spec = Spec(MAJOR, MINOR, "pamqp.commands")
    for name, number in _CONSTANTS.items():
        spec.constants.add(Constant(spec, name, number, None, []))
    table: dict[int, type[base.Frame]] = commands.INDEX_MAPPING
    for index, command in table.items():
        class_name, method_name = command.name.split(".")
        klass = _class(spec, class_name.lower(), index >> 16)
        method = Method(
            klass,
            _hyphened(method_name),
            index & 0xFFFF,
            command.name in CONTENT,
            [_hyphened(name.split(".")[1]) for name in command.valid_responses],
            command.synchronous,
            command.name,
            [],
        )
        _add_fields(method, command)
        klass.methods.add(method)
    for klass in spec.classes:
        for method in klass.methods:
            method.responses = [klass.methods.byname[name] for name in method.responses]
            for response in method.responses:
                response.response = True
    spec.post_load()
    return spec


def _class(spec: Spec, name: str, number: int) -> Class:
    found = spec.classes.byname.get(name)
    if found is None:
        found = Class(spec, name, number, "", [])
        if name == "basic":
            _add_fields(found, commands.Basic.Properties)
        spec.classes.add(found)
    return found


def _add_fields(owner: Class | Method, data: type[base._AMQData]) -> None:
    for number, name in enumerate(data.attributes()):
        owner.fields.add(Field(_field_name(name), number, data.amqp_type(name), []))


def _field_name(name: str) -> str:
    if name in ("message_type", "exchange_type"):
        return "type"  # pamqp avoids the word
    return name.rstrip("_").replace("_", "-")


def _hyphened(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()

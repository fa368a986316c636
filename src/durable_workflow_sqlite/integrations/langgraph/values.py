"""Values of graphs as plain JSON data, as the history of a workflow holds them, and back."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any, Final, cast

from langchain_core.messages import (
    BaseMessage,
    convert_to_messages,
    message_to_dict,
    messages_from_dict,
)
from langgraph.checkpoint.serde.base import SerializerProtocol
from langgraph.types import Command, Send

_MESSAGE: Final = "$message"
_SEND: Final = "$send"
_COMMAND: Final = "$command"
_TUPLE: Final = "$tuple"
_DICT: Final = "$dict"
_BYTES: Final = "$bytes"


def to_plain(value: Any, serde: SerializerProtocol) -> Any:
    """A value as plain JSON data. Raises what the serializer raises for what it cannot write.

    Plain data stays as it is, and messages are readable. Anything else is bytes of the serializer.
    """
    return _plain(value, lambda one: _as_bytes(one, serde))


def from_plain(data: Any, serde: SerializerProtocol) -> Any:
    """The value that `to_plain` has written."""
    if isinstance(data, list):
        return [from_plain(one, serde) for one in cast("Any", data)]
    if not isinstance(data, dict):
        return data
    if len(cast("dict[str, Any]", data)) == 1:
        ((key, inner),) = cast("dict[str, Any]", data).items()
        if key == _MESSAGE:
            return messages_from_dict([inner])[0]
        if key == _SEND:
            return Send(inner[0], from_plain(inner[1], serde))
        if key == _COMMAND:
            return Command(**{name: from_plain(one, serde) for name, one in inner.items()})
        if key == _TUPLE:
            return tuple(from_plain(one, serde) for one in inner)
        if key == _DICT:
            return {name: from_plain(one, serde) for name, one in inner}
        if key == _BYTES:
            return serde.loads_typed((inner[0], base64.b64decode(inner[1])))
    return {key: from_plain(one, serde) for key, one in cast("dict[str, Any]", data).items()}


def to_compare(value: Any, serde: SerializerProtocol) -> Any:
    """As `to_plain`, for a fingerprint: of what cannot be written, only the class is told."""

    def told(one: Any) -> Any:
        if isinstance(one, set | frozenset):  # its order is another one in each process
            parts = [repr(_plain(part, told)) for part in cast("set[Any]", one)]
            return ["$set", sorted(parts)]
        try:
            return _as_bytes(one, serde)
        except Exception:  # noqa: BLE001 - whatever a serializer raises
            kind = _class(one)
            return ["$object", f"{kind.__module__}.{kind.__qualname__}"]

    return _plain(value, told)


def with_own_containers(value: Any) -> Any:
    """The same with lists, dicts, sets and messages of its own: who changes them, changes no state.

    What a node does to its input is not done again by a replay.
    """
    kind = _class(value)
    if kind is dict:
        return {key: with_own_containers(one) for key, one in value.items()}
    if kind is list:
        return [with_own_containers(one) for one in value]
    if kind is tuple:
        return tuple(with_own_containers(one) for one in value)
    if kind is set:
        return {*value}
    return value.model_copy() if isinstance(value, BaseMessage) else value


def with_message_ids(value: Any, new_id: Callable[[], str]) -> Any:
    """What is written to a channel of messages, as messages that all have an id.

    Without one, the channel would give them ids itself: others on each replay.
    """
    if not isinstance(value, list | str | tuple | dict | BaseMessage):
        return value
    given: Any = [value] if not isinstance(value, list) else cast("Any", value)
    messages = convert_to_messages(given)
    for number, message in enumerate(messages):
        if not message.id:
            messages[number] = message.model_copy(update={"id": new_id()})
    return messages


def _plain(value: Any, of_others: Callable[[Any], Any]) -> Any:
    kind = _class(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float and math.isfinite(value):
        return value
    if kind is list:
        return [_plain(one, of_others) for one in value]
    if kind is tuple:
        return {_TUPLE: [_plain(one, of_others) for one in value]}
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: _plain(one, of_others) for key, one in value.items()}
        if all(type(key) in (str, int, bool, type(None)) for key in value):
            return {_DICT: [[key, _plain(one, of_others)] for key, one in value.items()]}
    if kind is Send:
        return {_SEND: [value.node, _plain(value.arg, of_others)]}
    if kind is Command:
        parts = {name: getattr(value, name) for name in ("graph", "update", "resume", "goto")}
        return {_COMMAND: {name: _plain(one, of_others) for name, one in parts.items()}}
    if isinstance(value, BaseMessage) and (readable := _readable(value)) is not None:
        return {_MESSAGE: readable}
    return of_others(value)


def _readable(message: BaseMessage) -> Any:
    """A message as a dict, if that is plain data and all of the message."""
    told = message_to_dict(message)
    try:
        if _is_json(told) and messages_from_dict([told])[0] == message:
            return told
    except Exception:  # noqa: BLE001 - a class of the user's that langchain does not know
        pass
    return None


def _is_json(value: Any) -> bool:
    kind = _class(value)
    if value is None or kind in (bool, int, str):
        return True
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return all(_is_json(one) for one in value)
    return kind is dict and all(type(key) is str and _is_json(value[key]) for key in value)


def _class(value: Any) -> Any:
    return cast("Any", type(value))


def _as_bytes(value: Any, serde: SerializerProtocol) -> Any:
    type_, written = serde.dumps_typed(value)
    return {_BYTES: [type_, base64.b64encode(written).decode()]}

"""Errors to what is stored of them, and back."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any, Final, cast

import msgspec

from durable_workflow_sqlite.errors import DurableWorkflowError

MAX_ERROR_LENGTH: Final = 1000
MAX_PARTS_LENGTH: Final = 10_000

ErrorFormatter = Callable[[BaseException], str]

_log = logging.getLogger("durable_workflow_sqlite.engine")


def default_error_formatter(error: BaseException) -> str:
    """The error's text, or its class where it has none, cut at 1,000 characters."""
    text = str(error) or type(error).__qualname__
    return text if len(text) <= MAX_ERROR_LENGTH else text[: MAX_ERROR_LENGTH - 1] + "…"


def checked(format_error: ErrorFormatter) -> ErrorFormatter:
    """A formatter that gives the name of the error's class where the given one fails."""

    def format_or_name(error: BaseException) -> str:
        try:
            text = format_error(error)
            if isinstance(text, str):
                # Half a surrogate pair, as in a file's name, cannot be stored.
                return text.encode(errors="backslashreplace").decode()
            _log.error("the error formatter gave %r, which is no text", text)
        except (Exception, asyncio.CancelledError):  # noqa: BLE001 - whatever a formatter does
            _log.exception("the error formatter failed")
        # Never the text of the error itself: the formatter may be there to redact it.
        return type(error).__qualname__

    return format_or_name


def as_text(error: BaseException, format_error: ErrorFormatter) -> str:
    """An error in one text: the name of its class, and what the formatter makes of it."""
    name, text = type(error).__qualname__, format_error(error)
    return name if text in ("", name) else f"{name}: {text}"


def error_type(error: BaseException) -> str:
    """`module:name` of an error's class."""
    return f"{type(error).__module__}:{type(error).__qualname__}"


def in_words(type_: str | None, message: str | None) -> str:
    """What was stored of an error, for people: many a text says little without its class.

    An error of this library says in its text what it is.
    """
    module, _, name = (type_ or "").partition(":")
    if not name or name == message or module == DurableWorkflowError.__module__:
        return message or name
    return f"{name}: {message}"


def parts(error: Exception) -> str | None:
    """What `rebuild` makes an equal error of: its type, arguments, text and attributes, as JSON.

    None if that cannot be: its class is not to be found by name, or it holds what is no plain data.
    """
    try:
        taken_apart = _take_apart(error)
        text = msgspec.json.encode(taken_apart).decode()
        again = _put_together(msgspec.json.decode(text))
        is_equal = _take_apart(again) == taken_apart and str(again) == str(error)
    except Exception:  # noqa: BLE001 - whatever a class of the user does
        return None
    return text if is_equal and len(text) <= MAX_PARTS_LENGTH else None


def rebuild(type_: str | None, message: str | None, parts: str | None = None) -> Exception | None:
    """The error that was stored, if its class is found among the loaded modules, else None.

    Without its `parts`, only the class and the message are kept.
    """
    if parts is not None:
        with contextlib.suppress(Exception):  # not what `parts` wrote, or the class has changed
            return _put_together(msgspec.json.decode(parts))
    found = _find(type_ or "")
    if found is None:
        return None
    arguments = () if message is None else (message,)
    try:
        if issubclass(found, DurableWorkflowError):
            return found(*arguments)
        # Not by __init__, which may want other arguments than a message.
        error = found.__new__(found, *arguments)
        error.args = arguments
        str(error)
    except Exception:  # noqa: BLE001 - whatever a class of the user does
        return None
    return error


def _find(type_: str) -> type[Exception] | None:
    module_name, _, name = type_.partition(":")
    found: object = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found if isinstance(found, type) and issubclass(found, Exception) else None


def _take_apart(error: Exception) -> dict[str, Any]:
    """As pickle does, into plain data."""
    reduced = error.__reduce_ex__(2)
    kind = type(error)
    if isinstance(reduced, str) or reduced[0] is not kind or _find(error_type(error)) is not kind:
        raise TypeError(f"a {kind.__qualname__} cannot be made again by its class")
    _, arguments, *state = reduced
    return {
        "type": error_type(error),
        "args": [_to_plain(one) for one in arguments],
        "state": _to_plain(state[0] if state else None),
    }


def _put_together(taken_apart: dict[str, Any]) -> Exception:
    found = _find(taken_apart["type"])
    if found is None:
        raise TypeError(f"{taken_apart['type']} is not to be found")
    arguments = [_from_plain(one) for one in taken_apart["args"]]
    error = found.__new__(found, *arguments)
    # Not by an __init__ in Python, which may want other arguments and do other things.
    builtin = next(
        kind
        for kind in found.__mro__
        if "__init__" in vars(kind) and not isinstance(vars(kind)["__init__"], FunctionType)
    )
    builtin.__init__(error, *arguments)  # type: ignore[misc]
    state = _from_plain(taken_apart["state"])
    if state is not None:
        error.__setstate__(state)
    return error


def _to_plain(value: object) -> Any:
    name = type(value).__qualname__
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) is list:
        return list(map(_to_plain, cast("list[object]", value)))
    if type(value) is tuple:
        return {"tuple": list(map(_to_plain, cast("tuple[object, ...]", value)))}
    if type(value) is bytes:
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, Exception):
        return {"error": _take_apart(value)}
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        if items.__class__ is dict and all(type(key) is str for key in items):
            return {"dict": {key: _to_plain(one) for key, one in items.items()}}
    raise TypeError(f"a {name} is no plain data")


def _from_plain(value: object) -> Any:
    if isinstance(value, list):
        return list(map(_from_plain, cast("list[object]", value)))
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = cast("dict[str, Any]", value).items()
    match kind:
        case "tuple":
            return tuple(map(_from_plain, inner))
        case "dict":
            return {key: _from_plain(one) for key, one in inner.items()}
        case "bytes":
            return base64.b64decode(inner)
        case _:
            return _put_together(inner)

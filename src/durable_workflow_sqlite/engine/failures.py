"""Errors to what is stored of them, and back."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Final

from durable_workflow_sqlite.errors import DurableWorkflowError

MAX_ERROR_LENGTH: Final = 1000

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
        except Exception:  # noqa: BLE001 - whatever a formatter of the user does
            _log.exception("the error formatter failed")
        # Never the text of the error itself: the formatter may be there to redact it.
        return type(error).__qualname__

    return format_or_name


def error_type(error: BaseException) -> str:
    """`module:name` of an error's class."""
    return f"{type(error).__module__}:{type(error).__qualname__}"


def rebuild(type_: str | None, message: str | None) -> Exception | None:
    """The error that was stored, if its class is found among the loaded modules, else None.

    Only the class and the message are kept; other attributes of the first error are not.
    """
    module_name, _, name = (type_ or "").partition(":")
    found: object = sys.modules.get(module_name)
    for part in name.split("."):
        found = getattr(found, part, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
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

"""Errors to what is stored of them, and back."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, cast

from durable_workflow_sqlite.errors import DurableWorkflowError
from durable_workflow_sqlite.payload_codec import ENCODED

MAX_ERROR_LENGTH: Final = 1000

MAX_OWN_LENGTH: Final = 10_000
"""Of an error of this library: it names ids, steps and what to do, and all of that is needed."""

MOST_OF_A_GROUP: Final = 3
"""How many errors of a group its text names."""

ErrorFormatter = Callable[[BaseException], str]

_log = logging.getLogger("durable_workflow_sqlite.engine")


def default_error_formatter(error: BaseException) -> str:
    """The error's text, or its class where it has none, cut at 1,000 characters.

    Of a group, also class and text of the first three errors in it. An error of this library is
    cut at 10,000.
    """
    text = _text(error)
    if isinstance(error, BaseExceptionGroup):
        within = leaves(cast("BaseExceptionGroup[BaseException]", error))
        named = [as_text(one, _text) for one in islice(within, MOST_OF_A_GROUP)]
        more = sum(1 for _ in within)
        text += ": " + ", ".join(named) + (f", and {more} more" if more else "")
    most = MAX_OWN_LENGTH if isinstance(error, DurableWorkflowError) else MAX_ERROR_LENGTH
    return text if len(text) <= most else text[: most - 1] + "…"


def _text(error: BaseException) -> str:
    return str(error) or type(error).__qualname__


def leaves(error: BaseException) -> Iterator[BaseException]:
    """An error, or all that are in a group of them."""
    if isinstance(error, BaseExceptionGroup):
        for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from leaves(one)
    else:
        yield error


def checked(format_error: ErrorFormatter) -> ErrorFormatter:
    """A formatter that gives the name of the error's class where the given one fails."""

    def format_or_name(error: BaseException) -> str:
        try:
            text = format_error(error)
            if isinstance(text, str):
                # Half a surrogate pair, as in a file's name, cannot be stored; on PostgreSQL, a
                # NUL cannot.
                text = text.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
                # So that no text of a user looks like one that a codec has encoded.
                return f" {text}" if text.startswith(ENCODED) else text
            _log.error("the error formatter returned %r, which is not a string", text)
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever a formatter does
            _log.exception("the error formatter failed")
        # Never the text of the error itself: the formatter may be there to redact it.
        return type(error).__qualname__

    return format_or_name


def as_text(error: BaseException, format_error: ErrorFormatter) -> str:
    """An error in one text: the name of its class, and what the formatter makes of it."""
    name, text = type(error).__qualname__, format_error(error)
    return name if text in ("", name) else f"{name}: {text}"


def is_of_a_function(error: BaseException) -> bool:
    """Whether it is an Exception, or what Python raises to end something; or a group of those."""
    kinds = (Exception, asyncio.CancelledError, SystemExit, GeneratorExit)
    return all(isinstance(one, kinds) for one in leaves(error))


def ends_the_program(error: BaseException) -> bool:
    """Whether it is a Ctrl-C, or a group with one in it: that is for nobody here to handle."""
    return any(isinstance(one, KeyboardInterrupt) for one in leaves(error))


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

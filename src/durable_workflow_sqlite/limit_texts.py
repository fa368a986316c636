"""Limits as people write them, in a command and in a form: a number, a rate as 100/60, or none."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from durable_workflow_sqlite.limits import Rate

NONE: Final = "none"

NUMBERS: Final = ("concurrency", "per_worker", "per_key")
RATES: Final = ("rate", "key_rate")


def read(texts: Mapping[str, str], option: str = "--{}") -> dict[str, int | Rate | None]:
    """The limits of these texts, by their names. option: how the message names one.

    Raises ValueError.
    """
    return {
        what: None
        if text == NONE
        else _rate(_named(option, what), text)
        if what in RATES
        else _number(_named(option, what), text)
        for what, text in texts.items()
    }


def _named(option: str, what: str) -> str:
    return option.format(what.replace("_", "-"))


def _number(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) < 2**63:
        raise ValueError(f"{option} must be a number of 1 or more, or none, and not {text!r}")
    return int(text)


def _rate(option: str, text: str) -> Rate:
    number, _, seconds = text.partition("/")
    try:
        return Rate(int(number), timedelta(seconds=float(seconds)))
    except (ValueError, OverflowError):
        raise ValueError(
            f"{option} must be a number and seconds, as 100/60, or none, and not {text!r}"
        ) from None

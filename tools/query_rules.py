"""What SQLite would run and no query here may do: lose rows that nobody meant, or ask the time."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

_TIMES = frozenset({"current_timestamp", "current_date", "current_time"})
_TIME_FUNCTIONS = frozenset(
    {"date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff"}
)
_NOW = re.compile(r"""(['"])(now|subsec|subsecond)\1""")
"""What stands for the time there is, where a time is asked for."""


class Word(NamedTuple):
    """A token of a statement, and the line of the file that it stands in."""

    line: int
    text: str

    def lower(self) -> Word:
        return Word(self.line, self.text.lower())


class Problem(NamedTuple):
    line: int
    message: str


def problems(words: Sequence[Word]) -> Iterator[Problem]:
    """What breaks the rules in a statement, given in lower case and without its comments."""
    yield from _replaced_rows(words)
    yield from _own_clock(words)
    yield from _all_rows(words)


def _replaced_rows(words: Sequence[Word]) -> Iterator[Problem]:
    for word, after in _pairs(words):
        if (word.text, after) in (("insert", "or"), ("update", "or"), ("replace", "into")):
            yield Problem(
                word.line,
                f"`{word.text} {after}` deletes rows and what refers to them, or passes over"
                " errors, and checks no claim; write `on conflict (...) do update set ...`",
            )


def _own_clock(words: Sequence[Word]) -> Iterator[Problem]:
    for position, (word, after) in enumerate(_pairs(words)):
        if word.text in _TIMES or (
            word.text in _TIME_FUNCTIONS
            and after == "("
            and _asks_the_time(word.text, words[position + 2 :])
        ):
            yield Problem(
                word.line,
                f"`{word.text}` asks SQLite's own clock here; take the time as a parameter, from"
                " the engine's clock",
            )


def _asks_the_time(function: str, words: Sequence[Word]) -> bool:
    """Whether a call, given from its first argument on, has 'now' for a time, or leaves it out."""
    arguments: list[list[str]] = [[]]
    depth = 0
    for word in words:
        depth += {"(": 1, ")": -1}.get(word.text, 0)
        if depth < 0:
            break
        if word.text == "," and depth == 0:
            arguments.append([])
        else:
            arguments[-1].append(word.text)
    times = arguments[1:] if function == "strftime" else arguments
    if not times or not times[0]:
        return True
    if function != "timediff":
        times = times[:1]  # what follows changes it
    return any(_NOW.fullmatch(text) for time in times for text in time)


def _all_rows(words: Sequence[Word]) -> Iterator[Problem]:
    depth = 0
    verb: Word | None = None
    before = ""
    for word, after in _pairs(words):
        depth += {"(": 1, ")": -1}.get(word.text, 0)
        if depth == 0:
            if (word.text == "delete" and after == "from") or (
                # Not that of `on conflict ... do update`, nor of `for update`.
                word.text == "update" and before not in ("do", "for", "key")
            ):
                verb = word
            elif word.text == "where":
                verb = None
        before = word.text
    if verb is not None:
        yield Problem(
            verb.line,
            f"`{verb.text}` without `where` is of every row; write `where true` if that is meant",
        )


def _pairs(words: Sequence[Word]) -> Iterator[tuple[Word, str]]:
    """Each word, and the text of the next one."""
    for position, word in enumerate(words):
        yield word, words[position + 1].text if position + 1 < len(words) else ""

"""Refuses a value that its column never has, and a list of values that sql/lists.sql does not have.

Which values a column may have is what its check `COLUMN_is_known` says. A text that begins as the
library's own signals do must be one of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from list_file import Lists
from query_rules import Problem, Word

_KNOWN = re.compile(r"constraint (\w+)_is_known check \(([^()]*)\)")
_VALUE = re.compile(r"'(\w+)'")
_SCOPE = frozenset({"select", "with", "values"})

SIGNALS = ("$cancel", "$child:", "$mended", "$paused", "$resolved", "$answer:")
"""The names of the library's own signals, or how they begin."""

_OWN_SIGNAL = re.compile(r"'(\$\w.*?)\*?'")

Column = tuple[str, str]
"""A table and a column of it."""


def known_values(table: str, sql: str) -> dict[Column, tuple[str, ...]]:
    """What the checks of a table, given by its `create table`, let its columns have."""
    return {
        (table, column): tuple(_VALUE.findall(check))
        for column, check in _KNOWN.findall(" ".join(sql.split()))
    }


@dataclass
class _Scope:
    """A select, or a write: which tables its names stand for."""

    outer: _Scope | None
    tables: dict[str, set[str]] = field(default_factory=dict[str, set[str]])

    def column(
        self, qualifier: str | None, name: str, sources: Mapping[Column, Column]
    ) -> set[Column]:
        """What a name may stand for: columns of tables that have known values."""
        if qualifier is not None:
            tables = self.tables.get(qualifier)
            found = {sources[table, name] for table in tables or () if (table, name) in sources}
            return (
                found if tables or not self.outer else self.outer.column(qualifier, name, sources)
            )
        all_here = set[str]().union(*self.tables.values())
        found = {sources[table, name] for table in all_here if (table, name) in sources}
        return found or (self.outer.column(None, name, sources) if self.outer else set())


class Values:
    """known: the values of a column. sources: the column that a column of a table or view is."""

    def __init__(
        self,
        known: Mapping[Column, tuple[str, ...]],
        sources: Mapping[Column, Column],
        lists: Lists,
    ) -> None:
        self._known = known
        self._sources = sources
        self._lists = lists
        self._names = {name for _, name in sources}

    def unknown(self) -> Iterator[str]:
        """What is wrong with the lists themselves."""
        for (table, name), lists in self._lists.items():
            for of_list, values in lists.items():
                if others := sorted(set(values) - set(self._known.get((table, name), ()))):
                    yield f"{table}.{name}, `{of_list}`: {others[0]} is no {name} of {table}"

    def of_table(self, table: str, words: Sequence[Word]) -> Iterator[Problem]:
        """What is wrong with the values in an index or a trigger of a table."""
        names = {name: {table} for name in (table, "new", "old")}
        yield from self.problems(words, names)

    def problems(
        self, words: Sequence[Word], tables: Mapping[str, set[str]] | None = None
    ) -> Iterator[Problem]:
        """What is wrong with the values in a statement, given without its comments.

        tables: what names stand for that the statement does not say.
        """
        scopes = list(_scopes(words, tables or {}))
        for table, column, value in _inserted(words):
            known = self._known.get((table, column))
            if known is not None and value.text.strip("'") not in known:
                yield _unknown(value, (table, column), known)
        for position, word in enumerate(words):
            if word.text.startswith("'["):
                yield from self._of_json(word)
            own = _OWN_SIGNAL.fullmatch(word.text)
            if own is not None and own[1] not in SIGNALS:
                yield Problem(
                    word.line,
                    f"{word.text} is no signal of the library; these are {', '.join(SIGNALS)}",
                )
            if word.text not in self._names:
                continue
            is_qualified = position > 1 and words[position - 1].text == "."
            qualifier = words[position - 2].text if is_qualified else None
            columns = scopes[position].column(qualifier, word.text, self._sources)
            if columns:
                yield from self._of_column(columns, *_compared(words[position + 1 :]))

    def _of_column(
        self, columns: set[Column], values: Sequence[Word], is_list: bool
    ) -> Iterator[Problem]:
        for value in values:
            if any(value.text.strip("'") in self._known[column] for column in columns):
                continue
            column, *_ = sorted(columns)
            yield _unknown(value, column, self._known[column])
            return
        texts = tuple(value.text.strip("'") for value in values)
        if is_list and len(texts) > 1:
            lists = [one for column in columns for one in self._lists.get(column, {}).values()]
            if texts not in lists and not any(set(texts) == set(self._known[c]) for c in columns):
                (table, name), *_ = sorted(columns)
                yield _unlisted(values[0].line, texts, f"{table}.{name}", lists)

    def _of_json(self, word: Word) -> Iterator[Problem]:
        texts = tuple(json.loads(word.text.strip("'")))
        known = {value for values in self._known.values() for value in values}
        lists = [one for of_column in self._lists.values() for one in of_column.values()]
        if not known.isdisjoint(texts) and texts not in lists:
            yield _unlisted(word.line, texts, "any column", lists)


def _unknown(value: Word, column: Column, known: Iterable[str]) -> Problem:
    return Problem(
        value.line,
        f"{value.text} is no {column[1]} of {column[0]}; it is one of {', '.join(known)}",
    )


def _unlisted(
    line: int, texts: tuple[str, ...], of: str, lists: Sequence[tuple[str, ...]]
) -> Problem:
    alike = next((one for one in lists if set(one) == set(texts)), None)
    hint = (
        f"write it as {', '.join(alike)}" if alike else "use one from there, or add it with a name"
    )
    return Problem(line, f"{', '.join(texts)} is no list of {of} in sql/lists.sql; {hint}")


def _scopes(words: Sequence[Word], tables: Mapping[str, set[str]]) -> Iterator[_Scope]:
    """For each word, the select or write that it stands in."""
    top = here = _Scope(None, dict(tables))
    enclosing: list[_Scope] = []
    for position, word in enumerate(words):
        if word.text == "(":
            enclosing.append(here)
            if position + 1 < len(words) and words[position + 1].text in _SCOPE:
                here = _Scope(here)
        elif word.text == ")" and enclosing:
            here = enclosing.pop()
        elif word.text in ("from", "join", "update", "into"):
            table = words[position + 1].text if position + 1 < len(words) else ""
            if table.isidentifier() and table != "set":
                renamed = position + 3 < len(words) and words[position + 2].text == "as"
                alias = words[position + 3].text if renamed else table
                here.tables.setdefault(alias, set()).add(table)
                if word.text == "into":
                    top.tables["excluded"] = {table}
        yield here


def _inserted(words: Sequence[Word]) -> Iterator[tuple[str, str, Word]]:
    """Each text that an insert writes: the table, the column, and the text."""
    for position, word in enumerate(words):
        if word.text != "into" or [one.text for one in words[position + 2 : position + 3]] != ["("]:
            continue
        table = words[position + 1].text
        columns, end = _parts(words, position + 3, (")",))
        end += 1
        if end < len(words) and words[end].text == "values":
            rows: list[list[Sequence[Word]]] = []
            while end + 1 < len(words) and words[end].text in ("values", ","):
                row, end = _parts(words, end + 2, (")",))
                rows.append(row)
                end += 1
        else:  # a select
            row, _ = _parts(words, end + 1, ("from", "where", ";"))
            rows = [row]
        for row in rows:
            for column, value in zip(columns, row, strict=False):
                for text in _results(value):
                    yield table, column[0].text, text


def _parts(
    words: Sequence[Word], begin: int, ends: Sequence[str]
) -> tuple[list[Sequence[Word]], int]:
    """What stands between commas from a word on, and where that ends."""
    parts: list[Sequence[Word]] = []
    depth, start = 0, begin
    for position in range(begin, len(words)):
        text = words[position].text
        if depth == 0 and (text == "," or text in ends):
            parts.append(words[start:position])
            start = position + 1
            if text != ",":
                return parts, position
        depth += {"(": 1, ")": -1}.get(text, 0)
    return parts, len(words)


def _case(words: Sequence[Word]) -> Sequence[Word]:
    """A case expression, given what begins with it."""
    depth = 0
    for position, word in enumerate(words):
        depth += {"case": 1, "end": -1}.get(word.text, 0)
        if depth == 0:
            return words[: position + 1]
    return words


def _results(value: Sequence[Word]) -> Iterator[Word]:
    """The texts that an expression may give, as far as its form shows."""
    first = value[0].text if value else ""
    if len(value) == 1 and first.startswith("'"):
        yield value[0]
    elif first in ("iif", "coalesce") and len(value) > 1:
        arguments, _ = _parts(value, 2, (")",))
        for one in arguments[first == "iif" :]:
            yield from _results(one)
    elif first == "case":
        for before, after in pairwise(value):
            if before.text in ("then", "else") and after.text.startswith("'"):
                yield after


def _compared(after: Sequence[Word]) -> tuple[list[Word], bool]:
    """The texts that a column, given what follows it, is compared with; whether as a list."""
    texts = [word.text for word in after[:4]]
    position = 0
    while position < len(texts) and texts[position] in ("=", "!", "is", "not"):
        position += 1
    if texts[position : position + 1] == ["in"]:
        return _texts_in(after[position + 1 :]), True
    if position == 0 and texts[:1] != ["when"]:
        return [], False
    position += texts[:1] == ["when"]
    if texts[position : position + 1] == ["iif"]:
        return _texts_in(after[position + 1 :]), False
    if texts[position : position + 1] == ["case"]:
        return list(_results(_case(after[position:]))), False
    return [word for word in after[position : position + 1] if word.text.startswith("'")], False


def _texts_in(words: Sequence[Word]) -> list[Word]:
    """The texts in parentheses, given from where these open; none of a subquery."""
    depth = 0
    found: list[Word] = []
    for word in words:
        depth += {"(": 1, ")": -1}.get(word.text, 0)
        if depth == 0:
            break
        if word.text == "select":
            return []
        if word.text.startswith("'"):
            found.append(word)
    return found

"""The text of sql/schema.sql: table by table, one column a line, its meaning beside it.

SQLite keeps each statement as a migration had it, with what was added later behind it. Here it is
taken apart, and written anew: columns, then the rules of the table, then its indexes and triggers.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

_WIDTH = 100
_CHECK = re.compile(r"constraint \w+ check \(")
_COLUMN = re.compile(r"(\w+) (\w+)(.*)")
_DEFAULT = re.compile(r" default (\(.*\)|'[^']*'|\S+)(?= references|$)")
_REFERENCE = re.compile(r" references (\w+ \(\w+\))")


class _Column(NamedTuple):
    name: str
    type: str
    more: str
    """Whether it may be null, and whether it is a key."""

    default: str


def table_text(
    name: str,
    sql: str,
    is_of: str,
    meanings: Mapping[str, Sequence[str]],
    objects: Sequence[str],
) -> str:
    """A table with its indexes and triggers, given as SQLite keeps them.

    is_of: what the table is of. meanings: what each column means.
    """
    body, end = _inside(sql)
    columns: list[_Column] = []
    rules: list[str] = []
    for part in _parts(body):
        if re.match(r"(constraint|primary key|foreign key|unique|check)\b", part):
            rules.append(part)
        else:
            columns.append(_column(part, rules))
    rules.sort(key=lambda rule: rule.startswith("constraint"))
    lines = [
        *textwrap.wrap(f"{name}: {is_of}", 88, initial_indent="-- ", subsequent_indent="-- "),
        "",
        f"create table {name} (",
        *_column_lines(columns, meanings, is_followed=bool(rules)),
    ]
    for number, rule in enumerate(rules):
        lines += _rule_lines(f"{rule}{',' if number + 1 < len(rules) else ''}")
    lines.append(f"){end};")
    for text in objects:
        lines += ["", *_object_lines(text)]
    return "\n".join(lines) + "\n"


def _column(part: str, rules: list[str]) -> _Column:
    """A column; what it refers to and what is checked goes to the rules of the table."""
    while found := _CHECK.search(part):
        end = _closing(part, found.end() - 1) + 1
        rules.append(part[found.start() : end])
        part = f"{part[: found.start()].rstrip()} {part[end:].lstrip()}".strip()
    name, type_, rest = _matched(_COLUMN, part).groups()
    if reference := _REFERENCE.search(rest):
        rules.append(f"foreign key ({name}) references {reference[1]}")
        rest = rest.replace(reference[0], "")
    default = _DEFAULT.search(rest)
    if default:
        rest = rest.replace(default[0], "")
    return _Column(name, type_, rest.strip(), default[0].strip() if default else "")


def _column_lines(
    columns: Sequence[_Column], meanings: Mapping[str, Sequence[str]], *, is_followed: bool
) -> Iterator[str]:
    names, types = (max(len(column[at]) for column in columns) for at in (0, 1))
    lefts: list[list[str]] = []
    for number, column in enumerate(columns):
        comma = "," if is_followed or number + 1 < len(columns) else ""
        line = f"    {column.name:<{names}} {column.type:<{types}} {column.more}".rstrip()
        lefts.append([f"{line}{'' if column.default else comma}"])
        if column.default:
            lefts[-1].append(f"        {column.default}{comma}")
    margin = max(len(left[0]) for left in lefts) + 2
    for left, column in zip(lefts, columns, strict=True):
        words = textwrap.wrap(" ".join(meanings[column.name]), _WIDTH - margin - 3)
        if len(left) > 1 and len(left[1]) > margin - 2:
            # A long default has lines of its own, below the meaning.
            left[1:1] = [""] * (len(words) - 1)
        for at in range(max(len(left), len(words))):
            text = left[at] if at < len(left) else ""
            meaning = f"-- {words[at]}" if at < len(words) else ""
            yield f"{text:<{margin}}{meaning}".rstrip()


def _rule_lines(rule: str) -> list[str]:
    if len(rule) + 4 <= _WIDTH:
        return [f"    {rule}"]
    name, _, check = rule.partition(" check ")
    # A comparison stays on one line.
    together = f"check {check}".replace(" = ", "\xa0=\xa0")
    lines = textwrap.wrap(
        together, _WIDTH, initial_indent=" " * 8, subsequent_indent=" " * 12, break_on_hyphens=False
    )
    return [f"    {name}", *(line.replace("\xa0", " ") for line in lines)]


def _object_lines(sql: str) -> list[str]:
    """An index, or a trigger."""
    first, rest = sql.split(maxsplit=1)
    kind = (
        "unique index" if rest.lower().startswith("unique") else rest.split(maxsplit=1)[0].lower()
    )
    if kind == "trigger":
        return [f"{first.lower()} trigger {rest.split(maxsplit=1)[1]};"]
    text = _tidy(re.sub(r"^CREATE (UNIQUE )?INDEX", f"create {kind}", sql))
    columns, _, condition = text.partition(" where ")
    lines = textwrap.wrap(
        columns if condition else f"{columns};", _WIDTH, subsequent_indent=" " * 4
    )
    if condition:
        lines += textwrap.wrap(f"where {condition};", _WIDTH, subsequent_indent=" " * 4)
    return lines


def _inside(sql: str) -> tuple[str, str]:
    """What stands in the parentheses of a `create table`, and behind them."""
    start = sql.index("(")
    end = _closing(sql, start)
    return sql[start + 1 : end], sql[end + 1 :].rstrip()


def _parts(body: str) -> list[str]:
    """What commas part."""
    parts: list[str] = []
    start = depth = 0
    quoted = False
    for position, sign in enumerate(body):
        quoted ^= sign == "'"
        if not quoted:
            depth += {"(": 1, ")": -1}.get(sign, 0)
            if sign == "," and depth == 0:
                parts.append(body[start:position])
                start = position + 1
    return [_tidy(part) for part in (*parts, body[start:])]


def _closing(text: str, start: int) -> int:
    """Where the parenthesis that opens at a place closes."""
    depth = 0
    quoted = False
    for position in range(start, len(text)):
        quoted ^= text[position] == "'"
        if not quoted:
            depth += {"(": 1, ")": -1}.get(text[position], 0)
            if depth == 0:
                return position
    raise ValueError(f"a parenthesis is not closed in {text}")


def _tidy(text: str) -> str:
    return " ".join(text.split()).replace("( ", "(").replace(" )", ")")


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    found = pattern.fullmatch(text)
    if found is None:
        raise ValueError(f"`{text}` is no column of a table")
    return found

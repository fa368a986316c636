"""The parts of docs/sql.md that the schema tells: a diagram, and what every column means.

The meanings stand in sql/columns.sql, and those of views in sql/views. A column that is missing
there, or is none, is refused.
"""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import migration_folder
from view_files import read_view_files

OUTPUT = Path("docs/sql.md")

_TABLE = re.compile(r"-- (\w+): (.+)")
_COLUMN = re.compile(r"-- (\w+)  +(\S.*)")
_MORE = re.compile(r"-- +(\S.*)")
_PART = re.compile(
    r"(<!-- generated: (\w+) -->\n).*?(<!-- end of what is generated -->)", re.DOTALL
)


class ColumnsError(Exception):
    """All that must be changed in sql/columns.sql, or in the document."""


class Column(NamedTuple):
    name: str
    type: str
    is_key: bool
    refers_to: str | None


class Meaning(NamedTuple):
    """Of a table, and of its columns."""

    words: list[str]
    columns: dict[str, list[str]]

    @property
    def text(self) -> str:
        return " ".join(self.words)


def generate(migrations: Path, meanings: Path, document: Path) -> str:
    """The document with its generated parts anew; raises `ColumnsError`."""
    tables = read_schema(migrations)
    meaning = read_meanings(meanings)
    compare(meanings, tables, meaning)
    views = {
        view.name: Meaning(view.words, {name: one.words for name, one in view.columns.items()})
        for view in read_view_files(migration_folder.views_of(migrations)).values()
    }
    parts = {"diagram": _diagram(tables), "tables": _describe(meaning), "views": _describe(views)}
    text, count = _PART.subn(
        lambda part: f"{part[1]}\n{parts[part[2]]}\n{part[3]}",
        document.read_text(encoding="utf-8"),
    )
    if count != len(parts):
        raise ColumnsError(f"{document}: has {count} generated parts, not {', '.join(parts)}")
    return text


def read_schema(migrations: Path) -> dict[str, list[Column]]:
    """The tables that all migrations add up to."""
    tables: dict[str, list[Column]] = {}
    with closing(migration_folder.connect(migrations)) as connection:
        for (name,) in connection.execute(
            "select name from sqlite_schema where type = 'table'"
            " and substr(name, 1, 7) != 'sqlite_' order by rowid"
        ).fetchall():
            referred = {
                source: table
                for _, _, table, source, *_ in connection.execute(
                    f"pragma foreign_key_list({name})"
                )
            }
            tables[name] = [
                Column(column, sql_type.lower(), bool(key), referred.get(column))
                for _, column, sql_type, _, _, key in connection.execute(
                    f"pragma table_info({name})"
                )
            ]
    return tables


def read_page(path: Path) -> str:
    """What the file says before its first table, but for its first paragraph, which is on it."""
    lines = path.read_text(encoding="utf-8").splitlines()
    start = lines.index("") + 1
    end = next(at for at in range(start + 1, len(lines)) if _is_title(lines, at))
    return "\n".join(lines[start:end])


def _is_title(lines: list[str], number: int) -> bool:
    """Whether a line begins the section of a table."""
    return lines[number - 1] == "" and _TABLE.fullmatch(lines[number]) is not None


def read_meanings(path: Path) -> dict[str, Meaning]:
    """What each table and each of its columns means, as the file says it."""
    meanings: dict[str, Meaning] = {}
    here: Meaning | None = None
    words: list[str] | None = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if found := _TABLE.fullmatch(line):
            words = [found[2]]
            here = meanings[found[1]] = Meaning(words, {})
        elif here is not None and (found := _COLUMN.fullmatch(line)):
            words = here.columns[found[1]] = [found[2]]
        elif words is not None and (found := _MORE.fullmatch(line)):
            words.append(found[1])
        elif not line:
            here = words = None
    return meanings


def compare(path: Path, schema: dict[str, list[Column]], meanings: dict[str, Meaning]) -> None:
    problems = [f"{path}: {name} is no table" for name in meanings.keys() - schema.keys()]
    for name, columns in schema.items():
        if name not in meanings:
            problems.append(f"{path}: {name} is not described")
            continue
        described, there = meanings[name].columns.keys(), {column.name for column in columns}
        problems += [f"{path}: {name}.{one} is not described" for one in there - described]
        problems += [f"{path}: {name} has no column {one}" for one in described - there]
    if problems:
        raise ColumnsError("\n".join(sorted(problems)))


def _diagram(tables: dict[str, list[Column]]) -> str:
    lines = ["```mermaid", "erDiagram"]
    for name, columns in tables.items():
        lines += [
            f'    {column.refers_to} ||--o{{ {name} : "{column.name}"'
            for column in columns
            if column.refers_to
        ]
    for name, columns in tables.items():
        lines.append(f"    {name} {{")
        for column in columns:
            keys = [
                key for key, is_one in (("PK", column.is_key), ("FK", column.refers_to)) if is_one
            ]
            lines.append(f"        {column.type} {column.name} {', '.join(keys)}".rstrip())
        lines.append("    }")
    return "\n".join([*lines, "```", ""])


def _describe(meanings: dict[str, Meaning]) -> str:
    parts: list[str] = []
    for name, meaning in meanings.items():
        parts += [
            f"### {name}\n",
            f"{meaning.text[0].upper()}{meaning.text[1:]}\n",
            "| column | meaning |\n|---|---|",
        ]
        parts += [
            f"| `{column}` | {' '.join(words)} |" for column, words in meaning.columns.items()
        ]
        parts.append("")
    return "\n".join(parts)

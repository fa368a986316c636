"""Writes every file that is made from sql/, or with --check says which are out of date.

    python tools/generate.py [--check]

What is wrong in sql/ is refused first, all of it at once, and nothing is written then.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import committed_file
import generate_queries
import generate_schema
import generate_tables
import migration_folder
import view_files

ROOT = Path(__file__).parents[1]
MIGRATIONS = Path("sql/migrations")
QUERIES = Path("sql/queries")
COLUMNS = Path("sql/columns.sql")
VIEW_CHECKSUMS = Path("sql/views/checksums.txt")
OF_POSTGRES = Path("sql/postgres")

_REFUSALS = (
    migration_folder.MigrationsError,
    generate_schema.LandedMigrationError,
    generate_schema.LandedViewError,
    generate_queries.QueriesError,
    generate_tables.ColumnsError,
    view_files.ViewError,
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Write what is made from sql/.")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    check: bool = parser.parse_args().check
    os.chdir(ROOT)
    texts, problems = generated()
    if problems:
        print("\n".join(problems))
        return 1
    if check:
        current = [committed_file.is_current(path, text) for path, text in texts.items()]
        return 0 if all(current) else 1
    for path, text in texts.items():
        committed_file.write(path, text)
    return 0


def generated() -> tuple[dict[Path, str], list[str]]:
    """The text of each file, and what must be changed in sql/ first."""
    texts, problems = _made(
        {
            folder / "checksums.txt": partial(generate_schema.checksums, folder)
            for folder in (MIGRATIONS, OF_POSTGRES / "migrations")
        }
    )
    try:
        migration_folder.check(MIGRATIONS)
    except _REFUSALS as error:
        return {}, [*problems, str(error)]
    tables = generate_tables.OUTPUT
    more_texts, more_problems = _made(
        {
            generate_queries.OUTPUT: lambda: generate_queries.generate(QUERIES, MIGRATIONS),
            generate_schema.SCHEMA: lambda: generate_schema.schema(MIGRATIONS, COLUMNS),
            VIEW_CHECKSUMS: lambda: generate_schema.view_checksums(MIGRATIONS),
            OF_POSTGRES / "views" / "checksums.txt": lambda: generate_schema.view_checksums(
                OF_POSTGRES / "migrations", _views_of_postgres()
            ),
            tables: lambda: generate_tables.generate(MIGRATIONS, COLUMNS, tables),
        }
    )
    return {**texts, **more_texts}, list(dict.fromkeys([*problems, *more_problems]))


def _views_of_postgres() -> list[tuple[str, str]]:
    """The views and their statements, without the comment before each."""
    views: list[tuple[str, str]] = []
    for path in sorted((OF_POSTGRES / "views").glob("*.sql")):
        beginning = f"\ncreate or replace view durable_workflow.{path.stem} as\n"
        comment, found, rest = path.read_text(encoding="utf-8").partition(beginning)
        if not found or not comment.startswith(f"-- {path.stem}: "):
            raise view_files.ViewError(
                f"{path}: open it with `-- {path.stem}: what it is of`, and then"
                f" `{beginning.strip()} ...`"
            )
        views.append((path.stem, f"{beginning}{rest}"))
    return views


def _made(files: dict[Path, Callable[[], str]]) -> tuple[dict[Path, str], list[str]]:
    texts: dict[Path, str] = {}
    problems: list[str] = []
    for path, make in files.items():
        try:
            texts[path] = make()
        except _REFUSALS as error:
            problems.append(str(error))
    return texts, problems


if __name__ == "__main__":
    raise SystemExit(main())

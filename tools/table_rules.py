"""What a table must have so that no row can hold what the library cannot read.

SQLite enforces these rules, so a mistake in a statement, or a person, cannot break them:
- a table is strict, so that each value has the type of its column, and no primary key is null;
- a column whose name ends in `_at` has the check NAME_is_a_time, and one that ends in `_data` the
  check NAME_is_json; one that is a status, a kind or a scope has the check NAME_is_known;
- a reference has an index, because SQLite looks for the rows that refer to a deleted one.
"""

# apsw's annotations name types that Python 3.11 does not have.
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterator

import apsw

OLDER = frozenset(
    {
        ("workflow_executions", "started_at"),
        ("step_checkpoints", "started_at"),
        ("step_checkpoints", "completed_at"),
        ("step_checkpoints", "acknowledged_at"),
        ("workflow_claims", "claimed_at"),
        ("workflow_limit_uses", "kind"),
        ("workflow_schedules", "input_data"),
        ("workflow_executions", "workflow_id"),  # no definition is ever deleted
    }
)
"""Columns of landed migrations that break a rule: to mend one, the table would be rebuilt."""

_CHECKS = {
    "_at": "is_a_time",
    "_data": "is_json",
    "kind": "is_known",
    "scope": "is_known",
    "status": "is_known",
}


def problems(database: apsw.Connection) -> Iterator[tuple[str, str]]:
    """The tables of a database that break a rule, each with what is wrong."""
    for table, is_strict, sql in database.execute(
        "select info.name, info.strict, made.sql from pragma_table_list as info"
        " inner join sqlite_schema as made on info.name = made.name"
        " where info.schema = 'main' and made.type = 'table' and info.name not like 'sqlite_%'"
        " order by made.rowid"
    ):
        if not is_strict:
            yield str(table), "end its statement with `) strict;`"
        for problem in _of_columns(database, str(table), " ".join(str(sql).split())):
            yield str(table), problem


def _of_columns(database: apsw.Connection, table: str, sql: str) -> Iterator[str]:
    for column, kind in database.execute(
        "select name, lower(type) from pragma_table_info(?)", (table,)
    ):
        name = str(column)
        for ending, check in _CHECKS.items():
            rule = f"constraint {name}_{check} check ("
            if (
                kind == "text"
                and name.endswith(ending)
                and rule not in sql
                and (table, name) not in OLDER
            ):
                yield f"nothing checks what {name} holds; write `{rule}...)`"
    indexed = {
        str(first)
        for (first,) in database.execute(
            "select column.name from pragma_index_list(?) as one"
            " inner join pragma_index_info(one.name) as column on column.seqno = 0"
            " where one.partial = 0",
            (table,),
        )
    }
    for (column,) in database.execute(
        """select "from" from pragma_foreign_key_list(?) where seq = 0""", (table,)
    ):
        key = list(
            database.execute(
                "select 1 from pragma_table_info(?) where name = ? and pk", (table, column)
            )
        )
        if str(column) not in indexed and not key and (table, str(column)) not in OLDER:
            yield f"{column} refers to another table; create an index that begins with it"

"""The statements of an integration: the same on both stores, on a table of any name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite.own_statements import OwnStatements
from durable_workflow_sqlite.store.sql import SQL_DIR, load_statements
from tests.own_tables import Database

OF_SQLITE = SQL_DIR / "integrations"
OF_POSTGRES = SQL_DIR / "postgres" / "integrations"


@pytest.mark.parametrize("kind", ["file", "postgres"])
async def test_they_run_on_both_stores(kind: str, tmp_path: Path) -> None:
    database = Database(kind, tmp_path)
    table = f"{database.table}_items"
    statements = OwnStatements("openai_agents", {"agent_session_items": table})

    def fill(connection: Any) -> None:
        assert statements.value(connection, "has_table", name=table) == 0
        statements.rows(connection, "create_table")
        assert statements.value(connection, "has_table", name=table) == 1
        for number in (1, 2):
            row = {"number": number, "item": f"100% {number}", "added_at": "now"}
            assert statements.rows(connection, "insert_item", session_id="a", **row) == []
        more = {"session_id": "c", "item": "100%", "added_at": "now"}
        statements.run_many(connection, "insert_item", [{**more, "number": one} for one in (1, 2)])
        assert statements.value(connection, "last_number", session_id="c") == 2

    def look(connection: Any) -> list[tuple[Any, ...]]:
        assert statements.value(connection, "last_number", session_id="b") == 0
        return statements.rows(connection, "select_items", session_id="a", limit=10)

    async with database.store() as store:
        await store.write(fill)
        assert await store.read(look) == [(2, "100% 2"), (1, "100% 1")]


@pytest.mark.parametrize("table", ["", "a b", "a.b.c", 'a"', "a;", "Upper", "x" * 101])
def test_a_name_that_would_have_to_be_quoted_is_refused(table: str) -> None:
    with pytest.raises(ValueError, match="the name of a table must be in lower case"):
        OwnStatements("openai_agents", {"agent_session_items": table})


def test_a_name_of_another_type_is_refused() -> None:
    name: Any = 7
    with pytest.raises(TypeError, match="the name of a table must be a string"):
        OwnStatements("openai_agents", {"agent_session_items": name})


@pytest.mark.parametrize("folder", sorted(one.name for one in OF_SQLITE.iterdir()))
def test_both_dialects_have_the_same_statements(folder: str) -> None:
    assert [*load_statements(OF_SQLITE / folder)] == [*load_statements(OF_POSTGRES / folder)]

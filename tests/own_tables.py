"""A table of the user's own in the database of a store: in a file, in memory or on PostgreSQL."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import open_store
from durable_workflow_sqlite.store.connection import open_connection
from durable_workflow_sqlite.store.statement_store import StatementStore
from tests import postgres_server


class Database:
    """Where the tests keep their rows: in a file, in memory or on PostgreSQL."""

    def __init__(self, kind: str, path: Path) -> None:
        self.is_postgres = kind == "postgres"
        self.mark = "%s" if self.is_postgres else "?"
        self.url: Any = path / "workflows.db" if kind == "file" else ":memory:"
        self.schema = postgres_server.schema_of(path) if self.is_postgres else ""
        self.table = f"{self.schema}_stock" if self.is_postgres else "stock"
        if self.is_postgres:
            self.url = f"{postgres_server.url()}?schema={self.schema}"

    @asynccontextmanager
    async def store(self) -> AsyncIterator[StatementStore]:
        async with open_store(self.url) as store:
            await store.write(self.make)
            yield store

    def make(self, connection: Any) -> None:
        connection.execute(f"create table if not exists {self.table} (sku text not null)")

    def put(self, connection: Any, sku: str) -> int:
        connection.execute(f"insert into {self.table} (sku) values ({self.mark})", (sku,))
        (count,) = connection.execute(f"select count(*) from {self.table}").fetchone()
        return int(count)

    def all(self, connection: Any) -> list[str]:
        rows = connection.execute(f"select sku from {self.table} order by sku").fetchall()
        return [sku for (sku,) in rows]

    def steal(self, store: Any) -> None:
        """Every claim is lost."""
        if self.is_postgres:
            import psycopg

            with psycopg.connect(postgres_server.url(), autocommit=True) as by_hand:
                by_hand.execute(f"delete from {self.schema}.workflow_claims")
        elif self.url == ":memory:":
            store._connection.execute("delete from workflow_claims")
        else:
            with closing(open_connection(self.url)) as thief:
                thief.execute("delete from workflow_claims")


def insert_own_row(connection: Any, execution_id: str, name: str) -> None:
    """What the oracle looks for after a transaction. On PostgreSQL, the table is there before."""
    row = (execution_id, name)
    if hasattr(connection, "store_schema"):
        connection.execute(f"insert into {connection.store_schema}.own_rows values (%s, %s)", row)
    else:
        connection.execute(
            "create table if not exists own_rows (execution text not null, name text not null)"
        )
        connection.execute("insert into own_rows values (?, ?)", row)


def own_rows_on_postgres(schema: str) -> bytes:
    """What makes that table."""
    columns = "(execution text not null, name text not null)"
    return f"create table if not exists {schema}.own_rows {columns}".encode()

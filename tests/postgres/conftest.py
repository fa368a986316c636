"""What the tests of the store on PostgreSQL share."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests import postgres_server

if TYPE_CHECKING:
    import psycopg

    from durable_workflow_sqlite.postgres.store import PostgresStore


@pytest.fixture
def url() -> str:
    """The database of the tests."""
    return postgres_server.url()


@pytest.fixture
def schema(tmp_path: Path) -> str:
    """A schema that is not there yet."""
    return postgres_server.schema_of(tmp_path)


@pytest.fixture
def open_store(url: str, schema: str) -> Callable[[], PostgresStore]:
    """Opens one more store in the schema."""
    from durable_workflow_sqlite.postgres.store import PostgresStore

    return lambda: PostgresStore(url, schema=schema)


@pytest.fixture
def by_hand(url: str) -> Generator[psycopg.Connection[tuple[Any, ...]]]:
    """A connection of somebody else."""
    import psycopg

    with closing(psycopg.connect(url, autocommit=True)) as connection:
        yield connection

"""Several worker processes on one schema of PostgreSQL, judged by the oracle as those on a file.

Imported where psycopg is installed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from durable_workflow_sqlite import StoreError
from durable_workflow_sqlite.postgres import presence
from durable_workflow_sqlite.postgres.migrations import migrate
from tests.faults.crew import Crew
from tests.own_tables import own_rows_on_postgres
from tests.postgres.harmed import open_harmed
from tests.postgres.shell import shell
from tests.processes import Harm

SHORT_SILENCE_S = 1
"""After which a worker with a lease is taken for dead."""


@dataclass
class PostgresCrew(Crew):
    """url: of the database for the workers. seen_at: for the oracle, if it goes another way.

    may_lose_sessions: whether whoever asks may hear that a connection was lost.
    """

    url: str = ""
    schema: str = "durable_workflow"
    seen_at: str = ""
    may_lose_sessions: bool = False

    def create(self) -> None:
        migrate(self.seen_at or self.url, schema=self.schema)
        with self.look() as found:
            found.executescript(own_rows_on_postgres(self.schema).decode())

    def open_store(self, harm: Harm | None, before_kill: Callable[[], object]) -> Any:
        if "pooled" in self.url:
            presence.SILENT_S = SHORT_SILENCE_S  # type: ignore[misc]
        return open_harmed(self.url, self.schema, harm, before_kill)

    def look(self) -> AbstractContextManager[Any]:
        return shell(self.seen_at or self.url, self.schema)

    @property
    def tolerated(self) -> tuple[type[StoreError], ...]:
        return (StoreError,) if self.may_lose_sessions else ()


def check(crew: Crew) -> None:
    found = crew.violations()
    assert not found, "\n".join(found)


@contextmanager
def a_new_crew(folder: Path, size: int, *, schema: str, **more: Any) -> Generator[PostgresCrew]:
    """A crew with a folder and a schema of its own, which are deleted in the end."""
    inner = folder / "world"
    inner.mkdir()
    crew = PostgresCrew(inner, size, schema=schema, **more)
    try:
        yield crew
    finally:
        crew.dismiss()
        with crew.look() as one:
            one.execute(f"drop schema {schema} cascade")
        shutil.rmtree(inner)

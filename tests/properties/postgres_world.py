"""The processes and crashes of `simulation`, over a schema of PostgreSQL.

Imported where psycopg is installed. Each process of a world has a store of its own, and its real
sessions are those of the world: what a process that has died leaves in them is rolled back.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, NoReturn

import psycopg
import pytest

from durable_workflow_sqlite.postgres import store as store_module
from durable_workflow_sqlite.postgres.presence import Presence
from durable_workflow_sqlite.postgres.session import Session
from durable_workflow_sqlite.postgres.store import PostgresStore
from tests import worlds
from tests.own_tables import own_rows_on_postgres
from tests.postgres.harmed import HarmedSession
from tests.postgres.shell import Shell
from tests.processes import Harm
from tests.properties.simulation import World
from tests.properties.tree_world import TreeWorld
from tests.worlds import Died

SCHEMA = "durable_workflow"

_TABLES = (
    "select table_name from information_schema.tables where table_type = 'BASE TABLE'"
    f" and table_schema = '{SCHEMA}' and table_name != 'workflow_migrations'"
)


IN_POSTGRES = {
    "order by rowid": "order by row_number",
    "json_quote(child.workflow_execution_id)": "to_json(child.workflow_execution_id)::text",
    "json_extract(start.output_data, '$')": "start.output_data::json #>> '{}'",
    "json_extract(input_data, '$[0].name')": "input_data::json -> 0 ->> 'name'",
    "input_data -> '$[0].acts'": "(input_data::json -> 0 -> 'acts')::text",
}
"""What those who look at a world ask of SQLite."""


class Server:
    """A database of a world, and its sessions: it dies as a `KillableConnection` does.

    working: of the transactions. direct: holds the lock of a worker. seen: for the oracle.
    """

    in_transaction = True
    """Perhaps; what is open is rolled back after each process."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.harm: Harm | None = None
        self.is_dead = False
        self.commits = 0
        self.working, self.direct = Session(url), Session(url)
        self.presences: list[Presence] = []
        self.seen = Shell(psycopg.connect(url, autocommit=True), SCHEMA)
        self.seen.executescript(own_rows_on_postgres(SCHEMA).decode())
        self.seen.executescript("set session_replication_role = replica")  # in any order
        tables = self.seen.execute(_TABLES).fetchall()
        self._empty = ";".join(f"delete from {table}" for (table,) in tables)

    def execute(self, statement: str, given: tuple[Any, ...] = ()) -> Any:
        """As the connection of a world in memory, which is asked what there is."""
        for of_sqlite, here in IN_POSTGRES.items():
            statement = statement.replace(of_sqlite, here)
        return self.seen.execute(statement, given)

    def empty(self) -> None:
        self.seen.executescript(self._empty)

    def befall(self, harm: Harm | None = None) -> NoReturn:
        self.is_dead = True
        raise Died

    def rollback(self) -> None:
        """End what a process has left open, as the server does."""
        if self.working.connection.info.transaction_status:
            self.working.execute("rollback")
        for one in self.presences:
            one.release()
        self.presences.clear()

    def close(self) -> None:
        for one in (self.working, self.direct, self.seen):
            one.close()


class KillableSession(HarmedSession):
    """That of the world, which refuses the dead."""

    def __init__(self, server: Server, url: str, **more: Any) -> None:
        super().__init__(url, **more)
        self._server: Any = server
        self._connection = server.working.connection

    def execute(self, statement: str, given: tuple[Any, ...] = ()) -> Any:
        self._check_alive()
        return super().execute(statement, given)

    def execute_many(self, batches: Any) -> int:
        self._check_alive()
        return super().execute_many(batches)

    def befall(self, harm: Harm) -> None:
        self._server.befall(harm)

    def close(self) -> None:
        self._connection = None

    def _check_alive(self) -> None:
        if self._server.is_dead:
            raise Died

    def _count(self, commit: Any) -> Any:
        self.harm, self.commits = self._server.harm, self._server.commits
        self._server.commits += 1
        return super()._count(commit)


class TimelessPresence(Presence):
    """Has the lock in a session of the world, and no thread: nobody else tells it of changes."""

    def __init__(self, server: Server, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._direct = server.direct
        server.presences.append(self)

    def listen(self) -> None:
        pass

    def acquire(self) -> None:
        if not self._is_held.is_set():
            key = self._key(self.worker_id)
            assert self._queries.become_alive(self._direct, lock_key=key)
            self._hold()

    def release(self) -> None:
        if self._is_held.is_set():
            self._is_held.clear()
            self._queries.become_dead(self._direct, lock_key=self._key(self.worker_id))
        super().release()


class OnPostgres(worlds.World):
    """A world of a server, which is emptied first."""

    def __init__(
        self, server: Server, *of_it: Any, session: type[KillableSession] = KillableSession
    ) -> None:
        self._server = server
        self._session = session
        super().__init__(*of_it)

    def new_memory(self) -> Server:
        self._server.empty()
        return self._server

    def open_store(self) -> PostgresStore:
        return PostgresStore(self._server.url)

    @contextmanager
    def _patched(self) -> Generator[pytest.MonkeyPatch]:
        with super()._patched() as patch:
            patch.setattr(store_module, "Session", partial(self._session, self._server))
            patch.setattr(store_module, "Presence", partial(TimelessPresence, self._server))
            yield patch


class PostgresWorld(OnPostgres, World):
    pass


class PostgresTreeWorld(OnPostgres, TreeWorld):
    pass

"""The world of tests/crash on PostgreSQL: each has a database of its own, which can be copied.

Imported where psycopg is installed.
"""

from __future__ import annotations

import time
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import psycopg

import postgres_server
from tests.crash.harness import Scenario, World
from tests.oracle import Snapshot, look_through
from tests.own_tables import own_rows_on_postgres
from tests.postgres.harmed import open_harmed
from tests.postgres.shell import shell
from tests.processes import Harm

SCHEMA: Final = "durable_workflow"


class PostgresWorld(World):
    """server: its URL without the name of a database. like: the database that it begins as.

    opened: what drops the database in the end.
    """

    def __init__(
        self, folder: Path, scenario: Scenario, server: str, like: str, opened: ExitStack
    ) -> None:
        self._server = server
        self._like = like
        self._opened = opened
        self._name = f"world_{uuid.uuid4().hex}"
        super().__init__(folder, scenario)

    def create(self) -> None:
        new = postgres_server.new_database(self._server, self._name, like=self._like)
        self._url = self._opened.enter_context(new)
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(own_rows_on_postgres(SCHEMA))

    def open_store(self, harm: Harm | None) -> Any:
        return open_harmed(self._url, SCHEMA, harm, codec=self.scenario.codec)

    def look_at(self, execution_id: str) -> Snapshot:
        with shell(self._url, SCHEMA) as connection:
            return look_through(connection, execution_id)

    def placed(self, folder: Path) -> World:
        return PostgresWorld(folder, self.scenario, self._server, self._name, self._opened)

    def run_process(self, harm: Harm | None = None) -> str:
        ended = super().run_process(harm)
        self._wait_for_the_server()
        return ended

    def _wait_for_the_server(self) -> None:
        """Until it has noticed that the process is dead, so that the next one finds no claim."""
        with psycopg.connect(f"{self._server}postgres", autocommit=True) as connection:
            sessions = "select count(*) from pg_stat_activity where datname = %s"
            while connection.execute(sessions.encode(), [self._name]).fetchone() != (0,):
                time.sleep(0.002)

"""The processes and crashes of `simulation`, over a store of dicts."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from durable_workflow_sqlite.store.rows import time_to_text
from tests.dict_store import Dicts, DictStore, Tables
from tests.oracle import Snapshot, Step
from tests.processes import Harm
from tests.properties.simulation import World
from tests.worlds import EXECUTION, Died


class KillableDicts(Dicts):
    """As `KillableConnection`."""

    harm: Harm | None = None
    is_dead = in_transaction = False
    commits = 0

    def commit(self, tables: Tables) -> None:
        if self.is_dead:
            raise Died
        self.commits += 1
        dies = self.harm is not None and self.harm.commit == self.commits
        if not (dies and self.harm is not None and self.harm.is_before):
            super().commit(tables)
        if dies:
            self.is_dead = True
            raise Died


class DictWorld(World):
    def new_memory(self) -> KillableDicts:
        return KillableDicts()

    def open_store(self) -> DictStore:
        self.connection.living.clear()
        return DictStore(self.connection)

    def status(self) -> str | None:
        return self.look().status

    def look(self) -> Snapshot:
        tables = self.connection.tables
        execution = tables.get(EXECUTION)
        steps = [
            Step(*(_plain(getattr(step, name, None)) for name in Step._fields))
            for step in tables.steps_of(EXECUTION)
        ]
        signals = [
            (number, one.signal_name, one.payload, one.status.value)
            for number, one in sorted(tables.signals.items())
        ]
        return Snapshot(
            *(_plain(getattr(execution, name, None)) for name in ("status", "output_data")),
            getattr(execution, "error_type", None),
            tuple(steps),
            tuple(signals),
            len(tables.timers_of(EXECUTION)),
            len(tables.claims),
            (),
            own=tuple(sorted(name for _, name, _ in tables.own)),
        )


def _plain(value: object) -> object:
    """As the columns of a table have it."""
    if isinstance(value, datetime):
        return time_to_text(value)
    return value.value if isinstance(value, Enum) else value

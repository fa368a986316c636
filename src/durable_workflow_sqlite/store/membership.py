"""Who works on a database: the row of this worker, and the rows of those that are dead for long.

A worker that has claimed nothing and looks for nothing has no row, so that who only reads or sends
signals writes nothing. Whether a worker lives is known from its lock alone: see `worker_lock.py`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from datetime import datetime
from pathlib import Path

import msgspec

from durable_workflow_sqlite.records import utc_now
from durable_workflow_sqlite.store.processes import host_name, safe
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.rows import json_array, time_to_text
from durable_workflow_sqlite.store.transactions import Transactions


class Membership:
    """The row of one worker.

    number: as it is in the file; None as long as no row is committed.
    """

    def __init__(
        self,
        connection: object,
        queries: Queries,
        commit: Transactions,
        worker_id: str,
        is_alive: Callable[[str], bool],
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._worker_id = worker_id
        self._is_alive = is_alive
        self.number: int | None = None
        self._written: int | None = None
        self._max_concurrent = 0
        self._serves: set[tuple[str, int]] = set()
        self._told: set[tuple[str, int]] = set()
        """Of those, what is in the file for sure."""
        self._queues: set[str] | None = set()
        """The queues that it serves; None: all of them; none, as long as it has not joined."""
        self._told_queues: set[str] | None = set()

    def knows(
        self,
        workflows: Collection[tuple[str, int]],
        max_concurrent: int,
        queues: Collection[str] | None = (),
    ) -> bool:
        """Whether all of this is in the file."""
        return (
            self.number is not None
            and self._max_concurrent >= max_concurrent
            and self._told_queues == self._with_queues(queues)
            and self._told >= self._serves
            and self._told.issuperset(workflows)
        )

    def tell(
        self,
        workflows: Collection[tuple[str, int]] = (),
        max_concurrent: int = 0,
        queues: Collection[str] | None = (),
        *,
        now: datetime,
    ) -> None:
        """Write what is not in the file yet. From within a transaction; see `told`.

        max_concurrent: of more than one engine on the store, the highest counts; 0: not known.
        queues: those that it serves, beside those of before; None: all of them.
        """
        if self.knows(workflows, max_concurrent, queues):
            return
        queries, connection = self._queries, self._connection
        slots = max(max_concurrent, self._max_concurrent) or None
        number = queries.load_worker_number(connection, worker_id=self._worker_id)
        if number is None:
            number = queries.insert_worker(
                connection,
                worker_id=self._worker_id,
                host=host_name(),
                process_id=os.getpid(),
                program=safe(_program()),
                started_at=time_to_text(now),
                max_concurrent=slots,
            )
            assert number is not None
        elif slots is not None:
            queries.update_slots(connection, worker_number=number, max_concurrent=slots)
        self._written = number
        new = self._serves.union(workflows) - self._told
        if new:
            queries.insert_served(
                connection,
                worker_number=number,
                workflows=msgspec.json.encode(sorted(new)).decode(),
            )
        served = self._with_queues(queues)
        if served is None and self._told_queues != served:
            queries.delete_served_queues(connection, worker_numbers=json_array([number]))
        elif served is not None and self._told_queues != served:
            queries.insert_served_queues(
                connection, worker_number=number, queues=json_array(sorted(served))
            )

    def _with_queues(self, queues: Collection[str] | None) -> set[str] | None:
        if queues == ():
            return self._queues
        return None if self._queues is None or queues is None else self._queues.union(queues)

    def told(
        self,
        workflows: Collection[tuple[str, int]] = (),
        max_concurrent: int = 0,
        queues: Collection[str] | None = (),
    ) -> None:
        """What `tell` wrote is committed."""
        self._queues = self._with_queues(queues)
        self._told_queues = self._queues
        self.number = self._written
        self._max_concurrent = max(max_concurrent, self._max_concurrent)
        self._serves.update(workflows)
        self._told.update(self._serves)

    async def load_served(self) -> set[tuple[str, int]]:
        """What living workers run."""

        def load() -> set[tuple[str, int]]:
            found = self._queries.load_workflows_of_workers(self._connection)
            living = {one for one in {row.worker_id for row in found} if self._is_alive(one)}
            return {(row.workflow_type, row.version) for row in found if row.worker_id in living}

        return await self._commit.read(load)

    def look_again(self) -> None:
        """The file may be another one: a backup that was restored."""
        self.number = self._written = self._queries.load_worker_number(
            self._connection, worker_id=self._worker_id
        )
        self._told.clear()
        self._told_queues = set()

    async def forget_the_dead(self, before: datetime, batch_size: int) -> None:
        """Delete the rows of those that were found dead before a time; note who is dead now.

        A worker's row stays until then, and while it has a claim. So executions that are kept
        still tell who worked on them.
        """
        before_text = time_to_text(before)

        def forget() -> bool:
            found = self._queries.load_forgettable_workers(
                self._connection, before=before_text, batch_size=batch_size
            )
            numbers = json_array([row.worker_number for row in found])
            self._queries.delete_served(self._connection, worker_numbers=numbers)
            self._queries.delete_served_queues(self._connection, worker_numbers=numbers)
            self._queries.delete_workers(self._connection, worker_numbers=numbers)
            return len(found) == batch_size

        def is_any_forgettable() -> bool:
            return bool(
                self._queries.load_forgettable_workers(
                    self._connection, before=before_text, batch_size=1
                )
            )

        if await self._commit.read(is_any_forgettable):
            while await self._commit.write(forget):
                pass

        def load_dead() -> list[int]:
            unmarked = self._queries.load_unmarked_workers(self._connection)
            return [row.worker_number for row in unmarked if not self._is_alive(row.worker_id)]

        dead = await self._commit.read(load_dead)
        at = time_to_text(utc_now())
        if dead:
            await self._commit.write(
                lambda: self._queries.mark_dead_workers(
                    self._connection, worker_numbers=json_array(dead), seen_dead_at=at
                )
            )


def _program() -> str:
    """What this process runs, without its arguments, which may hold what is secret."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:  # python -m
        return str(spec.name).removesuffix(".__main__")
    return Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"

"""A store on PostgreSQL whose process is harmed at one of its commits, as `tests.processes` does.

Imported where psycopg is installed.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from durable_workflow_sqlite import PayloadCodec
from durable_workflow_sqlite.postgres.session import Session
from durable_workflow_sqlite.postgres.store import PostgresStore
from tests.processes import Harm

_WRITES: Final = re.compile(r"\b(?:insert into|update|delete from)\b", re.IGNORECASE)


class HarmedSession(Session):
    """Counts its commits, and lets harm befall its process at one of them.

    A statement that writes outside of a transaction is a commit, too.
    """

    harm: Harm | None = None
    commits = 0
    before_kill: Callable[[], object] = staticmethod(lambda: None)

    def execute(self, statement: str, given: tuple[Any, ...] = ()) -> Any:
        if statement != "commit" and (self._is_within or not _WRITES.search(statement)):
            return super().execute(statement, given)
        return self._count(lambda: super(HarmedSession, self).execute(statement, given))

    def execute_many(self, batches: Mapping[str, Sequence[tuple[Any, ...]]]) -> int:
        if self._is_within:
            return super().execute_many(batches)
        return int(self._count(lambda: super(HarmedSession, self).execute_many(batches)))

    def befall(self, harm: Harm) -> None:
        if harm.kind is signal.SIGKILL:
            self.before_kill()
        os.kill(os.getpid(), harm.kind)

    @property
    def _is_within(self) -> bool:
        return bool(self.connection.info.transaction_status)

    def _count(self, commit: Callable[[], Any]) -> Any:
        self.commits += 1
        self._meet(is_before=True)
        done = commit()
        self._meet(is_before=False)
        return done

    def _meet(self, *, is_before: bool) -> None:
        if self.harm is not None and self.harm[:2] == (self.commits, is_before):
            self.befall(self.harm)


def open_harmed(
    url: str,
    schema: str,
    harm: Harm | None,
    before_kill: Callable[[], object] = lambda: None,
    codec: PayloadCodec | None = None,
) -> PostgresStore:
    """A store whose process is harmed at a commit of its transactions."""
    store = PostgresStore(url, schema=schema, codec=codec)
    session: Any = store._session
    session.__class__ = HarmedSession
    session.harm, session.before_kill = harm, before_kill
    return store

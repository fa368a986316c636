"""What the questions of people need of a database: its queries, moments of it, and who lives.

The modules that answer them send the statements of `Queries`, the same on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from durable_workflow_sqlite.reading.findings import Finding
from durable_workflow_sqlite.store.encoding import Encoding
from durable_workflow_sqlite.store.queries import Queries


class Dialect(NamedTuple):
    """How advice to a person names what differs from database to database."""

    tokens: str
    """What somebody did to the number of the last fencing token, so that tokens repeat."""

    present: str
    """An expression for the present time."""


class Readable(Protocol):
    """A database that is open to be read, by one thread."""

    @property
    def queries(self) -> Queries:
        """The statements; each is called with what `reading` gives."""
        ...

    @property
    def encoding(self) -> Encoding:
        """What decodes the values, if there is a codec."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    def reading(self) -> AbstractContextManager[object]:
        """A transaction that sees one moment of the database. Its errors come out as StoreError."""
        ...

    def living(self, worker_ids: Collection[str]) -> set[str]:
        """Those of some workers that live."""
        ...

    def all_living(self) -> set[str]:
        """The workers that have the database open."""
        ...

    def is_alive(self, worker_id: str) -> bool:
        """Whether a worker lives."""
        ...

    def disk(self) -> Finding:
        """Whether there is room for what workers record."""
        ...

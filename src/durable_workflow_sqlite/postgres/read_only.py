"""`ReadOnlySchema`: a schema that is opened to be read, and is not changed by that."""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterable
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Final, Self

import psycopg

from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.payload_codec import PayloadCodec
from durable_workflow_sqlite.postgres.address import Address
from durable_workflow_sqlite.postgres.failures import translated
from durable_workflow_sqlite.postgres.migrations import pending
from durable_workflow_sqlite.postgres.presence import lock_key, lock_space
from durable_workflow_sqlite.postgres.queries import Queries as QueriesOfPostgres
from durable_workflow_sqlite.postgres.session import Session, without_password
from durable_workflow_sqlite.postgres.sql import MIGRATIONS_DIR, load_encoding_queries
from durable_workflow_sqlite.reading.findings import Finding, Level
from durable_workflow_sqlite.store.encoding import Encoding
from durable_workflow_sqlite.store.migration_files import read_migrations
from durable_workflow_sqlite.store.queries import Queries
from durable_workflow_sqlite.store.readable import Dialect, Readable

_DIALECT: Final = Dialect(
    tokens="the sequence workflow_claims_fencing_token_seq was set back",
    present="now()",
)


class ReadOnlySchema(Readable):
    """A schema opened to be read, by one thread, beside running workers or without any.

    Raises StoreError, and what `open` raises.
    """

    def __init__(
        self, session: Session, address: Address, codec: PayloadCodec | None = None
    ) -> None:
        self._encoding = Encoding(codec, hides=True)
        loaded = load_encoding_queries(address.schema, self._encoding)
        self._session = session
        self._address = address
        self._where = without_password(address.url)
        self._queries = loaded.shared
        self._of_postgres = loaded.of_postgres

    @classmethod
    def open(cls, address: Address, codec: PayloadCodec | None = None) -> Self:
        """Open a schema of the newest version; it is neither created nor migrated.

        codec: decodes its values; what it cannot decode is shown as "encrypted".

        Raises StoreError for a schema that is not there or is older, and SchemaTooNewError.
        """
        # People ask now and then, and the values decide which plan is quick: so none is kept.
        session = Session(address.url, is_pooled=address.is_pooled, prepares=False)
        opened = cls(session, address, codec)
        try:
            with opened._translated():
                opened._check()
        except BaseException:
            session.close()
            raise
        return opened

    def close(self) -> None:
        """End the session. Closing twice is harmless."""
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def name(self) -> str:
        return self._address.name

    @property
    def schema(self) -> str:
        return self._address.schema

    @property
    def queries(self) -> Queries:
        return self._queries

    @property
    def encoding(self) -> Encoding:
        return self._encoding

    @property
    def of_postgres(self) -> QueriesOfPostgres:
        """The statements that SQLite does not have."""
        return self._of_postgres

    @property
    def dialect(self) -> Dialect:
        return _DIALECT

    @contextmanager
    def reading(self) -> Generator[Session]:
        """One moment of the database. An error of PostgreSQL comes out as a StoreError."""
        with self._translated():
            self._begin()
            try:
                yield self._session
            finally:
                if not self._session.is_lost:
                    with suppress(psycopg.Error):  # a second failure must not hide the first
                        self._session.execute("rollback")

    def changes(self) -> int:
        """A number that changes whenever somebody writes to the server."""
        with self._translated():
            return self._of_postgres.load_version_of_data(self._session) or 0

    def living(self, worker_ids: Collection[str]) -> set[str]:
        """Those of some workers that live."""
        held = self._held_keys()
        return {one for one in worker_ids if self._key(one) in held}

    def all_living(self) -> set[str]:
        """The workers that have a session of their own here.

        Of one that has no row, the id is not known: its first digits stand for it.
        """
        held = self._held_keys()
        with self._translated():
            rows = self._queries.load_unmarked_workers(self._session)
            claiming = self._queries.load_claiming_workers(self._session)
        known = {self._key(one): one for one in _ids(rows, claiming)}
        return {known.get(key, f"{key & 0xFFFFFFFFFFFF:012x}") for key in held}

    def is_alive(self, worker_id: str) -> bool:
        return bool(self.living([worker_id]))

    def disk(self) -> Finding:
        """How large the schema is. Whether the disk has room is for its server to know."""
        with self._translated():
            size = self._of_postgres.load_size(self._session) or 0
        return Finding(level=Level.OK, check="disk", message=f"the schema has {size / 1e6:,.1f} MB")

    def _held_keys(self) -> set[int]:
        with self._translated():
            rows = self._of_postgres.load_living_keys(
                self._session, lock_space=lock_space(self.schema)
            )
        return {row.lock_key for row in rows if row.lock_key is not None}

    def _key(self, worker_id: str) -> int | None:
        """The key of its lock; None for the id of no worker, which somebody has written."""
        try:
            return lock_key(lock_space(self.schema), worker_id)
        except ValueError:
            return None

    def _begin(self) -> None:
        begin = "begin isolation level repeatable read read only"
        try:
            self._session.execute(begin)
        except psycopg.OperationalError:
            if not self._session.is_lost:
                raise
            self._session.execute(begin)  # the server was restarted since

    def _check(self) -> None:
        migrations = read_migrations(MIGRATIONS_DIR)
        missing = pending(self._session, self._of_postgres, self.schema, migrations)
        create = f"`durable-workflow migrate --db {self.name}`"
        if len(missing) == len(migrations):
            raise StoreError(
                f"there is no schema {self.schema} with the tables of this library in"
                f" {self._where}; create it with {create}"
            )
        if missing:
            raise StoreError(
                f"schema {self.schema} of {self._where} has version {missing[0].version - 1}, and"
                f" this library reads version {len(migrations)}; migrate it with {create}"
            )

    @contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise translated(error, self._where) from error


def _ids(*rows: Iterable[object]) -> set[str]:
    return {str(getattr(row, "worker_id")) for some in rows for row in some}  # noqa: B009

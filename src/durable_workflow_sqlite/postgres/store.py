"""`PostgresStore`: opens a schema of a PostgreSQL database, and closes it.

What it does with its records is that of `StatementStore`.
"""

from __future__ import annotations

from typing import Any, Final

import psycopg

from durable_workflow_sqlite.payload_codec import (
    MAX_PAYLOAD_BYTES,
    PayloadCodec,
)
from durable_workflow_sqlite.postgres.address import Address, checked_schema
from durable_workflow_sqlite.postgres.failures import translated
from durable_workflow_sqlite.postgres.joined import join, wanted
from durable_workflow_sqlite.postgres.migrations import bring_up_to_date
from durable_workflow_sqlite.postgres.presence import Presence
from durable_workflow_sqlite.postgres.session import Session, without_password
from durable_workflow_sqlite.postgres.transactions import PostgresTransactions
from durable_workflow_sqlite.records import ArrivedSignal
from durable_workflow_sqlite.store.moves import check_not_moved
from durable_workflow_sqlite.store.statement_store import StatementStore

LOOK_BACK: Final = 1000
"""How many ids before the last signal are looked at for one that was committed after it."""


class PostgresStore(StatementStore):
    """A `CheckpointStore` in a schema of a PostgreSQL database, beside the tables of the user.

    A store is used from one event loop; many stores, in many processes, may share a schema. It
    has two connections: one for its transactions, and one by which the server knows that it lives.
    """

    def __init__(
        self,
        url: str | Address,
        *,
        schema: str | None = None,
        codec: PayloadCodec | None = None,
        max_payload_bytes: int = MAX_PAYLOAD_BYTES,
    ) -> None:
        """Open a schema, or create it, and bring it up to date.

        url: as libpq takes it, such as `postgresql://user@host/database`; its parameters `schema`,
            `pooled` and `direct` are this library's own: see `address.py`.
        schema: instead of that of the URL.
        codec, max_payload_bytes: as for `SqliteCheckpointStore`.

        Raises ValueError for a URL that is not valid. Raises StoreError: SchemaTooNewError,
        MigrationError.
        """
        address = url if isinstance(url, Address) else Address.of(url)
        schema = address.schema if schema is None else checked_schema(schema)
        url = address.url
        self._wanted = wanted(schema, codec, max_payload_bytes)
        loaded = self._wanted.loaded
        self._session = Session(url, is_pooled=address.is_pooled)
        self._schema = schema
        try:
            bring_up_to_date(self._session, schema)
            self._identity = loaded.of_postgres.load_identity(self._session)
            check_not_moved(self._session, loaded.shared, without_password(url))
        except psycopg.Error as error:
            self._session.close()
            raise translated(error, without_password(url)) from error
        except BaseException:
            self._session.close()
            raise
        self._presence = Presence(self._session, loaded.of_postgres, schema, address.direct)
        self._commit = PostgresTransactions(
            self._session, loaded.of_postgres, schema, self._presence, self._forget_what_is_known
        )
        super().__init__(
            self._session, loaded.shared, self._commit, self._presence, *self._wanted[1:]
        )
        self._commit.join = self.joined
        self._told: set[int] | None = None
        """The ids of signals that this store has told of, as far as it looks back."""

    def joined(self, connection: Any) -> StatementStore:
        return join(connection, self._schema, self._wanted, self._identity)

    async def close(self) -> None:
        """Finish all pending calls, and end the sessions. Closing twice has no effect."""
        if self._commit.is_closed:
            return
        await self._commit.close()
        self._presence.release()

    def _forget_what_is_known(self) -> None:
        self._known_workflows.clear()

    async def load_last_signal_id(self) -> int:
        last = await super().load_last_signal_id()
        await self.load_signals_after(last)
        return last

    async def load_signals_after(self, signal_id: int) -> list[ArrivedSignal]:
        """Ids are given before the commit, so a lower one may appear after a higher one.

        Such a late one is among the signals, too, once.
        """
        found = await super().load_signals_after(max(0, signal_id - LOOK_BACK))
        ids = {one.workflow_signal_id for one in found}
        known = ids if self._told is None else self._told
        self._told = ids
        return [
            one
            for one in found
            if one.workflow_signal_id > signal_id or one.workflow_signal_id not in known
        ]

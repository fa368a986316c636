"""Sessions of the OpenAI Agents SDK, in the database of the workflows."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

from durable_workflow_sqlite import PayloadCodec
from durable_workflow_sqlite.integrations.openai_agents.scope import current_branch
from durable_workflow_sqlite.own_statements import OwnStatements
from durable_workflow_sqlite.payload_codec import check_codec

if TYPE_CHECKING:
    from agents import TResponseInputItem
    from agents.memory import SessionSettings

__all__ = ["StoreSession"]

TABLE: Final = "agent_session_items"

_LONGEST_ID: Final = 256
_ALL: Final = 2**31 - 1


class _ReadsAndWrites(Protocol):
    async def read(self, function: Callable[..., Any], *args: Any) -> Any: ...
    async def write(self, function: Callable[..., Any], *args: Any) -> Any: ...


class StoreSession:
    """The items of one conversation, in a table beside those of the library.

    In a workflow function, each call is a step, and writes in the same commit as that: so an item
    is added exactly once. Elsewhere it reads and writes by `store.read` and `store.write`.

    session_id: which conversation; any text of up to 256 characters.
    store: an open store, for calls outside of workflow functions.
    table: its name, in lower case, perhaps after that of a schema and a dot. The first call creates
        the table.
    codec: encodes the items; give it the one of the store. Without one they are plain text.
    session_settings: those of the SDK; for example, how many items a run reads.

    Raises TypeError or ValueError for bad arguments.
    """

    def __init__(
        self,
        session_id: str,
        store: _ReadsAndWrites | None = None,
        *,
        table: str = TABLE,
        codec: PayloadCodec | None = None,
        session_settings: SessionSettings | None = None,
    ) -> None:
        if not isinstance(session_id, str):
            raise TypeError(f"session_id must be a string, not {session_id!r}")
        if not 0 < len(session_id) <= _LONGEST_ID:
            raise ValueError(f"session_id must have 1 to {_LONGEST_ID} characters: {session_id!r}")
        check_codec(codec)
        self.session_id = session_id
        self.session_settings = session_settings
        self._store = store
        self._rows = _Rows(session_id, table, codec)

    async def get_items(self, limit: int | None = None) -> list[TResponseInputItem]:
        """The last `limit` items, or all of them, in their order."""
        return await self._call("get_items", self._rows.get, limit, writes=False)  # type: ignore[no-any-return]

    async def add_items(self, items: list[TResponseInputItem]) -> None:
        """Add items at the end. Raises TypeError or ValueError for what JSON cannot hold."""
        texts = [json.dumps(item, ensure_ascii=False, allow_nan=False) for item in items]
        if texts:
            await self._call("add_items", self._rows.add, texts)

    async def pop_item(self) -> TResponseInputItem | None:
        """Remove the last item, and return it; None if there is none."""
        return await self._call("pop_item", self._rows.pop)  # type: ignore[no-any-return]

    async def clear_session(self) -> None:
        """Remove all items."""
        await self._call("clear_session", self._rows.clear)

    async def _call(
        self, name: str, function: Callable[..., Any], *args: Any, writes: bool = True
    ) -> Any:
        ctx: Any = current_branch()
        if ctx is not None:
            asked = [self.session_id, *args]
            return await ctx.transaction(f"session {name}", function, *args, of=asked)
        if self._store is None:
            raise ValueError(
                f"session {self.session_id!r} has no store, which it needs outside of a workflow"
                " function: StoreSession(session_id, store)"
            )
        return await (self._store.write if writes else self._store.read)(function, *args)


class _Rows:
    """The rows of one session: what is done with them in a transaction."""

    def __init__(self, session_id: str, table: str, codec: PayloadCodec | None) -> None:
        self._session_id, self._table, self._codec = session_id, table, codec
        self._statements = OwnStatements("openai_agents", {TABLE: table})

    def get(self, connection: Any, limit: int | None) -> Any:
        return [item for _, item in self._last(connection, _ALL if limit is None else limit)]

    def add(self, connection: Any, texts: list[str]) -> None:
        if not self._has_table(connection):
            self._lock(connection, self._table)
            if not self._has_table(connection):
                self._statements.rows(connection, "create_table")
        self._lock(connection, f"{self._table} {self._session_id}")
        last: int = self._of_session(connection, "last_number")[0][0]
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        items = [
            {
                "session_id": self._session_id,
                "number": number,
                "item": self._encoded(text, number),
                "added_at": now,
            }
            for number, text in enumerate(texts, start=last + 1)
        ]
        self._statements.run_many(connection, "insert_item", items)

    def pop(self, connection: Any) -> Any:
        self._lock(connection, f"{self._table} {self._session_id}")
        for number, item in self._last(connection, 1):
            self._of_session(connection, "delete_item", number=number)
            return item
        return None

    def clear(self, connection: Any) -> None:
        if self._has_table(connection):
            self._of_session(connection, "delete_items")

    def _last(self, connection: Any, limit: int) -> list[tuple[int, Any]]:
        if limit < 1 or not self._has_table(connection):
            return []
        rows = self._of_session(connection, "select_items", limit=limit)
        return [(number, self._decoded(item, number)) for number, item in reversed(rows)]

    def _has_table(self, connection: Any) -> bool:
        return bool(self._statements.value(connection, "has_table", name=self._table))

    def _lock(self, connection: Any, name: str) -> None:
        self._statements.rows(connection, "lock", name=name)

    def _of_session(self, connection: Any, statement: str, **values: object) -> list[Any]:
        return self._statements.rows(connection, statement, session_id=self._session_id, **values)

    def _encoded(self, text: str, number: int) -> str:
        if self._codec is None:
            return text
        return base64.b64encode(self._codec.encode(text.encode(), self._place(number))).decode()

    def _decoded(self, item: str, number: int) -> Any:
        if self._codec is not None and not item.startswith("{"):  # as it was without a codec
            item = self._codec.decode(base64.b64decode(item), self._place(number)).decode()
        return json.loads(item)

    def _place(self, number: int) -> str:
        return json.dumps([TABLE, self._session_id, number])

"""Encodes what a database holds with the codec of now, or counts by which key it is encoded.

Rows are read in batches, and each is changed if it is still as it was read. So workers may write
meanwhile. Who begins again does not change what is done already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any, Final, NamedTuple

import msgspec

from durable_workflow_sqlite.errors import PayloadDecodeError, SerializationError
from durable_workflow_sqlite.payload_codec import ENCODED
from durable_workflow_sqlite.questions import is_question, read_record, with_asked
from durable_workflow_sqlite.records import CHILD_SIGNAL
from durable_workflow_sqlite.store import queries as q
from durable_workflow_sqlite.store.encoding import (
    DETAILS,
    INPUT,
    TEXT,
    VALUE,
    Encoding,
    Form,
    audit_place,
    class_of,
    execution_place,
    has_names_alone,
    progress_place,
    question_place,
    refused_place,
    schedule_place,
    signal_place,
    step_error_place,
    step_place,
    stream_place,
)
from durable_workflow_sqlite.store.transactions import Transactions

BATCH: Final = 50
"""How many rows are read at once, and changed in one transaction."""


class Recoded(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the values of a database.

    rows: how many rows have other values now. left: how many values could not be decoded, and are
    as they were. problem: why the first of them could not.
    """

    rows: int
    left: int
    problem: str | None = None


class _Part(NamedTuple):
    """A value in a row. before, after: what of the column is not encoded."""

    column: str
    text: str
    place: str
    form: Form
    before: str = ""
    after: str = ""


def _of_execution(row: q.LoadValuesOfExecutionsRow) -> Iterator[_Part]:
    id_ = row.workflow_execution_id
    yield from _part(row, "input_data", execution_place(id_, "input_data"), INPUT)
    yield from _part(row, "output_data", execution_place(id_, "output_data"))
    yield from _part(row, "error_message", execution_place(id_, "error_message"), TEXT)
    yield from _trouble(row, execution_place(id_, "trouble"))


def _of_step(row: q.LoadValuesOfStepsRow) -> Iterator[_Part]:
    id_ = row.workflow_execution_id
    yield from _part(row, "output_data", step_place(id_, row.branch, row.step_index, row.attempt))
    yield from _part(row, "error_message", step_error_place(id_), TEXT)
    record = row.input_data
    if record is not None and is_question(row.step_name) and (found := read_record(record)):
        asked = bytes(found.asked).decode()
        place = question_place(id_, row.branch, row.step_index)
        if record == with_asked(found, asked):  # else somebody has edited it
            before = record[: -len(asked) - 1]
            yield _Part("input_data", asked, place, VALUE, before, "}")


def _of_signal(row: q.LoadValuesOfSignalsRow) -> Iterator[_Part]:
    id_ = row.workflow_execution_id
    yield from _part(row, "payload", signal_place(id_, row.signal_name))
    yield from _part(row, "refused_reason", refused_place(id_), TEXT)


def _of_stream_item(row: q.LoadValuesOfStreamItemsRow) -> Iterator[_Part]:
    place = stream_place(row.workflow_execution_id, row.branch, row.step_index, row.attempt)
    yield from _part(row, "item", place)


def _of_progress(row: q.LoadValuesOfProgressRow) -> Iterator[_Part]:
    place = progress_place(row.workflow_execution_id, row.branch, row.step_index)
    yield from _part(row, "note", place, TEXT)


def _of_act(row: q.LoadValuesOfActsRow) -> Iterator[_Part]:
    id_ = row.workflow_execution_id
    scope, name = (row.scope, row.name or "") if id_ is None else ("EXECUTION", id_)
    if row.details is not None and not has_names_alone(row.details):
        place = audit_place(scope, name, row.act, row.created_at)
        yield from _part(row, "details", place, DETAILS)


def _of_schedule(row: q.LoadValuesOfSchedulesRow) -> Iterator[_Part]:
    name = row.schedule_name
    yield from _part(row, "input_data", schedule_place(name, "input_data"), INPUT)
    yield from _part(row, "declared", schedule_place(name, "declared"))
    yield from _trouble(row, schedule_place(name, "trouble"))


def _part(row: object, column: str, place: str, form: Form = VALUE) -> Iterator[_Part]:
    text = getattr(row, column)
    if isinstance(text, str):
        yield _Part(column, text, place, form)


def _trouble(row: Any, place: str) -> Iterator[_Part]:
    if isinstance(row.trouble, str):
        before = class_of(row.trouble)
        yield _Part("trouble", row.trouble[len(before) :], place, TEXT, before)


class _Table(NamedTuple):
    """load, update: the names of the queries. key: the column that orders the rows."""

    load: str
    update: str
    key: str
    parts: Callable[[Any], Iterator[_Part]]


_TABLES: Final = (
    _Table("load_values_of_schedules", "update_values_of_schedule", "", _of_schedule),
    _Table("load_values_of_executions", "update_values_of_execution", "row_number", _of_execution),
    _Table("load_values_of_steps", "update_values_of_step", "id", _of_step),
    _Table("load_values_of_signals", "update_values_of_signal", "workflow_signal_id", _of_signal),
    _Table(
        "load_values_of_stream_items",
        "update_values_of_stream_item",
        "workflow_stream_item_id",
        _of_stream_item,
    ),
    _Table(
        "load_values_of_progress",
        "update_values_of_progress",
        "workflow_progress_report_id",
        _of_progress,
    ),
    _Table("load_values_of_acts", "update_values_of_act", "workflow_audit_id", _of_act),
)


def count_keys(
    queries: q.Queries, connection: object, encoding: Encoding, *, at_most: int | None
) -> Counter[str | None]:
    """How many values each key has encoded, and None for plain ones.

    at_most: so many rows of each table are looked at.
    """
    found: Counter[str | None] = Counter()
    for table in _TABLES:
        looked_at, after = 0, 0
        while rows := _load(queries, connection, table, after, 1000):
            for row in rows:
                found.update(encoding.key_of(one.text, one.form) for one in table.parts(row))
            looked_at += len(rows)
            if not table.key or (at_most is not None and looked_at >= at_most):
                break
            after = getattr(rows[-1], table.key)
    return found


class Recoding:
    """Encodes what is not encoded by the current key, or decodes all."""

    def __init__(
        self, connection: object, queries: q.Queries, commit: Transactions, encoding: Encoding
    ) -> None:
        self._connection = connection
        self._queries = queries
        self._commit = commit
        self._encoding = encoding

    async def run(self, *, to_plain: bool, on_progress: Callable[[int], object] | None) -> Recoded:
        is_off = to_plain or not self._encoding.has_codec
        wanted = None if is_off else self._encoding.current_key
        changed, left, problem, done = 0, 0, None, 0
        for table in _TABLES:
            after = 0
            while True:
                rows = await self._commit.read(lambda: self._load(table, after))  # noqa: B023
                updates: list[dict[str, Any]] = []
                for row in rows:
                    update, problems = self.update_of(table, row, wanted)
                    left += len(problems)
                    problem = problem or (problems[0] if problems else None)
                    if update:
                        updates.append(update)
                if updates:
                    changed += await self._commit.write(lambda: self._save(table, updates))  # noqa: B023
                done += len(rows)
                if on_progress is not None and rows:
                    on_progress(done)
                if not table.key or len(rows) < BATCH:
                    break
                after = getattr(rows[-1], table.key)
        return Recoded(rows=changed, left=left, problem=problem)

    def _load(self, table: _Table, after: int) -> list[Any]:
        return _load(self._queries, self._connection, table, after, BATCH)

    def _save(self, table: _Table, updates: list[dict[str, Any]]) -> int:
        update = getattr(self._queries, table.update)
        return sum(update(self._connection, **one) for one in updates)

    def update_of(
        self, table: _Table, row: Any, wanted: str | None
    ) -> tuple[dict[str, Any], list[str]]:
        """The parameters of the statement; none if the row is to stay as it is."""
        changed: dict[str, str] = {}
        problems: list[str] = []
        for part in table.parts(row):
            # Of the end of a child, the trigger tells the columns as they are, in an object.
            is_mixed = ENCODED in part.text and not part.text.startswith(part.form.before)
            if self._encoding.key_of(part.text, part.form) == wanted and not is_mixed:
                continue
            try:
                changed[part.column] = part.before + self._again(row, part, wanted) + part.after
            except (PayloadDecodeError, SerializationError) as error:
                problems.append(str(error))
        parameters = msgspec.structs.asdict(row)
        changed = {one: text for one, text in changed.items() if text != parameters[one]}
        if not changed:
            return {}, problems
        former = {f"former_{one}": parameters[one] for one in _columns(parameters)}
        return {**parameters, **changed, **former}, problems

    def _again(self, row: Any, part: _Part, wanted: str | None) -> str:
        encoding = self._encoding
        if part.column == "payload" and row.signal_name.startswith(CHILD_SIGNAL):
            plain = encoding.plain_payload(part.text, row.workflow_execution_id, row.signal_name)
        else:
            plain = encoding.plain(part.text, part.place, part.form)
        return plain if wanted is None else encoding.encode(plain, part.place, part.form)


def _columns(fields: Collection[str]) -> tuple[str, ...]:
    return tuple(
        one
        for one in (
            "input_data",
            "output_data",
            "error_message",
            "trouble",
            "payload",
            "refused_reason",
            "details",
            "declared",
            "item",
            "note",
        )
        if one in fields
    )


def _load(
    queries: q.Queries, connection: object, table: _Table, after: int, limit: int
) -> list[Any]:
    load = getattr(queries, table.load)
    found: list[Any] = (
        load(connection, after=after, row_limit=limit) if table.key else load(connection)
    )
    return found

"""Encodes the values that statements write, and decodes those that they read, with a codec.

It stands between the queries and the database, so it is the same on SQLite and on PostgreSQL. A
store without a codec does not have it.

An encoded value is valid JSON: a string that begins with `ENCODED`, and goes on with the bytes of
the codec in base64. An input stands in an array, as every input does. So a database may hold
encoded values beside plain ones, and what is plain is read as it is.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeGuard

import msgspec

from durable_workflow_sqlite.errors import (
    PayloadDecodeError,
    PayloadKeyError,
    SerializationError,
    StoreError,
)
from durable_workflow_sqlite.payload_codec import ENCODED, PayloadCodec, RotatingCodec
from durable_workflow_sqlite.questions import is_question, read_record, with_asked
from durable_workflow_sqlite.records import CHILD_SIGNAL
from durable_workflow_sqlite.store.transactions import AsStatement

HIDDEN: Final = "encrypted"
"""What people see of a value that cannot be decoded."""

HIDDEN_DETAILS: Final = f'{{"{HIDDEN}": true}}'
"""What they see of the details of an act."""

_ENCODED_JSON: Final = (f'"{ENCODED}', f'["{ENCODED}')

UNKNOWN: Final = "?"
"""What stands for the key of a value where a codec has no names for its keys."""

_HEAD: Final = 84
"""So many characters of base64 hold the header of a value: 63 bytes."""

_CLASS: Final = re.compile(r"[A-Za-z_][\w.]*: ")
"""How a trouble begins: with the class of the error, by which problems are grouped."""

_NAMES_ALONE: Final = frozenset({"blocked", "missing"})
"""What the details of an unblocking say: names alone, which a statement reads."""


class Adapter(Protocol):
    """How a query is run: see `adapter.py`."""

    def process_sql(self, query_name: str, operation: object, sql: str, /) -> str: ...

    def select(
        self, connection: Any, query_name: str, sql: str, parameters: Any, _: object, /
    ) -> list[Any]: ...

    def select_one(
        self, connection: Any, query_name: str, sql: str, parameters: Any, _: object, /
    ) -> Any | None: ...

    def select_value(
        self, connection: Any, query_name: str, sql: str, parameters: Any, /
    ) -> Any | None: ...

    def insert_update_delete(
        self, connection: Any, query_name: str, sql: str, parameters: Any, /
    ) -> int: ...


def is_encoded(value: object) -> TypeGuard[str]:
    """Whether JSON, as it stands in a column, is encoded."""
    return isinstance(value, str) and value.startswith(_ENCODED_JSON)


def is_encoded_text(value: object) -> TypeGuard[str]:
    """Whether plain text, as it stands in a column, is encoded."""
    return isinstance(value, str) and value.startswith(ENCODED)


def has_names_alone(details: str) -> bool:
    """Whether the details of an act are not encoded."""
    try:
        said = msgspec.json.decode(details, type=dict[str, object])
    except msgspec.MsgspecError:
        return False  # it is encoded, or written by hand
    return _NAMES_ALONE.issuperset(said)


def class_of(trouble: str) -> str:
    """The beginning of a trouble that is never encoded."""
    found = _CLASS.match(trouble)
    return "" if found is None else found[0]


class Undecoded(str):
    """An encoded value that could not be decoded, as it stands in its column."""

    __slots__ = ("error",)
    error: PayloadDecodeError


def why_encoded(text: str, what: str, execution_id: str | None) -> PayloadDecodeError:
    """Why a value was not decoded. what: which value it is, for people."""
    if isinstance(text, Undecoded):
        text.error.workflow_execution_id = execution_id
        return text.error
    return PayloadKeyError(
        f"{what} is encoded, and the store has no codec: open it with the `codec` that has encoded"
        " it, or name its file of keys in DURABLE_WORKFLOW_KEY_FILE",
        workflow_execution_id=execution_id,
    )


# How the text in a column becomes an encoded one, and back


class Form:
    """How an encoded value stands in a column."""

    def __init__(self, before: str, after: str, hidden: str) -> None:
        self.before = before + ENCODED
        self.after = after
        self.hidden = hidden
        """What people see of a value that cannot be decoded."""


VALUE: Final = Form('"', '"', f'"{HIDDEN}"')
INPUT: Final = Form('["', '"]', f'["{HIDDEN}"]')
TEXT: Final = Form("", "", HIDDEN)
DETAILS: Final = Form('"', '"', HIDDEN_DETAILS)


class _ChildEnd(msgspec.Struct):
    """What the trigger of the tables tells of the end of a child: its columns as they are."""

    status: str
    output: msgspec.Raw = msgspec.Raw(b"null")
    error_type: str | None = None
    error_message: str | None = None


class Encoding:
    """A codec, for the texts in columns.

    hides: whether what cannot be decoded is hidden, as people may see it. Else it stays as it is,
        as `Undecoded`, and `rows.py` refuses to make a record of it.
    """

    def __init__(self, codec: PayloadCodec | None, *, hides: bool = False) -> None:
        self._codec = codec
        self._hides = hides

    def encode(self, text: str, place: str, form: Form = VALUE) -> str:
        """Raises StoreError if the codec fails, and SerializationError for what is not JSON."""
        if self._codec is None:
            return text
        if form is not TEXT:
            _check_json(text, place)  # as the database does of what is not encoded
        try:
            data = self._codec.encode(text.encode(), place)
            body = binascii.b2a_base64(data, newline=False).decode()
        except Exception as error:  # whatever a codec does
            raise StoreError(f"the codec could not encode {place}: {error!r}") from error
        return f"{form.before}{body}{form.after}"

    def decode(self, text: str, place: str, form: Form = VALUE, *, strictly: bool = False) -> str:
        """What was encoded; text that is not encoded as it is."""
        if not text.startswith(form.before):
            return text
        try:
            return self._decoded(text, place, form)
        except PayloadDecodeError as error:
            if self._hides and not strictly:
                return form.hidden
            kept = Undecoded(text)
            kept.error = error
            return kept

    def _decoded(self, text: str, place: str, form: Form) -> str:
        if self._codec is None:
            raise why_encoded(text, place, None)
        body = text[len(form.before) : len(text) - len(form.after)]
        try:
            return self._codec.decode(binascii.a2b_base64(body, strict_mode=True), place).decode()
        except PayloadKeyError as error:
            raise PayloadKeyError(f"{place} cannot be decoded: {error}") from error
        except Exception as error:  # whatever a codec does
            raise PayloadDecodeError(f"{place} cannot be decoded: {error}") from error

    def key_of(self, text: str, form: Form) -> str | None:
        """Which key has encoded a value: None if it is plain, UNKNOWN if the codec cannot tell."""
        if not text.startswith(form.before):
            return None
        if not isinstance(self._codec, RotatingCodec):
            return UNKNOWN
        head = text[len(form.before) : len(form.before) + _HEAD]
        try:
            return self._codec.key_id(binascii.a2b_base64(head[: len(head) // 4 * 4]))
        except (PayloadDecodeError, ValueError):
            return UNKNOWN

    @property
    def has_codec(self) -> bool:
        return self._codec is not None

    def knows(self, key: str) -> bool:
        """Whether the codec has a key of this name, as `key_of` gives it."""
        if isinstance(self._codec, RotatingCodec):
            return self._codec.knows(key)
        return self._codec is not None

    @property
    def current_key(self) -> str:
        """The key that encodes; UNKNOWN if the codec has no names for its keys."""
        return self._codec.current_key_id if isinstance(self._codec, RotatingCodec) else UNKNOWN

    def plain(self, text: str, place: str, form: Form) -> str:
        """As `decode`, and raises PayloadDecodeError."""
        plain = self.decode(text, place, form, strictly=True)
        if isinstance(plain, Undecoded):
            raise plain.error
        return plain

    def encode_trouble(self, text: str, place: str) -> str:
        """The class of the error stays: problems are grouped by it."""
        before = class_of(text)
        return before + self.encode(text[len(before) :], place, TEXT)

    def decode_trouble(self, text: str, place: str) -> str:
        """It is shown, and nothing depends on it: so what cannot be decoded is always hidden."""
        before = class_of(text)
        plain = self.decode(text[len(before) :], place, TEXT)
        return before + (HIDDEN if isinstance(plain, Undecoded) else plain)

    def decode_payload(self, text: str, execution_id: str, signal_name: str) -> str:
        """The payload of a signal."""
        place = signal_place(execution_id, signal_name)
        if is_encoded(text) or not signal_name.startswith(CHILD_SIGNAL) or ENCODED not in text:
            return self.decode(text, place)
        try:
            end = msgspec.json.decode(text, type=_ChildEnd)
        except msgspec.MsgspecError:
            return text  # not of the trigger
        child = signal_name.removeprefix(CHILD_SIGNAL)
        output = self.decode(bytes(end.output).decode(), execution_place(child, "output_data"))
        if isinstance(output, Undecoded):
            return _instead_of(output)
        end.output = msgspec.Raw(output.encode())
        if end.error_message is not None:
            place = execution_place(child, "error_message")
            message = self.decode(end.error_message, place, TEXT)
            if isinstance(message, Undecoded):
                return _instead_of(message)
            end.error_message = message
        return msgspec.json.encode(end).decode()

    def plain_payload(self, text: str, execution_id: str, signal_name: str) -> str:
        """As `decode_payload`, and raises PayloadDecodeError."""
        plain = self.decode_payload(text, execution_id, signal_name)
        if isinstance(plain, Undecoded):
            raise plain.error
        return plain

    def encode_payload(self, text: str, execution_id: str, signal_name: str) -> str:
        return self.encode(text, signal_place(execution_id, signal_name))


def _check_json(text: str, place: str) -> None:
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError) as error:
        raise SerializationError(
            f"the database takes no value that is not json: {error}"
        ) from error


def _instead_of(part: Undecoded) -> Undecoded:
    whole = Undecoded(f'"{ENCODED}"')
    whole.error = part.error
    return whole


# The places of values. They name the row as every database does: what is copied there is decoded.


def _place(*parts: object) -> str:
    return msgspec.json.encode(parts).decode()


def execution_place(execution_id: str, column: str) -> str:
    return _place("workflow_executions", execution_id, column)


def step_place(execution_id: str, branch: str, step_index: int, attempt: int) -> str:
    return _place("step_checkpoints", execution_id, branch, step_index, attempt, "output_data")


def question_place(execution_id: str, branch: str, step_index: int) -> str:
    """Of what a question asks: the rest of its record says who is asked, and is not encoded."""
    return _place("step_checkpoints", execution_id, branch, step_index, "asked")


def step_error_place(execution_id: str) -> str:
    """Of an error's text, which people read without the number of its step."""
    return _place("step_checkpoints", execution_id, "error_message")


def stream_place(execution_id: str, branch: str, step_index: int, attempt: int) -> str:
    return _place("workflow_stream_items", execution_id, branch, step_index, attempt)


def progress_place(execution_id: str, branch: str, step_index: int) -> str:
    return _place("workflow_progress_reports", execution_id, branch, step_index, "note")


def signal_place(execution_id: str, signal_name: str, column: str = "payload") -> str:
    return _place("workflow_signals", execution_id, signal_name, column)


def refused_place(execution_id: str) -> str:
    return _place("workflow_signals", execution_id, "refused_reason")


def schedule_place(schedule_name: str, column: str) -> str:
    return _place("workflow_schedules", schedule_name, column)


def audit_place(scope: str, name: str, act: str, created_at: str) -> str:
    return _place("workflow_audit_log", scope, name, act, created_at, "details")


# What each statement writes, and what each row holds

Parameters = dict[str, Any]


def _encode_execution(encoding: Encoding, given: Parameters) -> None:
    execution_id = given["workflow_execution_id"]
    for column, form in (("input_data", INPUT), ("output_data", VALUE), ("error_message", TEXT)):
        if (text := given.get(column)) is not None:
            given[column] = encoding.encode(text, execution_place(execution_id, column), form)
    if (trouble := given.get("trouble")) is not None:
        encoded = encoding.encode_trouble(trouble, execution_place(execution_id, "trouble"))
        given["trouble"] = encoded
        if given.get("former_trouble") == trouble:  # the statement compares them
            given["former_trouble"] = encoded


def _encode_step(encoding: Encoding, given: Parameters) -> None:
    execution_id = given["workflow_execution_id"]
    if (text := given["output_data"]) is not None:
        place = step_place(execution_id, given["branch"], given["step_index"], given["attempt"])
        given["output_data"] = encoding.encode(text, place)
    if (text := given.get("error_message")) is not None:
        given["error_message"] = encoding.encode(text, step_error_place(execution_id), TEXT)
    if is_question(given["step_name"]) and (found := read_record(given.get("input_data"))):
        place = question_place(execution_id, given["branch"], given["step_index"])
        given["input_data"] = with_asked(found, encoding.encode(bytes(found.asked).decode(), place))


def _encode_stream_items(encoding: Encoding, given: Parameters) -> None:
    of = (given[name] for name in ("workflow_execution_id", "branch", "step_index", "attempt"))
    place = stream_place(*of)
    items = msgspec.json.decode(given["items"], type=list[str])
    encoded = [encoding.encode(item, place) for item in items]
    given["items"] = msgspec.json.encode(encoded).decode()


def _encode_progress(encoding: Encoding, given: Parameters) -> None:
    if (text := given["note"]) is not None:
        of = (given[name] for name in ("workflow_execution_id", "branch", "step_index"))
        given["note"] = encoding.encode(text, progress_place(*of), TEXT)


def _encode_signal(encoding: Encoding, given: Parameters) -> None:
    execution_id = given["workflow_execution_id"]
    if (text := given.get("payload")) is not None:
        given["payload"] = encoding.encode_payload(text, execution_id, given["signal_name"])
    if (text := given.get("refused_reason")) is not None:
        given["refused_reason"] = encoding.encode(text, refused_place(execution_id), TEXT)


def _encode_schedule(encoding: Encoding, given: Parameters) -> None:
    name = given["schedule_name"]
    for column, form in (("input_data", INPUT), ("declared", VALUE)):
        if (text := given[column]) is not None:
            given[column] = encoding.encode(text, schedule_place(name, column), form)
    if (text := given["trouble"]) is not None:
        given["trouble"] = encoding.encode_trouble(text, schedule_place(name, "trouble"))


def _encode_act(encoding: Encoding, given: Parameters) -> None:
    if (text := given["details"]) is not None and not has_names_alone(text):
        execution_id = given.get("workflow_execution_id")
        scope, name = (
            (given["scope"], given["name"]) if execution_id is None else ("EXECUTION", execution_id)
        )
        place = audit_place(scope, name, given["act"], given["created_at"])
        given["details"] = encoding.encode(text, place, DETAILS)


WRITES: Final[Mapping[str, Callable[[Encoding, Parameters], None]]] = {
    "upsert_execution": _encode_execution,
    "insert_execution_if_absent": _encode_execution,
    "update_execution": _encode_execution,
    "begin_again": _encode_execution,
    "postpone_execution": _encode_execution,
    "mend_execution": _encode_execution,
    "note_trouble": _encode_execution,
    "upsert_checkpoint": _encode_step,
    "record_step": _encode_step,
    "complete_step": _encode_step,
    "insert_stream_items": _encode_stream_items,
    "upsert_progress": _encode_progress,
    "insert_signal": _encode_signal,
    "send_signal": _encode_signal,
    "answer_question": _encode_signal,
    "upsert_signal": _encode_signal,
    "refuse_signal": _encode_signal,
    "upsert_schedule": _encode_schedule,
    "insert_audit_entry": _encode_act,
    "insert_change_entry": _encode_act,
}
"""The statements that write values, by name."""


class _Row:
    """A row that was read, beside what the statement was called with."""

    __slots__ = ("_encoding", "_given", "row", "strictly")

    def __init__(self, encoding: Encoding, row: Any, given: Any, *, strictly: bool) -> None:
        self._encoding = encoding
        self._given = given
        self.row = row
        self.strictly = strictly

    def __getitem__(self, column: str) -> Any:
        found = getattr(self.row, column, None)
        return self._given[column] if found is None else found

    def get(self, column: str) -> Any | None:
        found = getattr(self.row, column, None)
        return self._given.get(column) if found is None else found

    def decode(self, column: str, form: Form, place: Callable[..., str], *of: object) -> None:
        """place, of: what names the place; it is called for what is encoded."""
        text = getattr(self.row, column, None)
        if isinstance(text, str) and text.startswith(form.before):
            self.set(column, self._encoding.decode(text, place(*of), form, strictly=self.strictly))

    def plain(self, text: str, place: str) -> str:
        """What was encoded; as it is, if it cannot be decoded."""
        return self._encoding.decode(text, place, strictly=self.strictly)

    def show(self, column: str, form: Form, place: Callable[..., str], *of: object) -> None:
        """Decode what only people read: it is hidden if it cannot be decoded."""
        text = getattr(self.row, column, None)
        if isinstance(text, str) and text.startswith(form.before):
            plain = self._encoding.decode(text, place(*of), form)
            self.set(column, form.hidden if isinstance(plain, Undecoded) else plain)

    def decode_trouble(self, column: str, place: Callable[..., str], *of: object) -> None:
        text = getattr(self.row, column, None)
        if isinstance(text, str) and ENCODED in text:
            self.set(column, self._encoding.decode_trouble(text, place(*of)))

    def decode_payload(self) -> None:
        text = self.row.payload
        if isinstance(text, str) and ENCODED in text:
            execution_id, name = self["workflow_execution_id"], self["signal_name"]
            self.set("payload", self._encoding.decode_payload(text, execution_id, name))

    def set(self, column: str, text: str) -> None:
        msgspec.structs.force_setattr(self.row, column, text)


def _decode_execution(row: _Row) -> None:
    execution_id = row["workflow_execution_id"]
    row.decode("input_data", INPUT, execution_place, execution_id, "input_data")
    row.decode("output_data", VALUE, execution_place, execution_id, "output_data")
    row.decode("error_message", TEXT, execution_place, execution_id, "error_message")
    row.decode_trouble("trouble", execution_place, execution_id, "trouble")


def _decode_summary(row: _Row) -> None:
    _decode_execution(row)
    row.decode("step_error_message", TEXT, step_error_place, row["workflow_execution_id"])


def _decode_step(row: _Row) -> None:
    step = row.row
    place = step.workflow_execution_id, step.branch, step.step_index, step.attempt
    row.decode("output_data", VALUE, step_place, *place)
    row.decode("error_message", TEXT, step_error_place, step.workflow_execution_id)
    _decode_asked(row)


def _decode_asked(row: _Row) -> None:
    step = row.row
    text = step.input_data
    if isinstance(text, str) and is_question(step.step_name) and ENCODED in text:
        found = read_record(text)
        if found is not None and is_encoded(asked := bytes(found.asked).decode()):
            place = question_place(step.workflow_execution_id, step.branch, step.step_index)
            row.set("input_data", with_asked(found, row.plain(asked, place)))


def _decode_stream_item(row: _Row) -> None:
    item = row.row
    place = item.workflow_execution_id, item.branch, item.step_index, item.attempt
    row.decode("item", VALUE, stream_place, *place)


def _decode_progress(row: _Row) -> None:
    report = row.row
    place = report.workflow_execution_id, report.branch, report.step_index
    row.show("note", TEXT, progress_place, *place)


def _decode_step_error(row: _Row) -> None:
    row.decode("error_message", TEXT, step_error_place, row["workflow_execution_id"])


def _decode_question(row: _Row) -> None:
    row.decode("question", TEXT, step_error_place, row["workflow_execution_id"])


def _decode_problem(row: _Row) -> None:
    problem = row.row
    execution_id = problem.last_execution_id
    if problem.problem == "IN TROUBLE":
        row.decode_trouble("last_message", execution_place, execution_id, "trouble")
    elif problem.problem == "FAILED":
        row.decode("last_message", TEXT, execution_place, execution_id, "error_message")
    else:
        row.decode("last_message", TEXT, step_error_place, execution_id)


def _decode_signal(row: _Row) -> None:
    row.decode_payload()
    _decode_refused(row)


def _decode_refused(row: _Row) -> None:
    row.show("refused_reason", TEXT, refused_place, row["workflow_execution_id"])


def _decode_schedule(row: _Row) -> None:
    name = row["schedule_name"]
    row.decode("input_data", INPUT, schedule_place, name, "input_data")
    row.decode("declared", VALUE, schedule_place, name, "declared")
    row.decode_trouble("trouble", schedule_place, name, "trouble")


def _decode_act(row: _Row) -> None:
    act = row.row
    execution_id = row.get("workflow_execution_id")
    scope, name = (
        (row["scope"], row["name"]) if execution_id is None else ("EXECUTION", execution_id)
    )
    row.show("details", DETAILS, audit_place, scope, name, act.act, act.created_at)


READS: Final[Mapping[str, Callable[[_Row], None]]] = {
    "LoadExecutionRow": _decode_execution,
    "LoadExecutionsAmongRow": _decode_execution,
    "TakeExecutionRow": _decode_execution,
    "LoadExecutionDataRow": _decode_execution,
    "LoadChildrenRow": _decode_execution,
    "LoadInTroubleRow": _decode_execution,
    "LoadTroublesRow": _decode_execution,
    "LoadSummariesRow": _decode_summary,
    "StepCheckpointRow": _decode_step,
    "LoadCheckpointsAmongRow": _decode_step,
    "WorkflowStreamItemRow": _decode_stream_item,
    "WorkflowProgressReportRow": _decode_progress,
    "LoadQuestionsRow": _decode_asked,
    "LoadUndoingRow": _decode_step_error,
    "LoadNotUndoneRow": _decode_step_error,
    "LoadUnresolvedRow": _decode_question,
    "LoadProblemsRow": _decode_problem,
    "WorkflowSignalRow": _decode_signal,
    "LoadSignalsRow": _decode_signal,
    "LoadKeyedSignalRow": _decode_signal,
    "LoadRefusedSignalsRow": _decode_refused,
    "WorkflowScheduleRow": _decode_schedule,
    "LoadScheduleStatesRow": _decode_schedule,
    "LoadAuditLogRow": _decode_act,
    "LoadLatestActsRow": _decode_act,
    "LoadActsOnRow": _decode_act,
}
"""The classes of rows that hold values, by name: they are generated from the queries."""

_STRICT: Final = frozenset({"LoadExecutionsAmongRow", "LoadCheckpointsAmongRow"})
"""Rows that a replay needs as they were: nothing of them is hidden, and they cannot be read."""


class EncodingAdapter:
    """Another adapter, with a codec between it and the queries."""

    def __init__(self, adapter: Adapter, encoding: Encoding) -> None:
        self._adapter = adapter
        self._encoding = encoding
        self.process_sql = adapter.process_sql

    def select(
        self, connection: Any, query_name: str, sql: str, parameters: Any, record: object
    ) -> list[Any]:
        given = self._encoded(query_name, parameters)
        found = self._adapter.select(connection, query_name, sql, given, record)
        for row in found:
            self._decode(row, parameters)
        return found

    def select_one(
        self, connection: Any, query_name: str, sql: str, parameters: Any, record: object
    ) -> Any | None:
        given = self._encoded(query_name, parameters)
        row = self._adapter.select_one(connection, query_name, sql, given, record)
        if row is not None:
            self._decode(row, parameters)
        return row

    def select_value(
        self, connection: Any, query_name: str, sql: str, parameters: Any
    ) -> Any | None:
        given = self._encoded(query_name, parameters)
        return self._adapter.select_value(connection, query_name, sql, given)

    def insert_update_delete(
        self, connection: Any, query_name: str, sql: str, parameters: Any
    ) -> int:
        given = self._encoded(query_name, parameters)
        return self._adapter.insert_update_delete(connection, query_name, sql, given)

    def _encoded(self, query_name: str, parameters: Any) -> Any:
        encode = WRITES.get(query_name)
        if encode is None:
            return parameters
        given = dict(parameters)
        encode(self._encoding, given)
        return given

    def _decode(self, row: Any, parameters: Any) -> None:
        kind = type(row).__name__
        decode = READS.get(kind)
        if decode is not None:
            decode(_Row(self._encoding, row, parameters, strictly=kind in _STRICT))


def encoding_statements(as_statement: AsStatement, encoding: Encoding) -> AsStatement:
    """As `as_statement`, where the values of a step's outcome are encoded."""

    def as_encoding_statement(
        query: Any, *given: str
    ) -> tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
        statement, in_order = as_statement(query, *given)
        if "output_data" not in given:
            return statement, in_order
        at = given.index("output_data")
        place = [
            given.index(name)
            for name in ("workflow_execution_id", "branch", "step_index", "attempt")
        ]

        def encoded_in_order(values: tuple[Any, ...]) -> tuple[Any, ...]:
            text = values[at]
            if text is not None:
                encoded = encoding.encode(text, step_place(*(values[one] for one in place)))
                values = (*values[:at], encoded, *values[at + 1 :])
            return in_order(values)

        return statement, encoded_in_order

    return as_encoding_statement

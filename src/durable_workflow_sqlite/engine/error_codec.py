"""The errors of steps to what is recorded of them, and back.

The body of a workflow sees the same error in its first run as on every replay. So what is recorded
says how much of the error was kept:

- whole: it comes back equal, and the first run raises the error itself.
- like: less of it comes back, as of a response without its connection. The first run raises what
  comes back, too.
- text: its class and its text come back.
- nothing: its class cannot be found by name, or is not a subclass of Exception. So it is a
  StepFailedError.

Records of earlier versions lack the word; they hold whole errors or nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, cast

import msgspec

from durable_workflow_sqlite.engine.error_classes import Names, name_of, name_of_main
from durable_workflow_sqlite.engine.known_errors import KNOWN
from durable_workflow_sqlite.engine.plain_errors import (
    ErrorReader,
    ErrorWriter,
    Pair,
    with_text,
)
from durable_workflow_sqlite.errors import ErrorClassNotFoundError
from durable_workflow_sqlite.payload_codec import MAX_PAYLOAD_BYTES

MAX_PARTS_LENGTH: Final = 65_536

ErrorFunctions = Mapping[
    type[Exception], tuple[Callable[[Any], object], Callable[[Any], Exception]]
]

_log = logging.getLogger("durable_workflow_sqlite.engine")


class ErrorCodec:
    """Takes errors apart for the record, and makes them again.

    errors: for a class and those derived from it, `to_plain(error)`, which gives data that JSON
        can hold, and `from_plain(data)`, which gives the error again. Where one of them fails,
        that is logged, and the error is recorded as if they were not given.
    keeps_whole: False if nothing but the class and a text that is made elsewhere may be recorded.

    Raises TypeError if `errors` is anything else.
    """

    def __init__(
        self, errors: ErrorFunctions = MappingProxyType({}), *, keeps_whole: bool = True
    ) -> None:
        self._pairs = dict(KNOWN)
        self._given: dict[str, type[Exception]] = {}
        for kind, pair in _checked(errors):
            self._pairs[name_of(kind)] = pair
            self._given[name_of(kind)] = kind
        self._keeps_whole = keeps_whole

    def parts(self, error: BaseException) -> str:
        """What `rebuild` makes the error of, as JSON; nothing if it is not an Exception."""
        names = Names(name_of_main(), given=self._given)
        record: dict[str, Any] = {"kept": "nothing", "main": names.main}
        kind = type(error)
        try:
            found = names.error_class(name_of(kind))
            # One that was defined again, as in a shell, has taken the place of its former self.
            if found is kind or name_of(found) == name_of(kind):
                record["kept"] = "text"
        except ErrorClassNotFoundError:
            pass
        if not (self._keeps_whole and isinstance(error, Exception)):
            return _to_json(record)
        writer = ErrorWriter(names, self._pairs)
        try:
            plain = writer.whole(error)
            kept = "whole" if writer.is_exact else "like"
            whole = _to_json(record | {"kept": kept, "error": plain})
            self._again(msgspec.json.decode(whole), ())
            if len(whole) <= MAX_PARTS_LENGTH or (
                "by" in plain and len(whole) * 4 <= MAX_PAYLOAD_BYTES
            ):
                return whole
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - whatever a class of the user does
            pass
        return _to_json(record)

    @staticmethod
    def is_whole(parts: str | None) -> bool:
        """Whether the error itself is as good as what `rebuild` makes of its parts.

        If not, the first run is to raise what `rebuild` gives.
        """
        if parts is None:
            return False
        record = msgspec.json.decode(parts)
        return bool(record.get("kept", "whole") == "whole")

    def rebuild(
        self,
        error_type: str | None,
        message: str | None,
        parts: str | None,
        modules: Sequence[str] = (),
    ) -> Exception | None:
        """The error that was recorded; None if its class could not be found by name even then.

        modules: where to look for a class of a former `__main__`, beside the `__main__` of now:
            the modules of the workflow's function and of the step's action.

        Raises ErrorClassNotFoundError if its class could be found then, and cannot now.
        """
        record = _record(parts)
        if record is not None and record["kept"] == "nothing":
            return None
        if record is not None and "error" in record:
            try:
                return self._again(record, modules)
            except ErrorClassNotFoundError:
                raise
            except KeyboardInterrupt:
                raise
            except BaseException:  # noqa: BLE001 - whatever a class of the user does
                _log.warning(
                    "an error of the class %s cannot be recreated as it was recorded, so it has"
                    " only its class and text",
                    error_type,
                    exc_info=True,
                )
        names = Names(None if record is None else record.get("main"), modules, self._given)
        try:
            return with_text(names.error_class(error_type or ""), message)
        except ErrorClassNotFoundError:
            if record is None:  # of an earlier version, which did not record whether it was found
                return None
            raise
        except Exception:  # noqa: BLE001 - whatever a class of the user does
            return None

    def _again(self, record: dict[str, Any], modules: Sequence[str]) -> Exception:
        names = Names(record.get("main"), modules, self._given)
        return ErrorReader(names, self._pairs).error(record["error"])


def _checked(errors: Any) -> Iterator[tuple[type[Exception], Pair]]:
    what = "errors must map classes of errors to pairs of functions, (to_plain, from_plain)"
    if not isinstance(errors, Mapping):
        raise TypeError(f"{what}; it is {errors!r}")
    pairs = cast("Mapping[Any, Any]", errors)  # type: ignore[redundant-cast]
    for kind, pair in pairs.items():
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise TypeError(f"{what}; {kind!r} is not a class of errors")
        if not _is_pair(pair):
            raise TypeError(f"{what}; {name_of(kind)} has {pair!r}")
        yield kind, pair


def _is_pair(pair: object) -> bool:
    if not isinstance(pair, tuple):
        return False
    functions = cast("tuple[object, ...]", pair)
    return len(functions) == 2 and all(map(callable, functions))


def _record(parts: str | None) -> dict[str, Any] | None:
    """What was recorded; None if it says nothing but the columns beside it."""
    try:
        record = msgspec.json.decode(parts or "", type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    return record if "kept" in record else {"kept": "whole", "error": record}


def _to_json(record: dict[str, Any]) -> str:
    return msgspec.json.encode(record).decode()

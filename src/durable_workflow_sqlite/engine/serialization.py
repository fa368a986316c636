"""Values to JSON text and back, as the type that an annotation names.

msgspec does the work: it reads and writes dataclasses, Structs, TypedDicts, named tuples, enums,
datetimes, UUIDs, Decimals and the plain types. Pydantic models are written and read by their own
methods, found by name, so that pydantic need not be installed.
"""

from __future__ import annotations

import functools
import inspect
import math
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import msgspec

from durable_workflow_sqlite.engine.callables import remembered
from durable_workflow_sqlite.errors import SerializationError, StoreError

Serialize = Callable[[Any], Any]
Deserialize = Callable[[Any], Any]


def to_json(value: object, what: object) -> str:
    """JSON text of a value. Raises SerializationError, whose message begins with `str(what)`.

    Where there is not enough memory for it, a StoreError: as where SQLite runs out of it.
    """
    if value is None:
        return "null"
    try:
        # Not encode(), which ends the interpreter where there is no memory (msgspec 0.22).
        buffer = bytearray()
        _encoder.encode_into(value, buffer)
        text = buffer.decode()
        if "null" in text:
            _check_finite(msgspec.to_builtins(value, enc_hook=_write_custom, str_keys=True))
        return text
    except MemoryError as error:
        raise _out_of_memory(what) from error
    except Exception as error:  # a class of the user may raise anything
        raise SerializationError(f"{what} cannot be written as JSON: {error}") from error


def from_json(text: str | None, type_: Any, what: object) -> Any:
    """The value of JSON text, as a type; None for no text. Raises what `to_json` does."""
    try:
        if text is None or text == "null":
            return _convert_null(type_)
        return _decoder(type_).decode(text)
    except MemoryError as error:
        raise _out_of_memory(what) from error
    except Exception as error:
        problem = "is no JSON" if type_ is Any else f"cannot be read as {name_of(type_)}"
        raise SerializationError(f"{what} {problem}: {error}") from error


def is_json(text: str | None) -> bool:
    """Whether text is JSON; no text stands for null."""
    try:
        msgspec.json.decode(text or "null", type=msgspec.Raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def is_same_json(one: str | None, other: str | None) -> bool:
    """Whether two texts stand for the same data: 1, 1.0 and true are three."""
    return one == other or (
        is_json(one) and is_json(other) and _canonical(one) == _canonical(other)
    )


def is_itself(value: object, type_: Any) -> bool:
    """Whether a value comes back from JSON as it is, without a look at the text."""
    kind = type(value)
    return kind in _SAME_IN_JSON and (type_ is Any or type_ is kind)


def check_type(type_: Any, what: str, name: str) -> None:
    """Raise SerializationError if no JSON can be read as this type."""
    try:
        _decoder(type_)
    except TypeError as error:
        raise SerializationError(
            f"{what} {name!r} is {name_of(type_)}, which JSON cannot hold: {error}"
        ) from error


@remembered
def result_type(function: Callable[..., Any]) -> Any:
    """The type of what a function returns or its coroutine gives; Any where nothing says so."""
    if inspect.isclass(function):
        return function
    if not hasattr(function, "__annotations__"):
        function = type(function).__call__
    type_ = resolve(function).get("return", Any)
    if typing.get_origin(type_) in (Awaitable, Coroutine, typing.Awaitable, typing.Coroutine):
        type_ = typing.get_args(type_)[-1]
    return _plain(type_)


def parameter_types(function: Callable[..., Any]) -> tuple[list[Any], Any]:
    """Types of a function's positional parameters, and of those that `*args` takes, or None."""
    hints = resolve(function)
    fixed: list[Any] = []
    rest: Any = None
    for parameter in inspect.signature(function).parameters.values():
        type_ = _plain(hints.get(parameter.name, Any))
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            fixed.append(type_)
        elif parameter.kind is parameter.VAR_POSITIONAL:
            rest = type_
    return fixed, rest


def resolve(function: Callable[..., Any]) -> dict[str, Any]:
    """A function's annotations; one that cannot be resolved at run time counts as Any."""
    function = inspect.unwrap(function)
    try:
        return typing.get_type_hints(function)
    except Exception:  # noqa: BLE001 - whatever evaluating an annotation raises
        hints: dict[str, Any] = {}
        for name, annotation in getattr(function, "__annotations__", {}).items():
            alone = types.SimpleNamespace(
                __annotations__={name: annotation},
                __globals__=getattr(function, "__globals__", {}),
            )
            try:
                hints.update(typing.get_type_hints(alone))
            except Exception:  # noqa: BLE001
                hints[name] = Any
        return hints


def _out_of_memory(what: object) -> StoreError:
    return StoreError(
        f"there is not enough memory for {what}; give the process more, or store less at once"
    )


def _plain(type_: Any) -> Any:
    says_nothing = type_ in (object, typing.NoReturn, typing.Never)
    return Any if says_nothing or isinstance(type_, typing.TypeVar) else type_


def _canonical(text: str | None) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(text or "null"), order="sorted")


def _check_finite(value: object) -> None:
    """Raise for a number that JSON does not have, which msgspec writes as null."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"JSON has no number {value}")
    elif isinstance(value, dict):
        for one in cast("dict[object, object]", value).values():
            _check_finite(one)
    elif isinstance(value, list | tuple):
        for one in cast("list[object]", value):
            _check_finite(one)


def _convert_null(type_: Any) -> Any:
    return None if type_ in (Any, None, type(None)) else _decoder(type_).decode("null")


def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    try:
        return _cached_decoder(type_)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return msgspec.json.Decoder(type_, dec_hook=_read_custom)


@functools.lru_cache(maxsize=4096)
def _cached_decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_, dec_hook=_read_custom)


def _write_custom(value: object) -> Any:
    dump = getattr(type(value), "model_dump", None)
    if dump is None:
        raise TypeError(
            f"a {type(value).__qualname__} cannot be written as JSON; use a dataclass, a"
            " msgspec.Struct or a pydantic model, or give the step serialize= and deserialize="
        )
    return dump(value, mode="json", by_alias=True, round_trip=True)


def _read_custom(type_: Any, data: Any) -> Any:
    if type_ is object:
        return data
    validate = getattr(type_, "model_validate_json", None)
    if validate is None:
        raise TypeError(
            f"a {name_of(type_)} cannot be read from JSON; use a dataclass, a msgspec.Struct or a"
            " pydantic model, or give the step deserialize="
        )
    return validate(msgspec.json.encode(data))


def name_of(type_: Any) -> str:
    """A type as people write it; the same for `Optional[int]` and `int | None`."""
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if origin in (typing.Union, types.UnionType):
        return " | ".join(map(name_of, args))
    if args and isinstance(origin, type):
        return f"{origin.__qualname__}[{', '.join(map(name_of, args))}]"
    if type_ in (None, types.NoneType, ...):
        return "..." if type_ is ... else "None"
    return type_.__qualname__ if isinstance(type_, type) else str(type_).removeprefix("typing.")


_SAME_IN_JSON: Final = frozenset({str, int, bool})
_encoder = msgspec.json.Encoder(enc_hook=_write_custom)

"""Values to JSON text and back, as the type that an annotation names.

msgspec does the work: it reads and writes dataclasses, Structs, TypedDicts, named tuples, enums,
datetimes, UUIDs, Decimals and the plain types. Pydantic models are written and read by their own
methods, found by name, so that pydantic need not be installed. Each value is read again at once
after it was written. If it would come back as another value, it is refused.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable
from typing import Any, Final, cast

import msgspec

from durable_workflow_sqlite.engine.custom_types import read_custom, write_custom
from durable_workflow_sqlite.engine.round_trip import (
    came_back,
    difference,
    may_have_bytes,
    quick_check,
)
from durable_workflow_sqlite.engine.storable_types import check_storable
from durable_workflow_sqlite.engine.tagged_unions import TaggedCodec, needs_tags
from durable_workflow_sqlite.engine.type_parts import field_names, is_record
from durable_workflow_sqlite.errors import SerializationError, StoreError


def round_trip(value: object, type_: Any, what: object) -> tuple[str, Any]:
    """JSON text of a value, and the value as it is read again as a type.

    Raises SerializationError, whose message begins with `str(what)`, if it cannot be written or
    would not be the same. Where there is not enough memory for it, a StoreError: as where a
    store runs out of it.
    """
    if is_itself(value, type_):
        return _write(value, what), value
    try:
        codec = _codec(type_)
        plain = value if codec.plain is None else codec.plain(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a class of the user may raise anything
        raise SerializationError(f"{what} cannot be written as JSON: {error}") from error
    text = _write(plain, what)
    back = from_json(text, type_, what)
    try:
        found = None
        if not came_back(value, back, codec.check, has_bytes=codec.has_bytes):
            found = difference(value, back)
    except MemoryError as error:
        raise _out_of_memory(what) from error
    except Exception as error:  # a class of the user may raise anything
        raise SerializationError(f"{what} cannot be compared: {error!r}") from error
    if found is not None:
        raise SerializationError(
            f"{what} would not come back as it is: {found}. {_how_to_mend(type_)}"
        )
    return text, back


def to_json(value: object, what: object) -> str:
    """JSON text of a value whose reader knows the type. Raises what `round_trip` does.

    Each part must come back as its own class, so that nothing is lost on the way.
    """
    text = _write(value, what)
    if not is_itself(value, Any) and not came_back(value, from_json(text, Any, what)):
        _check_parts(value, what)
    return text


def _check_parts(value: Any, what: object) -> None:
    kind = cast("Any", type(value))
    if value is None or kind in _SAME_IN_JSON:
        return
    parts: list[Any]
    if kind in (list, tuple, set, frozenset):
        parts = list(value)
    elif kind is dict:
        if len(set(map(type, cast("dict[object, object]", value)))) > 1:
            raise SerializationError(f"{what} has a dict whose keys are of several types")
        parts = [*value, *value.values()]
    elif is_record(kind):
        _check_kind(kind, what)
        parts = [getattr(value, name) for name in field_names(kind)]
    else:
        _check_kind(kind, what)
        round_trip(value, kind, what)
        return
    for part in parts:
        _check_parts(part, what)


def _check_kind(kind: Any, what: object) -> None:
    try:
        _check_storable(kind)
    except Exception as error:  # a class of the user may raise anything
        raise SerializationError(f"{what} has a {name_of(kind)}: {error}") from error


def from_json(text: str | None, type_: Any, what: object) -> Any:
    """The value of JSON text, as a type; None for no text. Raises what `round_trip` does."""
    try:
        if text is None or text == "null":
            return _convert_null(type_)
        return _codec(type_).decode(text)
    except MemoryError as error:
        raise _out_of_memory(what) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
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


def is_plain(type_: Any) -> bool:
    """Whether no code of a class runs where a value of a type is read."""
    # A type with a class of its own may not be one that can be hashed.
    return type_ is Any or (type(type_) is type and type_ in _PLAIN)


def check_type(type_: Any, what: str, name: str) -> None:
    """Raise SerializationError if values of a type, or what they hold, do not come back."""
    if type(type_) is type and type_ in _PLAIN:
        return
    try:
        _check_storable(type_)
    except Exception as error:  # a class of the user may raise anything
        raise SerializationError(
            f"{what} {name!r} is {name_of(type_)}, which JSON cannot hold: {error}"
        ) from error


def canonical(value: object, what: object) -> bytes:
    """JSON of a value, the same for each order of the keys of dicts, and of the items of sets.

    Raises SerializationError if it cannot be written.
    """
    return _canonical(_write(value, what, _sorting_encoder))


def _out_of_memory(what: object) -> StoreError:
    return StoreError(
        f"there is not enough memory for {what}; give the process more, or store less at once"
    )


def _canonical(text: str | None) -> bytes:
    return msgspec.json.encode(msgspec.json.decode(text or "null"), order="sorted")


def _convert_null(type_: Any) -> Any:
    return None if type_ in (Any, None, type(None)) else _codec(type_).decode("null")


def _how_to_mend(type_: Any) -> str:
    if type_ is Any:
        return (
            "Without an annotation only plain JSON data is stored (None, bool, int, float, str, and"
            " lists and dicts of these): name the type in the annotation of the function"
        )
    return "Store what its annotation names, and name in the annotation what is stored"


class _Codec:
    """How values of one type are written and read."""

    __slots__ = ("check", "decode", "has_bytes", "is_storable", "plain")

    def __init__(self, type_: Any) -> None:
        """Raises TypeError for a type that cannot be read."""
        self.plain: Callable[[object], Any] | None = None
        """What is to be written for a value; None where that is the value."""
        self.decode: Callable[[str], Any]
        if needs_tags(type_):
            tagged = TaggedCodec(type_, write_custom, read_custom)
            self.plain, self.decode = tagged.plain, tagged.decode
        else:
            self.decode = msgspec.json.Decoder(type_, dec_hook=read_custom).decode
        self.check = quick_check(type_)
        self.has_bytes = may_have_bytes(type_)
        self.is_storable = False
        """Whether that was checked."""


_cached_codec = functools.lru_cache(maxsize=4096)(_Codec)


def _codec(type_: Any) -> _Codec:
    try:
        return _cached_codec(type_)
    except TypeError as error:
        if "unhashable" not in str(error):
            raise
        return _Codec(type_)


def _write(value: object, what: object, encoder: msgspec.json.Encoder | None = None) -> str:
    if value is None:
        return "null"
    try:
        # Not encode(), which ends the interpreter where there is no memory (msgspec 0.22).
        buffer = bytearray()
        (encoder or _encoder).encode_into(value, buffer)
        return buffer.decode()
    except MemoryError as error:
        raise _out_of_memory(what) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a class of the user may raise anything
        raise SerializationError(f"{what} cannot be written as JSON: {error}") from error


def _check_storable(type_: Any) -> None:
    try:
        if _cached_codec(type_).is_storable:
            return
    except TypeError:  # it cannot be hashed, or not be stored: the check says why
        pass
    check_storable(type_)
    _codec(type_).is_storable = True


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
_PLAIN: Final = frozenset({str, int, bool, float, type(None), list, dict})
_encoder = msgspec.json.Encoder(enc_hook=write_custom)
_sorting_encoder = msgspec.json.Encoder(enc_hook=write_custom, order="sorted")

"""Whether a value came back from JSON as it went: equal, and of the same types throughout."""

from __future__ import annotations

import marshal
import math
import typing
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, tzinfo
from decimal import Decimal
from enum import Enum
from functools import cached_property
from operator import attrgetter
from typing import Any, Final
from uuid import UUID

from durable_workflow_sqlite.engine.type_parts import (
    bare,
    class_of,
    field_names,
    fields_of,
    is_model,
    is_record,
    members,
    reachable,
)

Check = Callable[[Any], bool]
Kinds = frozenset[type[Any]]


def came_back(
    value: Any, back: Any, check: Check | None = None, *, has_bytes: bool = False
) -> bool:
    """Whether `back` is the same, which was read from what was written of `value`.

    check: the quick one of its type, if there is one. has_bytes: whether the type has any.
    """
    if check is not None and check(value):
        return True
    if not has_bytes:
        try:
            # Of plain types alone, which it tells apart: 1, 1.0 and True, a list and a tuple. But
            # it does not tell bytes from a bytearray.
            if marshal.dumps(value, 2) == marshal.dumps(back, 2):
                return True
        except ValueError:
            pass
    return difference(value, back) is None


def difference(value: Any, back: Any, at: str = "") -> str | None:
    """Where `back` is not the same, and how, in words that show no value; None if it is.

    A whole number that is read as a float is the same.
    """
    kind, other = _class(value), _class(back)
    if kind is not other:
        if kind is int and other is float and value == back:
            return None
        if kind is float and not math.isfinite(value):
            return f"JSON has no number {value}{_where(at)}"
        hint = ""
        if isinstance(value, other) and (is_record(other) or is_model(other)):
            hint = f"; a `{other.__qualname__} | {kind.__qualname__}` keeps both apart"
        return f"{_one(kind)}{_where(at)} comes back as {_one(other)}{hint}"
    if kind in (float, complex, Decimal):  # 0.0 is not -0.0, and 1.1 not 1.10
        return None if repr(value) == repr(back) else _another(kind, at)
    if kind in _EXACT or _is_a(kind, Enum):
        return None if value == back else _another(kind, at)
    if _is_a(kind, list, tuple):
        return _first(_pairs(value, back, kind, at))
    if _is_a(kind, dict):
        return _first(_items(value, back, kind, at))
    if _is_a(kind, set, frozenset):
        found = {one: one for one in back}
        if len(value) != len(back) or any(one not in found for one in value):
            return _another(kind, at)
        return _first((one, found[one], f"{at}[...]") for one in value)
    if _is_a(kind, datetime, time):
        return _of_time(value, back, kind, at)
    if is_model(kind):
        return _first(_of_model(value, back, at))
    if (names := field_names(kind)) and is_record(kind):
        return _first(_of_record(value, back, names, kind, at))
    return None if _is_equal(value, back) else _another(kind, at)


Triple = tuple[Any, Any, str]


def _first(triples: Iterable[Triple | str]) -> str | None:
    for one in triples:
        found = one if isinstance(one, str) else difference(*one)
        if found is not None:
            return found
    return None


def _pairs(value: Any, back: Any, kind: Any, at: str) -> Iterable[Triple | str]:
    if len(value) != len(back):
        yield _another(kind, at)
        return
    for number, (one, other) in enumerate(zip(value, back, strict=True)):
        yield one, other, f"{at}[{number}]"


def _items(value: Any, back: Any, kind: Any, at: str) -> Iterable[Triple | str]:
    if len(value) != len(back):
        yield _another(kind, at)
        return
    for (key, one), (other_key, other) in zip(value.items(), back.items(), strict=True):
        place = f"{at}[{key!r}]" if type(key) in (str, int) else f"{at}[...]"
        yield key, other_key, f"the key {place}"
        yield one, other, place


def _of_record(
    value: Any, back: Any, names: tuple[str, ...], kind: Any, at: str
) -> Iterable[Triple | str]:
    for name in names:
        try:
            yield getattr(value, name), getattr(back, name), f"{at}.{name}"
        except AttributeError:
            yield _another(kind, f"{at}.{name}")
    yield from _of_others(_attributes(value), back, set(names), at)


def _of_model(value: Any, back: Any, at: str) -> Iterable[Triple | str]:
    attributes, its = _attributes(value), _attributes(back)
    fields: Iterable[str] = getattr(value, "__pydantic_fields__", attributes)
    for name in fields:
        if name in attributes:
            yield attributes[name], its.get(name), f"{at}.{name}"
    yield from _of_others(attributes, back, set(fields), at)
    yield _inside(value, "extra"), _inside(back, "extra"), at
    yield from _of_others(_inside(value, "private"), back, set(), at)


def _attributes(value: Any) -> dict[str, Any]:
    return getattr(value, "__dict__", {})


def _inside(model: Any, what: str) -> dict[str, Any]:
    return getattr(model, f"__pydantic_{what}__", None) or {}


def _of_others(
    attributes: dict[str, Any], back: Any, known: set[str], at: str
) -> Iterable[Triple | str]:
    """Attributes that are not fields: what is not computed must be there again."""
    for name, one in attributes.items():
        if name in known or _is_a(type(getattr(_class(back), name, None)), cached_property):
            continue
        try:
            other = getattr(back, name)
        except AttributeError:
            yield f"{at}.{name} is not a field, and does not come back"
            continue
        # A lock, say: each has its own, and they are as good as each other.
        if type(one) is not type(other) or not _is_opaque(type(one)):
            yield one, other, f"{at}.{name}"


def _of_time(value: Any, back: Any, kind: Any, at: str) -> str | None:
    if value.replace(tzinfo=None) != back.replace(tzinfo=None) or value.fold != back.fold:
        return _another(kind, at)
    zone: tzinfo | None = value.tzinfo
    if zone is None and back.tzinfo is None:
        return None
    if zone is None or value.utcoffset() != back.utcoffset():
        return _another(kind, at)
    if back.tzinfo is None:  # of a time of day in a zone whose offset depends on the day
        return f"the zone {zone} of {_one(kind)}{_where(at)} does not come back"
    if zone.utcoffset(None) != back.utcoffset():
        return (
            f"the zone {zone} of {_one(kind)}{_where(at)} comes back as {back.tzinfo}, a"
            " fixed offset; store it as `.astimezone(UTC)`, and the name of the zone beside it"
        )
    return None


def _is_equal(value: Any, back: Any) -> bool:
    if _is_opaque(type(value)) and hasattr(value, "__dict__"):
        return value is back or difference(vars(value), vars(back)) is None
    return bool(value == back)


def _class(value: object) -> Any:
    return value.__class__


def _is_a(kind: Any, *classes: type) -> bool:
    return issubclass(kind, classes)


def _is_opaque(kind: Any) -> bool:
    """Whether two objects of a class are never equal."""
    return bool(kind.__eq__ is object.__eq__)


def _another(kind: Any, at: str) -> str:
    return f"{_one(kind)}{_where(at)} comes back as another one"


def _one(kind: Any) -> str:
    name: str = kind.__qualname__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _where(at: str) -> str:
    return f" at {at}" if at else ""


def may_have_bytes(type_: Any) -> bool:
    """Whether values of a type may hold bytes."""
    return any(class_of(one) in _BYTES for one in reachable(type_))


# Checks of a type, made once: a value that passes comes back as it went for certain.

_EXACT: Final = frozenset({str, int, bool, type(None), bytes, UUID, date, Decimal})


def quick_check(type_: Any) -> Check | None:
    """A check that is True for values of a type that come back for certain; None if there is none.

    For other values it is False: they may come back or not.
    """
    try:
        return _make_check(bare(type_), 0)
    except TypeError:  # something in it cannot be hashed
        return None


def _make_check(type_: Any, depth: int) -> Check | None:
    if kinds := _scalars(type_):
        return _one_of(kinds)
    origin, args = typing.get_origin(type_), typing.get_args(type_)
    if origin in (list, set, frozenset) or (
        origin is tuple and len(args) == 2 and args[1] is Ellipsis
    ):
        return _check_of_all(origin, args[0], depth)
    if origin is dict and bare(args[0]) is str and (kinds := _scalars(args[1])):
        of_all = _all_are(kinds)
        return lambda value: _is_dict(value) and of_all(value.values())
    kind = class_of(type_)
    if (
        is_record(kind)
        and depth < _DEEPEST
        and not any(hasattr(kind, changes) for changes in ("__attrs_attrs__", "__post_init__"))
    ):
        return _check_of_record(type_, kind, depth)
    return None


def _check_of_all(kind: Any, one: Any, depth: int) -> Check | None:
    if kinds := _scalars(one):
        of_all = _all_are(kinds)
        return lambda value: _is_exactly(kind, value) and of_all(value)
    one = bare(one)
    if is_record(class_of(one)) and (check := _make_check(one, depth)) is not None:
        return lambda value: _is_exactly(kind, value) and _all_pass(check, value)
    return None


def _check_of_record(type_: Any, kind: Any, depth: int) -> Check | None:
    """Of a class whose fields alone have what is in it, and all of them scalars or records."""
    checks: list[Check] = []
    for hint in fields_of(type_).values():
        check = _make_check(bare(hint), depth + 1)
        if check is None:
            return None
        checks.append(check)
    names = field_names(kind)
    if not names:
        return None
    of = attrgetter(*names)
    has_dict = bool(getattr(kind, "__dictoffset__", 0))
    size = len(names)

    def check_record(value: Any) -> bool:
        if type(value) is not kind or (has_dict and len(value.__dict__) != size):
            return False
        values = (of(value),) if size == 1 else of(value)
        return all(map(_apply, checks, values))

    return check_record


def _all_pass(check: Check, values: Iterable[Any]) -> bool:
    return all(map(check, values))


def _apply(check: Check, value: Any) -> bool:
    return check(value)


def _scalars(type_: Any) -> Kinds:
    """The classes of a type that holds nothing and comes back as it went; none for others."""
    kinds = set[type[Any]]()
    for member in members(bare(type_)) or (type_,):
        one = bare(member)
        kind = type(None) if one is None else one
        if not (kind in _EXACT or kind is float or _is_enum(kind)):
            return frozenset()
        kinds.add(kind)
    return frozenset(kinds)


def _one_of(kinds: Kinds) -> Check:
    if float in kinds:
        return lambda value: (
            type(value) in kinds and (type(value) is not float or math.isfinite(value))
        )
    return lambda value: type(value) in kinds


def _all_are(kinds: Kinds) -> Callable[[Iterable[Any]], bool]:
    if kinds == _FLOATS:
        return lambda values: (
            kinds.issuperset(map(type, values)) and all(map(math.isfinite, values))
        )
    if float in kinds:
        one_of = _one_of(kinds)
        return lambda values: all(map(one_of, values))
    return lambda values: kinds.issuperset(map(type, values))


def _is_exactly(kind: Any, value: Any) -> bool:
    return type(value) is kind


def _is_dict(value: Any) -> bool:
    return _is_exactly(dict, value) and _STRINGS.issuperset(map(type, value))


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and _is_a(kind, Enum)


_BYTES: Final = (bytes, bytearray, memoryview)
_STRINGS: Final = frozenset({str})
_FLOATS: Kinds = frozenset({float})
_DEEPEST: Final = 4

"""What a type is made of: the members of a union, the fields of a class, what a container holds."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator
from typing import Any, Final, cast

_WRAPPERS: Final = (typing.Annotated, typing.Required, typing.NotRequired, typing.Final)


def bare(type_: Any) -> Any:
    """A type without what only says more about it: Annotated, NewType, an alias by `type`."""
    while True:
        origin = typing.get_origin(type_)
        if origin in _WRAPPERS:
            type_ = typing.get_args(type_)[0]
        elif isinstance(type_, typing.NewType):
            type_ = type_.__supertype__
        elif type(type_).__name__ == "TypeAliasType":
            type_ = type_.__value__
        elif type(origin).__name__ == "TypeAliasType":
            type_ = origin.__value__[typing.get_args(type_)]
        else:
            return type_


def members(type_: Any) -> tuple[Any, ...]:
    """The members of a union; none of anything else."""
    is_union = typing.get_origin(type_) in (typing.Union, types.UnionType)
    return typing.get_args(type_) if is_union else ()


def class_of(type_: Any) -> Any:
    """The class that a type names, also for a generic type: `Box` of `Box[int]`."""
    return typing.get_origin(type_) or type_


def is_record(kind: Any) -> bool:
    """Whether a class has fields, and msgspec writes them as an object of JSON."""
    if (config := getattr(kind, "__struct_config__", None)) is not None:
        return not config.array_like
    has_fields = hasattr(kind, "__dataclass_fields__") or hasattr(kind, "__attrs_attrs__")
    return has_fields and isinstance(kind, type)


def is_model(kind: Any) -> bool:
    """Whether it is a model of pydantic, or a class with the same methods."""
    return hasattr(kind, "model_dump") and hasattr(kind, "model_validate_json")


def field_names(kind: Any) -> tuple[str, ...]:
    """The names of the fields that are stored of a class; none of what has no fields."""
    names: Any = ()
    if not isinstance(kind, type):
        pass
    elif hasattr(kind, "__dataclass_fields__"):
        from dataclasses import fields  # whoever has one has loaded this

        names = [field.name for field in fields(cast("Any", kind))]
    elif hasattr(kind, "__attrs_attrs__"):
        names = [attribute.name for attribute in cast("Any", kind).__attrs_attrs__]
    elif typing.is_typeddict(kind):
        names = kind.__annotations__
    else:  # of a Struct, or of a named tuple
        names = getattr(kind, "__struct_fields__", None) or getattr(kind, "_fields", ())
    return tuple(names)


def fields_of(type_: Any) -> dict[str, Any]:
    """The fields of a class, by name, as they are where it is generic.

    Raises TypeError where an annotation cannot be resolved.
    """
    kind = class_of(type_)
    names = field_names(kind)
    if not names:
        return {}
    try:
        hints = typing.get_type_hints(kind, include_extras=True)
    except Exception as error:
        raise TypeError(
            f"an annotation in class {kind.__qualname__} is not known when the program runs:"
            f" {error}"
        ) from error
    given = dict(zip(getattr(kind, "__parameters__", ()), typing.get_args(type_), strict=False))
    return {name: _filled(hints.get(name, Any), given) for name in names}


def parts(type_: Any) -> list[Any]:
    """What a value of a type holds directly, as types."""
    type_ = bare(type_)
    if typing.get_origin(type_) is typing.Literal:
        return []
    if fields := fields_of(type_):
        return list(fields.values())
    return [part for part in typing.get_args(type_) if part is not Ellipsis]


def reachable(type_: Any) -> Iterator[Any]:
    """A type and all that its values hold, at any depth."""
    to_see, seen = [type_], list[Any]()
    while to_see:
        one = bare(to_see.pop())
        if any(one is other or (type(one) is type(other) and one == other) for other in seen):
            continue
        seen.append(one)
        yield one
        to_see.extend(parts(one))


def _filled(hint: Any, given: dict[Any, Any]) -> Any:
    if not given:
        return hint
    if isinstance(hint, typing.TypeVar):
        return given.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if parameters and not isinstance(hint, type):
        return hint[tuple(given.get(one, one) for one in parameters)]
    return hint

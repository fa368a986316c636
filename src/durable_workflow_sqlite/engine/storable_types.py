"""Whether the values of a type come back from JSON at all, as far as the type tells."""

from __future__ import annotations

import typing
from typing import Any, Final

import msgspec

from durable_workflow_sqlite.engine.custom_types import is_custom
from durable_workflow_sqlite.engine.type_parts import (
    bare,
    class_of,
    field_names,
    is_model,
    members,
    reachable,
)


def check_storable(type_: Any) -> None:
    """Raise TypeError for a type whose values, or what they hold, do not come back."""
    for one in reachable(type_):
        kind = class_of(one)
        if is_model(kind):
            _check_model(kind, [])
        elif isinstance(kind, type) and not members(one):
            _check_class(kind)


def _check_class(kind: Any) -> None:
    for attribute in getattr(kind, "__attrs_attrs__", ()):
        if attribute.name.startswith("_"):
            raise TypeError(
                f"attribute {attribute.name!r} of {kind.__qualname__} begins with an underscore,"
                " and msgspec does not write such attributes of attrs"
            )
    if kind is object or is_custom(kind) or field_names(kind):
        return
    if isinstance(msgspec.inspect.type_info(kind), msgspec.inspect.CustomType):
        what = "a secret, which is written as asterisks" if _is_secret(kind) else "not plain data"
        raise TypeError(
            f"a {kind.__qualname__} is {what}; use a dataclass, a msgspec.Struct or a pydantic"
            " model without it"
        )


# Models of pydantic


def _check_model(kind: Any, seen: list[Any]) -> None:
    fields: dict[str, Any] | None = getattr(kind, "__pydantic_fields__", None)
    if fields is None or kind in seen:
        return
    seen.append(kind)
    if not getattr(kind, "__pydantic_complete__", True) and not _is_complete(kind):
        raise TypeError(f"the annotations of {kind.__qualname__} cannot be resolved")
    decorators = getattr(kind, "__pydantic_decorators__", None)
    if getattr(decorators, "model_serializers", None):
        return  # what it makes of a value, only a value shows
    written_otherwise = {
        name
        for one in getattr(decorators, "field_serializers", {}).values()
        for name in one.info.fields
    }
    for name, field in fields.items():
        if getattr(field, "exclude", None):
            raise TypeError(
                f"field {name!r} of {kind.__qualname__} has exclude=True: it is not written. Store"
                " a model that has no such field"
            )
        if is_model(kind):
            _check_aliases(kind, name, field)
        if not ({name, "*"} & written_otherwise or _has_serializer(field.metadata)):
            _check_in_model(field.annotation, f"field {name!r} of {kind.__qualname__}", seen)


def _is_complete(kind: Any) -> bool:
    """Whether all classes are known that a model names, now that the program runs."""
    try:
        return kind.model_rebuild(raise_errors=False) is not False
    except Exception:  # noqa: BLE001 - whatever evaluating an annotation raises
        return False


def _check_aliases(kind: Any, name: str, field: Any) -> None:
    """A field must have the same name when it is written and when it is read."""
    config: dict[str, Any] = getattr(kind, "model_config", {})
    read_as = set[str]()
    if field.validation_alias is None:
        read_as.add(name)
    elif config.get("validate_by_alias", True):
        for choice in getattr(field.validation_alias, "choices", [field.validation_alias]):
            path = getattr(choice, "path", [choice])
            if len(path) == 1:
                read_as.add(path[0])
    if config.get("populate_by_name") or config.get("validate_by_name"):
        read_as.add(name)
    written_as = field.serialization_alias or name
    if written_as not in read_as:
        raise TypeError(
            f"field {name!r} of {kind.__qualname__} is written as {written_as!r} and read as"
            f" {' or '.join(map(repr, sorted(read_as))) or 'something else'}: give it one `alias`,"
            " or let the model have `validate_by_name`"
        )


def _check_in_model(type_: Any, what: str, seen: list[Any]) -> None:
    if typing.get_origin(type_) is typing.Annotated and _has_serializer(type_.__metadata__):
        return
    type_ = bare(type_)
    kind = class_of(type_)
    if _is_secret(kind):
        raise TypeError(
            f"{what} is a {kind.__qualname__}, which pydantic writes as asterisks. Keep secrets"
            " out of what is stored: store the name of the secret, and look it up in the step that"
            " uses it. A `field_serializer` that reveals it stores it in clear text"
        )
    _check_model(kind, seen)
    if typing.get_origin(type_) is not typing.Literal:
        for part in typing.get_args(type_):
            _check_in_model(part, what, seen)


def _is_secret(kind: Any) -> bool:
    if not hasattr(kind, "get_secret_value"):
        return False
    owner = next((one for one in kind.__mro__ if _SCHEMA in vars(one)), kind)
    return str(owner.__module__).startswith("pydantic.")


def _has_serializer(metadata: Any) -> bool:
    """Whether something in an annotation may say how a value is written."""
    return any(
        hasattr(one, "return_type")
        or (hasattr(one, _SCHEMA) and not type(one).__module__.startswith("pydantic."))
        for one in metadata
    )


_SCHEMA: Final = "__get_pydantic_core_schema__"

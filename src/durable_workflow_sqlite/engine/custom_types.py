"""What msgspec does not write by itself: models of pydantic, paths, complex numbers."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, cast

import msgspec

from durable_workflow_sqlite.engine.type_parts import is_model

_ADVICE = "use a dataclass, a msgspec.Struct or a pydantic model, or give the step"


def is_custom(kind: Any) -> bool:
    """Whether the functions below know a class."""
    return is_model(kind) or issubclass(kind, PurePath | complex)


def write_custom(value: object) -> Any:
    """The hook of msgspec for what it cannot write."""
    if is_model(type(value)):
        model = cast("Any", value)
        return model.model_dump(mode="json", by_alias=True, round_trip=True)
    if isinstance(value, PurePath | complex):
        return str(value)
    name = type(value).__qualname__
    article = "an" if name[0] in "aeiouAEIOU" else "a"
    raise TypeError(
        f"{article} {name} cannot be written as JSON; {_ADVICE} serialize= and deserialize="
    )


def read_custom(type_: Any, data: Any) -> Any:
    """The hook of msgspec for what it cannot read."""
    if type_ is object:
        return data
    if is_model(type_):
        return type_.model_validate_json(msgspec.json.encode(data))
    if isinstance(type_, type) and issubclass(type_, PurePath | complex):
        if not isinstance(data, str):
            raise TypeError(f"a {type_.__qualname__} is stored as text")
        return type_(data)
    raise TypeError(f"a {type_} cannot be read from JSON; {_ADVICE} deserialize=")

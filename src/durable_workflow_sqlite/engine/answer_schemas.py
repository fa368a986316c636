"""JSON Schema of the answer to a question, and whether an answer is of it.

What answers a question need not know the code of the workflow. So the record of a question holds
the schema of its answer. The workflow itself reads the answer as its type, which says the last
word.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import msgspec

from durable_workflow_sqlite.engine.type_parts import is_model

_DEEPEST: Final = 32
"""How many schemas are looked into, one in the other: a schema may refer to itself."""

_IN_WORDS: Final = {
    "null": "null",
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "string": "a string",
    "array": "an array",
    "object": "an object",
}

_KINDS: Final[dict[type, str]] = {
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
"""The kind of each type that JSON is read as, beside numbers and booleans."""

_BOUNDS: Final[tuple[tuple[str, Callable[[float, float], bool], str], ...]] = (
    ("minimum", operator.ge, "at least"),
    ("exclusiveMinimum", operator.gt, "more than"),
    ("maximum", operator.le, "at most"),
    ("exclusiveMaximum", operator.lt, "less than"),
)


def schema_of(type_: Any) -> dict[str, Any]:
    """The schema of a type; {}, which takes everything, of one that cannot be described."""
    try:
        return _schema_of(type_)
    except TypeError:  # it cannot be hashed
        return _schema_of.__wrapped__(type_)


@functools.lru_cache(maxsize=1024)
def _schema_of(type_: Any) -> dict[str, Any]:
    try:
        if is_model(type_):
            return cast("dict[str, Any]", type_.model_json_schema())
        return msgspec.json.schema(type_, schema_hook=_of_others)
    except Exception:  # noqa: BLE001 - a class of the user may raise anything
        return {}


def _of_others(type_: Any) -> dict[str, Any]:
    """Of a class that msgspec does not know: its own words would need definitions elsewhere."""
    return {"type": "object"} if is_model(type_) else {}


def misfit(value: Any, schema: Mapping[str, Any]) -> str | None:
    """Why plain JSON data is not of a schema; None if it may be.

    It knows what `schema_of` writes; other words take everything.
    """
    return _misfit(value, schema, "the answer", schema, 0)


def resolved(schema: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A schema, or what it refers to in the definitions of the root."""
    for _ in range(_DEEPEST):
        ref = schema.get("$ref")
        if not isinstance(ref, str):
            return schema
        found: Any = root
        for part in ref.removeprefix("#/").split("/"):
            found = (
                cast("Mapping[str, Any]", found).get(part) if isinstance(found, Mapping) else None
            )
        if not isinstance(found, Mapping):
            return {}
        schema = cast("Mapping[str, Any]", found)
    return {}


def _misfit(
    value: Any, schema: Mapping[str, Any], at: str, root: Mapping[str, Any], depth: int
) -> str | None:
    if depth > _DEEPEST:
        return None
    schema = resolved(schema, root)
    options = cast("list[dict[str, Any]]", schema.get("anyOf") or schema.get("oneOf") or [])
    found = [_misfit(value, one, at, root, depth + 1) for one in options]
    if found and None not in found:
        return found[0] if len(found) == 1 else f"{at} fits none of its types: {found[0]}"
    if "const" in schema and not _is_same(value, schema["const"]):
        return f"{at} must be {_text(schema['const'])}, not {_text(value)}"
    if "enum" in schema and not any(_is_same(value, one) for one in schema["enum"]):
        return f"{at} must be one of {', '.join(map(_text, schema['enum']))}, not {_text(value)}"
    kinds = schema.get("type")
    if kinds is not None:
        names = [kinds] if isinstance(kinds, str) else list(kinds)
        if not any(_is_kind(value, one) for one in names):
            wanted = " or ".join(_IN_WORDS.get(one, one) for one in names)
            return f"{at} must be {wanted}, not {_text(value)}"
    return (
        _out_of_bounds(value, schema, at)
        or _misfit_in_object(value, schema, at, root, depth)
        or _misfit_in_array(value, schema, at, root, depth)
    )


def _is_kind(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int):
        return kind in ("integer", "number")
    if isinstance(value, float):
        return kind == "number" or (kind == "integer" and value.is_integer())
    return _KINDS.get(type(cast("object", value))) == kind or kind not in _IN_WORDS


def _out_of_bounds(value: Any, schema: Mapping[str, Any], at: str) -> str | None:
    if isinstance(value, int | float) and not isinstance(value, bool):
        for word, is_in, says in _BOUNDS:
            limit = schema.get(word)
            if isinstance(limit, int | float) and not is_in(value, limit):
                return f"{at} must be {says} {limit}, not {_text(value)}"
    if isinstance(value, str):
        if (wrong := _wrong_size(len(value), "Length", "characters", schema, at)) is not None:
            return wrong
        pattern = schema.get("pattern")
        if isinstance(pattern, str) and not _matches(pattern, value):
            return f"{at} must match {pattern}"
    return None


def _matches(pattern: str, text: str) -> bool:
    try:
        return re.search(pattern, text) is not None
    except re.error:  # another kind of expression: the workflow says the last word
        return True


def _wrong_size(
    size: int, word: str, of_what: str, schema: Mapping[str, Any], at: str
) -> str | None:
    least, most = schema.get(f"min{word}"), schema.get(f"max{word}")
    if isinstance(least, int) and size < least:
        return f"{at} must have at least {least} {of_what}"
    if isinstance(most, int) and size > most:
        return f"{at} must have at most {most} {of_what}"
    return None


def _misfit_in_object(
    value: Any, schema: Mapping[str, Any], at: str, root: Mapping[str, Any], depth: int
) -> str | None:
    if not isinstance(value, dict):
        return None
    given = cast("dict[str, Any]", value)
    for name in schema.get("required", ()):
        if name not in given:
            return f"{at}.{name} is missing"
    properties = schema.get("properties", {})
    others = schema.get("additionalProperties", True)
    for name, one in given.items():
        if name in properties:
            part = properties[name]
        elif others is False:
            return f"{at} has no {name!r}"
        else:
            part = others
        if isinstance(part, Mapping):
            wrong = _misfit(one, cast("Mapping[str, Any]", part), f"{at}.{name}", root, depth + 1)
            if wrong is not None:
                return wrong
    return _wrong_size(len(given), "Properties", "entries", schema, at)


def _misfit_in_array(
    value: Any, schema: Mapping[str, Any], at: str, root: Mapping[str, Any], depth: int
) -> str | None:
    if not isinstance(value, list):
        return None
    given = cast("list[Any]", value)  # type: ignore[redundant-cast]  # pyright needs it
    first, rest = schema.get("prefixItems", []), schema.get("items", True)
    for number, one in enumerate(given):
        part = first[number] if number < len(first) else rest
        if part is False:
            return f"{at} must have at most {len(first)} items"
        if isinstance(part, Mapping):
            where = f"{at}[{number}]"
            wrong = _misfit(one, cast("Mapping[str, Any]", part), where, root, depth + 1)
            if wrong is not None:
                return wrong
    return _wrong_size(len(given), "Items", "items", schema, at)


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one == other


def _text(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= 100 else f"{text[:100]}..."

"""A form made from the JSON Schema of an answer, and the answer that somebody wrote into it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast

import msgspec

from durable_workflow_sqlite.engine.answer_schemas import resolved

MOST_FIELDS: Final = 12
"""A larger form is one field for JSON."""

_DEEPEST: Final = 4


class Field(NamedTuple):
    """One field of a form, or a group of them.

    name: of the form's field. label: for people; "" for the whole answer.
    kind: boolean, choice, integer, number, text, object or json.
    choices: the JSON and the words of each choice.
    is_nullable: blank stands for null. is_optional: blank stands for nothing at all.
    """

    name: str
    label: str
    kind: str
    choices: tuple[tuple[str, str], ...] = ()
    fields: tuple[Field, ...] = ()
    is_nullable: bool = False
    is_optional: bool = False
    hint: str = ""
    start: str = ""
    """What it holds at first."""

    @property
    def may_be_blank(self) -> bool:
        return self.is_nullable or self.is_optional


def form_of(schema: Mapping[str, Any]) -> Field:
    """The form of an answer."""
    field = _field("answer", "", schema, schema, 0)
    if sum(1 for _ in _leaves(field)) > MOST_FIELDS:
        return Field("answer", "", "json")
    return field


def value_in(field: Field, form: Mapping[str, str]) -> Any:
    """The answer that a form holds. Raises ValueError for what it cannot be."""
    return _value(field, form)


def _field(
    name: str, label: str, schema: Mapping[str, Any], root: Mapping[str, Any], depth: int
) -> Field:
    schema = resolved(schema, root)
    options = cast("list[dict[str, Any]] | None", schema.get("anyOf"))
    if options:
        others = [one for one in options if resolved(one, root).get("type") != "null"]
        if len(others) == 1 and len(options) == 2:
            field = _field(name, label, others[0], root, depth)
            if field.kind not in ("object", "json"):
                return field._replace(is_nullable=True, start=_start(schema, field.kind))
        return Field(name, label, "json", hint=_hint(schema), start=_start(schema, "json"))
    choices = schema.get("enum") or ([schema["const"]] if "const" in schema else None)
    if choices is not None:
        shown = tuple((_json(one), one if isinstance(one, str) else _json(one)) for one in choices)
        start = _start(schema, "json")
        return Field(name, label, "choice", shown, hint=_hint(schema), start=start)
    kind = {"boolean": "boolean", "integer": "integer", "number": "number", "string": "text"}.get(
        str(schema.get("type")), "json"
    )
    if schema.get("type") == "object" and depth < _DEEPEST and (parts := schema.get("properties")):
        required = set(schema.get("required", ()))
        fields = tuple(
            _field(f"{name}.{key}", key, part, root, depth + 1)._replace(
                is_optional=key not in required
            )
            for key, part in cast("dict[str, dict[str, Any]]", parts).items()
        )
        return Field(name, label, "object", fields=fields, hint=_hint(schema))
    return Field(name, label, kind, hint=_hint(schema), start=_start(schema, kind))


def _leaves(field: Field) -> Iterator[Field]:
    if field.kind != "object":
        yield field
    for one in field.fields:
        yield from _leaves(one)


def _hint(schema: Mapping[str, Any]) -> str:
    text = schema.get("description")
    return text if isinstance(text, str) else ""


def _start(schema: Mapping[str, Any], kind: str) -> str:
    value = schema.get("default")
    if value is None:
        return ""
    return value if kind == "text" and isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


_NOTHING: Any = object()


def _value(field: Field, form: Mapping[str, str]) -> Any:
    if field.kind == "object":
        found = {one.label: _value(one, form) for one in field.fields}
        found = {key: value for key, value in found.items() if value is not _NOTHING}
        # A group of which nothing is given is not given.
        return _NOTHING if field.is_optional and not found else found
    text = form.get(field.name, "")
    if field.kind == "boolean" and not field.may_be_blank and field.label:
        return text == "true"  # a box that is not ticked is not sent
    if field.kind != "text":
        text = text.strip()
    if not text and field.may_be_blank:
        return _NOTHING if field.is_optional else None
    if field.kind == "text":
        return text.replace("\r\n", "\n")  # a browser sends the first
    what = field.label or "answer"
    if not text:
        raise ValueError(f"The {what} is missing.")
    try:
        value: Any = msgspec.json.decode(text)
    except msgspec.MsgspecError as error:
        if field.kind == "json":
            raise ValueError(f"The {what} is not JSON: {error}. Write text in quotes.") from None
        raise ValueError(f"The {what} is not a number: {text!r}.") from None
    if field.kind in ("integer", "number") and type(value) not in (int, float):
        raise ValueError(f"The {what} is not a number: {text!r}.")
    return value

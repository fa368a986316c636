"""The arguments of workflows as a model writes them: by name, described by JSON Schema."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import PurePath
from typing import Any, Final, cast

import msgspec

from durable_workflow_sqlite.engine import hints
from durable_workflow_sqlite.engine.custom_types import is_custom, write_custom
from durable_workflow_sqlite.engine.type_parts import is_model
from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.nearest import nearest

IN_ORDER: Final[dict[str, Any]] = {
    "type": "array",
    "items": {},
    "description": "the arguments in their order",
}
"""The schema for workflows whose code is not here."""

_REFERENCE: Final = "#/$defs/{name}"
_EMPTY: Final = inspect.Parameter.empty


def schema_of(
    workflows: Sequence[AnyWorkflow], *, has_others: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The JSON Schema of what one of these workflows takes, and the definitions that it refers to.

    has_others: whether there are workflows whose code is not here.
    """
    if not workflows:
        return dict(IN_ORDER), {}
    schemas = _Schemas(type_ for one in workflows for _, type_, _ in _parameters(one))
    choices = [_schema_of_one(one, schemas) for one in workflows]
    if has_others:
        choices.append(dict(IN_ORDER))
    whole = choices[0] if len(choices) == 1 else {"anyOf": choices}
    return whole, schemas.definitions


def in_order(workflow: AnyWorkflow, given: Mapping[str, Any] | Sequence[Any]) -> tuple[Any, ...]:
    """The arguments of a workflow, as the types of its parameters.

    given: by their names, or in their order. Raises TypeError or SerializationError, and says what
    the workflow takes.
    """
    values = _by_name(workflow, given) if isinstance(given, Mapping) else list(given)
    try:
        workflow.check_arguments(values)
        return workflow.decode_input(msgspec.json.encode(values).decode())
    except (TypeError, SerializationError) as error:
        raise type(error)(f"{error}; {_takes(workflow)}") from error


def _by_name(workflow: AnyWorkflow, given: Mapping[str, Any]) -> list[Any]:
    parameters = [one for one, _, is_rest in _parameters(workflow) if not is_rest]
    names = [one.name for one in parameters]
    for name in given:
        if name not in names:
            raise TypeError(
                f"workflow {workflow.name!r} has no argument {name!r}; {_takes(workflow)}"
                f"{nearest(name, names)}"
            )
    values: list[Any] = []
    last = max((names.index(name) for name in given), default=-1)
    for number, one in enumerate(parameters):
        if one.name in given:
            values.append(given[one.name])
        elif one.default is _EMPTY:
            raise TypeError(
                f"workflow {workflow.name!r} needs the argument {one.name!r}; {_takes(workflow)}"
            )
        elif number < last:
            values.append(_plain(one.default))
    return values


def _plain(default: object) -> Any:
    return msgspec.to_builtins(default, enc_hook=write_custom)


def _takes(workflow: AnyWorkflow) -> str:
    """What a workflow takes, in words."""
    words: list[str] = []
    for one, type_, is_rest in _parameters(workflow):
        name = f"*{one.name}" if is_rest else one.name
        optional = "" if is_rest or one.default is _EMPTY else ", optional"
        words.append(f"{name} ({_name_of(type_)}{optional})")
    return f"it takes {', '.join(words)}" if words else "it takes no arguments"


def _name_of(type_: Any) -> str:
    if type_ is Any:
        return "any JSON"
    return type_.__qualname__ if isinstance(type_, type) else str(type_).replace("typing.", "")


def _parameters(workflow: AnyWorkflow) -> list[tuple[inspect.Parameter, Any, bool]]:
    """The parameters after the context, the type of each, and whether it takes all the rest."""
    fixed, rest = hints.parameter_types(workflow.function)
    found: list[tuple[inspect.Parameter, Any, bool]] = []
    named = [*inspect.signature(workflow.function).parameters.values()]
    for number, one in enumerate(named):
        if one.kind is one.VAR_POSITIONAL:
            found.append((one, _known(rest), True))
        elif number > 0 and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD):
            found.append((one, _known(fixed[len(found)]), False))
    return found


def _known(type_: Any) -> Any:
    return Any if isinstance(type_, SerializationError) else type_


def _schema_of_one(workflow: AnyWorkflow, schemas: _Schemas) -> dict[str, Any]:
    parameters = _parameters(workflow)
    about: dict[str, Any] = {"title": workflow.name}
    if any(is_rest for _, _, is_rest in parameters):
        fixed = [schemas.of(type_) for _, type_, is_rest in parameters if not is_rest]
        (rest,) = [schemas.of(type_) for _, type_, is_rest in parameters if is_rest]
        least = sum(one.default is _EMPTY and not is_rest for one, _, is_rest in parameters)
        ordered: dict[str, Any] = about | {"type": "array", "items": rest, "minItems": least}
        return ordered | {"prefixItems": fixed} if fixed else ordered
    properties: dict[str, Any] = {}
    for one, type_, _ in parameters:
        properties[one.name] = dict(schemas.of(type_))
        if one.default is not _EMPTY:
            with suppress(TypeError):  # a default that is no JSON
                properties[one.name]["default"] = _plain(one.default)
    return about | {
        "type": "object",
        "properties": properties,
        "required": [one.name for one, _, _ in parameters if one.default is _EMPTY],
        "additionalProperties": False,
    }


class _Schemas:
    """The JSON Schemas of some types. Classes of the same name have different definitions.

    definitions: what the schemas refer to.
    """

    def __init__(self, types: Iterable[Any]) -> None:
        self._types: list[Any] = []
        for type_ in types:
            if type_ not in self._types and _is_described(type_):
                self._types.append(type_)
        found, definitions = _components(self._types)
        self._found: list[dict[str, Any]] = [*found]
        self.definitions: dict[str, Any] = {}
        for one in [*self._found, *definitions.values()]:
            self._lift(one)
        self.definitions |= definitions

    def of(self, type_: Any) -> dict[str, Any]:
        """The schema of a type; one that allows all where there is none."""
        if type_ in self._types:
            return self._found[self._types.index(type_)]
        return {} if type_ is Any else {"description": f"JSON of {_name_of(type_)}"}

    def _lift(self, schema: Any) -> None:
        """Take the definitions of pydantic's schemas to the place where they are looked for."""
        if isinstance(schema, dict):
            parts = cast("dict[str, Any]", schema)
            self.definitions |= parts.pop("$defs", {})
            for one in parts.values():
                self._lift(one)
        elif isinstance(schema, list):
            for one in cast("Sequence[Any]", schema):
                self._lift(one)


def _is_described(type_: Any) -> bool:
    if type_ is Any:
        return False
    try:
        _components([type_])
    except (TypeError, RuntimeError):
        return False  # such as a union of two classes, whose values hold the names of the classes
    return True


def _components(types: Sequence[Any]) -> tuple[tuple[dict[str, Any], ...], dict[str, Any]]:
    return msgspec.json.schema_components(types, schema_hook=_custom, ref_template=_REFERENCE)


def _custom(kind: Any) -> dict[str, Any]:
    if is_model(kind):
        return cast("dict[str, Any]", kind.model_json_schema())
    if isinstance(kind, type) and is_custom(kind):
        return {"type": "string"} | ({"format": "path"} if issubclass(kind, PurePath) else {})
    raise NotImplementedError

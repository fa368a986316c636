"""What the annotations of a function say of the values that are stored."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from durable_workflow_sqlite.engine.callables import remembered
from durable_workflow_sqlite.errors import SerializationError


@remembered
def result_type(function: Callable[..., Any]) -> Any:
    """The type of what a function returns or its coroutine gives; Any where nothing says so.

    Raises SerializationError for an annotation that cannot be resolved.
    """
    if inspect.isclass(function):
        return function
    if not hasattr(function, "__qualname__"):
        function = type(function).__call__
    type_ = _resolved(function, "return")
    if typing.get_origin(type_) in (Awaitable, Coroutine, typing.Awaitable, typing.Coroutine):
        type_ = typing.get_args(type_)[-1]
    return _plain(type_)


def parameter_types(function: Callable[..., Any]) -> tuple[list[Any], Any]:
    """Types of a workflow function's arguments, and of those that `*args` takes, or None.

    Its first parameter is the context. Instead of an annotation that cannot be resolved there is
    the SerializationError that says so.
    """

    def type_of(name: str) -> Any:
        try:
            return _plain(_resolved(function, name))
        except SerializationError as error:
            return error

    fixed: list[Any] = []
    rest: Any = None
    parameters = inspect.signature(function).parameters.values()
    for number, parameter in enumerate(parameters):
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = type_of(parameter.name)
        elif number > 0 and parameter.kind in (
            parameter.POSITIONAL_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        ):
            fixed.append(type_of(parameter.name))
    return fixed, rest


def _resolved(function: Callable[..., Any], name: str) -> Any:
    """One annotation of a function; the others may be of use to type checkers only."""
    function = inspect.unwrap(function)
    try:
        return typing.get_type_hints(function).get(name, Any)
    except Exception:  # noqa: BLE001 - whatever evaluating an annotation raises
        pass
    annotation: Any = None
    try:
        annotations = function.__annotations__
        if name not in annotations:
            return Any
        annotation = annotations[name]
        alone: Any = types.SimpleNamespace(
            __annotations__={name: annotation},
            __globals__=getattr(function, "__globals__", {}),
        )
        return typing.get_type_hints(alone)[name]
    except Exception as error:
        shown = f" {annotation!r}" if isinstance(annotation, str) else ""
        of = "what it returns" if name == "return" else f"its parameter {name!r}"
        raise SerializationError(
            f"the annotation{shown} of {of}, in {getattr(function, '__qualname__', function)!r},"
            f" cannot be resolved when the program runs: {error}. Import the name at run time, and"
            " not only `if TYPE_CHECKING`; define a class of your own outside of functions"
        ) from error


def _plain(type_: Any) -> Any:
    says_nothing = type_ in (object, typing.NoReturn, typing.Never)
    return Any if says_nothing or isinstance(type_, typing.TypeVar) else type_

"""Definitions of workflows, and the registry of an engine."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    TypeAlias,
    TypeVar,
    TypeVarTuple,
    cast,
    overload,
)

import msgspec

from durable_workflow_sqlite.engine import hints, serialization
from durable_workflow_sqlite.engine.startable import (
    CalledWorkflow,
    StartableDefinition,
    check_startable,
)
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import Workflow, check_identifier, check_integer

if TYPE_CHECKING:
    from durable_workflow_sqlite.engine.context import WorkflowContext

CODE_ERRORS: Final[tuple[type[Exception], ...]] = (
    NameError,
    AttributeError,
    TypeError,
    LookupError,
    ImportError,
    AssertionError,
    NotImplementedError,
    RecursionError,
)
"""The errors that show a mistake in the code of the workflow function that raises them.

They are the default of `@workflow(stops_on=...)`.
"""

P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


def definition_record(name: str, version: int) -> Workflow:
    """The record of a workflow, from its type and version."""
    return Workflow(workflow_id=f"{name}@{version}", workflow_type=name, version=version)


class WorkflowDefinition(StartableDefinition, Generic[P, R_co]):
    """What `@workflow` returns: an async function `(ctx, *args)`, a type name and a version.

    As a type, it has the parameters after `ctx` and the result: `WorkflowDefinition[[str], int]`,
    or `WorkflowDefinition[..., Any]` for any workflow.
    """

    def __init__(
        self,
        function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R_co]],
        name: str,
        version: int,
        stops_on: tuple[type[Exception], ...] = CODE_ERRORS,
    ) -> None:
        if not inspect.iscoroutinefunction(function):
            raise TypeError(
                f"a workflow must be an async function, and {function!r} is not: write"
                " `async def order(ctx: WorkflowContext, ...)`"
            )
        check_identifier("a workflow's name", name)
        check_integer("a workflow's version", version, minimum=1)
        self._signature = inspect.signature(function)
        self._check_parameters(name)
        self.function = function
        self.variables = contextvars.copy_context()
        """The context variables as they were where it was defined: what its body sees."""
        self.name = name
        self.version = version
        self.stops_on = _checked_stops_on(name, stops_on)
        functools.update_wrapper(self, function)
        self._place = function.__module__, function.__qualname__, name, version
        if "<locals>" not in function.__qualname__:
            _NEWEST[self._place] = self

    @property
    def newest(self) -> WorkflowDefinition[..., Any]:
        """The last definition of this workflow in the same module, under the same name there.

        It is not this one if a cell of a notebook was run again, or a module was loaded again.
        """
        return _NEWEST.get(self._place, self)

    def __repr__(self) -> str:
        return f"<workflow {self.name!r} version {self.version}>"

    def __call__(
        self, ctx: WorkflowContext, *args: P.args, **kwargs: P.kwargs
    ) -> CalledWorkflow[R_co]:
        """Call the function directly, as a part of the workflow that `ctx` belongs to."""
        return cast("CalledWorkflow[R_co]", self.function(ctx, *args, **kwargs))

    @functools.cached_property
    def record(self) -> Workflow:
        """The definition as a record of the store."""
        return definition_record(self.name, self.version)

    @functools.cached_property
    def result_type(self) -> Any:
        type_ = hints.result_type(self.function)
        serialization.check_type(type_, "the result of workflow", self.name)
        return type_

    @functools.cached_property
    def _parameter_types(self) -> tuple[list[Any], Any]:
        return hints.parameter_types(self.function)

    @functools.cached_property
    def _are_parameters_checked(self) -> bool:
        fixed, rest = self._parameter_types
        for position, type_ in enumerate((*fixed, rest), start=1):
            if isinstance(type_, SerializationError):
                raise type_
            serialization.check_type(type_, f"argument {position} of workflow", self.name)
        return True

    def _type_at(self, position: int) -> Any:
        """The type of an argument; Any where the annotation cannot be resolved."""
        fixed, rest = self._parameter_types
        type_ = fixed[position] if position < len(fixed) else rest
        return Any if isinstance(type_, SerializationError) else type_

    def _misfit(self, args: Sequence[object]) -> str:
        """Why the function does not take these arguments; empty if it does."""
        fixed, rest = self._parameter_types
        if len(args) == len(fixed) and rest is None:
            return ""  # as many as there are parameters
        try:
            self._signature.bind(None, *args)
        except TypeError as error:
            return str(error)
        return ""

    def check_arguments(self, args: Sequence[object]) -> None:
        """Raise TypeError if there are too few or too many for the function."""
        if misfit := self._misfit(args):
            raise TypeError(f"workflow {self.name!r} does not take these arguments: {misfit}")

    def encode_input(self, args: tuple[Any, ...]) -> str:
        """The arguments as JSON text. Raises TypeError if the function does not take them.

        Raises SerializationError for one that would not come back as it is.
        """
        self.check_arguments(args)
        assert self._are_parameters_checked
        return f"[{','.join(map(self._encode_one, range(len(args)), args))}]"

    def _encode_one(self, position: int, value: object) -> str:
        what = f"argument {position + 1} of the input of workflow {self.name!r}"
        return serialization.round_trip(value, self._type_at(position), what)[0]

    def decode_input(self, text: str | None) -> tuple[Any, ...]:
        """The arguments that JSON text stands for, as the types of the function's parameters."""
        what = f"the input of workflow {self.name!r}"
        try:
            parts = [] if text is None else msgspec.json.decode(text, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise SerializationError(f"{what} is not a JSON array: {error}") from error
        if misfit := self._misfit(parts):
            raise SerializationError(
                f"{what} does not fit its function: {misfit}. It was started with other code, or"
                " edited by hand"
            )
        return tuple(
            serialization.from_json(
                bytes(part).decode(),
                self._type_at(position),
                f"argument {position + 1} of {what}",
            )
            for position, part in enumerate(parts)
        )

    def _check_parameters(self, name: str) -> None:
        parameters = list(self._signature.parameters.values())
        positional = (
            inspect.Parameter.POSITIONAL_ONLY,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            inspect.Parameter.VAR_POSITIONAL,
        )
        if not parameters or parameters[0].kind not in positional:
            raise TypeError(f"workflow {name!r} must take the context as its first parameter")
        for parameter in parameters:
            if parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
                raise TypeError(
                    f"workflow {name!r} can be given positional arguments only; its parameter"
                    f" {parameter.name!r} needs a default or must be positional"
                )


AnyWorkflow: TypeAlias = WorkflowDefinition[..., Any]

_NEWEST: Final[dict[tuple[str, str, str, int], AnyWorkflow]] = {}
"""By module, name of the function, name and version; without workflows that a function makes."""


@overload
def workflow(
    function: Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]], /
) -> WorkflowDefinition[P, R]: ...


@overload
def workflow(
    *, name: str | None = None, version: int = 1, stops_on: Iterable[type[Exception]] = CODE_ERRORS
) -> Callable[
    [Callable[Concatenate[WorkflowContext, P], Coroutine[Any, Any, R]]],
    WorkflowDefinition[P, R],
]: ...


def workflow(
    function: Callable[..., Coroutine[Any, Any, Any]] | None = None,
    /,
    *,
    name: str | None = None,
    version: int = 1,
    stops_on: Iterable[type[Exception]] = CODE_ERRORS,
) -> Any:
    """Make a workflow of an async function whose first parameter is a `WorkflowContext`.

    name: the type name under which executions are stored; the function's name by default.
    version: of the definition. An execution always runs with the version that it was started with.
        So use a higher version if the changed function cannot replay unfinished executions.
    stops_on: the classes of errors that tell of a mistake in the code. If the function itself
        raises one, and no step did, the execution is left as it is, with `WorkflowCodeError`:
        nothing is undone, and it continues with corrected code. `CODE_ERRORS` by default;
        `(*CODE_ERRORS, ValueError)` adds a class. With `()`, only errors of this library (a
        wrong call, a result that cannot be stored) stop the execution.

    The other parameters are the input. They are stored as JSON and come back as the types that
    their annotations name; so does the result.

    If the same module defines it again, as a cell of a notebook does, the new definition replaces
    the old one: engines use it for new executions, and for what they resume.

    Raises TypeError for any other function.
    """

    def define(function: Callable[..., Coroutine[Any, Any, Any]]) -> AnyWorkflow:
        own_name = getattr(function, "__name__", "") if name is None else name
        return WorkflowDefinition(function, own_name, version, tuple(stops_on))

    return define if function is None else define(function)


def _checked_stops_on(
    name: str, stops_on: tuple[type[Exception], ...]
) -> tuple[type[Exception], ...]:
    for one in stops_on:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise TypeError(
                f"stops_on of workflow {name!r} must hold classes of exceptions, not {one!r}"
            )
    return stops_on


def check_workflow(candidate: object) -> AnyWorkflow:
    """Raise TypeError for anything but a workflow, and say what was perhaps meant."""
    return cast("AnyWorkflow", check_startable(candidate))


class WorkflowRegistry:
    """The workflows that an engine can run, by type name and version."""

    def __init__(self, workflows: Iterable[AnyWorkflow]) -> None:
        self._definitions: dict[tuple[str, int], AnyWorkflow] = {}
        if isinstance(workflows, WorkflowDefinition):
            raise TypeError(f"workflows must be a list, as workflows=[{workflows.name}]")
        for definition in workflows:
            self.add(definition)

    def add(self, workflow: object) -> AnyWorkflow:
        """Know a workflow from now on; return the newest definition of it.

        Raises ValueError if another has its name and version.
        """
        definition = check_workflow(workflow).newest
        key = definition.name, definition.version
        known = self._definitions.setdefault(key, definition).newest
        if known is definition:
            self._definitions[key] = definition
        elif known.function is not definition.function:
            raise ValueError(
                f"two workflows have the name {definition.name!r} and version"
                f" {definition.version}: {known.function!r} and {definition.function!r}; give"
                " one of them another: `@workflow(name=..., version=...)`"
            )
        return definition

    def find(self, workflow_type: str, version: int) -> AnyWorkflow | None:
        definition = self._definitions.get((workflow_type, version))
        return None if definition is None else definition.newest

    @property
    def names_and_versions(self) -> Collection[tuple[str, int]]:
        return self._definitions.keys()

    def __bool__(self) -> bool:
        return bool(self._definitions)

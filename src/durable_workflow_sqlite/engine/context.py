"""`WorkflowContext`: what a workflow function is given, and all that it may await."""

from __future__ import annotations

from asyncio import events
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from datetime import timedelta
from typing import (
    Any,
    Literal,
    TypeVar,
    cast,
    overload,
)

from msgspec import UNSET, UnsetType

from durable_workflow_sqlite.engine.body_loop import BodyLoop
from durable_workflow_sqlite.engine.doubt import InDoubt
from durable_workflow_sqlite.engine.mapping import AT_ONCE, MapCall, result_of
from durable_workflow_sqlite.engine.retry import RetryPolicy
from durable_workflow_sqlite.engine.startable import Startable, StartableDefinition
from durable_workflow_sqlite.engine.stepping import Stepping
from durable_workflow_sqlite.records import check_identifier, check_integer

R = TypeVar("R")
T = TypeVar("T")


class WorkflowContext(Stepping):
    """What a workflow function uses for steps, sleeps and signals, which are recorded.

    Each `step`, `sleep` and `wait_signal` takes the next number of its context when it is
    *called*; this number identifies the call on every replay. Any task of the workflow function
    may use the context. A `branch` has its own numbers.
    """

    __slots__ = ()

    @staticmethod
    def current() -> WorkflowContext | None:
        """The context of the workflow function that calls this, from any of its tasks.

        Everywhere else it is None, also in actions and compensations. It is the context of the
        function, not a branch of it.
        """
        loop = events._get_running_loop()
        return cast("WorkflowContext", loop.context) if isinstance(loop, BodyLoop) else None

    @overload
    def map(
        self,
        name: str,
        over: Startable[T, R],
        items: Iterable[T],
        *,
        key: Callable[[T], str] | None = None,
        max_concurrency: int = AT_ONCE,
        on_error: Literal["cancel"] = "cancel",
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        queue: str | UnsetType | None = UNSET,
        queue_key: Callable[[T], str | None] | None = None,
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def map(
        self,
        name: str,
        over: Callable[[T], Awaitable[R]],
        items: Iterable[T],
        *,
        key: Callable[[T], str] | None = None,
        max_concurrency: int = AT_ONCE,
        on_error: Literal["cancel"] = "cancel",
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        in_doubt: InDoubt[R] = "rerun",
        compensate_in_doubt: InDoubt[Any] = "rerun",
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def map(
        self,
        name: str,
        over: Callable[[T], R],
        items: Iterable[T],
        *,
        key: Callable[[T], str] | None = None,
        max_concurrency: int = AT_ONCE,
        on_error: Literal["cancel"] = "cancel",
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        in_doubt: InDoubt[R] = "rerun",
        compensate_in_doubt: InDoubt[Any] = "rerun",
    ) -> Coroutine[Any, Any, list[R]]: ...

    @overload
    def map(
        self,
        name: str,
        over: Startable[T, R] | Callable[[T], Awaitable[R]] | Callable[[T], R],
        items: Iterable[T],
        *,
        key: Callable[[T], str] | None = None,
        max_concurrency: int = AT_ONCE,
        on_error: Literal["collect"],
        compensate: Callable[[R], object] | None = None,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        queue: str | UnsetType | None = UNSET,
        queue_key: Callable[[T], str | None] | None = None,
        in_doubt: InDoubt[R] = "rerun",
        compensate_in_doubt: InDoubt[Any] = "rerun",
    ) -> Coroutine[Any, Any, list[R | Exception]]: ...

    def map(
        self,
        name: str,
        over: Callable[..., Any],
        items: Iterable[Any],
        *,
        key: Callable[[Any], str] | None = None,
        max_concurrency: int = AT_ONCE,
        on_error: Literal["cancel", "collect"] = "cancel",
        compensate: Callable[[Any], object] | None = None,
        retry: RetryPolicy | None = None,
        timeout: timedelta | None = None,
        queue: str | UnsetType | None = UNSET,
        queue_key: Callable[[Any], str | None] | None = None,
        in_doubt: InDoubt[Any] = "rerun",
        compensate_in_doubt: InDoubt[Any] = "rerun",
    ) -> Coroutine[Any, Any, list[Any]]:
        """Run an action as a step, or a workflow as a child, for each item; return the results.

        over: called with one item. items: may be a generator; the results are in their order.
        key: gives the name of an item, the same on every replay; by default its number. Each item
            has a branch of its own, NAME/KEY: so after a crash only what is unfinished runs again.
        max_concurrency: how many items are under way at once.
        on_error: "cancel" ends the others at the first error, and raises it. "collect" puts the
            errors between the results. If a timeout ends the map, its children go on until this
            execution ends.
        compensate, timeout: as for `step`, or for `child`. retry, in_doubt, compensate_in_doubt: as
            for `step`; a workflow has none. queue: as for `child`; queue_key: gives the key of an
            item in its queue.

        Raises ValueError for a key that comes twice, and at the call for other bad arguments.
        """
        check_identifier("a map's name", name)
        check_integer("max_concurrency", max_concurrency, minimum=1)
        if on_error not in ("cancel", "collect"):
            raise ValueError(
                f'on_error of map {name!r} must be "cancel" or "collect", not {on_error!r}'
            )
        is_workflow = isinstance(over, StartableDefinition)
        if not callable(over):
            raise TypeError(f"map {name!r} must be given a function or a workflow, not {over!r}")
        if is_workflow and (retry, in_doubt, compensate_in_doubt) != (None, "rerun", "rerun"):
            raise ValueError(
                f"map {name!r} runs a workflow, which has no retry and is never in doubt: leave out"
                " retry, in_doubt and compensate_in_doubt"
            )
        if not is_workflow and not (queue is UNSET and queue_key is None):
            raise ValueError(f"map {name!r} runs an action: only a workflow is in a queue")
        if queue_key is not None and not callable(queue_key):
            raise TypeError(f"queue_key of map {name!r} must be a function, not {queue_key!r}")
        options: dict[str, Any] = {"compensate": compensate, "timeout": timeout}
        to_run: Any = over

        async def child(scope: WorkflowContext, item: Any, starts: Callable[..., None]) -> Any:
            if queue_key is not None:
                options["key"] = queue_key(item)
            return await result_of(scope.start_child(name, to_run, item, **options), starts)

        async def step(scope: WorkflowContext, item: Any, _: Callable[..., None]) -> Any:
            return await scope.step(name, to_run, item, **options)

        if is_workflow:
            options["queue"] = queue
        else:
            options["retry"] = retry or RetryPolicy()
            options |= {"in_doubt": in_doubt, "compensate_in_doubt": compensate_in_doubt}
        call = MapCall(
            self.branch(name, repeat=True),
            items,
            child if is_workflow else step,
            key,
            max_concurrency,
            self._body.outcome_errors.__contains__ if on_error == "collect" else _never,
        )
        return self._body.calls.add(_mapped(call))


def _never(_: Exception) -> bool:
    return False


async def _mapped(call: MapCall[Any]) -> list[Any]:
    return await call.run()

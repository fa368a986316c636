"""`ctx.map`: one step, or one child, for each of many items, some of them at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Final, Generic, TypeVar

from durable_workflow_sqlite.engine.composing import ChildHandle, Composing
from durable_workflow_sqlite.engine.history import Place

AT_ONCE: Final = 100
"""How many items are under way at once by default."""

B = TypeVar("B", bound=Composing)

Starting = asyncio.Future[ChildHandle[Any]]
"""The start of a child, which goes on if nobody waits for it any more."""


class MapCall(Generic[B]):
    """What `ctx.map` was called with.

    scope: the branch that holds a branch for each item. one: asks for what is to be done for an
    item, in its branch; it may note that a child starts. collects: whether an error is a result.
    """

    __slots__ = (
        "_at_once",
        "_children",
        "_collects",
        "_items",
        "_key",
        "_one",
        "_results",
        "scope",
    )

    def __init__(
        self,
        scope: B,
        items: Iterable[Any],
        one: Callable[[B, Any, Callable[[Starting], None]], Coroutine[Any, Any, Any]],
        key: Callable[[Any], str] | None,
        at_once: int,
        collects: Callable[[Exception], bool],
    ) -> None:
        self.scope = scope
        self._items = items
        self._one = one
        self._key = key
        self._at_once = at_once
        self._collects = collects
        self._results: dict[int, Any] = {}
        self._children: dict[int, Starting] = {}

    @property
    def name(self) -> str:
        """Its name, with the branches that it is in."""
        return self.scope.path

    @property
    def place(self) -> Place:
        """Where a forgotten `await` is told of."""
        return self.name, 0

    def describe(self) -> str:
        """For people."""
        return f"map {self.name!r}"

    async def run(self) -> list[Any]:
        """The results, in the order of the items."""
        items = enumerate(self._items)
        workers: list[asyncio.Task[None]] = []
        try:
            for _, first in zip(range(self._at_once), items, strict=False):
                workers.append(asyncio.create_task(self._work(first, items)))
            done, _ = (
                await asyncio.wait(workers, return_when=asyncio.FIRST_EXCEPTION)
                if workers
                else ((), ())
            )
        except asyncio.CancelledError:
            for starting in self._children.values():
                starting.cancel()
            raise
        else:
            failed = [
                one for one in workers if one in done and not one.cancelled() and one.exception()
            ]
        finally:
            for one in workers:
                one.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if failed:
            # A start that is just being saved is a child: it is cancelled once it is there.
            for starting in sorted(self._children.values(), key=lambda one: not one.done()):
                child = await starting
                await child.cancel()
            error = failed[0].exception()
            assert error is not None
            raise error
        return [self._results[index] for index in range(len(self._results))]

    async def _work(self, first: tuple[int, Any], items: Iterator[tuple[int, Any]]) -> None:
        await self._do(*first)
        for index, item in items:
            await self._do(index, item)

    async def _do(self, index: int, item: Any) -> None:
        key = str(index) if self._key is None else self._key(item)
        branch = self.scope.branch(key)

        def starts(child: Starting) -> None:
            self._children[index] = child

        try:
            self._results[index] = await self._one(branch, item, starts)
        except Exception as error:
            if not self._collects(error):
                raise
            self._results[index] = error
        self._children.pop(index, None)


async def result_of(
    start: Coroutine[Any, Any, ChildHandle[Any]], starts: Callable[[Starting], None]
) -> Any:
    """Start a child, also if nobody waits for that any more, and wait for what it returns."""
    starting = asyncio.ensure_future(start)
    starts(starting)
    return await (await asyncio.shield(starting)).result()

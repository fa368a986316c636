"""The async generators and coroutines of a body: how those are closed that came to no end.

One that is dropped is closed soon, as asyncio does it. One that is in a cycle of references is left
to Python's collector, which comes in each process at another time. Its `finally` may ask for steps:
so it is kept, and closed when the body has ended.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator, Coroutine
from contextlib import suppress
from threading import get_ident
from typing import Any, Final, cast
from weakref import WeakValueDictionary

AnyGenerator = AsyncGenerator[Any, Any]

MOST_CLOSINGS: Final = 100
"""How often what will not end is closed, before it is left as it is."""

never_ending: list[object] = []
"""What refuses to be closed. It is kept: to collect it would mean to try again, and to warn."""

_collecting_in = 0
"""The thread in which the collector is at work."""


def _note_collector(phase: str, _: dict[str, int]) -> None:
    global _collecting_in  # noqa: PLW0603 - there is one collector
    _collecting_in = get_ident() if phase == "start" else 0


def is_collecting() -> bool:
    """Whether Python's collector calls this, as far as it is known: once a generator has begun."""
    return _collecting_in == get_ident()


class Generators:
    """Those of one body, in the order in which they have begun."""

    def __init__(self) -> None:
        self._begun = 0
        self._alive: WeakValueDictionary[int, AnyGenerator] = WeakValueDictionary()
        self._numbers: dict[int, int] = {}
        """By the address, since nothing else is left of one that is being collected."""
        self._kept: dict[int, AnyGenerator] = {}

    def begins(self, generator: AnyGenerator) -> None:
        if _note_collector not in gc.callbacks:
            gc.callbacks.append(_note_collector)
        if len(self._numbers) > 2 * len(self._alive) + 64:
            self._numbers = {id(one): number for number, one in self._alive.items()}
        self._begun += 1
        self._alive[self._begun] = generator
        self._numbers[id(generator)] = self._begun

    def keep(self, generator: AnyGenerator) -> None:
        """One that would be collected: keep it until the body's end."""
        self._kept[self._numbers.get(id(generator), self._begun)] = generator

    def take(self) -> list[AnyGenerator]:
        """All that are not at their end, in order; those that were kept are kept no longer."""
        kept, self._kept = self._kept, {}
        return [one for _, one in sorted((kept | dict(self._alive.items())).items())]


def cancel_what_waits(loop: Any) -> None:
    """Cancel the tasks of a body's loop, if one of them waits for an async generator.

    To close a coroutine does not close the generator that it waits for, so the `finally` blocks in
    there would not run.
    """
    tasks = loop.open_tasks()
    if not any(map(_waits_for_a_generator, tasks)):
        return
    before = loop.enter()
    try:
        loop.cancel_tasks()
        loop.run_ready(range(MOST_CLOSINGS))
    finally:
        loop.leave(before)
    for task in tasks:
        if task.done() and not task.cancelled():
            task.exception()  # nobody is to hear that nobody has asked for it


def _waits_for_a_generator(task: asyncio.Task[Any]) -> bool:
    awaited: Any = task.get_coro()
    while awaited is not None:
        if type(awaited).__name__.startswith("async_generator"):
            return True
        awaited = getattr(awaited, "cr_await", None)
    return False


def close_generator(generator: AnyGenerator) -> None:
    """Close it where it stands; it may wait for something else on its way out, again and again."""
    for _ in range(MOST_CLOSINGS):
        closing = generator.aclose()
        try:
            closing.send(None)
        except BaseException:  # noqa: BLE001 - StopIteration, or what its `finally` blocks raise
            return
        with suppress(BaseException):
            closing.close()
    never_ending.append(generator)


def close_task(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> bool:
    """Close the coroutine of a task where it stands; False if it refuses."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    # Else `asyncio.timeout` raises, and a loop that catches that never ends.
    asyncio.tasks._enter_task(loop, task)
    try:
        return close_coroutine(cast("Coroutine[Any, Any, Any]", task.get_coro()))
    finally:
        asyncio.tasks._leave_task(loop, task)


def close_coroutine(coroutine: Coroutine[Any, Any, Any]) -> bool:
    """Close a coroutine, which may wait for something else on its way out, again and again.

    False if it refuses.
    """
    for _ in range(MOST_CLOSINGS):
        try:
            coroutine.close()
        except RuntimeError:
            if getattr(coroutine, "cr_frame", None) is None:
                return True
        except BaseException:  # noqa: BLE001 - whatever its `finally` blocks raise
            return True
        else:
            return True
    never_ending.append(coroutine)
    return False

"""Workflows of plain asyncio that are made up, in any nesting, and what one run of them sees.

Whatever a run sees (a result, who came first, chance, the time) goes into a digest, and the digest
into the name and the arguments of the next step. So a run that takes another way asks for others.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import random
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, Protocol

from durable_workflow_sqlite import Awaited, RetryPolicy, SignalTimeoutError, WorkflowContext

SIGNALS = ("red", "blue")
Start = Callable[[], Coroutine[Any, Any, str]]
ALWAYS = 99


@dataclass(frozen=True)
class Node:
    """Something that a program does; `kids` are what it does that with."""

    kids: tuple[Node, ...] = ()

    def nodes(self) -> Iterator[Node]:
        """It, and all that is in it."""
        yield self
        for kid in self.kids:
            yield from kid.nodes()


@dataclass(frozen=True)
class Do(Node):
    """A step. It takes turns of the event loop, or seconds, and fails so many times at first.

    cleanup: the turns that its action takes when it is cancelled.
    yields: whether the action lets itself be cancelled.
    """

    is_async: bool = True
    turns: int = 0
    seconds: int = 0
    failures: int = 0
    attempts: int = 1
    delay: int = 0
    is_undone: bool = False
    undo_failures: int = 0
    stops: bool = False
    cleanup: int = 0
    yields: bool = True


@dataclass(frozen=True)
class Sleep(Node):
    seconds: int = 1


@dataclass(frozen=True)
class Nap(Node):
    """A sleep of asyncio's."""

    seconds: float = 0


@dataclass(frozen=True)
class Wait(Node):
    signal: str = SIGNALS[0]
    timeout: int | None = None


@dataclass(frozen=True)
class First(Node):
    """The first of all signals, and of a timer."""

    timeout: int | None = None


@dataclass(frozen=True)
class Fail(Node):
    """Raises an error of its own."""


@dataclass(frozen=True)
class Row(Node):
    """One after the other."""


@dataclass(frozen=True)
class Branch(Node):
    """In a branch."""


@dataclass(frozen=True)
class Catch(Node):
    """Goes on after an error."""


@dataclass(frozen=True)
class Finally(Node):
    """The second in a `finally`."""


@dataclass(frozen=True)
class Stubborn(Node):
    """Once it is cancelled, it does its second, and returns; or it does its first again.

    for_ever: whether it does so however often it is cancelled.
    """

    for_ever: bool = False


@dataclass(frozen=True)
class Choose(Node):
    """One of them, by chance or the time or what was seen."""

    by: str = "random"


@dataclass(frozen=True)
class Several(Node):
    """Several at a time.

    branches: whether each has a branch of its own, or they share the numbers of one context.
    """

    branches: bool = False


@dataclass(frozen=True)
class Race(Several):
    """The first wins. The losers are cancelled and awaited, or only cancelled, or left running."""

    losers: Literal["awaited", "cancelled", "left"] = "awaited"
    timeout: int | None = None
    in_order: bool = True


@dataclass(frozen=True)
class AsCompleted(Several):
    take: int | None = None
    timeout: int | None = None


@dataclass(frozen=True)
class Gather(Several):
    gives_errors: bool = False


@dataclass(frozen=True)
class Group(Several):
    pass


@dataclass(frozen=True)
class Timeout(Node):
    seconds: float = 1
    how: str = "timeout"


@dataclass(frozen=True)
class Shielded(Node):
    """Shielded, for a while; then it is awaited after all, or cancelled, or left running."""

    seconds: int = 1
    then: Literal["awaited", "cancelled", "left"] = "awaited"


@dataclass(frozen=True)
class Left(Node):
    """A task that nobody awaits."""


@dataclass(frozen=True)
class Pipeline(Several):
    """Producers and consumers at a queue; what the last kid does is done with each item."""

    consumers: int = 1
    size: int = 0


@dataclass(frozen=True)
class Guarded(Several):
    """Each of them behind one lock, or a semaphore, or in its turn at a condition."""

    by: str = "lock"


@dataclass(frozen=True)
class Gate(Several):
    """The first opens the gate for the others, however it ends."""


@dataclass(frozen=True)
class Generator(Node):
    """An async generator: exhausted, or closed, or abandoned. The last kid is in its `finally`."""

    take: int | None = None
    closes: bool = False


class Surroundings(Protocol):
    """What a program acts on."""

    async def act(self, name: str, args: tuple[object, ...], do: Do) -> str: ...
    def act_at_once(self, name: str, args: tuple[object, ...], do: Do) -> str: ...
    async def undo(self, name: str, do: Do, value: str) -> None: ...
    def comes_by(self, way: Way, node: Node, number: int) -> None: ...


class Way:
    """What one run of a program saw and asked for, in order, until it was told to end.

    received: the payloads of signals that it received.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.asked: dict[tuple[str, int], str] = {}
        self.received: list[Any] = []
        self.told = 0
        self.is_closed = False
        self._digest = 0

    def note(self, line: str) -> None:
        """Something happens; nothing does once it is told to end."""
        if not self.is_closed:
            self.lines.append(line)

    def see(self, what: str) -> None:
        """The program sees something, and what it does from now on depends on that."""
        if not self.is_closed:
            self._digest = zlib.crc32(what.encode(), self._digest)
            self.lines.append(f"saw {what}")

    @property
    def digest(self) -> str:
        """Of all that the program has seen."""
        return f"{self._digest:08x}"


class Walk:
    """One run of a program."""

    def __init__(self, world: Surroundings, way: Way) -> None:
        self._world = world
        self._way = way
        self._kept: list[asyncio.Task[Any]] = []  # asyncio itself holds on to tasks only weakly

    async def follow(self, ctx: WorkflowContext, node: Node) -> str:
        """Do what a node says; in words, what came of it."""
        come: str = await getattr(self, f"_{type(node).__name__.lower()}")(ctx, node)
        return come

    async def _kid(self, ctx: WorkflowContext, node: Node, number: int) -> str:
        came = await self.follow(ctx, node.kids[number])
        self._way.see(f"{number} {came}")
        return came

    def _name(self, ctx: WorkflowContext, kind: str) -> tuple[tuple[str, int], str]:
        place = (ctx._branch, ctx._body.asked[ctx._branch])
        name = f"{place[0]}:{place[1]} {self._way.digest}" if kind != "wait" else kind
        return place, name

    def _asks(self, place: tuple[str, int], what: str) -> None:
        self._way.note(f"asked for {what} at {place}")
        if not self._way.is_closed:
            self._way.asked[place] = what

    async def _do(self, ctx: WorkflowContext, do: Do) -> str:
        place, name = self._name(ctx, "step")
        args = (self._way.digest, *self._way.lines[-2:])
        self._asks(place, f"step {name} {args}")
        action: Callable[..., Any] = self._world.act if do.is_async else self._world.act_at_once
        return await ctx.step(
            name,
            action,
            name,
            args,
            do,
            retry=RetryPolicy.fixed(max_attempts=do.attempts, delay=timedelta(seconds=do.delay)),
            compensate=functools.partial(self._world.undo, name, do) if do.is_undone else None,
            compensate_retry=RetryPolicy.fixed(max_attempts=2, delay=timedelta(seconds=1)),
            on_cancel="stop" if do.stops else "finish",
            serialize=str,
            deserialize=str,
        )

    async def _sleep(self, ctx: WorkflowContext, sleep: Sleep) -> str:
        place, name = self._name(ctx, "sleep")
        self._asks(place, f"sleep {name}")
        await ctx.sleep(name, timedelta(seconds=sleep.seconds))
        return "slept"

    async def _nap(self, _: WorkflowContext, nap: Nap) -> str:
        await asyncio.sleep(nap.seconds)
        return "rested"

    async def _wait(self, ctx: WorkflowContext, wait: Wait) -> str:
        place = (ctx._branch, ctx._body.asked[ctx._branch])
        self._asks(place, f"wait {wait.signal}")
        timeout = None if wait.timeout is None else timedelta(seconds=wait.timeout)
        try:
            payload = await ctx.wait_signal(wait.signal, timeout)
        except SignalTimeoutError:
            return f"no {wait.signal}"
        if not self._way.is_closed:
            self._way.received.append(payload)
        return f"{wait.signal} {payload}"

    async def _first(self, ctx: WorkflowContext, first: First) -> str:
        (branch, index), timer_name = self._name(ctx, "timer")
        signals = [ctx.signal(name, type=int) for name in SIGNALS]
        items: list[Awaited] = [*signals]
        asked = [f"wait {name}" for name in SIGNALS]
        if first.timeout is not None:
            items.append(ctx.timer(timer_name, timedelta(seconds=first.timeout)))
            asked.append(f"sleep {timer_name}")
        for number, what in enumerate(asked):
            self._asks((branch, index + number), what)
        came = await ctx.wait_any(*items)
        for signal in signals:
            if came is signal:
                if not self._way.is_closed:
                    self._way.received.append(signal.value)
                return f"first {signal.name} {signal.value}"
        return "no signal"

    async def _fail(self, _: WorkflowContext, __: Fail) -> str:
        raise ValueError(self._way.digest)

    async def _row(self, ctx: WorkflowContext, row: Row) -> str:
        for number in range(len(row.kids)):
            self._world.comes_by(self._way, row, number)
            await self._kid(ctx, row, number)
        self._world.comes_by(self._way, row, len(row.kids))
        return "row"

    async def _branch(self, ctx: WorkflowContext, branch: Branch) -> str:
        return await self._kid(ctx.branch("in", repeat=True), branch, 0)

    async def _catch(self, ctx: WorkflowContext, catch: Catch) -> str:
        try:
            return await self._kid(ctx, catch, 0)
        except Exception as error:
            return f"caught {_in_words(error)}"

    async def _finally(self, ctx: WorkflowContext, node: Finally) -> str:
        try:
            return await self._kid(ctx, node, 0)
        finally:
            self._way.see("at last")
            await self._kid(ctx, node, 1)

    async def _stubborn(self, ctx: WorkflowContext, node: Stubborn) -> str:
        while True:
            try:
                return await self._kid(ctx, node, 0)
            except asyncio.CancelledError:
                self._way.see("cancelled")
                if not node.for_ever:
                    return await self._kid(ctx, node, 1)

    async def _choose(self, ctx: WorkflowContext, node: Choose) -> str:
        number = {
            "random": lambda: int(ctx.random() * 1000),
            "now": lambda: int(ctx.now().timestamp() * 1_000_000),
            "uuid": lambda: ctx.uuid4().int,
            "seen": lambda: int(self._way.digest, 16),
        }[node.by]()
        return await self._kid(ctx, node, number % len(node.kids))

    def _starts(self, ctx: WorkflowContext, node: Several) -> Iterator[Start]:
        for number, kid in enumerate(node.kids):
            its = ctx.branch(str(number), repeat=True) if node.branches else ctx
            yield functools.partial(self.follow, its, kid)

    def _tasks(self, ctx: WorkflowContext, node: Several) -> list[asyncio.Task[str]]:
        return [asyncio.create_task(start()) for start in self._starts(ctx, node)]

    async def _race(self, ctx: WorkflowContext, race: Race) -> str:
        tasks = self._tasks(ctx, race)
        done, pending = await asyncio.wait(
            tasks, return_when=asyncio.FIRST_COMPLETED, timeout=race.timeout
        )
        winners = [f"{n} {_outcome(one)}" for n, one in enumerate(tasks) if one in done]
        self._way.see(f"first came {winners}")
        if race.losers == "left":
            return "race"
        for loser in [one for one in tasks if one in pending] if race.in_order else pending:
            loser.cancel()
        if race.losers == "awaited":
            came = await asyncio.gather(*tasks, return_exceptions=True)
            self._way.see(f"then {[_in_words(one) for one in came]}")
        return "race"

    async def _ascompleted(self, ctx: WorkflowContext, node: AsCompleted) -> str:
        tasks = self._tasks(ctx, node)
        came = 0
        for next_one in asyncio.as_completed(tasks, timeout=node.timeout):
            try:
                self._way.see(f"next came {await next_one}")
            except Exception as error:
                self._way.see(f"next failed {_in_words(error)}")
                if isinstance(error, TimeoutError):
                    break
            came += 1
            if came == node.take:
                break
        for task in tasks:
            task.cancel()
        return f"{came} came"

    async def _gather(self, ctx: WorkflowContext, node: Gather) -> str:
        came = await asyncio.gather(
            *(start() for start in self._starts(ctx, node)), return_exceptions=node.gives_errors
        )
        return f"gathered {[_in_words(one) for one in came]}"

    async def _group(self, ctx: WorkflowContext, node: Group) -> str:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(start()) for start in self._starts(ctx, node)]
        return f"group {[task.result() for task in tasks]}"

    async def _timeout(self, ctx: WorkflowContext, node: Timeout) -> str:
        try:
            if node.how == "timeout":
                async with asyncio.timeout(node.seconds):
                    return await self._kid(ctx, node, 0)
            return await asyncio.wait_for(self._kid(ctx, node, 0), node.seconds)
        except TimeoutError:
            return f"too late at {ctx.now()}"

    async def _shielded(self, ctx: WorkflowContext, node: Shielded) -> str:
        task = asyncio.create_task(self._kid(ctx, node, 0))
        with suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(task), node.seconds)
        self._way.see("shielded")
        if node.then == "left":
            self._kept.append(task)
            return "left"
        if node.then == "cancelled":
            task.cancel()
        await asyncio.wait([task])
        return _outcome(task)

    async def _left(self, ctx: WorkflowContext, node: Left) -> str:
        self._kept.append(asyncio.create_task(self._kid(ctx, node, 0)))
        return "left"

    async def _pipeline(self, ctx: WorkflowContext, node: Pipeline) -> str:
        queue: asyncio.Queue[str | None] = asyncio.Queue(node.size)
        *starts, work = node.kids
        sources = dataclasses.replace(node, kids=tuple(starts))

        async def produce(number: int, start: Start) -> None:
            await queue.put(f"{number} {await start()}")

        async def consume(number: int) -> None:
            task = asyncio.current_task()
            assert task is not None
            while not task.cancelling():  # its work may have swallowed that
                if (item := await queue.get()) is None:
                    break
                self._way.see(f"{number} takes {item}")
                self._way.see(await self.follow(ctx, work))

        async with asyncio.TaskGroup() as consumers:
            for number in range(node.consumers):
                consumers.create_task(consume(number))
            async with asyncio.TaskGroup() as producers:
                for number, start in enumerate(self._starts(ctx, sources)):
                    producers.create_task(produce(number, start))
            for _ in range(node.consumers):
                await queue.put(None)
        return "pipeline"

    async def _guarded(self, ctx: WorkflowContext, node: Guarded) -> str:
        guard: Any = asyncio.Lock() if node.by == "lock" else asyncio.Semaphore(2)

        async def guarded(number: int, start: Start) -> str:
            async with guard:
                self._way.see(f"{number} enters")
                return await start()

        came = await asyncio.gather(
            *(guarded(number, start) for number, start in enumerate(self._starts(ctx, node))),
            return_exceptions=True,
        )
        return f"guarded {[_in_words(one) for one in came]}"

    async def _gate(self, ctx: WorkflowContext, node: Gate) -> str:
        gate = asyncio.Event()

        async def opens(start: Start) -> str:
            try:
                return await start()
            finally:
                gate.set()

        async def passes(number: int, start: Start) -> str:
            await gate.wait()
            self._way.see(f"{number} passes")
            return await start()

        first, *others = self._starts(ctx, node)
        came = await asyncio.gather(
            *(passes(number, start) for number, start in enumerate(others)),
            opens(first),
            return_exceptions=True,
        )
        return f"gate {[_in_words(one) for one in came]}"

    async def _generator(self, ctx: WorkflowContext, node: Generator) -> str:
        *parts, last = node.kids

        async def generate() -> AsyncIterator[str]:
            try:
                for part in parts:
                    yield await self.follow(ctx, part)
            finally:
                self._way.see("generator ends")
                self._way.see(await self.follow(ctx, last))

        taken = 0
        generator: Any = generate()
        async with aclosing(generator) if node.closes else _as_it_is():
            async for value in generator:
                self._way.see(f"generated {value}")
                taken += 1
                if taken == node.take:
                    break
        del generator
        await asyncio.sleep(0)
        return f"{taken} generated"


class _as_it_is:  # noqa: N801 - a context manager that does nothing, of either kind
    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *_: object) -> None:
        pass


def _outcome(task: asyncio.Task[str]) -> str:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    return task.result() if error is None else _in_words(error)


def _in_words(came: object) -> str:
    if isinstance(came, BaseExceptionGroup):
        return f"group of {[_in_words(one) for one in came.exceptions]}"
    if isinstance(came, ValueError | ConnectionError):
        return f"{type(came).__name__} {came}"
    return type(came).__name__ if isinstance(came, BaseException) else str(came)


def program_of(chance: random.Random, size: int = 12) -> Node:
    """A program that is made up."""
    maker = _Maker(chance, size)
    return Row(tuple(maker.node(0) for _ in range(chance.randint(1, 4))))


def rigid_program_of(chance: random.Random) -> Node:
    """One whose result does not depend on how long anything takes."""
    maker = _Maker(chance, 8)
    return Row(tuple(maker.rigid(0) for _ in range(chance.randint(2, 5))))


class _Maker:
    def __init__(self, chance: random.Random, size: int) -> None:
        self._chance = chance
        self._left = size

    def _do(self, *, never_fails_in_part: bool = False) -> Do:
        pick = self._chance.choice
        failures = [0, 0, 0, 0, ALWAYS] if never_fails_in_part else [0, 0, 0, 0, 0, 1, ALWAYS]
        is_async = pick([True, True, False])
        return Do(
            is_async=is_async,
            turns=pick([0, 0, 1, 2, 5]),
            seconds=pick([0, 0, 0, 1, 2, 5]) if is_async else 0,
            failures=pick(failures),
            attempts=pick([1, 1, 2, 3]),
            delay=pick([0, 1, 3]),
            is_undone=pick([True, True, False]),
            undo_failures=pick([0, 0, 0, 0, 1, ALWAYS]),
            stops=pick([False, False, True]),
            cleanup=pick([0, 0, 2]),
            yields=pick([True, True, True, False]),
        )

    def _leaf(self) -> Node:
        pick = self._chance.choice
        number = self._chance.random()
        if number < 0.55:
            return self._do()
        if number < 0.65:
            return Sleep(seconds=pick([0, 1, 2, 5]))
        if number < 0.78:
            return Nap(seconds=pick([0, 0, 1, 1, 2, 5]))
        if number < 0.87:
            return First(timeout=pick([None, 0, 1, 2, 5]))
        if number < 0.97:
            return Wait(signal=pick(SIGNALS), timeout=pick([None, 0, 1, 2, 5]))
        return Fail()

    def _several(self, depth: int, least: int = 2, most: int = 4) -> tuple[Node, ...]:
        number = self._chance.randint(least, most)
        return tuple(self.node(depth + 1) for _ in range(number))

    def node(self, depth: int) -> Node:
        self._left -= 1
        chance = self._chance
        pick = chance.choice
        if depth >= 4 or self._left <= 0 or chance.random() < 0.12 + 0.15 * depth:
            return self._leaf()
        branches = pick([True, False])

        def one() -> tuple[Node, ...]:
            return (self.node(depth + 1),)

        def two() -> tuple[Node, ...]:
            return (self.node(depth + 1), self.node(depth + 1))

        makers: list[Callable[[], Node]] = [
            lambda: Row(self._several(depth)),
            lambda: Branch(one()),
            lambda: Catch(one()),
            lambda: Catch(one()),
            lambda: Finally(two()),
            lambda: Stubborn(two(), for_ever=chance.random() < 0.3),
            lambda: Choose(self._several(depth), by=pick(["random", "now", "uuid", "seen"])),
            lambda: Race(
                self._several(depth),
                branches,
                losers=pick(["awaited", "awaited", "cancelled", "left"]),
                timeout=pick([None, None, None, 1, 2]),
                in_order=pick([True, False]),
            ),
            lambda: Race(self._several(depth), branches),
            lambda: AsCompleted(
                self._several(depth),
                branches,
                take=pick([None, 1, 2]),
                timeout=pick([None, None, 1, 2]),
            ),
            lambda: Gather(self._several(depth), branches, gives_errors=pick([True, False])),
            lambda: Group(self._several(depth), branches),
            lambda: Timeout(one(), seconds=pick([0, 1, 1, 2, 5]), how=pick(["timeout", "for"])),
            lambda: Timeout(one(), seconds=pick([0, 1, 1, 2, 5]), how=pick(["timeout", "for"])),
            lambda: Shielded(
                one(), seconds=pick([0, 1, 2]), then=pick(["awaited", "cancelled", "left"])
            ),
            lambda: Left(one()),
            lambda: Pipeline(
                self._several(depth), branches, consumers=pick([1, 2]), size=pick([0, 1])
            ),
            lambda: Guarded(self._several(depth), branches, by=pick(["lock", "semaphore"])),
            lambda: Gate(self._several(depth), branches),
            lambda: Generator(
                self._several(depth), take=pick([None, 1, 2]), closes=pick([True, False])
            ),
        ]
        return pick(makers)()

    def rigid(self, depth: int) -> Node:
        self._left -= 1
        pick = self._chance.choice
        if depth >= 3 or self._left <= 0 or self._chance.random() < 0.4:
            return pick(
                [
                    self._do(never_fails_in_part=True),
                    self._do(never_fails_in_part=True),
                    Sleep(seconds=1),
                    Nap(seconds=1),
                    Wait(signal=pick(SIGNALS)),
                    First(),
                    Fail() if self._chance.random() < 0.2 else Nap(),
                ]
            )
        makers: list[Callable[[], Node]] = [
            lambda: Row((self.rigid(depth + 1), self.rigid(depth + 1))),
            lambda: Branch((self.rigid(depth + 1),)),
            lambda: Catch((self.rigid(depth + 1),)),
            lambda: Finally((self.rigid(depth + 1), self.rigid(depth + 1))),
            lambda: Choose((self.rigid(depth + 1), self.rigid(depth + 1)), by="seen"),
            lambda: Choose((self.rigid(depth + 1), self.rigid(depth + 1)), by="random"),
            lambda: Group((self.rigid(depth + 1),)),
            lambda: Gather((self.rigid(depth + 1),), True),
            lambda: Generator((self.rigid(depth + 1), self.rigid(depth + 1), Nap()), take=1),
        ]
        return pick(makers)()

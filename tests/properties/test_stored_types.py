"""Types and values that are made up: each comes back as it went, or is refused.

A failure prints the smallest type and value that show it; DURABLE_SEED makes the same ones again.
"""

import asyncio
import dataclasses
import enum
import os
import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionHandle,
    SerializationError,
    SqliteCheckpointStore,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.engine import serialization
from tests.conftest import SEED

EXAMPLES = int(os.environ.get("DURABLE_TYPES", "80"))
PARTS = 2
A_FEW = 10

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Box(Generic[T]):
    inside: T
    count: int = 0


@dataclasses.dataclass(frozen=True)
class Bigger(Box[T]):
    more: str = ""


@dataclasses.dataclass(frozen=True)
class Other(Generic[T]):
    inside: T
    count: int = 0


class Point(msgspec.Struct, frozen=True):
    x: int
    name: str | None = None


class Model(pydantic.BaseModel, frozen=True):
    at: datetime
    numbers: tuple[float, ...] = ()


class Child(Model, frozen=True):
    more: int = 0


class Login(pydantic.BaseModel, frozen=True):
    password: pydantic.SecretStr


class Pair(NamedTuple):
    left: int
    right: str


class Address(TypedDict, total=False):
    city: str
    floor: int


class Colour(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Size(enum.IntEnum):
    SMALL = 1
    BIG = 2


class Opaque:
    pass


Typed = tuple[Any, st.SearchStrategy[Any]]
"""A type, and values of it."""

zones = st.sampled_from([None, UTC, timezone(timedelta(hours=-3, minutes=-30)), ZoneInfo("UTC")])
texts = st.text(st.characters(codec="utf-8"), max_size=5)
times = st.datetimes(timezones=zones).map(lambda one: one.replace(fold=0))
floats = st.floats(allow_nan=False, allow_infinity=False)
paths = st.builds(Path, st.sampled_from(["a", "/b/c", ".", "ä"]))

SCALARS: list[Typed] = [
    (int, st.integers()),
    (str, texts),
    (bool, st.booleans()),
    (float, floats),
    (type(None), st.none()),
    (bytes, st.binary(max_size=4)),
    (Decimal, st.decimals(allow_nan=False)),
    (uuid.UUID, st.uuids()),
    (date, st.dates()),
    (time, st.times().map(lambda one: one.replace(fold=0))),
    (datetime, times),
    (timedelta, st.timedeltas()),
    (Path, paths),
    (complex, st.complex_numbers(allow_nan=False, allow_infinity=False)),
    (Colour, st.sampled_from(Colour)),
    (Size, st.sampled_from(Size)),
    (Point, st.builds(Point, st.integers(), st.none() | texts)),
    (Model, st.builds(Model, at=times, numbers=st.lists(floats, max_size=3).map(tuple))),
    (Pair, st.builds(Pair, st.integers(), texts)),
]
KEYS = [one for one in SCALARS if one[0] in (str, int, uuid.UUID, date, Colour, Size, Path)]
NOT_HASHED = (Model,)


def containers(inner: st.SearchStrategy[Typed]) -> st.SearchStrategy[Typed]:
    def of(make: Callable[[Typed], Typed]) -> st.SearchStrategy[Typed]:
        return inner.map(make)

    hashed = st.sampled_from([one for one in SCALARS if one[0] not in NOT_HASHED])
    return st.one_of(
        of(lambda one: (list[one[0]], st.lists(one[1], max_size=3))),
        of(lambda one: (tuple[one[0], ...], st.lists(one[1], max_size=3).map(tuple))),
        of(lambda one: (tuple[str, one[0]], st.tuples(texts, one[1]))),
        of(lambda one: (one[0] | None, st.none() | one[1])),
        of(lambda one: (Box[one[0]], st.builds(Box, one[1], st.integers()))),
        of(
            lambda one: (
                Box[one[0]] | Other[int] | Point | None,
                st.one_of(
                    st.builds(Box, one[1]),
                    st.builds(Other, st.integers()),
                    st.builds(Point, st.integers()),
                    st.none(),
                ),
            )
        ),
        of(lambda one: (Model | Box[one[0]] | str, st.builds(Box, one[1]) | texts)),
        hashed.map(lambda one: (set[one[0]], st.sets(one[1], max_size=3))),
        hashed.map(lambda one: (frozenset[one[0]], st.frozensets(one[1], max_size=3))),
        st.tuples(st.sampled_from(KEYS), inner).map(
            lambda two: (
                dict[two[0][0], two[1][0]],
                st.dictionaries(two[0][1], two[1][1], max_size=3),
            )
        ),
    )


good_types = st.recursive(st.sampled_from(SCALARS), containers, max_leaves=4)
good = good_types.flatmap(lambda one: st.tuples(st.just(one[0]), one[1]))

json_data = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
strange = st.one_of(
    json_data,
    good.map(lambda one: one[1]),
    st.sampled_from(
        [
            float("nan"),
            [float("inf")],
            Bigger(1),
            [Bigger(1, more="x")],
            Child(at=datetime(2026, 1, 1, tzinfo=UTC), more=3),
            Model(at=datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin"))),
            datetime(2026, 7, 1, tzinfo=ZoneInfo("Europe/Berlin")),
            Login(password=pydantic.SecretStr("hunter2")),
            Opaque(),
            bytearray(b"a"),
            {1: "a", "1": "b"},
            {"city": "Oslo", "zip": 3},
            "\ud800",
            2**60 + 1,
            Box(Login(password=pydantic.SecretStr("hunter2"))),
        ]
    ),
)
strange_types = st.one_of(
    good_types.map(lambda one: one[0]),
    st.sampled_from([Any, None, object, list, dict, Box, Box[Any], Address, Login, Opaque, "Gone"]),
    st.sampled_from([list[Login], Box[Opaque], Model | Child, int | float, dict[str, Any]]),
    st.sampled_from([str | datetime, dict[Colour | int, int], list[object], Address | Point]),
)


def alike(value: Any, back: Any) -> bool:
    """Equal, and of the same types: written for this test, and slowly."""
    if type(value) is int and type(back) is float:
        return value == back
    if type(value) is not type(back):
        return False
    if isinstance(value, dict):
        return len(value) == len(back) and all(
            alike(a, b) and alike(value[a], back[b]) for a, b in zip(value, back, strict=True)
        )
    if isinstance(value, list | tuple):
        return len(value) == len(back) and all(map(alike, value, back))
    if isinstance(value, set | frozenset):
        return len(value) == len(back) and all(any(alike(a, b) for b in back) for a in value)
    if dataclasses.is_dataclass(value):
        return all(
            alike(getattr(value, one.name), getattr(back, one.name))
            for one in dataclasses.fields(value)
        )
    if isinstance(value, pydantic.BaseModel):
        return all(alike(vars(value)[one], vars(back)[one]) for one in vars(value))
    if isinstance(value, datetime):
        return value == back and value.utcoffset() == back.utcoffset() and is_fixed(value)
    if isinstance(value, Decimal | float | complex):
        return str(value) == str(back)
    return bool(value == back)


def is_fixed(value: datetime) -> bool:
    return value.tzinfo is None or value.tzinfo.utcoffset(None) is not None


class Seen:
    """What became of a value on its way through a step, a workflow and its processes."""

    def __init__(self) -> None:
        self.runs = 0
        self.processes: list[list[Any]] = [[], []]
        self.undone: list[Any] = []
        self.refusals: list[BaseException] = []


async def is_heard(seen: Seen, handle: ExecutionHandle[Any]) -> bool:
    """Wait until the workflow function has the value, or is left or over without it."""
    result = asyncio.ensure_future(handle.result())
    try:
        async with asyncio.timeout(60):
            while not (seen.processes[0] or result.done()):
                await asyncio.sleep(0)
    finally:
        result.cancel()
        await asyncio.wait([result])
        if not result.cancelled():
            result.exception()
    return bool(seen.processes[0])


async def send_through(type_: Any, value: Any) -> Seen:
    """Give a value to a step under an annotation; the worker leaves, and another one goes on."""
    seen = Seen()
    process = 0

    def act() -> Any:
        seen.runs += 1
        return value

    act.__annotations__["return"] = type_

    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        seen.processes[process].append(await ctx.step("act", act, compensate=seen.undone.append))
        await ctx.wait_signal("end")
        raise ValueError("undo it")

    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[one_step]) as engine:
            handle = await engine.start(one_step, execution_id="one")
            if not await is_heard(seen, handle):
                with pytest.raises((WorkflowCodeError, WorkflowFailedError)) as caught:
                    await handle.result()
                assert str(caught.value.error_type).endswith("SerializationError"), caught.value
                seen.refusals.append(caught.value)
                return seen
        process = 1
        async with DurableEngine(store, workflows=[one_step]) as engine:
            await engine.send_signal("one", "end")
            with pytest.raises(WorkflowFailedError, match="undo it"):
                await engine.handle("one").result()
    return seen


async def give(type_: Any, value: Any) -> Seen:
    """Give a value to a workflow as its input."""
    seen = Seen()
    process = 0

    async def takes(ctx: WorkflowContext, given: Any) -> Any:
        seen.runs += 1
        seen.processes[process].append(given)
        await ctx.wait_signal("end")
        return given

    takes.__annotations__["given"] = takes.__annotations__["return"] = type_
    definition = workflow(takes)
    async with SqliteCheckpointStore.in_memory() as store:
        async with DurableEngine(store, workflows=[definition]) as engine:
            try:
                handle = await engine.start(definition, value, execution_id="one")
            except SerializationError as error:
                assert await store.load_execution("one") is None
                seen.refusals.append(error)
                return seen
            assert await is_heard(seen, handle)
        process = 1
        async with DurableEngine(store, workflows=[definition]) as engine:
            await engine.send_signal("one", "end")
            seen.undone.append(await engine.run(definition, value, execution_id="one"))
    return seen


def comes_back_or_is_refused(type_: Any, value: Any) -> bool:
    """Raise if neither; whether it came back."""
    refusals = 0
    for way in (send_through, give):
        seen = asyncio.run(way(type_, value))
        heard = [*seen.processes[0], *seen.processes[1], *seen.undone]
        if not seen.refusals:
            assert seen.processes[0] and seen.processes[1]
            assert all(alike(value, one) for one in heard), (way, value, heard)
            continue
        refusals += 1
        assert not seen.processes[0] and not seen.processes[1]
        if way is give or isinstance(seen.refusals[0], WorkflowCodeError):
            assert seen.runs == 0 and not seen.undone
        else:  # the action has run, and was undone with what it gave
            assert seen.runs == 1
            assert [id(one) for one in seen.undone] == [id(value)]
    assert refusals in (0, 2), "a step and a workflow do not agree"
    return refusals == 0


unhurried = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def make_up(examples: int, number: int) -> int:
    """Let that many values of good types come back, and as many strange ones or be refused."""
    came_back = 0

    @seed(int(os.environ[SEED]) + number)
    @settings(unhurried, max_examples=examples)
    @given(good)
    def comes_back(one: tuple[Any, Any]) -> None:
        assert comes_back_or_is_refused(*one), "it was refused"

    @seed(int(os.environ[SEED]) + number)
    @settings(unhurried, max_examples=examples)
    @given(strange_types, strange)
    def comes_back_or_not(type_: Any, value: Any) -> None:
        nonlocal came_back
        came_back += comes_back_or_is_refused(type_, value)

    comes_back()
    comes_back_or_not()
    return came_back


def test_a_few_values_come_back_or_are_refused() -> None:
    make_up(A_FEW, 0)  # so few that all of the strange ones may be refused


@pytest.mark.parametrize(
    ("type_", "value"), [(Any, (1, 2)), (Box[int], Bigger(1)), (set[int], frozenset({1}))]
)
def test_a_fault_that_is_planted_is_found(
    type_: Any, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not comes_back_or_is_refused(type_, value)
    monkeypatch.setattr(serialization, "came_back", lambda *_, **__: True)
    with pytest.raises(AssertionError):
        comes_back_or_is_refused(type_, value)


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(1, PARTS + 1))
def test_values_come_back_or_are_refused(part: int) -> None:
    assert make_up(EXAMPLES // PARTS, part) > 0

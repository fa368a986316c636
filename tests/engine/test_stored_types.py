"""What is stored comes back equal and of the same type in each process, or is refused.

What its type already tells is refused before an action runs; what only the value tells, after it.
"""

import asyncio
import dataclasses
import enum
import functools
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Generic,
    Literal,
    NamedTuple,
    NewType,
    TypedDict,
    TypeVar,
)
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionStatus,
    SerializationError,
    SqliteCheckpointStore,
    WorkflowCodeError,
    WorkflowContext,
    WorkflowDefinition,
    WorkflowFailedError,
    workflow,
)
from durable_workflow_sqlite.testing.contract_base import loaded
from tests.processes import an_engine, die, run_until_killed, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    Unknown = Mapping[str, int]

T = TypeVar("T")


@dataclasses.dataclass
class Card:
    number: str


@dataclasses.dataclass
class GoldCard(Card):
    limit: int = 0


@dataclasses.dataclass
class Cash:
    amount: Decimal
    by: str = ""


@dataclasses.dataclass
class Cheque:
    amount: Decimal
    by: str = ""


@dataclasses.dataclass(frozen=True)
class Order:
    payment: Card | Cash
    others: tuple["Order", ...] = ()
    notes: dict[uuid.UUID, Card | Cash | None] = dataclasses.field(default_factory=dict)
    count: int = dataclasses.field(init=False, default=0)


@dataclasses.dataclass
class Box(Generic[T]):
    inside: T


@dataclasses.dataclass
class Counted:
    number: int

    def __post_init__(self) -> None:
        self.number += 1


@dataclasses.dataclass
class Computed:
    number: int

    @functools.cached_property
    def twice(self) -> int:
        return 2 * self.number


@dataclasses.dataclass
class Doubtful:
    number: float | None
    of: list[float | None]


@dataclasses.dataclass
class Seeded:
    number: int
    seed: dataclasses.InitVar[int] = 3

    def __post_init__(self, seed: int) -> None:
        self.number += seed


@attrs.define
class Weighed:
    grams: int
    of: list[Card] = attrs.field(factory=list)


@attrs.define
class Private:
    _grams: int = 3


class Point(msgspec.Struct, frozen=True):
    x: int


class Place(msgspec.Struct):
    x: int


class Corner(msgspec.Struct, array_like=True):
    x: int
    of: Literal["left", "right"]


class Colour(enum.Enum):
    RED = "red"


class Size(enum.IntEnum):
    BIG = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Mixed(enum.Enum):
    ONE = 1
    TWO = "two"


class Pair(NamedTuple):
    left: int
    right: Card


class Address(TypedDict, total=False):
    city: str
    since: date


class Plain(pydantic.BaseModel):
    at: datetime
    path: Path
    numbers: set[int] = set()
    card: Card | None = None


class Open(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str


class Base(pydantic.BaseModel):
    name: str


class Special(Base):
    extra: int


class Holder(pydantic.BaseModel):
    base: Base


class Noted(pydantic.BaseModel):
    name: str
    _seen: int = pydantic.PrivateAttr(default=0)


class Login(pydantic.BaseModel):
    user: str
    password: pydantic.SecretStr


class Raw(pydantic.BaseModel):
    data: list[pydantic.SecretBytes]


class Kept(pydantic.BaseModel):
    number: pydantic.Secret[int] | None = None


class Deep(pydantic.BaseModel):
    logins: dict[str, Login]


class Hidden(pydantic.BaseModel):
    user: str
    token: str = pydantic.Field(default="none", exclude=True)


class TwoAliases(pydantic.BaseModel):
    number: str = pydantic.Field(validation_alias="in", serialization_alias="out")


class ByEither(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)
    number: str = pydantic.Field(validation_alias="in", serialization_alias="number")


class ByChoice(pydantic.BaseModel):
    number: str = pydantic.Field(
        validation_alias=pydantic.AliasChoices("in", "out"), serialization_alias="out"
    )


class ByPath(pydantic.BaseModel):
    number: str = pydantic.Field(validation_alias=pydantic.AliasPath("in", 0))


class Revealed(pydantic.BaseModel):
    password: pydantic.SecretStr

    @pydantic.field_serializer("password", when_used="json")
    def _reveal(self, value: pydantic.SecretStr) -> str:
        return value.get_secret_value()


Clear = Annotated[
    pydantic.SecretStr, pydantic.PlainSerializer(lambda one: one.get_secret_value(), str)
]


class AllRevealed(pydantic.BaseModel):
    passwords: list[Clear]


class Hashed(pydantic.BaseModel):
    name: str

    @pydantic.field_validator("name")
    @classmethod
    def _hash(cls, name: str) -> str:
        return name + "!"


class Opaque:
    pass


UserId = NewType("UserId", int)
BERLIN = ZoneInfo("Europe/Berlin")
CET = timezone(timedelta(hours=1), "CET")

PARTS = 4
COME_BACK: list[tuple[Any, Any]] = [
    (int, 2**70),
    (float, -0.0),
    (float, 1e300),
    (list[float], [0.1, 1e-320]),
    (float | None, None),
    (Any, {"a": [1, 1.0, True, None, "é", {}]}),
    (dict, {"a": 1}),
    (complex, complex(-0.0, 2.5)),
    (list[complex], [1j]),
    (Path, Path("/tmp/ä")),
    (PurePosixPath | None, PurePosixPath("a")),
    (dict[Path, set[Path]], {Path("a"): {Path("b"), Path("c")}}),
    (Decimal, Decimal("-0E+5")),
    (Decimal, Decimal("NaN")),
    (uuid.UUID, uuid.UUID(int=7)),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"\xff")),
    (datetime, datetime(2026, 1, 1, 12, 0, 0, 5)),  # noqa: DTZ001
    (datetime, datetime(2026, 1, 1, tzinfo=UTC)),
    (datetime, datetime(2026, 1, 1, tzinfo=CET)),
    (datetime, datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))),
    (date, date(2026, 2, 28)),
    (time, time(1, 2, 3, 4)),
    (timedelta, timedelta.max),
    (timedelta, timedelta(-1, 5, 7)),
    (Colour, Colour.RED),
    (dict[Size, Colour], {Size.BIG: Colour.RED}),
    (Rights, Rights.READ | Rights.WRITE),
    (tuple[int, ...], (1, 2)),
    (tuple[()], ()),
    (frozenset[tuple[int, str]], frozenset({(1, "a"), (2, "b")})),
    (dict[int, str], {1: "a", 2: "b"}),
    (dict[date, float], {date(2026, 1, 1): 0.5}),
    (Pair, Pair(1, Card("7"))),
    (Address, {"since": date(2026, 1, 1)}),
    (Literal["a", 1], 1),
    (Annotated[int, msgspec.Meta(ge=0)], 5),
    (UserId, UserId(5)),
    (Sequence[int], [1, 2]),
    (Box[int], Box(1)),
    (Box[Card], Box(Card("7"))),
    (Box[Card | Cash], Box(Cash(Decimal(1)))),
    (Counted | None, None),
    (Computed, Computed(7)),
    (Doubtful, Doubtful(1.5, [None, 2.5])),
    (Weighed, Weighed(3, [Card("7")])),
    (set[Point], {Point(1), Point(2)}),
    (Corner, Corner(1, "left")),
    (list[Card], [Card("1"), Card("2")]),
    (Card | Cash, Card("7")),
    (Card | Cash, Cash(Decimal("1.10"))),
    (Cash | Cheque, Cheque(Decimal("1.10"))),
    (Card | GoldCard, GoldCard("7", 5)),
    (Card | Cash | None, None),
    (Card | Cash | str | int, "Card"),
    (Card | list[Card | Cash], [Cash(Decimal(1)), Card("7")]),
    (list[Card | Cash], [Card("7"), Cash(Decimal(1))]),
    (tuple[str, Card | Cash], ("a", Cash(Decimal(1)))),
    (dict[Size, frozenset[Point | Pair]], {Size.BIG: frozenset({Point(1)})}),
    (Point | Place, Place(1)),
    (Box[dict[Path, int]] | Card, Box({Path("a"): 1})),
    (Point | Card | Base, Base(name="kim")),
    (Base | Special, Special(name="kim", extra=1)),
    (Base | str, "kim"),
    (Order, Order(Cash(Decimal(1)), (Order(Card("7")),), {uuid.UUID(int=1): None})),
    (list[Order] | None, [Order(Card("7"))]),
    (Plain, Plain(at=datetime(2026, 1, 1, tzinfo=UTC), path=Path("a"), numbers={2, 1})),
    (Plain, Plain(at=datetime(2026, 1, 1), path=Path("a"), card=Card("7"))),  # noqa: DTZ001
    (Open, Open(name="kim", age=[1, {"a": None}])),
    (Noted, Noted(name="kim")),
    (list[ByEither], [ByEither(number="7")]),
    (ByChoice, ByChoice(**{"in": "7"})),
    (Revealed, Revealed(password=pydantic.SecretStr("hunter2"))),
    (AllRevealed, AllRevealed(passwords=[pydantic.SecretStr("hunter2")])),
]


def giving(value: object, type_: Any, runs: list[object] | None = None) -> Callable[[], Any]:
    """An action that returns a value under an annotation."""

    def act() -> Any:
        if runs is not None:
            runs.append(1)
        return value

    act.__annotations__["return"] = type_
    return act


def all_ways(value: object, type_: Any, seen: list[object], undone: list[object], name: str) -> Any:
    """A workflow to which a value goes as input, as a result and as a signal."""

    async def ways(ctx: WorkflowContext, given: Any) -> Any:
        undo = undone.append
        result = await ctx.step("act", giving(value, type_), compensate=undo)
        payload = await ctx.wait_signal("payload", type=type_)
        seen[:] = [given, result, payload]
        await ctx.wait_signal("end")
        if undone_is_wanted := await ctx.wait_signal("undo", type=bool):
            raise ValueError(f"undo it: {undone_is_wanted}")
        return given

    ways.__annotations__.update({"given": type_, "return": type_})
    return workflow(name=name)(ways)


def as_signal(value: Any) -> Any:
    """A sender knows no annotation: where two classes look the same it says which is meant."""
    if isinstance(value, Cheque | Place):
        return {"$type": type(value).__name__, **msgspec.to_builtins(value)}
    return value


def is_same(value: Any, other: Any) -> bool:
    """Equal, and of the same types throughout, as far as `repr` and the classes show."""
    if isinstance(value, set | frozenset):
        return type(value) is type(other) and sorted(map(repr, value)) == sorted(map(repr, other))
    if type(value) is type(other) is dict:
        return list(value) == list(other) and all(
            is_same(one, other[key]) for key, one in value.items()
        )
    if isinstance(value, pydantic.BaseModel):
        return type(value) is type(other) and bool(value == other)
    if isinstance(value, datetime):
        return value == other and value.utcoffset() == other.utcoffset()
    return type(value) is type(other) and repr(value) == repr(other)


class Case(NamedTuple):
    """A value that goes all ways, and what was seen of it."""

    type_: Any
    value: Any
    seen: list[object]
    undone: list[object]
    definition: Any

    def was_seen(self) -> None:
        assert len(self.seen) == 3, (self.type_, self.seen)
        assert all(is_same(self.value, one) for one in self.seen), (self.type_, self.seen)


def case_of(number: int) -> Case:
    type_, value = COME_BACK[number]
    seen: list[object] = []
    undone: list[object] = []
    return Case(type_, value, seen, undone, all_ways(value, type_, seen, undone, f"ways {number}"))


@pytest.mark.few(1)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_value_comes_back_as_it_went_before_and_after_a_crash(file: Path, part: int) -> None:
    cases = {number: case_of(number) for number in range(part, len(COME_BACK), PARTS)}
    ids = {number: (f"good {number}", f"bad {number}") for number in cases}

    async def first_process() -> None:
        async with SqliteCheckpointStore.file(file) as store, DurableEngine(store) as engine:
            for number, case in cases.items():
                for name in ids[number]:
                    handle = await engine.start(case.definition, case.value, execution_id=name)
                    await handle.signal("payload", as_signal(case.value))
                    async for state in engine.observe(name):
                        if state.status is ExecutionStatus.SUSPENDED and case.seen:
                            break
                    case.was_seen()
                    case.seen.clear()
            die()

    run_until_killed(first_process)

    async def second_process() -> None:
        async with (
            SqliteCheckpointStore.file(file) as store,
            DurableEngine(store, workflows=[one.definition for one in cases.values()]) as engine,
        ):
            for number, case in cases.items():
                good, bad = ids[number]
                for name in (good, bad):
                    await engine.send_signal(name, "end")
                    await engine.send_signal(name, "undo", name == bad)
                result = await engine.handle(good).result()
                typed = await engine.run(case.definition, case.value, execution_id=good)
                assert is_same(case.value, typed), (case.type_, typed, result)
                case.was_seen()
                with pytest.raises(WorkflowFailedError):
                    await engine.handle(bad).result()
                assert len(case.undone) == 1 and is_same(case.value, case.undone[0]), case.type_

    asyncio.run(second_process())


REFUSED_TYPES: list[tuple[Any, str]] = [
    (Login, "'password' of Login is a SecretStr, which pydantic writes as asterisks"),
    (list[Login | None], "asterisks"),
    (Box[Login], "asterisks"),
    (Deep, "asterisks"),
    (Raw, "SecretBytes"),
    (Kept, "Secret"),
    (pydantic.SecretStr, "SecretStr is a secret, which is written as asterisks"),
    (dict[str, pydantic.SecretStr], "asterisks"),
    (Hidden, "'token' of Hidden has exclude=True"),
    (TwoAliases, "is written as 'out' and read as 'in'"),
    (ByPath, "is written as 'number' and read as something else"),
    (Seeded, "`InitVar` fields are not supported"),
    (Private, "begins with an underscore"),
    (Opaque, "Opaque is not plain data"),
    (list[Opaque | None], "Opaque"),
    (Iterable[int], "Iterable"),
    (Mixed, "all str or all int"),
    (Path | str, "custom type"),
    (datetime | str, "str-like"),
    (Card | dict[str, str], "dict"),
    (Card | Cash | dict[str, str], "a dict beside a class"),
    (Card | Cash | list[int] | tuple[int, ...], "more than one array-like"),
    (list[int] | tuple[Card | Cash, ...], "look the same in JSON"),
    (Box[int] | Box[str], "have the same name"),
    (Sequence[Card | Cash], "only a dataclass"),
    ("Unknown", "'Unknown' of what it returns.*cannot be resolved.*name 'Unknown' is not defined"),
]
REFUSED_IDS = [str(type_) for type_, _ in REFUSED_TYPES]


@pytest.mark.parametrize(("type_", "words"), REFUSED_TYPES, ids=REFUSED_IDS)
def test_a_type_that_does_not_come_back_is_refused_before_the_action_runs(
    type_: Any, words: str
) -> None:
    runs: list[object] = []

    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("act", giving(None, type_, runs))

    with pytest.raises(WorkflowCodeError, match=words):
        asyncio.run(run(one_step))
    assert runs == []


@pytest.mark.parametrize(("type_", "words"), REFUSED_TYPES, ids=REFUSED_IDS)
async def test_a_workflow_with_such_an_input_or_result_is_refused_at_the_call_with_nothing_written(
    type_: Any, words: str
) -> None:
    async def takes(ctx: WorkflowContext, given: Any) -> None:
        raise AssertionError("it must not run")

    async def gives(ctx: WorkflowContext, given: Any) -> None:
        raise AssertionError("it must not run")

    takes.__annotations__["given"] = type_
    gives.__annotations__["return"] = type_
    words = words.replace("of what it returns", "of (what it returns|its parameter 'given')")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        for definition in (workflow(takes), workflow(gives)):
            for call in (engine.run, engine.start, engine.enqueue):
                with pytest.raises(SerializationError, match=words):
                    await call(definition, None)
        for status in ExecutionStatus:
            assert await store.load_executions_by_status([status]) == []


@pytest.mark.parametrize(
    ("type_", "words"), [one for one in REFUSED_TYPES if not isinstance(one[0], str)]
)
def test_a_signal_of_such_a_type_is_refused_where_it_is_waited_for(type_: Any, words: str) -> None:
    @workflow
    async def wait(ctx: WorkflowContext) -> None:
        with pytest.raises(SerializationError, match=words):
            ctx.wait_signal("payload", type=type_)

    asyncio.run(run(wait))


UNANNOTATED: list[tuple[Any, str]] = [
    ((1, 2), "a tuple comes back as a list"),
    ({1}, "a set comes back as a list"),
    (Card("7"), "a Card comes back as a dict"),
    ([{"a": (1,)}], r"a tuple at \[0\]\['a'\] comes back"),
    (datetime(2026, 1, 1), "a datetime comes back as a str"),  # noqa: DTZ001
    (Size.BIG, "a Size comes back as an int"),
    ({1: 2}, "an int at the key .* comes back as a str"),
    (float("nan"), "JSON has no number nan"),
    ([float("inf")], r"JSON has no number inf at \[0\]"),
    (Base(name="kim"), "a Base comes back as a dict"),
    ("\ud800", "surrogates not allowed"),
    (Opaque(), "an Opaque cannot be written"),
]

MISFITS: list[tuple[Any, Any, str]] = [
    *((Any, value, words) for value, words in UNANNOTATED),
    (Card, GoldCard("7"), r"a GoldCard comes back as a Card; a `Card | GoldCard` keeps both apart"),
    (list[Card], [Card("7"), GoldCard("7")], r"a GoldCard at \[1\] comes back as a Card"),
    (Base, Special(name="kim", extra=1), "a Special comes back as a Base; a `Base | Special`"),
    (Holder, Holder(base=Special(name="kim", extra=1)), r"a Special at \.base comes back"),
    (Card, {"number": "7"}, "a dict comes back as a Card"),
    (Address, {"city": "Oslo", "zip": "1"}, "a dict comes back as another one"),
    (Sequence[int], (1, 2), "a tuple comes back as a list"),
    (set[int], frozenset({1}), "a frozenset comes back as a set"),
    (int, Size.BIG, "a Size comes back as an int"),
    (float, 2**60 + 1, "an int comes back as a float"),
    (list[str], ["a", 1], "Expected `str`"),
    (bytes, bytearray(b"a"), "a bytearray comes back as a bytes"),
    (list[bytes | None], [bytearray(b"a")], r"a bytearray at \[0\] comes back as a bytes"),
    (bytearray, b"a", "a bytes comes back as a bytearray"),
    (int, True, "Expected `int`, got `bool`"),
    (datetime, datetime(2026, 7, 1, tzinfo=BERLIN), "the zone Europe/Berlin of a datetime"),
    (Box[datetime], Box(datetime(2026, 7, 1, tzinfo=BERLIN)), r"datetime at \.inside"),
    (time, time(8, tzinfo=BERLIN), "the zone Europe/Berlin of a time does not come back"),
    (datetime, datetime(2026, 1, 1, fold=1), "a datetime comes back as another one"),  # noqa: DTZ001
    (Counted, Counted(1), r"an int at \.number comes back as another one"),
    (Doubtful, Doubtful(float("nan"), []), r"JSON has no number nan at \.number"),
    (Doubtful, Doubtful(None, [float("inf")]), r"JSON has no number inf at \.of\[0\]"),
    (list[float], [0.5, float("nan")], "null"),
    (Box, Box(Card("7")), r"a Card at \.inside comes back as a dict"),
    (Open, Open(name="kim", at=date(2026, 1, 1)), r"a date at \['at'\] comes back as a str"),
    (Hashed, Hashed(name="kim"), r"a str at \.name comes back as another one"),
    (Card | Cash, GoldCard("7"), "GoldCard is not one of Card, Cash; name its class, too"),
    (dict[int | str, int], {1: 1, "1": 2}, "a dict comes back as another one"),
    (PurePosixPath, Path("a"), "a PosixPath comes back as a PurePosixPath"),
    (None, 3, "Expected `null`"),
]


def with_private() -> Noted:
    model = Noted(name="kim")
    model._seen = 3
    return model


def with_attribute() -> Card:
    card = Card("7")
    card.colour = "gold"  # type: ignore[attr-defined]
    return card


MISFITS += [
    (Noted, with_private(), r"an int at \._seen comes back as another one"),
    (list[Card], [with_attribute()], r"\[0\]\.colour is not a field, and does not come back"),
]
MISFIT_IDS = [f"{type_}-{number}" for number, (type_, *_) in enumerate(MISFITS)]


@pytest.mark.few(15)
@pytest.mark.parametrize(("type_", "value", "words"), MISFITS, ids=MISFIT_IDS)
def test_a_result_that_would_come_back_otherwise_fails_its_step_which_is_undone(
    type_: Any, value: Any, words: str
) -> None:
    runs: list[object] = []
    undone: list[object] = []

    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("act", giving(value, type_, runs), compensate=undone.append)

    with pytest.raises(WorkflowFailedError, match=words) as caught:
        asyncio.run(run(one_step))
    assert isinstance(caught.value.__cause__, SerializationError)
    assert runs == [1]
    assert undone == [value]


@pytest.mark.few(15)
@pytest.mark.parametrize(("type_", "value", "words"), MISFITS, ids=MISFIT_IDS)
async def test_such_an_input_is_refused_and_such_a_result_of_a_workflow_stops_it(
    type_: Any, value: Any, words: str
) -> None:
    async def takes(ctx: WorkflowContext, given: Any) -> None:
        raise AssertionError("it must not run")

    async def gives(ctx: WorkflowContext) -> Any:
        return value

    takes.__annotations__["given"] = type_
    gives.__annotations__["return"] = type_

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        with pytest.raises(SerializationError, match=words):
            await engine.run(workflow(takes), value, execution_id="one")
        assert await store.load_execution("one") is None
        with pytest.raises(WorkflowCodeError, match=words):
            await engine.run(workflow(gives), execution_id="one")
        record = await loaded(store, "one")
        assert not record.status.is_terminal


LOST_IN_A_SIGNAL: list[Any] = [
    Box(datetime(2026, 7, 1, tzinfo=BERLIN)),
    [Opaque()],
    {"a": [Login(user="kim", password=pydantic.SecretStr("hunter2"))]},
    [Hidden(user="kim", token="abc")],
    Holder(base=Special(name="kim", extra=1)),
    {1: "a", "1": "b"},
    [{"a": float("nan")}],
]


@pytest.mark.parametrize("value", LOST_IN_A_SIGNAL, ids=range(len(LOST_IN_A_SIGNAL)))
async def test_a_signal_that_loses_something_is_refused_with_nothing_sent(value: Any) -> None:
    @workflow
    async def wait(ctx: WorkflowContext) -> Any:
        return await ctx.wait_signal("payload")

    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        handle = await engine.start(wait)
        with pytest.raises(SerializationError, match="the payload of signal 'payload'"):
            await handle.signal("payload", value)
        assert await store.load_pending_signals(handle.execution_id) == []
        await handle.signal("payload", "plain")
        assert await handle.result() == "plain"


# What was stored before


def changed_between_processes(
    file: Path, before: Callable[[], Any], after: Callable[[], Any]
) -> tuple[list[Any], list[Any]]:
    """Let a step be recorded with one action, and be read with another; what was seen, undone."""
    seen: list[Any] = []
    undone: list[Any] = []

    def of(action: Callable[[], Any]) -> WorkflowDefinition[..., Any]:
        @workflow
        async def one_step(ctx: WorkflowContext) -> None:
            seen.append(await ctx.step("act", action, compensate=undone.append))
            await ctx.wait_signal("end")
            raise ValueError("undo it")

        return one_step

    async def main(definition: WorkflowDefinition[..., Any], *, is_last: bool) -> None:
        async with an_engine(file, workflows=[definition]) as (_, engine):
            if not is_last:
                await engine.start(definition, execution_id="one")
            await until(lambda: seen)
            if is_last:
                await engine.send_signal("one", "end")
                with pytest.raises(WorkflowFailedError, match="undo it"):
                    await engine.handle("one").result()

    asyncio.run(main(of(before), is_last=False))
    first = seen.copy()
    asyncio.run(main(of(after), is_last=True))
    return [*first, *seen[len(first) :]], undone


def never() -> Any:
    raise AssertionError("it has run before")


def reading_as(type_: Any) -> Callable[[], Any]:
    def act() -> Any:
        return never()

    act.__annotations__["return"] = type_
    return act


def test_what_was_stored_without_a_tag_is_read_as_the_class_that_it_fits(file: Path) -> None:
    seen, undone = changed_between_processes(
        file, giving(Card("7"), Card), reading_as(Card | Cash | None)
    )
    assert seen == [Card("7"), Card("7")]
    assert undone == [Card("7")]


def test_what_was_stored_with_a_tag_is_read_as_the_one_class_that_is_left(file: Path) -> None:
    seen, undone = changed_between_processes(file, giving(Card("7"), Card | Cash), reading_as(Card))
    assert seen == [Card("7"), Card("7")]
    assert undone == [Card("7")]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (Cheque, Cash | Cheque, "fits more than one of Cash, Cheque"),
        (Cheque, Card | Point, "fits none of Card, Point"),
        (Cheque | Card, Card | Cash, "it is a 'Cheque', which is not one of Card, Cash"),
    ],
)
def test_what_fits_several_classes_or_none_is_not_guessed(
    file: Path, before: Any, after: Any, words: str
) -> None:
    @workflow(name="checkout")
    async def first(ctx: WorkflowContext) -> None:
        await ctx.step("act", giving(Cheque(Decimal(1)), before))
        die()

    @workflow(name="checkout")
    async def second(ctx: WorkflowContext) -> None:
        await ctx.step("act", reading_as(after))

    async def main(definition: WorkflowDefinition[..., Any]) -> None:
        async with an_engine(file, workflows=[definition]) as (_, engine):
            if definition is first:
                await engine.start(definition, execution_id="one")
            await engine.handle("one").result()

    run_until_killed(functools.partial(main, first))
    with pytest.raises(SerializationError, match=words):
        asyncio.run(main(second))


@pytest.mark.parametrize("type_", ["Unknown", Hidden])
def test_a_recorded_result_is_read_as_it_always_was_though_its_type_is_refused_now(
    file: Path, type_: Any
) -> None:
    stored = {"user": "kim"}
    seen, undone = changed_between_processes(file, giving(stored, dict), reading_as(type_))
    as_before = stored if type_ == "Unknown" else Hidden(user="kim")
    assert seen == [stored, as_before]
    assert undone == [as_before]


def test_a_recorded_input_is_read_though_its_annotation_cannot_be_resolved_now(file: Path) -> None:
    seen: list[Any] = []

    @workflow(name="takes")
    async def before(ctx: WorkflowContext, given: Any) -> None:
        await ctx.wait_signal("end")

    async def takes(ctx: WorkflowContext, given: Any) -> None:
        seen.append(given)
        await ctx.wait_signal("end")

    takes.__annotations__["given"] = "Unknown"

    async def main(definition: WorkflowDefinition[..., Any], *, is_last: bool) -> None:
        async with an_engine(file, workflows=[definition]) as (_, engine):
            if is_last:
                await engine.send_signal("one", "end")
                await engine.handle("one").result()
            else:
                await engine.start(definition, {"a": 1}, execution_id="one")

    asyncio.run(main(before, is_last=False))
    asyncio.run(main(workflow(takes), is_last=True))
    assert seen == [{"a": 1}]


# serialize and deserialize


@pytest.mark.parametrize("data", [(1, 2), {"at": datetime(2026, 1, 1, tzinfo=UTC)}, float("nan")])
def test_what_serialize_returns_must_be_plain_data(data: Any) -> None:
    @workflow
    async def one_step(ctx: WorkflowContext) -> None:
        await ctx.step("act", Opaque, serialize=lambda _: data, deserialize=lambda _: Opaque())

    with pytest.raises(WorkflowFailedError, match="what serialize made of the result of step"):
        asyncio.run(run(one_step))


@dataclasses.dataclass
class NotesItsLoop:
    number: int

    def __post_init__(self) -> None:
        loops.append(asyncio._get_running_loop())


loops: list[Any] = []


def to_opaque(data: Any) -> Any:
    loops.append(asyncio._get_running_loop())
    assert WorkflowContext.current() is None
    return data


@pytest.mark.parametrize(
    "how", [{"deserialize": to_opaque}, {}], ids=["deserialize", "a class of the user"]
)
def test_code_that_reads_a_result_runs_on_the_loop_of_the_program_in_each_process(
    file: Path, how: dict[str, Any]
) -> None:
    is_class = not how
    action = giving(NotesItsLoop(3), NotesItsLoop) if is_class else giving(3, int)

    @workflow
    async def one_step(ctx: WorkflowContext) -> int:
        await ctx.step("act", action, **how)
        own = asyncio.get_running_loop()
        assert all(loop is not own for loop in loops)
        await ctx.wait_signal("end")
        return 3

    async def main(*, is_last: bool) -> None:
        loops.clear()
        async with an_engine(file, workflows=[one_step]) as (_, engine):
            if is_last:
                await engine.send_signal("one", "end")
                assert await engine.handle("one").result() == 3
            else:
                await engine.start(one_step, execution_id="one")
                async for state in engine.observe("one"):
                    if state.status is ExecutionStatus.SUSPENDED:
                        break
            assert loops
            assert all(loop is asyncio.get_running_loop() for loop in loops)

    asyncio.run(main(is_last=False))
    asyncio.run(main(is_last=True))


async def run(definition: WorkflowDefinition[..., Any], *args: Any) -> Any:
    async with SqliteCheckpointStore.in_memory() as store, DurableEngine(store) as engine:
        return await engine.run(definition, *args)

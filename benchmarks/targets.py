"""What the library must reach, line by line, and the figures that each line is measured by."""

from __future__ import annotations

from math import isnan
from typing import Final, Literal, NamedTuple

from benchmarks.rounds import ON_HISTORY, Figure, Results


class Target(NamedTuple):
    work: str
    says: str
    kind: Literal["at least", "at most"]
    limit: float
    measured: Figure
    against: Figure | None = None
    """What it is divided by, round by round."""

    unit: str = ""

    def values(self, results: Results) -> list[float]:
        """Of the rounds in which everything worked."""
        values = results[self.measured]
        if self.against is not None:
            pairs = zip(values, results[self.against], strict=True)
            values = [one / other for one, other in pairs]
        return [value for value in values if not isnan(value)]

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.kind == "at least" else value <= self.limit


ONE: Final = "one execution, 1,000 steps, NORMAL"
MANY: Final = "100 executions at once, 50 steps each, NORMAL"
RECOVERY: Final = "recovering 1,000 executions with 5 of 10 steps done, to the last one finished"
OPENING: Final = (
    "opening a file with 1,000,000 finished executions and 5,000,000 checkpoints, and recovering 10"
)

_FLOOR: Final = Figure("floor.sequential", "steps/s")
_ONE: Final = Figure("ours.sequential", "steps/s")
_IDEMPOTENT: Final = Figure("ours.idempotent", "steps/s")
_MANY: Final = Figure("ours.at_once", "steps/s")

TARGETS: Final = (
    Target(ONE, "at least 0.80 of the raw floor's steps/s", "at least", 0.80, _ONE, _FLOOR),
    Target(
        "the same with `idempotent=True`",
        "at least 1.7 times the default's steps/s",
        "at least",
        1.7,
        _IDEMPOTENT,
        _ONE,
    ),
    Target(MANY, "at least 2.0 times the raw sequential floor", "at least", 2.0, _MANY, _FLOOR),
    Target(
        'the same with `synchronous="full"`',
        "at least 0.7 of NORMAL",
        "at least",
        0.7,
        Figure("ours.at_once_full", "steps/s"),
        _MANY,
    ),
    Target(
        "executions without steps, one after another",
        "at least 0.7 of the raw floor of their own transactions",
        "at least",
        0.7,
        Figure("ours.starts", "executions/s"),
        Figure("floor.starts", "executions/s"),
    ),
    Target(
        "`ctx.map` of 10,000 steps",
        "at least 0.83 of the same by hand",
        "at least",
        0.83,
        Figure("ours.steps_by_map", "steps/s"),
        Figure("ours.steps_by_hand", "steps/s"),
    ),
    Target(
        "10,000 children without steps",
        "at least 1,000 a second",
        "at least",
        1_000,
        Figure("ours.children", "children/s"),
    ),
    Target(RECOVERY, "at most 0.6 s", "at most", 0.6, Figure("ours.recovery", "s"), unit="s"),
    Target(
        "signal sent to workflow running again, one process",
        "p50 at most 1 ms",
        "at most",
        1.0,
        Figure("ours.signal", "p50 ms"),
        unit="ms",
    ),
    Target(
        OPENING,
        "at most 100 ms",
        "at most",
        100.0,
        Figure(f"ours.opening{ON_HISTORY}", "ms"),
        unit="ms",
    ),
    Target(
        "the same",
        "at most twice an empty file's",
        "at most",
        2.0,
        Figure(f"ours.opening{ON_HISTORY}", "ms"),
        Figure("ours.opening", "ms"),
    ),
    Target(
        "steps/s on that file",
        "at least 0.8 of an empty file's",
        "at least",
        0.8,
        Figure(f"ours.sequential{ON_HISTORY}", "steps/s"),
        _ONE,
    ),
    Target(
        "a step under a 1 MB input against a 1 KB one",
        "at most 1.2 times the time",
        "at most",
        1.2,
        Figure("ours.big_input", "us/step"),
        Figure("ours.small_input", "us/step"),
    ),
    Target(
        "the same",
        "at most 1.2 times the WAL bytes",
        "at most",
        1.2,
        Figure("ours.big_input", "log bytes/step"),
        Figure("ours.small_input", "log bytes/step"),
    ),
    Target(
        "the 10,000th step of an execution against its 10th",
        "at most 1.1 times",
        "at most",
        1.1,
        Figure("ours.long_execution", "times"),
    ),
    Target(
        "event loop blocked while another process holds the write lock for 3 s",
        "at most 20 ms at a time",
        "at most",
        20.0,
        Figure("ours.locked_out", "longest ms"),
        unit="ms",
    ),
    Target("the same", "no write lost", "at most", 0, Figure("ours.locked_out", "lost")),
    Target(
        "10,000 executions waiting for a signal, in memory",
        "at most 8 KB each",
        "at most",
        8192,
        Figure("ours.memory", "bytes each"),
        unit="bytes",
    ),
    Target(
        "`import durable_workflow_sqlite`",
        "at most 80 ms over a bare interpreter",
        "at most",
        80.0,
        Figure("ours.importing", "ms"),
        unit="ms",
    ),
    Target(
        "installing it",
        "at most 4 distributions",
        "at most",
        4,
        Figure("ours.importing", "distributions"),
    ),
    Target(
        "bytes on disk a step (small results, after checkpoint)",
        "at most 260, indexes included",
        "at most",
        260.0,
        Figure("ours.disk", "bytes/step"),
        unit="bytes",
    ),
)

PEER_TARGETS: Final = (
    Target(
        "children without steps",
        "at least 10 times DBOS",
        "at least",
        10.0,
        Figure("ours.children", "children/s"),
        Figure("dbos.children", "children/s"),
    ),
    Target(
        ONE,
        "at least 15 times DBOS as it comes",
        "at least",
        15.0,
        _ONE,
        Figure("dbos.sequential", "steps/s"),
    ),
    Target(
        ONE,
        "at least 8 times DBOS tuned to WAL and NORMAL",
        "at least",
        8.0,
        _ONE,
        Figure("dbos_tuned.sequential", "steps/s"),
    ),
    Target(
        MANY,
        "at least 60 times DBOS (50 at once)",
        "at least",
        60.0,
        _MANY,
        Figure("dbos.at_once", "steps/s"),
    ),
    Target(
        RECOVERY,
        "at least 40 times faster than DBOS",
        "at least",
        40.0,
        Figure("dbos.recovery", "s"),
        Figure("ours.recovery", "s"),
    ),
)

_SHORT: Final = (
    (
        "floor.sequential",
        "ours.sequential",
        "floor.idempotent",
        "ours.idempotent",
        f"ours.sequential{ON_HISTORY}",
        "floor.at_once",
        "ours.at_once",
        "ours.at_once_full",
    ),
    ("floor.starts", "ours.starts"),
    ("ours.opening", f"ours.opening{ON_HISTORY}"),
    ("ours.small_input", "ours.big_input"),
)
GROUPS: Final = (
    *_SHORT,
    ("ours.recovery",),
    ("ours.signal",),
    ("ours.steps_by_hand", "ours.steps_by_map"),
    ("ours.children",),
    ("ours.long_execution",),
    ("ours.disk",),
    *_SHORT,
    ("ours.locked_out",),
    ("ours.importing",),
    ("ours.memory",),
)
"""What is run one after another, since it is compared; what is over soon, twice a round."""

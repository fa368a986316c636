"""How much of each work is done: all that the figures are made from, or just enough to run."""

from __future__ import annotations

from typing import Final, NamedTuple


class Sizes(NamedTuple):
    warm_up: int = 50
    """Steps before the clock starts, so that nothing is measured that happens once a process."""

    steps: int = 1_000
    at_once: int = 100
    steps_each: int = 50
    starts: int = 1_000
    interrupted: int = 1_000
    opened: int = 10
    signals: int = 200
    input_steps: int = 500
    """So few that the log of their writes stays below the length at which it is checkpointed."""

    small_input: int = 1_000
    big_input: int = 1_000_000
    long_execution: int = 10_000
    window: int = 500
    """Steps near either end of the long execution that are compared."""

    locked_s: float = 3.0
    locked_out: int = 20
    waiting: int = 10_000
    steps_on_disk: int = 200
    mapped: int = 10_000
    children: int = 10_000
    imports: int = 3
    history: int = 1_000_000
    history_checkpoints_each: int = 5


WHOLE: Final = Sizes()
TINY: Final = Sizes(
    warm_up=2,
    steps=5,
    at_once=3,
    steps_each=2,
    starts=3,
    interrupted=4,
    opened=2,
    signals=3,
    input_steps=3,
    big_input=10_000,
    long_execution=30,
    window=5,
    locked_s=0.1,
    locked_out=2,
    waiting=5,
    steps_on_disk=2,
    mapped=5,
    children=3,
    imports=1,
    history=50,
    history_checkpoints_each=2,
)

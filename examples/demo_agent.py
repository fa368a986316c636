"""An agent that survives kill -9, and makes no completed call of a model or a tool again.

    python demo_agent.py [EXAMPLE]

It runs an example with an agent, kills it with SIGKILL in the middle of its steps, and starts it
again. Then it checks, from the database and from what the example said of its calls, that no
completed call of a model or a tool was made again. Exits with 1 if one was.
"""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
EXAMPLE = "pydantic_ai_agent.py"
KILL_AFTER = 2
"""Completed steps."""

Place = tuple[str, int]


class Step(NamedTuple):
    """The last attempt of a step, as the database holds it."""

    name: str
    status: str
    result: str | None


def main(example: str = EXAMPLE) -> int:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder, "workflows.db")
        first = start(example, folder)
        before = kill_in_the_middle(first, database)
        calls_before = calls_in(first)
        print("Started it again.\n")
        second = start(example, folder)
        calls_after = calls_in(second)
        after = read_steps(database)
    width = max((len(branch) for branch, _ in after), default=0)
    for (branch, index), step in after.items():
        became = became_of(before.get((branch, index)))
        print(f"{branch:{width}}  {index:2}  {step.name:20}  {became}")
    problems = list(find_problems(second, before, after, calls_after))
    for problem in problems:
        print(f"WRONG: {problem}")
    if not problems:
        tell_what_was_saved(before, len(calls_before), len(calls_after))
    return 1 if problems else 0


def start(example: str, folder: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(HERE / example), folder]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_in_the_middle(agent: subprocess.Popen[str], database: Path) -> dict[Place, Step]:
    """Kill it while a step runs, and return how far each step had got."""
    give_up_at = time.monotonic() + 120
    while True:
        time.sleep(0.005)
        if agent.poll() is not None:
            raise SystemExit("the agent ended before it could be killed")
        if time.monotonic() > give_up_at:
            agent.kill()
            agent.communicate()
            raise SystemExit("the agent did not come to its middle within two minutes")
        if len(completed(read_steps(database))) < KILL_AFTER:
            continue
        agent.send_signal(signal.SIGSTOP)  # hold still, to see what it is in the middle of
        time.sleep(0.02)
        steps = read_steps(database)
        if any(step.status == "INTENT" for step in steps.values()):
            break
        agent.send_signal(signal.SIGCONT)
    agent.kill()  # SIGKILL: it has no chance to tidy up
    agent.wait()
    in_the_middle = [step.name for step in steps.values() if step.status == "INTENT"]
    print(f"Killed the agent after {len(completed(steps))} calls.")
    print(f"In the middle of: {', '.join(in_the_middle)}")
    return steps


def calls_in(agent: subprocess.Popen[str]) -> list[str]:
    """What it said of the calls that it made; its last words are printed."""
    said, _ = agent.communicate(timeout=60)
    for line in said.splitlines():
        if not line.startswith("called: "):
            print(f"It says: {line}\n")
    return [line for line in said.splitlines() if line.startswith("called: ")]


def read_steps(database: Path) -> dict[Place, Step]:
    """Look at the database as anybody may, while an agent writes to it."""
    try:
        with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as connection:
            rows = connection.execute(
                "select branch, step_index, step_name, status, output_data from step_checkpoints"
                " where kind = 'STEP' order by branch, step_index, attempt"
            ).fetchall()
    except sqlite3.OperationalError:
        return {}  # the agent has not made it yet
    return {(branch, index): Step(*step) for branch, index, *step in rows}


def completed(steps: dict[Place, Step]) -> dict[Place, Step]:
    return {place: step for place, step in steps.items() if step.status == "COMPLETED"}


def became_of(before: Step | None) -> str:
    if before is None:
        return "called after the kill"
    return "replayed" if before.status == "COMPLETED" else "cut off, called again"


def find_problems(
    agent: subprocess.Popen[str],
    before: dict[Place, Step],
    after: dict[Place, Step],
    calls_after: list[str],
) -> Iterable[str]:
    """Everything that does not hold of what the demo promises."""
    if agent.returncode != 0:
        yield f"the agent ended with {agent.returncode}"
    if completed(after) != after:
        yield "not every step is completed"
    changed = {place for place, step in completed(before).items() if after.get(place) != step}
    if changed:
        yield f"what was recorded has changed: {changed}"
    expected = len(after) - len(completed(before))
    if len(calls_after) != expected:
        yield f"{expected} calls were left to make, and it made {len(calls_after)}: {calls_after}"


def tell_what_was_saved(before: dict[Place, Step], calls_before: int, calls_after: int) -> None:
    done = completed(before)
    read, written = map(sum, zip((0, 0), *(tokens_of(step) for step in done.values()), strict=True))
    print(
        f"\n{calls_before} calls were made before the kill, and {calls_after} after it. Saved:"
        f" {len(done)} calls were not made again,\nwhich cost {read} tokens of input and {written}"
        " of output."
    )


def tokens_of(step: Step) -> tuple[int, int]:
    """The tokens that a response of a model has cost; (0, 0) for anything else."""
    return tokens_in(json.loads(step.result or "null"))


def tokens_in(result: Any) -> tuple[int, int]:
    """Each framework has another place for them; the names are the same."""
    if isinstance(result, dict) and {"input_tokens", "output_tokens"} <= result.keys():
        return int(result["input_tokens"]), int(result["output_tokens"])
    parts = result.values() if isinstance(result, dict) else result
    found = map(tokens_in, parts if isinstance(result, dict | list) else ())
    return next((one for one in found if one != (0, 0)), (0, 0))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

"""The places of what a workflow function asks for: each call takes the next number."""

from __future__ import annotations

import uuid
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, Self

from durable_workflow_sqlite.engine.body import Body
from durable_workflow_sqlite.engine.history import (
    HOW_TO_MEND,
    TIMERS,
    Place,
    StepHistory,
    mismatch,
)
from durable_workflow_sqlite.engine.operations import Operation
from durable_workflow_sqlite.engine.patches import old_way_is_gone
from durable_workflow_sqlite.engine.step_keys import key_of
from durable_workflow_sqlite.errors import SerializationError
from durable_workflow_sqlite.records import Progress, StepKind, check_identifier, check_text


class Numbering:
    """One branch of a workflow function: its numbers, its random numbers, its branches."""

    __slots__ = ("_body", "_branch", "_keyed", "_made")

    def __init__(self, body: Body, branch: str = "") -> None:
        self._body = body
        self._branch = branch
        self._keyed: tuple[int, str] | None = None
        self._made = 0
        body.asked[branch] = 0

    @property
    def execution_id(self) -> str:
        """The id of the execution that this context belongs to."""
        return self._body.execution_id

    @property
    def path(self) -> str:
        """The keys of its branches, with slashes between them; empty on the main line."""
        return self._branch

    @property
    def history_length(self) -> int:
        """How many outcomes the workflow function has got in this run; the same on every replay.

        A long history takes long to replay: see `continue_as_new`.
        """
        return self._body.heard

    def now(self) -> datetime:
        """The time of the last event that the workflow function got, in UTC.

        It is the same on every replay, and does not change while the function computes.
        """
        self._body.check_open()
        return self._body.loop.now

    def progress(self, done: float, total: float | None = None, note: str | None = None) -> None:
        """Say how much of its work the workflow function has done. People see it live.

        It is not a part of the history: you can add, change and delete these calls. A replay makes
        them again, and that changes nothing. Each branch has its own progress.

        done: 0 or more; it replaces what this context has reported before. total: of how much; None
        if that is unknown. note: what is done right now, in one line of 1000 characters at most.

        It returns at once. The newest report is written every 0.25 seconds, and when the execution
        rests or ends. In an action, call `report_progress`.

        Raises TypeError or ValueError for bad arguments.
        """
        body = self._body
        body.check_open()
        report = Progress(
            workflow_execution_id=body.execution_id,
            branch=self._branch,
            done=done,
            total=total,
            note=note,
            reported_at=body.loop.now,
        )
        if body.report is not None and body.is_open:
            body.report(report)

    def random(self) -> float:
        """A random number from 0 to 1, but never 1; the same on every replay.

        If you need more numbers, seed a generator: `random.Random(ctx.random())`. Not for secrets.
        """
        return (int.from_bytes(self._random_bytes()[:7]) >> 3) / (1 << 53)

    def uuid4(self) -> uuid.UUID:
        """A random UUID; the same on every replay. Not for secrets."""
        return uuid.UUID(bytes=self._random_bytes()[:16], version=4)

    def _random_bytes(self) -> bytes:
        from hashlib import sha256  # it loads OpenSSL, and few workflows need it

        self._body.check_open()
        self._made += 1
        body = self._body
        one = body.execution_id
        if body.seeds:  # it is a fork
            one = next((name for name, until in body.seeds if body.heard < until), one)
        seed = repr((one, body.started_at.isoformat(), self._branch, self._made))
        return sha256(seed.encode()).digest()

    def patched(self, name: str) -> bool:
        """Whether the execution takes the new way of a change that has this name.

        It is True if the execution comes here for the first time. It is False if the execution
        came here before the code had the patch: then the old code must follow. A replay gives the
        same answer.

        The name belongs to this context: another branch has an answer of its own. The first answer
        stays as long as the run: in a loop, put the number of the turn into the name, or use a
        branch for each turn. The call may move to another place of the same branch.
        """
        return self._passes(name)

    def deprecate_patch(self, name: str) -> None:
        """Say that the old way of a patch is gone, since no unfinished execution needs it any more.

        It replaces `if ctx.patched(name)`: what follows is the new way. An execution that needs the
        old way is left as it is, with NonDeterminismError. When every execution has passed it, the
        call may be deleted, too.
        """
        body = self._body
        if not self._passes(name) and body.is_open and not body.history.patches.is_over:
            error = old_way_is_gone(body.execution_id, self._branch, name, HOW_TO_MEND)
            body.fail(error)
            raise error

    def _passes(self, name: str) -> bool:
        check_identifier("a patch's name", name)
        body = self._body
        body.check_open()
        history = body.history
        return history.patches.is_passed(
            body.execution_id, self._branch, name, body.heard, history.goes_on_after
        )

    def branch(self, key: str, *, repeat: bool = False) -> Self:
        """A context with its own numbers: you can change its steps without changing the others.

        key: the name of the branch, the same on every replay; for example the id of an item.
        repeat: whether the key may be used again; its second branch is then "KEY#2", and so on.

        Raises ValueError if a branch has this key already, and `repeat` is not set.
        """
        self._body.check_open()
        check_text("a branch's key", key, required=True)
        path = f"{self._branch}/{key}" if self._branch else key
        body = self._body
        if path == TIMERS:
            raise ValueError(
                f"the branch key {TIMERS!r} is reserved for the library; use another key"
            )
        if path in body.asked:
            if not repeat:
                raise ValueError(
                    f"branch {path!r} exists already. Give each branch its own key, or write"
                    " repeat=True. To go on with a branch, use the context that branch() returned"
                )
            path = body.next_of(path)
        return type(self)(body, path)

    def idempotency_key(self, step: str) -> str:
        """A key for the next step of this context; it is the same each time that the step runs.

        step: the name of the step.

        Pass the key to the service that you call, so that it recognizes a repeated call:
        `await ctx.step("pay", pay, order, ctx.idempotency_key("pay"))`. The next step must have
        this name. Otherwise it raises ValueError, because the key would belong to another step.
        """
        check_identifier("a step's name", step)
        self._body.check_open()
        index = self._body.asked[self._branch]
        self._keyed = index, step
        return self._key((self._branch, index), step)

    def _key(self, place: Place, name: str) -> str:
        return key_of(self._body.execution_id, place, name, self._body.run_number)

    def _ask(self, call: Operation) -> Coroutine[Any, Any, Any]:
        body = self._body
        return body.calls.add(body.ask(call))

    def _refuse(self, refusal: SerializationError) -> None:
        """Refuse a type, unless the outcome is already recorded: then it is read as before."""
        if not self._body.history.has_outcome((self._branch, self._body.asked[self._branch])):
            raise refusal

    def _next(self, name: str, kind: StepKind) -> tuple[Place, StepHistory | None]:
        """Take the next number, and look up what is recorded there."""
        body = self._body
        branch = self._branch
        index = body.asked[branch]
        place = (branch, index)
        if not (body.is_open and body.loop.is_running_now):
            body.check_open()
            return place, None  # nothing comes of it: it waits until the body is dropped
        if self._keyed is not None and self._keyed[0] == place[1]:
            keyed = self._keyed[1]
            if name != keyed or kind is not StepKind.STEP:
                raise ValueError(
                    f"idempotency_key({keyed!r}) must be followed by step {keyed!r} of the same"
                    f" context, but the next call is {kind.lower()} {name!r}"
                )
        history = body.history.take(place)
        body.asked[branch] = index + 1
        body.steps_begun += 1
        recorded = None if history is None else history.last
        if recorded is not None and (recorded.step_name != name or recorded.kind != kind):
            error = mismatch(body.execution_id, recorded, kind, name)
            body.fail(error)
            raise error
        return place, history

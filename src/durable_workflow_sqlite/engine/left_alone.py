"""Executions that this worker leaves as they are: why, until when, and the release of the
claim."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine
from typing import Any, Final, Protocol, TypeVar

import msgspec

from durable_workflow_sqlite.engine import failures
from durable_workflow_sqlite.engine.environment import Environment
from durable_workflow_sqlite.errors import ClaimLostError, StoreError
from durable_workflow_sqlite.records import WorkflowClaim

T = TypeVar("T")

TRY_AGAIN_AFTER_S: Final = 1.0


class Spawn(Protocol):
    """Runs a coroutine in a task of the dispatcher."""

    def __call__(self, work: Coroutine[Any, Any, T], /) -> asyncio.Task[T]: ...


class _Left(msgspec.Struct, frozen=True):
    again_at: float
    trouble: BaseException


class LeftAlone:
    """The executions that this worker passes over for now, or for good.

    look: told when one may be looked at again. is_let_go: told when a claim has been given back.
    """

    def __init__(
        self,
        environment: Environment,
        spawn: Spawn,
        *,
        look: Callable[[], None],
        is_let_go: Callable[[WorkflowClaim], None],
    ) -> None:
        self._environment = environment
        self._spawn = spawn
        self._look = look
        self._is_let_go = is_let_go
        self._left: dict[str, _Left] = {}
        self._letting_go: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False

    def because_of(self, claim: WorkflowClaim, trouble: BaseException) -> None:
        """Come back to the execution only if that can help; else its row says why it was left."""
        if isinstance(trouble, ClaimLostError):
            self._let_go(claim, None)  # it is another worker's
        elif isinstance(trouble, StoreError) and trouble.may_pass:
            self._leave(claim, TRY_AGAIN_AFTER_S, trouble)
        else:
            reason = failures.as_text(trouble, self._environment.format_error)
            self._leave(claim, math.inf, trouble, reason)

    def parked(self, claim: WorkflowClaim) -> None:
        """It only waits; any worker may claim it when its time or signal comes."""
        self._let_go(claim, None)

    def forget(self, execution_id: str | None = None) -> None:
        """Something has happened to it (or to any of them): it may be looked at again."""
        if execution_id is None:
            self._left.clear()
        else:
            self._left.pop(execution_id, None)

    def passed_over(self) -> list[str]:
        """The ids of those that are not to be looked at yet."""
        now = asyncio.get_running_loop().time()
        return [one for one, left in self._left.items() if left.again_at > now]

    def why_left(self, execution_id: str) -> BaseException | None:
        """Why this worker will not come back to an execution by itself; None if it will."""
        left = self._left.get(execution_id)
        return None if left is None or left.again_at != math.inf else left.trouble

    async def until_let_go(self, execution_id: str) -> None:
        """Wait until the claim of an execution has been released, if it is to be."""
        if (letting_go := self._letting_go.get(execution_id)) is not None:
            await asyncio.wait([letting_go])

    @property
    def letting_go(self) -> set[asyncio.Task[None]]:
        """The releases that run now; before they end, the file does not have the reasons."""
        return set(self._letting_go.values())

    def close(self) -> None:
        """A release that failed is not tried again."""
        self._is_closed = True

    def _leave(
        self,
        claim: WorkflowClaim,
        seconds: float,
        trouble: BaseException,
        reason: str | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._left[claim.workflow_execution_id] = _Left(loop.time() + seconds, trouble)
        if seconds != math.inf:
            loop.call_later(seconds + 0.001, self._look)
        self._let_go(claim, reason)

    def _let_go(self, claim: WorkflowClaim, reason: str | None) -> None:
        execution_id = claim.workflow_execution_id
        task = self._letting_go[execution_id] = self._spawn(self._give_back(claim, reason))
        task.add_done_callback(lambda _: self._letting_go.pop(execution_id, None))

    async def _give_back(self, claim: WorkflowClaim, reason: str | None) -> None:
        while True:
            now = self._environment.clock.now()
            try:
                await self._environment.store.release_claims([claim], now, trouble=reason)
            except StoreError:
                if self._is_closed:
                    return  # the claim ends with this worker's life
                await asyncio.sleep(TRY_AGAIN_AFTER_S)  # until then it is nobody else's
            else:
                break
        self._is_let_go(claim)

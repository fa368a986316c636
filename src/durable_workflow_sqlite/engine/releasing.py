"""Releases claims; and which executions this worker does not claim again, why, and until when."""

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


class _PassedOver(msgspec.Struct, frozen=True):
    again_at: float
    trouble: BaseException


class Releases:
    """Releases the claims of executions that leave this worker before their end.

    Those that it cannot run are passed over for now, or until something happens to them.
    look: told when one may be claimed again. is_released: told when a claim has been released.
    """

    def __init__(
        self,
        environment: Environment,
        spawn: Spawn,
        *,
        look: Callable[[], None],
        is_released: Callable[[WorkflowClaim], None],
    ) -> None:
        self._environment = environment
        self._spawn = spawn
        self._look = look
        self._is_released = is_released
        self._passed_over: dict[str, _PassedOver] = {}
        self._releasing: dict[str, asyncio.Task[None]] = {}
        self._is_closed = False

    def release(self, claim: WorkflowClaim, trouble: BaseException) -> None:
        """Claim the execution again only if that can help; else `trouble` is stored in its row."""
        if isinstance(trouble, ClaimLostError):
            self._start_release(claim, None)  # it is another worker's
        elif isinstance(trouble, StoreError) and trouble.may_pass:
            self._pass_over(claim, TRY_AGAIN_AFTER_S, trouble)
        else:
            reason = failures.as_text(trouble, self._environment.format_error)
            self._pass_over(claim, math.inf, trouble, reason)

    def parked(self, claim: WorkflowClaim) -> None:
        """It only waits; any worker may claim it when its time or signal comes."""
        self._start_release(claim, None)

    def forget(self, execution_id: str | None = None) -> None:
        """Something has happened to it (or to any of them): it may be claimed again."""
        if execution_id is None:
            self._passed_over.clear()
        else:
            self._passed_over.pop(execution_id, None)

    def passed_over(self) -> list[str]:
        """The ids of those that are not to be claimed yet."""
        now = asyncio.get_running_loop().time()
        return [one for one, why in self._passed_over.items() if why.again_at > now]

    def trouble_of(self, execution_id: str) -> BaseException | None:
        """Why this worker does not claim an execution again by itself; None if it does."""
        why = self._passed_over.get(execution_id)
        return None if why is None or why.again_at != math.inf else why.trouble

    async def until_released(self, execution_id: str) -> None:
        """Wait until the claim of an execution has been released, if it is to be."""
        if (releasing := self._releasing.get(execution_id)) is not None:
            await asyncio.wait([releasing])

    @property
    def releasing(self) -> set[asyncio.Task[None]]:
        """The releases that run now; before they end, the file does not have the reasons."""
        return set(self._releasing.values())

    def close(self) -> None:
        """A release that failed is not tried again."""
        self._is_closed = True

    def _pass_over(
        self,
        claim: WorkflowClaim,
        seconds: float,
        trouble: BaseException,
        reason: str | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._passed_over[claim.workflow_execution_id] = _PassedOver(loop.time() + seconds, trouble)
        if seconds != math.inf:
            loop.call_later(seconds + 0.001, self._look)
        self._start_release(claim, reason)

    def _start_release(self, claim: WorkflowClaim, reason: str | None) -> None:
        execution_id = claim.workflow_execution_id
        task = self._releasing[execution_id] = self._spawn(self._release_until_done(claim, reason))
        task.add_done_callback(lambda _: self._releasing.pop(execution_id, None))

    async def _release_until_done(self, claim: WorkflowClaim, reason: str | None) -> None:
        while True:
            now = self._environment.clock.now()
            try:
                await self._environment.store.release_claims([claim], now, trouble=reason)
            except StoreError:
                if self._is_closed:
                    return  # the claim ends with this process
                await asyncio.sleep(TRY_AGAIN_AFTER_S)  # until then it is nobody else's
            else:
                break
        self._is_released(claim)

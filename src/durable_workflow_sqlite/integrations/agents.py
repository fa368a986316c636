"""What the integrations of agents share: the options of a step, and the answer to an approval."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal, TypedDict

from durable_workflow_sqlite import InDoubt, RetryPolicy


class StepOptions(TypedDict, total=False):
    """Options of the steps of one kind; all may be left out. See `WorkflowContext.step`.

    idempotent: True if a call may be made twice without harm, as most requests of a model. Such a
        step is written once instead of twice. A call that a crash cut off is made again, and it is
        never in doubt: `in_doubt` must not be given, too.
    """

    retry: RetryPolicy
    timeout: timedelta | None
    limit: str | None
    limit_key: str | None
    idempotent: bool
    in_doubt: InDoubt[Any]
    on_cancel: Literal["finish", "stop"]


def wrong_in(options: Mapping[str, Any]) -> str | None:
    """What is wrong with options of a step, in words; None if nothing is."""
    known = StepOptions.__annotations__
    if unknown := [name for name in options if name not in known]:
        return f"unknown options of a step: {', '.join(unknown)}; there are {', '.join(known)}"
    if options.get("idempotent") is True and options.get("in_doubt", "rerun") != "rerun":
        return "idempotent=True and in_doubt: such a step is never in doubt; leave out one"
    return None


@dataclasses.dataclass(frozen=True)
class Approval:
    """Whether a tool may be called. If not, the model reads the reason."""

    approved: bool
    reason: str = ""

"""Names of attributes. Where a semantic convention has one, it is that."""

from typing import Final

from durable_workflow_sqlite.questions import question_or_step
from durable_workflow_sqlite.records import COMPENSATION_SUFFIX

EXECUTION_ID: Final = "durable_workflow.execution.id"
EXECUTION_STATUS: Final = "durable_workflow.execution.status"
WORKFLOW_ID: Final = "durable_workflow.workflow.id"
RECOVERY_COUNT: Final = "durable_workflow.execution.recovery_count"
STEP_NAME: Final = "durable_workflow.step.name"
STEP_INDEX: Final = "durable_workflow.step.index"
STEP_BRANCH: Final = "durable_workflow.step.branch"
STEP_ATTEMPT: Final = "durable_workflow.step.attempt"
STEP_STATUS: Final = "durable_workflow.step.status"
STEP_IN_DOUBT: Final = "durable_workflow.step.in_doubt"
ERROR_TYPE: Final = "error.type"


def step_name(stored: str) -> str:
    """The step, also where its compensation is meant."""
    return question_or_step(stored.removesuffix(COMPENSATION_SUFFIX))


def error_type(stored: str | None) -> str:
    """`module:name` as `error.type` has it, and `_OTHER` for none."""
    return "_OTHER" if stored is None else stored.replace(":", ".")

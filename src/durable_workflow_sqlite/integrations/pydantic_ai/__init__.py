"""pydantic-ai: the model requests and the tool calls of an agent are steps of a workflow.

It wants the extra `pydantic-ai`: `pip install 'durable-workflow-sqlite[pydantic-ai]'`.
"""

from __future__ import annotations

try:
    from durable_workflow_sqlite.integrations.agents import Approval, StepOptions
    from durable_workflow_sqlite.integrations.pydantic_ai.durability import WorkflowDurability
    from durable_workflow_sqlite.integrations.pydantic_ai.questions import AskPeople
except ImportError as error:
    raise ImportError(
        "this integration needs the package `pydantic-ai-slim`, version 2.68 or later:"
        " pip install 'durable-workflow-sqlite[pydantic-ai]'",
        name=error.name,
    ) from error

__all__ = ["Approval", "AskPeople", "StepOptions", "WorkflowDurability"]

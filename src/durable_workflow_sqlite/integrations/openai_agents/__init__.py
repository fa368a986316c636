"""Runs of the OpenAI Agents SDK in workflows: what they ask of models and tools are steps.

It wants the extra `openai-agents`: `pip install 'durable-workflow-sqlite[openai-agents]'`.
"""

from __future__ import annotations

try:
    from durable_workflow_sqlite.integrations.agents import Approval, StepOptions
    from durable_workflow_sqlite.integrations.openai_agents.copies import durable_agent
    from durable_workflow_sqlite.integrations.openai_agents.runs import ask_people, run
    from durable_workflow_sqlite.integrations.openai_agents.scope import current_branch
    from durable_workflow_sqlite.integrations.openai_agents.sessions import StoreSession
    from durable_workflow_sqlite.integrations.openai_agents.steps import (
        DurableModel,
        DurableModelProvider,
        durable_tool,
    )
except ModuleNotFoundError as error:
    raise ImportError(
        "this needs the package `openai-agents`:"
        " pip install 'durable-workflow-sqlite[openai-agents]'",
        name=error.name,
    ) from error

__all__ = [
    "Approval",
    "DurableModel",
    "DurableModelProvider",
    "StepOptions",
    "StoreSession",
    "ask_people",
    "current_branch",
    "durable_agent",
    "durable_tool",
    "run",
]

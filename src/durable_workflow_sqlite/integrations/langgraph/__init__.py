"""LangGraph: a checkpointer on the database of the workflows, and graphs inside of workflows.

It wants the extra `langgraph`: `pip install 'durable-workflow-sqlite[langgraph]'`.
"""

from __future__ import annotations

try:
    from durable_workflow_sqlite.integrations.langgraph.graphs import Ask, run_graph
    from durable_workflow_sqlite.integrations.langgraph.saver import DurableSaver
except ModuleNotFoundError as error:
    raise ImportError(
        "this needs the package `langgraph`, version 1.2 or later: pip install"
        " 'durable-workflow-sqlite[langgraph]'",
        name=error.name,
    ) from error

__all__ = ["Ask", "DurableSaver", "run_graph"]

"""An MCP server: a model looks at executions, starts them, and follows them.

It wants the extra `mcp`: `pip install 'durable-workflow-sqlite[mcp]'`.
"""

from __future__ import annotations

try:
    from durable_workflow_sqlite.integrations.mcp.serving import serve, server
except ModuleNotFoundError as error:
    raise ImportError(
        "the MCP server needs the package `mcp`, version 2:"
        " pip install 'durable-workflow-sqlite[mcp]'",
        name=error.name,
    ) from error

__all__ = ["serve", "server"]

"""MCP servers of agents: the list of their tools is a step, and so is each call."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any, Final

from agents.mcp import MCPServer
from mcp import Tool
from mcp.types import CallToolResult
from pydantic import TypeAdapter

from durable_workflow_sqlite.integrations.agents import StepOptions
from durable_workflow_sqlite.integrations.openai_agents.records import to_plain
from durable_workflow_sqlite.integrations.openai_agents.scope import current_branch

_LONGEST_NAME: Final = 100


def durable_server(server: MCPServer, options: StepOptions) -> MCPServer:
    """A copy of a server, over the same connection; it lists its tools once."""
    made: Any = copy.copy(server)
    listed: list[list[Tool]] = []

    async def list_tools(*args: Any, **named: Any) -> list[Tool]:
        async def ask() -> list[Tool]:
            return await server.list_tools(*args, **named)

        ctx: Any = current_branch()
        if ctx is None:
            return await ask()
        if not listed:
            found = await ctx.step(
                f"tools of {server.name}"[:_LONGEST_NAME],
                ask,
                serialize=_tools_to_plain,
                deserialize=_tools().validate_python,
                **options,
            )
            listed.append(found)
        return [*listed[0]]

    async def call_tool(
        tool_name: str, arguments: dict[str, Any] | None, *args: Any, **named: Any
    ) -> CallToolResult:
        async def call() -> CallToolResult:
            return await server.call_tool(tool_name, arguments, *args, **named)

        ctx: Any = current_branch()
        if ctx is None:
            return await call()
        result: CallToolResult = await ctx.step(
            tool_name,
            call,
            serialize=to_plain,
            deserialize=CallToolResult.model_validate,
            of=arguments,
            **options,
        )
        return result

    made.list_tools, made.call_tool = list_tools, call_tool
    return made  # type: ignore[no-any-return]


def _tools_to_plain(tools: list[Tool]) -> list[Any]:
    return [to_plain(tool) for tool in tools]


@cache
def _tools() -> TypeAdapter[list[Tool]]:
    return TypeAdapter(list[Tool])

"""The MCP server of a store, over any transport, and over the standard input and output."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from importlib import metadata
from typing import Any, Final

import mcp_types
import msgspec
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel import Server
from mcp.server.stdio import stdio_server

from durable_workflow_sqlite.engine.workflow import AnyWorkflow
from durable_workflow_sqlite.integrations.mcp.model_tools import ModelTools, RefusedError
from durable_workflow_sqlite.payload_codec import PayloadCodec, check_codec
from durable_workflow_sqlite.stores import open_reader

_INSTRUCTIONS: Final = (
    "Executions of durable workflows: each runs step by step, survives crashes, and may wait for"
    " days. Look with `list` and `show` before you change one."
)


def server(
    url: str | os.PathLike[str],
    *,
    workflows: Iterable[AnyWorkflow] = (),
    read_only: bool = False,
    allow_start: Iterable[str] | None = None,
    allow_see: Iterable[str] | None = None,
    by: str = "mcp",
    codec: PayloadCodec | None = None,
) -> Server[Any]:
    """An MCP server for one store, for a transport of your own; `serve` serves it over stdio.

    Its tools are `list`, `show`, `wait`, `start`, `signal`, `answer`, `cancel` and `retry`. It runs
    no execution: workers do. It opens the store for each call. The store is neither created nor
    migrated.

    url: as for `open_store`.
    workflows: workflows whose code is known here. `start` describes their arguments from their
        annotations, and takes them by name. The arguments of others are an array.
    read_only: only `list`, `show` and `wait`.
    allow_start: the names of the workflows that may be started. By default those of `workflows`;
        without these, all that may be seen.
    allow_see: the names of the workflows whose executions may be seen and changed; all by default.
        All tools say of others that they are not there. What `allow_start` names may be seen, too.
    by: who acts, for the audit log. What `start` starts has the tag `started_by` with this value.
    codec: as for `open_store`.

    Raises TypeError or ValueError for bad arguments.
    """
    check_codec(codec)
    tools = ModelTools(
        url,
        workflows=workflows,
        read_only=read_only,
        allow_start=allow_start,
        allow_see=allow_see,
        by=by,
        codec=codec,
    )
    offered = [
        mcp_types.Tool(
            name=one.name,
            description=one.description,
            input_schema=one.schema,
            annotations=mcp_types.ToolAnnotations(
                read_only_hint=one.reads, destructive_hint=one.undoes, open_world_hint=False
            ),
        )
        for one in tools.tools()
    ]

    async def list_tools(
        _: ServerRequestContext[Any], __: mcp_types.PaginatedRequestParams | None
    ) -> mcp_types.ListToolsResult:
        return mcp_types.ListToolsResult(tools=offered)

    async def call_tool(
        _: ServerRequestContext[Any], asked: mcp_types.CallToolRequestParams
    ) -> mcp_types.CallToolResult:
        try:
            answer = await tools.call(asked.name, asked.arguments or {})
        except RefusedError as error:
            # The model reads it, and tries something else. Of an error of the protocol it would
            # learn nothing.
            said = mcp_types.TextContent(type="text", text=str(error))
            return mcp_types.CallToolResult(content=[said], is_error=True)
        text = msgspec.json.encode(answer).decode()
        return mcp_types.CallToolResult(
            content=[mcp_types.TextContent(type="text", text=text)], structured_content=answer
        )

    return Server(
        "durable-workflow",
        version=_version(),
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
    )


def serve(
    url: str | os.PathLike[str],
    *,
    workflows: Iterable[AnyWorkflow] = (),
    read_only: bool = False,
    allow_start: Iterable[str] | None = None,
    allow_see: Iterable[str] | None = None,
    by: str = "mcp",
    codec: PayloadCodec | None = None,
) -> None:
    """Serve `server` over stdin and stdout until stdin is closed. The arguments are the same.

    Raises TypeError or ValueError for bad arguments, and as `open_reader` for a store that cannot
    be read.
    """
    made = server(
        url,
        workflows=workflows,
        read_only=read_only,
        allow_start=allow_start,
        allow_see=allow_see,
        by=by,
        codec=codec,
    )
    open_reader(url, codec=codec).close()  # a person reads why it fails, and not only a model

    async def run() -> None:
        async with stdio_server() as (reading, writing):
            await made.run(reading, writing, made.create_initialization_options())

    asyncio.run(run())


def _version() -> str:
    try:
        return metadata.version("durable-workflow-sqlite")
    except metadata.PackageNotFoundError:  # run from a folder of its sources
        return ""

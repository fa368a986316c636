"""What is paused, in `status`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from rich.console import RenderableType

from durable_workflow_sqlite.cli import output, tables
from durable_workflow_sqlite.database import command
from durable_workflow_sqlite.reading.pauses import Paused, name_of


def as_tables(found: Paused, file: str, now: datetime) -> Iterator[RenderableType]:
    """For a terminal."""
    if found.wholes:
        yield tables.make_table(
            output.printable(
                f"paused ({command('resume', file)} --workflow TYPE, --queue NAME, or --all)"
            ),
            ["what", "since", "by", "why"],
            [
                [
                    name_of(one.scope, one.name),
                    output.ago(one.paused_at, now),
                    one.paused_by,
                    one.paused_reason,
                ]
                for one in found.wholes
            ],
        )
    if found.executions_total:
        yield tables.make_table(
            output.printable(
                f"paused executions: {found.executions_total:,} ({command('resume', file)} ID)"
            ),
            ["id", "workflow", "status", "since", "by", "why", "below it"],
            [
                [
                    tables.execution_id(one.id),
                    one.workflow_type,
                    tables.status(one.status),
                    output.ago(one.paused_at, now),
                    one.paused_by,
                    one.paused_reason,
                    f"{one.held:,}" if one.held else "",
                ]
                for one in found.executions
            ],
        )


def as_lines(found: Paused) -> Iterator[list[tables.Cell]]:
    """For a pipe: each line begins with what it is."""
    for one in found.wholes:
        yield ["paused", one.scope, one.name, one.paused_at, one.paused_by, one.paused_reason]
    for each in found.executions:
        yield [
            "paused",
            "EXECUTION",
            each.id,
            each.paused_at,
            each.paused_by,
            each.paused_reason,
            each.held,
        ]

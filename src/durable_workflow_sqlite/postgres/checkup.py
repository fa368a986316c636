"""`check_up`: what is wrong with a schema and its server, and with what is in the schema."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from durable_workflow_sqlite.postgres.migrations import shipped_objects
from durable_workflow_sqlite.postgres.queries import LoadServerRow
from durable_workflow_sqlite.postgres.read_only import ReadOnlySchema
from durable_workflow_sqlite.reading.findings import SHOWN, Finding, Level, many
from durable_workflow_sqlite.store.checkup import check_content
from durable_workflow_sqlite.store.rows import time_to_text

LONG: Final = timedelta(seconds=30)
"""A transaction that is open for longer, and holds locks on our tables, is reported."""

NEARLY_ALL: Final = 0.9
"""More connections in use than this share of what the server allows are reported."""


def check_up(schema: ReadOnlySchema, now: datetime, *, quick: bool = False) -> Iterator[Finding]:
    """Check a schema; quick: leave out slow checks. Raises StoreError if one cannot be done."""
    yield from _server(schema)
    yield schema.disk()
    yield _locks(schema, now)
    objects = _objects(schema)
    yield objects
    if objects.level is Level.OK:  # else other checks may need what is missing
        yield from check_content(schema, now, quick=quick)


def _server(schema: ReadOnlySchema) -> Iterator[Finding]:
    with schema.reading() as session:
        found = schema.of_postgres.load_server(session)
    assert found is not None
    text = f"PostgreSQL {found.version}"
    yield Finding(level=Level.OK, check="server", message=text)
    if not found.keeps_commits:
        yield Finding(
            level=Level.WARNING,
            check="server",
            message="fsync is off: a power cut or a crash of its machine may destroy the database",
            hint="set fsync to on in postgresql.conf, and restart the server",
        )
    yield from _settings(found)
    if found.is_replica:
        yield Finding(
            level=Level.NOTE,
            check="server",
            message="this server is a replica: it does not know which workers live",
            hint="give the address of the server that takes writes",
        )
    used, most = found.connections or 0, found.max_connections or 0
    is_full = used > NEARLY_ALL * most
    yield Finding(
        level=Level.WARNING if is_full else Level.OK,
        check="connections",
        message=f"{used} of {most} connections are in use",
        hint="each worker needs two: raise max_connections, or close programs that need none"
        if is_full
        else None,
    )


def _settings(found: LoadServerRow) -> Iterator[Finding]:
    """What a session lacks behind a pooler; elsewhere, it sets these itself."""
    lacking = {
        "jit = off": found.compiles,
        "lock_timeout = '30s'": found.waits_for_locks,
        "idle_in_transaction_session_timeout = '30s'": found.waits_for_clients,
    }
    settings = [setting for setting, is_lacking in lacking.items() if is_lacking]
    if settings:
        commands = "; ".join(f"`alter role USER set {setting}`" for setting in settings)
        yield Finding(
            level=Level.WARNING,
            check="server",
            message="behind the pooler, sessions do not have all settings that they need: "
            + ", ".join(settings),
            hint=f"run {commands}, for the user of the programs; then reconnect the pooler",
        )


def _locks(schema: ReadOnlySchema, now: datetime) -> Finding:
    """Whether a transaction has been open for long, so that workers may wait for its locks."""
    with schema.reading() as session:
        found = schema.of_postgres.load_long_transactions(session, before=time_to_text(now - LONG))
    if not found:
        return Finding(level=Level.OK, check="lock", message="no transaction is open for long")
    who = ", ".join(
        f"process {one.process} ({one.user_name}{one.application and ', ' + one.application}:"
        f" {one.state}, since {one.began_at})"
        for one in found[:SHOWN]
    )
    return Finding(
        level=Level.WARNING,
        check="lock",
        message=f"{many(len(found), 'transaction')} with locks on these tables open for over"
        f" {LONG.total_seconds():g} s: {who}",
        hint="end it where it was begun; or run `select pg_terminate_backend(PROCESS)` as its user."
        " Workers wait for its locks, and the server keeps all dead rows meanwhile",
    )


def _objects(schema: ReadOnlySchema) -> Finding:
    with schema.reading() as session:
        rows = schema.queries.load_schema_objects(session)
    found = {(row.type, row.name) for row in rows}
    wanted = shipped_objects()
    missing = sorted(wanted - found)
    if not missing:
        return Finding(
            level=Level.OK, check="schema", message=f"{len(wanted)} objects are there as shipped"
        )
    of_views = all(kind == "view" for kind, _ in missing)
    return Finding(
        level=Level.ERROR,
        check="schema",
        message="; ".join(f"the {kind} {name} is missing" for kind, name in missing),
        hint="run `durable-workflow migrate FILE`: it creates the views again"
        if of_views
        else "create these objects again as in sql/postgres/migrations",
    )

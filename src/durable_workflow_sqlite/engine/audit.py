"""Who did what, to an execution or to something else: the entries of the audit log."""

from __future__ import annotations

import os
import socket
from datetime import datetime
from typing import Final

import msgspec

from durable_workflow_sqlite.engine import serialization
from durable_workflow_sqlite.records import (
    MAX_IDENTIFIER_LENGTH,
    AuditEntry,
    ChangeEntry,
    ChangeScope,
)

NOTED_CHARACTERS: Final = 1000
"""So much of a value is kept in the audit log."""


def entry(
    execution_id: str,
    act: str,
    by: str | None,
    now: datetime,
    details: dict[str, object] | None = None,
) -> AuditEntry:
    """An entry; by: who did it, and by default the user that this process runs as."""
    return AuditEntry(
        workflow_execution_id=execution_id,
        act=act,
        actor=this_user() if by is None else by,
        details=None if details is None else msgspec.json.encode(details).decode(),
        created_at=now,
    )


def change(
    scope: ChangeScope,
    name: str,
    act: str,
    by: str | None,
    now: datetime,
    details: dict[str, object] | None = None,
) -> ChangeEntry:
    """An entry about what is not an execution; by: as for `entry`."""
    return ChangeEntry(
        scope=scope,
        name=name,
        act=act,
        actor=this_user() if by is None else by,
        details=None if not details else msgspec.json.encode(details).decode(),
        created_at=now,
    )


def noted(text: str) -> object:
    """A value for the audit log: as it is, or the beginning of its JSON."""
    if len(text) <= NOTED_CHARACTERS and serialization.is_json(text):
        return msgspec.Raw(text.encode())
    return text[:NOTED_CHARACTERS]


def details_of(details: str | None) -> dict[str, object]:
    """The details of an entry; none where they cannot be read."""
    try:
        return msgspec.json.decode(details or "{}", type=dict[str, object])
    except msgspec.MsgspecError:
        return {}


def this_user() -> str:
    """`USER@MACHINE`, as far as the process can tell."""
    import getpass  # few programs act as people do

    try:
        user = getpass.getuser()
    except (ImportError, KeyError, OSError):  # a container often has no name for its user
        user = f"user {os.getuid()}" if hasattr(os, "getuid") else "somebody"
    # Whatever a machine names its users: an act must not fail for it.
    text = "".join(one if one.isprintable() else "?" for one in f"{user}@{socket.gethostname()}")
    return text.strip()[:MAX_IDENTIFIER_LENGTH].rstrip()

"""What is read of the audit log: who did what, to what, and when."""

from __future__ import annotations

from datetime import datetime

import msgspec


class NamedAct(msgspec.Struct, frozen=True, kw_only=True):
    """What a person did. scope: EXECUTION, SCHEDULE, WORKFLOW, QUEUE, STEP (a limit) or ALL.

    name: of that; of an execution, its id; "" for ALL. details: as they are stored, JSON.
    """

    scope: str
    name: str
    act: str
    actor: str
    details: str | None
    created_at: datetime | None

    @property
    def to_what(self) -> str:
        """What it was done to, in words."""
        if self.scope == "ALL":
            return "everything"
        kind = {"STEP": "limit"}.get(self.scope, self.scope.lower())
        return f"{kind} {self.name}"

    @property
    def in_words(self) -> str:
        """The details for people, in one line."""
        try:
            details = msgspec.json.decode(self.details or "{}", type=dict[str, msgspec.Raw])
        except msgspec.MsgspecError:
            return self.details or ""
        return ", ".join(f"{name}: {_in_words(value)}" for name, value in details.items())


class _Change(msgspec.Struct, forbid_unknown_fields=True):
    """A limit that was changed."""

    was: int | str | None
    becomes: int | str | None = msgspec.field(name="is")


def _in_words(value: msgspec.Raw) -> str:
    try:
        change = msgspec.json.decode(value, type=_Change)
    except msgspec.MsgspecError:
        return _or_none(msgspec.json.decode(value))
    return f"{_or_none(change.was)} → {_or_none(change.becomes)}"


def _or_none(value: object) -> str:
    return "none" if value is None else str(value)

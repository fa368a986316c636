"""A write to what belongs to an execution checks the claim, or says why it does not.

SQL cannot keep a condition for several statements, so each writes it out; here it stands once, and
a statement that has it otherwise is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from query_rules import Problem, Word

FENCED = frozenset(
    {
        "workflow_executions",
        "step_checkpoints",
        "workflow_timers",
        "workflow_signals",
        "workflow_patches",
        "workflow_stream_items",
        "workflow_progress_reports",
    }
)
"""The tables that workers write under a claim."""

HOLDS_TOKEN = frozenset({"workflow_step_slots"})
"""The tables whose rows have the token of a claim, and the id of what is claimed."""

_CLAIMED = (
    "exists ( select 1 from workflow_claims where fencing_token = :fencing_token"
    " and workflow_execution_id = :workflow_execution_id )"
)
_OPTIONAL = f":fencing_token is null or {_CLAIMED}"
_LOCKED = f"{_CLAIMED.removesuffix(')')}for key share )"
"""As on PostgreSQL, where a takeover might be committed between the look and the write."""
_OPTIONAL_LOCKED = f"cast ( :fencing_token as bigint ) is null or {_LOCKED}"
_TOKEN = "fencing_token = :fencing_token"
_OF_CLAIM = f"{_TOKEN} and workflow_execution_id = :workflow_execution_id"


def problems(
    words: Sequence[Word], *, is_optional: bool, why_not: str | None, is_locked: bool = False
) -> Iterator[Problem]:
    """What is wrong with the check of a claim in a statement, given in lower case.

    is_optional: whether :fencing_token may be null, for a write under no claim. why_not: what the
    statement says in `@unfenced`. is_locked: whether the claim must be locked, too.
    """
    texts = [word.text for word in words]
    table = _written(texts)
    line = words[0].line if words else 1
    if ":fencing_token" not in texts:
        if table in FENCED | HOLDS_TOKEN and why_not is None:
            yield Problem(
                line,
                f"it writes {table} and checks no claim; add the condition on :fencing_token as in"
                " complete_step, or say in its comment why it needs none: `-- @unfenced: WHY`",
            )
        if table not in FENCED | HOLDS_TOKEN and why_not is not None:
            yield Problem(line, "no write here is under a claim; delete `-- @unfenced: ...`")
        return
    if why_not is not None:
        yield Problem(line, "it takes a :fencing_token; delete `-- @unfenced: ...`")
    claimed, optional = (_LOCKED, _OPTIONAL_LOCKED) if is_locked else (_CLAIMED, _OPTIONAL)
    wanted = optional if is_optional else claimed if table in FENCED else _TOKEN
    if table in HOLDS_TOKEN:
        wanted = _OF_CLAIM
    if not _is_condition(texts, wanted.split()):
        yield Problem(
            line,
            "it takes a :fencing_token, and does not refuse one that is not the claim's; write it"
            f" as a condition of its own: `{wanted}`",
        )


def _written(texts: Sequence[str]) -> str | None:
    """The table that a statement writes."""
    match list(texts[:3]):
        case ["update", table, *_] | ["insert", "into", table] | ["delete", "from", table]:
            return table
        case _:
            return None


def _is_condition(texts: Sequence[str], wanted: Sequence[str]) -> bool:
    """Whether all rows that a statement writes have to fulfil a condition.

    It is the whole of a `where` that is no subquery's, or stands there with `and`.
    """
    length = len(wanted)
    for start in range(1, len(texts) - length):
        if list(texts[start : start + length]) != list(wanted):
            continue
        before, after = texts[:start], texts[start + length :]
        if "or" in wanted and before[-1] == "(" and after[0] == ")":
            before, after = before[:-1], after[1:]
        elif "or" in wanted and (before[-1] != "where" or after[0] == "and"):
            continue
        others = {*_outside(before[::-1], ("where",)), *_outside(after, _ENDS)}
        depth = before.count("(") - before.count(")")
        if (
            depth == 0
            and before[-1] in ("where", "and")
            and after[0] in ("and", *_ENDS)
            and "or" not in others
        ):
            return True
    return False


_ENDS = (";", "on", "order", "returning", "for")
"""What ends a `where`."""


def _outside(texts: Sequence[str], ends: Sequence[str]) -> list[str]:
    """What stands outside of parentheses up to an end."""
    depth = 0
    found: list[str] = []
    for text in texts:
        depth += {"(": 1, ")": -1}.get(text, 0)
        if depth == 0:
            if text in ends:
                break
            found.append(text)
    return found

"""Changes the limits of a queue or of steps, as a person asks for it."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from durable_workflow_sqlite.engine import audit
from durable_workflow_sqlite.engine.access import Access
from durable_workflow_sqlite.errors import LimitNotFoundError, QueueNotFoundError
from durable_workflow_sqlite.limits import Definition, Limit, Queue, checked, in_words
from durable_workflow_sqlite.nearest import nearest
from durable_workflow_sqlite.records import ChangeScope


async def change(access: Access, becomes: Definition, add: bool, by: str | None) -> bool:
    """See `Client.change_limits`."""
    checked([becomes])
    access.check_open()
    known = {(type(one), one.name): one for one in await access.store.load_limits()}
    before = known.get((type(becomes), becomes.name))
    if before is None and not add:
        raise not_found(type(becomes), becomes.name, known)
    if before == becomes:
        return False
    scope = ChangeScope.QUEUE if isinstance(becomes, Queue) else ChangeScope.STEP
    now = access.clock.now()
    entry = audit.change(scope, becomes.name, "set", by, now, _difference(before, becomes))
    await access.store.save_limit(becomes, entry, now=now)
    access.look()
    return True


def not_found(
    kind: type, name: str, known: Iterable[tuple[type, str]]
) -> QueueNotFoundError | LimitNotFoundError:
    """The error for a name that nobody has declared."""
    hint = nearest(name, [other for of_kind, other in known if of_kind is kind])
    if kind is Limit:
        return LimitNotFoundError(f"no limit {name!r} for steps is declared{hint}")
    return QueueNotFoundError(f"no queue {name!r} is declared{hint}")


def _difference(before: Definition | None, becomes: Definition) -> dict[str, object]:
    """Each limit that changes, with what it was and what it is; null: none."""
    was = {} if before is None else msgspec.structs.asdict(before)
    return {
        what: {"was": in_words(was.get(what)), "is": in_words(value)}
        for what, value in msgspec.structs.asdict(becomes).items()
        if what != "name" and value != was.get(what)
    }

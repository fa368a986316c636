"""By which keys the values of a database are encoded, and whether they are given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from durable_workflow_sqlite.reading.encodings import EncodedValues
from durable_workflow_sqlite.reading.findings import Finding, Level, many
from durable_workflow_sqlite.store.readable import Readable
from durable_workflow_sqlite.store.recoding import count_keys

LOOKED_AT: Final = 1000
"""So many rows of a table are looked at by a quick check."""


def encodings(file: Readable, *, quick: bool = False) -> list[EncodedValues]:
    """See `Reader.encodings`. quick: of some rows alone."""
    encoding = file.encoding
    with file.reading() as connection:
        found = count_keys(file.queries, connection, encoding, at_most=LOOKED_AT if quick else None)
    return [
        EncodedValues(
            key=key,
            count=count,
            is_current=encoding.has_codec and key == encoding.current_key,
            is_known=key is None or encoding.knows(key),
        )
        for key, count in sorted(found.items(), key=lambda one: one[0] or "")
    ]


def encoded(file: Readable, *, quick: bool) -> Iterator[Finding]:
    """What a check says of it; nothing of a database that holds plain values alone."""
    found = encodings(file, quick=quick)
    unknown = [one for one in found if not one.is_known]
    plain = sum(one.count for one in found if one.key is None)
    all_ = sum(one.count for one in found)
    if unknown and not file.encoding.has_codec:
        yield Finding(
            level=Level.WARNING,
            check="encoded",
            message=f"{many(all_ - plain, 'value')} encoded, and no key is given: this check cannot"
            " tell whether they can be decoded",
            hint="give the file of keys: --key-file KEYS, or DURABLE_WORKFLOW_KEY_FILE. Workers"
            " need it, too: without it, they leave these executions as they are",
        )
    elif unknown:
        keys = ", ".join(f"{one.key} ({one.count:,})" for one in unknown)
        yield Finding(
            level=Level.ERROR,
            check="encoded",
            message=f"{many(sum(one.count for one in unknown), 'value')} encoded with keys that"
            f" are not given: {keys}",
            hint="put these keys back into the file of keys, after the first one. Until then,"
            " workers leave these executions as they are",
        )
    elif file.encoding.has_codec:
        old = sum(one.count for one in found if one.key is not None and not one.is_current)
        yield Finding(
            level=Level.NOTE if old or plain else Level.OK,
            check="encoded",
            message=f"all keys are given; {many(plain, 'value')} plain, {many(old, 'value')} under"
            " an older key",
            hint="`durable-workflow keys rotate FILE` encodes them with the newest key"
            if old or plain
            else None,
        )

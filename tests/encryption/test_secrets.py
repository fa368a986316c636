"""No value that goes through a store with a codec can be read in its database."""

from __future__ import annotations

import asyncio
import base64
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from durable_workflow_sqlite import open_reader, open_store
from tests import postgres_server
from tests.databases import new_database
from tests.encryption.stories import CODEC, SECRET, go_on, live

TABLES = (
    "workflow_executions",
    "step_checkpoints",
    "workflow_signals",
    "workflow_schedules",
    "workflow_audit_log",
)


def forms_of(secret: str) -> list[bytes]:
    """The secret as it is, and in base64 at each of the three places where it may begin."""
    plain = secret.encode()
    in_base64 = [base64.b64encode(b"x" * at + plain)[at + 2 : -4] for at in range(3)]
    return [plain, plain.hex().encode(), *in_base64]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.campaign)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    file = tmp_path / "workflows.db"
    if request.param == "sqlite":
        yield str(new_database(file))
        return
    schema = postgres_server.schema_of(file)
    yield f"{postgres_server.url()}?schema={schema}"


def texts_of(url: str) -> bytes:
    """All that the tables hold."""
    if not url.startswith("postgres"):
        with closing(sqlite3.connect(url)) as file:
            return "\n".join(file.iterdump()).encode()
    import psycopg

    schema = url.rpartition("=")[2]
    with psycopg.connect(url.partition("?")[0]) as session:
        found: list[Any] = []
        for table in TABLES:
            query: Any = f'select one::text from "{schema}".{table} as one'
            found += session.execute(query).fetchall()
    rows = map(str, found)
    return "\n".join(rows).encode()


def test_a_secret_is_nowhere_in_the_file_and_its_log(tmp_path: Path) -> None:
    file = new_database(tmp_path / "workflows.db")
    seen: list[bytes] = []

    async def main() -> None:
        async with open_store(file, codec=CODEC) as store:
            await live(store)
            # While it is open, what was written last stands in the log.
            seen.extend(path.read_bytes() for path in tmp_path.glob("workflows.db*"))
        async with open_store(file, codec=CODEC) as store:
            await go_on(store)

    asyncio.run(main())
    seen.extend(path.read_bytes() for path in tmp_path.glob("workflows.db*"))
    assert len(seen) >= 3
    for form in forms_of(SECRET):
        assert [form in one for one in seen] == [False] * len(seen)


def test_without_a_codec_the_same_story_leaves_it_in_the_file(tmp_path: Path) -> None:
    """So that the search above is known to find it."""
    file = new_database(tmp_path / "workflows.db")

    async def main() -> None:
        async with open_store(file) as store:
            await live(store)
        async with open_store(file) as store:
            await go_on(store)

    asyncio.run(main())
    texts = texts_of(str(file))
    for table in TABLES:
        lines = [one for one in texts.splitlines() if f'INSERT INTO "{table}"'.encode() in one]
        assert any(SECRET.encode() in one for one in lines), table


def test_a_secret_is_in_no_row_and_comes_back(url: str) -> None:
    async def main() -> None:
        async with open_store(url, codec=CODEC) as store:
            await live(store)
        for form in forms_of(SECRET):
            assert form not in texts_of(url)
        async with open_store(url, codec=CODEC) as store:
            await go_on(store)
        for form in forms_of(SECRET):
            assert form not in texts_of(url)

    asyncio.run(main())


def test_people_see_it_with_the_key_and_encrypted_without(url: str) -> None:
    async def main() -> None:
        async with open_store(url, codec=CODEC) as store:
            await live(store)

    asyncio.run(main())
    with open_reader(url, codec=CODEC) as reader:
        shown = repr([reader.execution(one) for one in ("all", "fails", "resolved", "mistaken")])
        acts = repr(reader.acts(limit=100))
    for said in (
        f"answer {SECRET}",
        f"data {SECRET}",
        f"kid {SECRET}",
        f"bad kid: {SECRET}",
        f"signal {SECRET}",
        f"not undone: answer {SECRET}",
        f"by hand {SECRET}",
        f"a mistake with {SECRET}",
    ):
        assert said in shown, said
    assert SECRET in acts
    assert "ncoded:" not in shown + acts
    with open_reader(url) as reader:
        shown = repr([reader.execution(one) for one in ("all", "fails", "resolved", "mistaken")])
        shown += repr([reader.acts(limit=100), reader.schedules(), reader.problems()])
    assert "encrypted" in shown
    assert SECRET not in shown
    assert "ncoded:" not in shown

"""`open_store`: a path or a URL names a store."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from durable_workflow_sqlite import blocking, open_store
from durable_workflow_sqlite.stores import path_of


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("workflows.db", "workflows.db"),
        (Path("a/workflows.db"), str(Path("a", "workflows.db"))),
        ("C:\\workflows.db", "C:\\workflows.db"),
        ("sqlite:///workflows.db", "workflows.db"),
        ("SQLite:////var/lib/workflows.db", "/var/lib/workflows.db"),
        ("sqlite:///a%20b%3Fc%23d.db", "a b?c#d.db"),
        (Path("sqlite:///x"), str(Path("sqlite:", "x"))),
        ("sqlite://", None),
        ("sqlite:///", None),
        ("sqlite:///:memory:", None),
        (":memory:", None),
    ],
)
def test_what_names_a_store(url: str | Path, path: str | None) -> None:
    assert path_of(url) == path


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "is empty"),
        ("mysql://kim:secret@host/db", "mysql is not known"),
        ("sqlite://workflows.db", "sqlite:///workflows.db"),
        ("sqlite:///workflows.db?mode=ro", "must not have ? or #"),
        ("sqlite:///workflows.db#1", "must not have ? or #"),
        ("https://example.org/workflows.db", "https is not known"),
    ],
)
def test_what_names_none_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"store|empty") as refused:
        open_store(url)
    assert words in str(refused.value)
    assert "secret" not in str(refused.value)


def test_what_is_opened_is_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with open_store(f"sqlite:///{tmp_path}/one.db") as store:
            assert await store.load_workflows() == []
        async with open_store(":memory:") as store:
            assert await store.load_workflows() == []

    asyncio.run(main())
    with blocking.open_store("sqlite:///two.db", synchronous="full") as store:
        assert store.load_workflows() == []
    assert sorted(one.name for one in tmp_path.glob("*.db")) == ["one.db", "two.db"]
    with pytest.raises(TypeError, match="as text"):
        open_store(b"three.db")  # type: ignore[arg-type]

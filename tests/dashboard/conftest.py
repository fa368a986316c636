from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from durable_workflow_sqlite import (
    DurableEngine,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    dashboard,
    workflow,
)
from tests.over_postgres import is_on, parametrize, placed
from tests.processes import an_engine, die, run_until_killed

__all__ = ["is_on", "placed"]

HOST = "http://127.0.0.1:8642"

Open = Callable[..., TestClient]
QUICK = frozenset(
    {
        "test_a_failed_execution_is_opened_again",
        "test_the_list_shows_every_execution_with_its_state",
        "test_the_limits_of_a_queue_are_changed",
    }
)
"""A page and two actions over PostgreSQL; all others are in the campaigns."""

LEFT_OUT = frozenset(
    {
        # They are about a file.
        "test_a_file_that_is_gone_ends_it_and_is_not_created",
        "test_a_mounted_dashboard_that_is_dropped_lets_go_of_the_file",
        # By hand it does what only SQLite can.
        "test_many_are_paused_and_resumed",
        # Other tests write to the same server, and a page cannot tell that from a change.
        "test_a_page_that_asks_what_is_new_gets_a_short_answer_until_something_is",
        "test_the_queues_and_limits_are_shown",
    }
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if not metafunc.module.__name__.endswith("test_in_browser"):  # which gets the same pages
        parametrize(metafunc, QUICK, LEFT_OUT)


@workflow
async def approval(ctx: WorkflowContext, document: str) -> str:
    await ctx.step("ask", lambda: {"asked": document})
    by = await ctx.wait_signal("approved", timeout=timedelta(days=7))
    await ctx.step("note", lambda: by)
    return f"{document} approved"


@workflow
async def fragile(ctx: WorkflowContext) -> None:
    await ctx.step("charge", lambda: 4200, compensate=lambda _: None)
    await ctx.step("ship", _break, retry=RetryPolicy.fixed(max_attempts=2, delay=timedelta(0)))


@workflow
async def fails_at_once(ctx: WorkflowContext) -> None:
    await ctx.step("ship", _break)


@workflow
async def dies(ctx: WorkflowContext) -> None:
    await ctx.step("deadly", lambda: die())


@workflow
async def payment(ctx: WorkflowContext, customer: dict[str, object]) -> None:
    await ctx.step("charge", _no_answer, customer["id"])


@workflow(version=2)
async def parcel(ctx: WorkflowContext, customer: dict[str, object]) -> None:
    await ctx.step("weigh", lambda: 700)
    await ctx.step("ship", _break)


def _no_answer(customer: int) -> None:
    raise ConnectionError(f"no answer about {customer}")


def _break() -> None:
    raise RuntimeError("the truck broke down")


async def fill(file: Path) -> None:
    """One execution that waits, one that is completed, two that failed; one was undone."""
    async with an_engine(file, workflows=[approval, fragile, fails_at_once]) as (_, engine):
        await engine.start(approval, "plan.pdf", execution_id="waiting")
        done = await engine.start(approval, "book.pdf", execution_id="done")
        await done.signal("approved", "kim")
        await done.result()
        for failing, name in ((fragile, "undone"), (fails_at_once, "failed")):
            handle = await engine.start(failing, execution_id=name)
            with pytest.raises(Exception, match="truck"):
                await handle.result()
        while (await engine.load("waiting")).status != "SUSPENDED":
            await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    asyncio.run(fill(folder / "orders.db"))
    return folder


@pytest.fixture
def file(filled: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    """A database with executions in several states."""
    return placed(Path(shutil.copytree(filled, tmp_path / "filled")) / "orders.db")


async def go_out(file: Path) -> None:
    """An outage: seven payments and two parcels that failed, each with its customer."""
    async with an_engine(file, workflows=[payment, parcel]) as (_, engine):
        for one, name, count in ((payment, "pay", 7), (parcel, "parcel", 2)):
            for number in range(count):
                handle = await engine.start(
                    one,
                    {"id": number},
                    execution_id=f"{name}-{number}",
                    tags={"customer": str(number)},
                )
                with pytest.raises(Exception, match=r"truck|answer"):
                    await handle.result()


@pytest.fixture(scope="session")
def went_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("went-out")
    asyncio.run(fill(folder / "outage.db"))
    asyncio.run(go_out(folder / "outage.db"))
    return folder


@pytest.fixture
def outage(went_out: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    """What `file` has, and what an outage left."""
    return placed(Path(shutil.copytree(went_out, tmp_path / "outage")) / "outage.db")


@pytest.fixture(scope="session")
def abandoned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("abandoned")

    async def run() -> None:
        async with (
            SqliteCheckpointStore.file(folder / "doubt.db") as store,
            DurableEngine(store) as engine,
        ):
            await engine.run(dies, execution_id="cut-off")

    run_until_killed(run)
    return folder


@pytest.fixture
def in_doubt(abandoned: Path, tmp_path: Path, placed: Callable[[Path], Path]) -> Path:
    """A database whose only worker died in a step."""
    return placed(Path(shutil.copytree(abandoned, tmp_path / "abandoned")) / "doubt.db")


@pytest.fixture
def visit(file: Path) -> Iterator[Open]:
    """Open the dashboard as a browser would; options go to `dashboard.app`."""
    clients: list[TestClient] = []

    def open_(path: Path = file, *, base_url: str = HOST, **options: Any) -> TestClient:
        client = TestClient(
            dashboard.app(path, **options), base_url=base_url, follow_redirects=False
        )
        client.__enter__()
        clients.append(client)
        return client

    yield open_
    for client in clients:
        client.__exit__(None, None, None)


def token_in(html: str) -> str:
    """The token of a form."""
    _, _, rest = html.partition('name="form_token" value="')
    return rest.partition('"')[0]


def send(client: TestClient, action: str, **fields: str) -> Any:
    """Ask for the form of an action, and send it."""
    page = client.get(f"/{action}", params={"id": fields["id"]})
    return client.post(f"/{action}", data={"form_token": token_in(page.text), **fields})

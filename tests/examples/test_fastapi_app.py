"""The FastAPI example, over an engine whose crashes are planned, and over a real file."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi_app import create_app, fulfil

from durable_workflow_sqlite import DurableEngine
from durable_workflow_sqlite.testing import AsyncSandbox

ORDER = {"number": "A-1", "cents": 4200}
PAYMENT = {"order": "A-1", "reference": "tx-77"}


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        yield client


@asynccontextmanager
async def client_in(durable: AsyncSandbox) -> AsyncIterator[httpx.AsyncClient]:
    @asynccontextmanager
    async def open_engine() -> AsyncIterator[DurableEngine]:
        yield durable.engine

    async with client_of(create_app(open_engine)) as client:
        yield client


async def test_an_order_is_started_paid_and_shipped() -> None:
    async with AsyncSandbox([fulfil]) as durable, client_in(durable) as client:
        assert (await client.post("/orders", json=ORDER)).status_code == 202
        assert (await client.post("/orders", json=ORDER)).status_code == 202
        await durable.settle()
        state = (await client.get("/orders/A-1")).json()
        assert (state["status"], state["result"]) == ("SUSPENDED", None)
        for _ in range(2):  # webhooks come twice now and then
            answer = await client.post("/webhooks/payments", json=PAYMENT)
            assert answer.status_code == 204
            await durable.settle()
        state = (await client.get("/orders/A-1")).json()
        assert state["result"] == "A-1 shipped, 4200 cents paid by tx-77"
        (await durable.history()).assert_ran("reserve", "ship", times=1)


async def test_an_order_that_is_not_paid_is_released() -> None:
    async with AsyncSandbox([fulfil]) as durable, client_in(durable) as client:
        await client.post("/orders", json=ORDER)
        with pytest.raises(Exception, match="not paid within three days"):
            await durable.result_of("A-1")
        state = (await client.get("/orders/A-1")).json()
        assert (state["status"], state["error"]) == (
            "FAILED",
            "it was not paid within three days",
        )
        (await durable.history()).assert_undone("reserve")


async def test_wrong_requests_are_told_so() -> None:
    async with AsyncSandbox([fulfil]) as durable, client_in(durable) as client:
        await client.post("/orders", json=ORDER)
        other = {**ORDER, "cents": 1}
        assert (await client.post("/orders", json=other)).status_code == 409
        assert (await client.get("/orders/A-2")).status_code == 404
        payment = {**PAYMENT, "order": "A-2"}
        assert (await client.post("/webhooks/payments", json=payment)).status_code == 404
        assert (await client.post("/orders", json={})).status_code == 422


def test_the_next_process_goes_on_with_an_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def before() -> None:
        async with client_of(create_app()) as client:
            await client.post("/orders", json=ORDER)

    async def after() -> None:
        async with client_of(create_app()) as client:
            await client.post("/webhooks/payments", json=PAYMENT)
            for _ in range(200):
                state = (await client.get("/orders/A-1")).json()
                if state["result"] is not None:
                    break
                await asyncio.sleep(0.01)
            assert state["result"] == "A-1 shipped, 4200 cents paid by tx-77"

    asyncio.run(before())
    asyncio.run(after())


async def test_the_dashboard_is_mounted_and_shows_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async with client_of(create_app()) as client:
        await client.post("/orders", json=ORDER)
        for _ in range(100):
            page = await client.get("http://localhost/dashboard/executions")
            if "A-1" in page.text:
                break
            await asyncio.sleep(0.05)
        assert page.status_code == 200
        assert "A-1" in page.text
        assert (await client.get("http://elsewhere/dashboard/")).status_code in (400, 403, 421)

"""Orders behind FastAPI: started in a request, paid by a webhook, worked on in the same process.

    uvicorn fastapi_app:app

    curl -X POST localhost:8000/orders -H 'content-type: application/json' \
         -d '{"number": "A-1", "cents": 4200}'
    curl -X POST localhost:8000/webhooks/payments -H 'content-type: application/json' \
         -d '{"order": "A-1", "reference": "tx-77"}'
    curl localhost:8000/orders/A-1
    open http://localhost:8000/dashboard/

A repeated request starts nothing new, since the number of the order is the id of the execution.
You can stop the server while an order waits for its payment: the next server continues it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, cast

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from pydantic import BaseModel

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionConflictError,
    ExecutionFinishedError,
    ExecutionNotFoundError,
    ExecutionStatus,
    SignalTimeoutError,
    SqliteCheckpointStore,
    WorkflowContext,
    dashboard,
    workflow,
)

FILE = Path("workflows.db")
OpenEngine = Callable[[], AbstractAsyncContextManager[DurableEngine]]


class Order(BaseModel):
    number: str
    cents: int


class Payment(BaseModel):
    order: str
    reference: str


class State(BaseModel):
    number: str
    status: ExecutionStatus
    result: str | None = None
    error: str | None = None


# The workflow: pydantic models are stored as JSON and come back as models.


@workflow
async def fulfil(ctx: WorkflowContext, order: Order) -> str:
    await ctx.step("reserve", reserve, order, compensate=release)
    try:
        payment = await ctx.wait_signal("paid", timeout=timedelta(days=3), type=Payment)
    except SignalTimeoutError:
        raise RuntimeError("it was not paid within three days") from None  # and is released
    return await ctx.step("ship", ship, order, payment)


async def reserve(order: Order) -> str:
    return order.number


async def release(number: str) -> None:
    print(f"{number} is for others again")


async def ship(order: Order, payment: Payment) -> str:
    return f"{order.number} shipped, {order.cents} cents paid by {payment.reference}"


# The application


def engine_of(request: Request) -> DurableEngine:
    return cast(DurableEngine, request.app.state.engine)


Engine = Annotated[DurableEngine, Depends(engine_of)]
router = APIRouter()


@router.post("/orders", status_code=202)
async def start_order(order: Order, engine: Engine) -> State:
    try:
        handle = await engine.start(fulfil, order, execution_id=order.number)
    except ExecutionConflictError as error:  # the same number, another order
        raise HTTPException(409, str(error)) from error
    return State(number=order.number, status=await handle.status())


@router.get("/orders/{number}")
async def look_at_order(number: str, engine: Engine) -> State:
    try:
        execution = await engine.load(number)
    except ExecutionNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    result = None
    if execution.status is ExecutionStatus.COMPLETED:
        result = await engine.handle(number).result()
    return State(
        number=number, status=execution.status, result=result, error=execution.error_message
    )


@router.post("/webhooks/payments", status_code=204)
async def hear_of_payment(payment: Payment, engine: Engine) -> None:
    """When this has answered, the payment is stored; the sender need not repeat it."""
    try:
        # With its own reference as the key, a payment that is sent twice counts once.
        await engine.send_signal(payment.order, "paid", payment, key=payment.reference)
    except ExecutionNotFoundError as error:
        raise HTTPException(404, str(error)) from error
    except ExecutionConflictError as error:  # the same reference, another payment
        raise HTTPException(409, str(error)) from error
    except ExecutionFinishedError:
        pass  # the order has ended: the payment came too late


@asynccontextmanager
async def open_engine() -> AsyncIterator[DurableEngine]:
    """Entering resumes what the last process left; leaving keeps the rest for the next process."""
    async with (
        SqliteCheckpointStore.file(FILE) as store,
        DurableEngine(store, workflows=[fulfil]) as engine,
    ):
        yield engine


def create_app(open_engine: OpenEngine = open_engine) -> FastAPI:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with open_engine() as engine:
            app.state.engine = engine
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    # Read-only. To send signals, cancel and retry, set a token and remove `read_only`.
    app.mount("/dashboard", dashboard.app(FILE, read_only=True))
    return app


app = create_app()

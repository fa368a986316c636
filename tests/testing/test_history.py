"""Assertions on a history, and what they say when they fail."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from durable_workflow_sqlite import WorkflowContext, WorkflowFailedError, workflow
from durable_workflow_sqlite.testing import History, Sandbox


def price(cents: int) -> int:
    return cents


def fail() -> None:
    raise RuntimeError("the truck broke down")


@workflow
async def order(ctx: WorkflowContext) -> None:
    branch = ctx.branch("mail")
    await branch.step("price", price, 42)
    await ctx.step("pay", price, 42, compensate=price)
    await ctx.step("pack", price, 1, compensate=price)
    await ctx.step("ship", fail)


@pytest.fixture
def history(durable: Sandbox) -> History:
    durable.crash_at("pay", "after")
    with pytest.raises(WorkflowFailedError):
        durable.run(order)
    return durable.history()


def test_a_history_reads_as_what_happened(history: History) -> None:
    assert history == [
        "mail/price",
        "pay (in doubt)",
        "pay",
        "pack",
        "ship (failed: RuntimeError: the truck broke down)",
        "pack (undone)",
        "pay (undone)",
    ]


def test_an_event_says_more(history: History) -> None:
    pay = history.events[2]
    assert (pay.name, pay.attempt, pay.result, pay.error) == ("pay", 2, 42, None)
    assert pay.started_at is not None and pay.completed_at is not None
    assert pay.started_at <= pay.completed_at


def test_what_holds_is_not_complained_of(history: History) -> None:
    history.assert_ran("mail/price", "pack")
    history.assert_ran("pay", times=2)
    history.assert_not_ran("refund")
    history.assert_order("mail/price", "pack")
    history.assert_undone("pack", "pay")


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (lambda h: h.assert_ran("refund"), "step 'refund' should have run, and ran never"),
        (
            lambda h: h.assert_ran("pay", times=1),
            "step 'pay' should have run once, and ran twice",
        ),
        (lambda h: h.assert_not_ran("pack"), "step 'pack' should not have run, and ran once"),
        (
            lambda h: h.assert_order("pack", "pay"),
            "'pay' should have completed after 'pack', and did not",
        ),
        (lambda h: h.assert_order("ship"), "'ship' should have completed, and did not"),
        (
            lambda h: h.assert_undone("pay", "pack"),
            "undone should be ['pay', 'pack'], and is ['pack', 'pay']",
        ),
    ],
)
def test_what_does_not_hold_is_said_with_all_that_happened(
    history: History, claim: Callable[[History], None], message: str
) -> None:
    with pytest.raises(AssertionError) as raised:
        claim(history)
    said, _, rest = str(raised.value).partition(". It was:\n")
    assert said == message
    assert [line.strip() for line in rest.splitlines()] == history


def test_what_a_workflow_gave_up_is_cut_off_and_the_timers_of_asyncio_are_no_lines(
    durable: Sandbox,
) -> None:
    @workflow
    async def races(ctx: WorkflowContext) -> str:
        try:
            async with asyncio.timeout(3600):
                await ctx.wait_signal("answer")
        except TimeoutError:
            pass
        await asyncio.sleep(3600)
        await ctx.step("after", price, 1)
        return str(ctx.now())

    durable.crash_at("after", "before")
    assert durable.run(races).startswith("2030-01-01 02:00:00")
    assert durable.history() == ["answer (cut off)", "after (in doubt)", "after"]

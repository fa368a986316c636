"""The workflows of the examples, rehearsed in a sandbox: their crashes, their waits, their ends."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import agent_loop
import checkout_with_refund
import chunked_upload
import file_pipeline
import human_approval
import invoice_run
import nightly_pipeline
import orders
import payment_service
import pytest
import send_invoices

from durable_workflow_sqlite import WorkflowFailedError
from durable_workflow_sqlite.testing import Sandbox

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _afresh() -> None:
    checkout_with_refund.happened.clear()
    nightly_pipeline.calls.clear()


def test_a_checkout_that_dies_while_it_gives_the_money_back_gives_it_back(durable: Sandbox) -> None:
    durable.crash_at("pay:compensate", "before")
    with pytest.raises(WorkflowFailedError, match="the truck broke down"):
        durable.run(checkout_with_refund.checkout, ["pen"])
    durable.history().assert_undone("reserve", "pay")
    assert checkout_with_refund.happened.count("gave 100 cents of payment-1 back") == 1


def test_an_invoice_run_that_dies_again_and_again_sends_each_invoice_once(
    durable: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    monkeypatch.setattr(invoice_run, "send", lambda customer, *_: sent.append(customer))
    durable.restart(invoice_run.invoice, invoice_run.invoice_run)
    execution = durable.start(invoice_run.invoice_run, ["kim", "lee", "noa", "sam"], 0, [])
    durable.crash()
    assert execution.result() == {"cents": 1200, "failed": []}
    assert sorted(sent) == ["kim", "lee", "noa", "sam"]


def test_an_approval_goes_to_the_boss_when_the_lead_takes_too_long(durable: Sandbox) -> None:
    execution = durable.start(human_approval.expense, "a piano")
    durable.advance(human_approval.PATIENCE)
    durable.crash(down_for=DAY)
    execution.signal("decision", human_approval.Decision("boss", False))
    assert execution.result() == "a piano: no, says the boss"
    execution.history().assert_order("ask the lead", "ask the boss", "decision")


def test_an_approval_of_the_lead_does_not_trouble_the_boss(durable: Sandbox) -> None:
    durable.signal_when_awaited("decision", human_approval.Decision("lead", True))
    assert durable.run(human_approval.expense, "a plant") == "a plant: yes, says the lead"
    durable.history().assert_not_ran("ask the boss")


def test_a_chunk_in_doubt_is_sent_again_under_the_same_key(
    durable: Sandbox, tmp_path: Path
) -> None:
    durable.crash_at("chunk 2", "after")
    assert durable.run(chunked_upload.upload, str(tmp_path), 4) == 4000
    received = Path(tmp_path, "received.log").read_text().splitlines()
    assert [line.split()[0] for line in received] == ["0", "1", "2", "2", "3"]
    assert len(set(received)) == 4


def test_a_night_is_slept_through_and_a_crash_fetches_nothing_twice(durable: Sandbox) -> None:
    durable.crash_at("until the morning", "before", down_for=DAY)
    result = durable.run(nightly_pipeline.nightly, ["shop", "mail"])
    assert result == "4 from shop, 4 from mail"
    assert nightly_pipeline.calls == {"shop": 1, "mail": 3}


def test_files_are_read_side_by_side_and_a_bad_one_is_complained_of(
    durable: Sandbox, tmp_path: Path
) -> None:
    file_pipeline.make_files(tmp_path)
    durable.crash_at("report", "after", times=2)
    result = durable.run(file_pipeline.pipeline, str(tmp_path))
    assert result == "480 cents in 2 files, 1 could not be read"
    assert {path.name for path in Path(tmp_path, "done").iterdir()} == {"monday.csv", "tuesday.csv"}
    assert "'many'" in Path(tmp_path, "wednesday.csv.error").read_text()
    durable.history().assert_ran("monday.csv/read", "tuesday.csv/read", times=1)
    durable.history().assert_ran("wednesday.csv/read", times=2)


def test_a_file_that_was_moved_before_the_crash_is_not_missed(
    durable: Sandbox, tmp_path: Path
) -> None:
    (tmp_path / "monday.csv").write_text("pen,120\n")
    durable.crash_at("archive", "after")
    result = durable.run(file_pipeline.pipeline, str(tmp_path))
    assert result == "120 cents in 1 files, 0 could not be read"
    durable.history().assert_ran("monday.csv/archive", times=2)


def test_an_agent_asks_the_model_nothing_twice(durable: Sandbox, tmp_path: Path) -> None:
    for step in ("model", "population", "area", "mail"):
        durable.crash_at(step, "recorded")
    durable.signal_when_awaited("approval", agent_loop.Approval("kim", True), after=DAY / 2)
    assert ask_agent(durable, tmp_path) == "4 people a square kilometre, as I wrote"
    assert len(durable.crashes) == 4
    assert calls_of(tmp_path).count("model") == 4


@pytest.mark.parametrize("answers", [True, False])
def test_an_agent_does_not_do_what_nobody_approved(
    durable: Sandbox, tmp_path: Path, answers: bool
) -> None:
    if answers:
        durable.signal_when_awaited("approval", agent_loop.Approval("kim", False))
    assert ask_agent(durable, tmp_path) == "4 people a square kilometre"
    durable.history().assert_not_ran("mail")


def ask_agent(durable: Sandbox, folder: Path) -> str:
    question, log = "mail me how crowded Iceland is", str(folder / "calls.log")
    return durable.run(agent_loop.agent, question, log)


def calls_of(folder: Path) -> list[str]:
    return (folder / "calls.log").read_text().split()


def test_an_invoice_in_doubt_is_sent_again_under_the_same_key(
    durable: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    durable.crash_at("send 2", "after")
    assert durable.run(send_invoices.send_invoices, ["pen", "ink"]) == 2
    lines = Path("outbox.txt").read_text().splitlines()
    assert len(lines) == 3 and lines[1] == lines[2]


@pytest.fixture
def payments(tmp_path: Path) -> Iterator[str]:
    """The address of a payment service."""

    class Handler(payment_service.Handler):
        ledger = payment_service.Ledger(tmp_path / "ledger.jsonl")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/charges"
    server.shutdown()
    server.server_close()
    thread.join()
    Handler.ledger.close()


def test_an_order_is_charged_once_though_the_charge_was_in_doubt(
    durable: Sandbox, tmp_path: Path, payments: str
) -> None:
    order = orders.read_orders(Path(orders.__file__).with_name("orders.json"))[0]
    durable.crash_at("charge", "after")
    durable.run(orders.fulfil, order, payments)
    durable.history().assert_ran("charge", times=2)
    charges = [json.loads(line) for line in (tmp_path / "ledger.jsonl").read_text().splitlines()]
    assert [charge["order"] for charge in charges] == [order.number]

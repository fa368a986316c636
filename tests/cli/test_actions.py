"""signal, cancel and retry: with a worker that hears of it, and before there is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import a_worker, lines, refusal, run, status_of, wait_until

AS_WRITTEN = '{"by": "kim", "sum": 1.10, "paid": 12345678901234567890.0}'
"""A payload that would be another text if it were read and written again."""


@pytest.mark.few(1)
def test_a_signal_lets_a_stuck_order_go_on(file: Path) -> None:
    with a_worker(file):
        assert lines("signal", file, "order-WAIT-1", "approved", AS_WRITTEN)
        wait_until(lambda: status_of(file, "order-WAIT-1") == "COMPLETED")
    delivered = [line for line in lines("show", file, "order-WAIT-1") if line[0] == "signal"]
    assert [(line[1], line[2], line[4]) for line in delivered] == [
        ("approved", "DELIVERED", AS_WRITTEN)
    ]


def test_a_signal_with_a_key_is_sent_once_and_the_command_may_be_repeated(file: Path) -> None:
    words = ("signal", file, "order-WAIT-1", "approved", '{"by": "kim"}', "--key", "mail-88")
    assert run(*words).stdout == "sent approved to order-WAIT-1\n"
    again = run(*words[:4], '{"by":"kim"}', *words[5:])
    assert (again.returncode, again.stderr) == (0, "")
    assert "was sent to order-WAIT-1 before, with the key mail-88" in again.stdout
    assert "mail-88" in refusal(*words[:4], '{"by": "lee"}', *words[5:])
    assert "mail-88" in refusal(*words[:3], "other", *words[4:])
    sent = [line for line in lines("show", file, "order-WAIT-1") if line[0] == "signal"]
    assert [(line[1], line[4], line[-1]) for line in sent] == [
        ("approved", '{"by": "kim"}', "mail-88")
    ]
    assert '"key":"mail-88"' in run("show", file, "order-WAIT-1", "--json").stdout


def test_a_signal_of_another_name_is_remarked_on(file: Path) -> None:
    done = run("signal", file, "order-WAIT-1", "aproved")
    assert done.returncode == 0
    assert "it waits for signal approved" in done.stdout


def test_a_payload_that_is_no_json_is_refused_with_the_quotes_that_it_needs(file: Path) -> None:
    assert """'"kim"'""" in refusal("signal", file, "order-WAIT-1", "approved", "kim")
    assert not [line for line in lines("show", file, "order-WAIT-1") if line[0] == "signal"]


def test_cancel_is_heard_by_the_worker_that_comes_next(file: Path) -> None:
    assert lines("cancel", file, "order-WAIT-2")
    assert status_of(file, "order-WAIT-2") == "SUSPENDED"
    assert "somebody has already asked" in refusal("cancel", file, "order-WAIT-2")
    with a_worker(file):
        wait_until(lambda: status_of(file, "order-WAIT-2") == "CANCELLED")


def test_what_is_finished_cannot_be_cancelled_or_signalled(file: Path) -> None:
    for words in (["cancel", "order-A-1"], ["signal", "order-A-1", "approved"]):
        assert "is finished (COMPLETED)" in refusal(words[0], file, *words[1:])


def test_nobody_s_id_is_refused_with_a_way_to_find_the_right_one(file: Path) -> None:
    for command in (["cancel", "nobody"], ["retry", "nobody"], ["signal", "nobody", "go"]):
        assert "--id PREFIX" in refusal(command[0], file, *command[1:])


def test_retry_runs_a_failed_order_from_its_failed_step(file: Path) -> None:
    assert lines("retry", file, "order-BAD-1")
    assert status_of(file, "order-BAD-1") == "PENDING"
    with a_worker(file):
        wait_until(lambda: status_of(file, "order-BAD-1") == "FAILED")
    attempts = [
        (line[4], line[3]) for line in lines("show", file, "order-BAD-1") if line[0] == "step"
    ]
    assert attempts == [("charge", "1"), ("pack", "1"), ("ship", "1"), ("ship", "2")]


def test_what_was_compensated_cannot_be_retried(file: Path) -> None:
    assert "compensated" in refusal("retry", file, "order-BAD-UNDONE")

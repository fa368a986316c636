"""What is made of the figures: targets, tables, the page, and what is seen in a peer's file."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from benchmarks import pairs, report, run_queues
from benchmarks.peers import peer
from benchmarks.rounds import ON_HISTORY, ROOT, TRIES, Figure, run_rounds
from benchmarks.run_peers import PEERS
from benchmarks.targets import GROUPS, PEER_TARGETS, TARGETS, Target

from tests.benchmarks.test_works import KEYS


def figures_of(target: Target) -> list[Figure]:
    return [one for one in (target.measured, target.against) if one is not None]


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.work}, {target.says}")
def test_a_target_is_measured_by_figures_that_the_run_makes(target: Target) -> None:
    works = {work for group in GROUPS for work in group}
    for figure in figures_of(target):
        assert figure.work in works
        assert figure.key in KEYS[figure.work.removesuffix(ON_HISTORY)]


def test_the_targets_beside_peers_are_measured_by_their_works() -> None:
    for target in PEER_TARGETS:
        for figure in figures_of(target):
            side, work = figure.work.split(".")
            assert side == "ours" or side in PEERS
            assert figure.key in KEYS[f"ours.{work}"]


def test_a_target_of_queues_is_measured_by_a_work_of_pairs() -> None:
    for target in run_queues.TARGETS:
        (figure,) = figures_of(target)
        side, work = figure.work.split(".")
        assert work in pairs.WORKS if side == "pairs" else figure.key in KEYS[figure.work]


def test_works_that_are_compared_run_one_after_another() -> None:
    for target in TARGETS:
        works = {figure.work for figure in figures_of(target)}
        assert any(works <= set(group) for group in GROUPS), target


def test_a_ratio_is_taken_round_by_round() -> None:
    ours, theirs = Figure("ours.sequential", "steps/s"), Figure("floor.sequential", "steps/s")
    target = Target("work", "at least half", "at least", 0.5, ours, theirs)
    results = {ours: [30.0, 8.0, 20.0], theirs: [50.0, 20.0, 40.0]}
    assert target.values(results) == [0.6, 0.4, 0.5]
    table = report.targets_table([target], results)
    assert table.splitlines()[-1] == "| work | at least half | 0.50 | 0.40 to 0.60 | met |"


def test_a_peer_that_fails_is_said_to_have_failed_and_stops_nobody(tmp_path: Path) -> None:
    broken = [sys.executable, "-c", "raise ValueError('out of order')"]
    results = run_rounds([["broken.recovery"]], 1, commands={"broken": broken})
    assert results[Figure("broken.recovery", "failed")] == [TRIES]
    target = Target("work", "faster", "at least", 1, Figure("broken.recovery", "s"))
    table = report.targets_table([target], results)
    assert table.endswith("| work | faster | failed |  | **not measured** |")


@pytest.mark.parametrize(("median", "verdict"), [(0.49, "**not met**"), (0.5, "met")])
def test_a_target_is_met_by_the_median(median: float, verdict: str) -> None:
    figure = Figure("ours.signal", "p50 ms")
    target = Target("work", "at least half", "at least", 0.5, figure)
    table = report.targets_table([target], {figure: [0.1, median, 9.0]})
    assert table.endswith(f"| {verdict} |")


def test_a_run_writes_its_section_and_leaves_the_prose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "performance.md"
    page.write_text(
        "Before.\n\n<!-- measured by make bench -->\nold\n<!-- end of make bench -->\n\nAfter.\n"
    )
    monkeypatch.setattr(report, "PAGE", page)
    for text in ("first", "second"):
        report.write_section("bench", text)
    assert page.read_text() == (
        "Before.\n\n<!-- measured by make bench -->\n\nsecond\n\n<!-- end of make bench -->\n"
        "\nAfter.\n"
    )


@pytest.mark.parametrize(
    "name",
    [
        "bench",
        "bench-workers",
        "bench-looking",
        "bench-sleepers",
        "bench-peers",
        "bench-agents",
        "profile",
    ],
)
def test_the_page_has_a_place_for_every_run(name: str) -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    before, begin, rest = page.partition(f"<!-- measured by make {name} -->")
    assert before and begin and f"<!-- end of make {name} -->" in rest


def test_nothing_of_this_machine_is_said_but_what_it_is() -> None:
    said = report.machine()
    for secret in (str(ROOT), str(Path.home()), sys.executable, "/tmp"):
        assert secret not in said


def output_of(benchmark: str, *arguments: str) -> str:
    """What a module of benchmarks/ prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{benchmark}", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.campaign
def test_the_profile_names_every_layer() -> None:
    said = output_of("hot_path", "--tiny", "--rounds", "1")
    for layer in ("raw floor", "group commit", "store: records", "engine: context"):
        assert layer in said
    assert str(ROOT) not in said


@pytest.mark.campaign
def test_transactions_are_measured_beside_plain_steps() -> None:
    said = output_of("transactions", "--tiny", "--rounds", "1")
    for work in ("plain, one after another", "transactions, 50 at once", "that take 10 ms"):
        assert work in said


@pytest.mark.campaign
def test_the_items_of_streams_are_measured_beside_the_raw_floor() -> None:
    said = output_of("streams", "--tiny", "--rounds", "1")
    for work in ("raw: one statement for 500 items", "put, 2 streams", "report_progress"):
        assert work in said


@pytest.mark.campaign
def test_the_savers_of_graphs_are_measured_in_turn() -> None:
    said = output_of("graph_savers", "--tiny", "--rounds", "1")
    for work in ("pairs, 1 writer, normal", "graph, 2 writers, full"):
        assert work in said


@pytest.mark.parametrize("journal_mode", ["wal", "delete"])
def test_commits_are_counted_in_either_kind_of_file(tmp_path: Path, journal_mode: str) -> None:
    file = tmp_path / "peer.db"
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"pragma journal_mode = {journal_mode}").fetchall()
        connection.execute("create table done (number integer)")

        def run(count: int) -> None:
            for number in range(count):
                connection.execute("begin")
                connection.execute("insert into done values (?)", (number,))
                connection.execute("insert into done values (?)", (number,))
                connection.execute("commit")

        assert peer.written_per_step(file, run) == {"rows": {"done": 2}, "commits": 1}


@pytest.mark.campaign
def test_the_sleepers_are_woken_and_their_worker_is_measured() -> None:
    sizes = ("--sleepers", "40", "--seconds", "0.2", "--started", "20")
    said = output_of("sleepers", *sizes, "--no-page")
    assert "40 executions asleep" in said
    assert "the last of 20 " in said
    assert str(ROOT) not in said


@pytest.mark.campaign
def test_the_histories_of_agents_are_measured_for_each_framework() -> None:
    said = output_of("agents", "3")
    for framework in ("pydantic_ai", "openai_agents", "langgraph"):
        assert f"| {framework} | 3 | 5 |" in said

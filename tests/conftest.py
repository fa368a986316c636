"""What all tests share, and what the whole run says at its end."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import random
import signal
from collections import Counter
from collections.abc import Generator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests import postgres_server
from tests.databases import new_database
from tests.faults.reliability import FULL, campaign_of, publish, words_of
from tests.loops import use_the_named_loop
from tests.processes import Journal

SEED = "DURABLE_SEED"
COUNTED = {
    "kill points": "crash campaign: {total} kill points in {tests} scenarios",
    "programs": "generated programs of plain asyncio: {total}; seed {seed}, set by " + SEED,
    "schedules": "generated workflows: {total} schedules of crashes; seed {seed}, set by " + SEED,
}

REPEATS = (
    "TestBehindAPooler",
    "TestPostgresWithACodec",
    "TestAGivenConnection",
    "TestAFileThatIsSafeFromPowerCuts",
    "TestAFileWithACodec",
    "engine/test_over_a_codec",
)
"""Those whose tests run in `make test`, or over PostgreSQL, in another way."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A workflow database with nothing in it."""
    return new_database(tmp_path / "workflows.db")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


def pytest_configure(config: pytest.Config) -> None:
    # Before the processes of xdist, so that all of them have the same one.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As where a shell runs this in the background; the processes of the tests would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.pop("DURABLE_WORKFLOW_DB", None)  # a developer's own
    use_the_named_loop()
    os.environ.setdefault(SEED, str(random.SystemRandom().randrange(10**9)))
    postgres_server.give_a_folder()


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # not in a process of xdist
        postgres_server.stop()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """An async test has an event loop of its own; as a program has, by `asyncio.run`."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    names = inspect.signature(pyfuncitem.obj).parameters
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
    return True


@pytest.hookimpl(tryfirst=True)  # before what is not wanted is left out
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of what has the mark `few`, some run in `make test`, and the others in the campaigns.

    Of the tests that run once more, in another way, `make campaigns` takes every 30th: over
    PostgreSQL, behind a pooler, with a codec, over a connection that is given, or with syncs.
    """
    of_one: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("few") is not None:
            of_one.setdefault(item.nodeid.partition("[")[0], []).append(item)
    for those in of_one.values():
        for item in _all_but_a_few(those):
            item.add_marker(pytest.mark.campaign)
    if config.option.markexpr != "campaign" or os.environ.get("DURABLE_POSTGRES") == "full":
        return
    repeats = [item for item in items if _is_a_repeat(item)]
    left_out = set(repeats) - set(repeats[::30])
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _all_but_a_few(items: list[pytest.Item]) -> list[pytest.Item]:
    """Without as many as the mark says, which are spread evenly."""
    mark = items[0].get_closest_marker("few")
    assert mark is not None
    (count,) = mark.args
    few = {number * len(items) // count for number in range(min(count, len(items)))}
    return [item for number, item in enumerate(items) if number not in few]


def _is_a_repeat(item: pytest.Item) -> bool:
    given = getattr(getattr(item, "callspec", None), "params", {})
    return given.get("is_on") == "postgres" or any(one in item.nodeid for one in REPEATS)


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Without the garbage collector: thousands of tests are a million objects, which stay."""
    gc.disable()
    try:
        _compile_a_part(session.config.rootpath)
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def _compile_a_part(root: Path) -> None:
    """Each process of xdist compiles a part of the modules first, and finds the others compiled."""
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number:
        step = int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        for file in sorted(root.glob("tests/**/test_*.py"))[int(number) :: step]:
            # What cannot be imported is told when it is collected.
            with suppress(Exception, pytest.skip.Exception):
                import_module(".".join(file.relative_to(root).with_suffix("").parts))


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput"):  # the processes of xdist are about to end
        gc.unfreeze()  # what is imported at the end may look at who refers to what


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int) -> None:
    for name, words in COUNTED.items():
        values = [
            value
            for report in terminalreporter.getreports("passed")
            + terminalreporter.getreports("failed")
            for key, value in report.user_properties
            if key == name and report.when == "call"
        ]
        if values:
            line = words.format(total=sum(values), tests=len(values), seed=os.environ[SEED])
            terminalreporter.write_line(line)
    is_whole = exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
    report_faults(terminalreporter, is_whole and not terminalreporter.getreports("deselected"))


def report_faults(terminalreporter: Any, is_whole: bool) -> None:
    """The counts of the fault campaigns; those of a full run that found nothing are published.

    is_whole: it was not interrupted, and nothing was left out.
    """
    campaigns: dict[str, Counter[str]] = {}
    took: Counter[str] = Counter()
    failed = {campaign_of(report.nodeid) for report in terminalreporter.getreports("failed")}
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        campaign = campaign_of(report.nodeid)
        if campaign is not None and report.when == "call":
            took[campaign] += report.duration
            for key, value in report.user_properties:
                if key == "faults":
                    campaigns.setdefault(campaign, Counter()).update(value)
    for campaign, counts in campaigns.items():
        terminalreporter.write_line(f"{campaign}: {words_of(counts)}")
        if FULL and is_whole and campaign not in failed:
            publish(campaign, counts, took[campaign])

"""The commands of examples/compose.yaml, run as its containers run them."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import urllib.request
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import postgres_server as servers
from durable_workflow_sqlite import open_reader
from tests import postgres_server
from tests.cli.conftest import ENVIRONMENT, wait_until
from tests.commands import begin_command, exit_code, run_command

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = "a-token-of-the-tests"
PAGE = Path(__file__).parents[2] / "docs" / "postgresql.md"


@pytest.fixture
def url() -> Generator[str]:
    server = postgres_server.url().removesuffix("postgres")
    with servers.new_database(server, f"compose_{uuid.uuid4().hex}") as url:
        yield url


def services() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml")
    found: dict[str, Any] = yaml.safe_load((EXAMPLES / "compose.yaml").read_text())["services"]
    return found


def commands(service: dict[str, Any]) -> list[list[str]]:
    """What a container runs after pip."""
    _, _, script = shlex.split(service["command"])
    return [shlex.split(one) for one in re.findall(r"durable-workflow (.+?)(?:\s*&&|$)", script)]


def test_a_worker_and_the_dashboard_are_there_after_their_commands(url: str) -> None:
    found = services()
    assert "examples/compose.yaml" in PAGE.read_text()
    environment = {
        **ENVIRONMENT,
        "DURABLE_WORKFLOW_DB": url,
        "PYTHONPATH": f"{EXAMPLES}:{ENVIRONMENT['PYTHONPATH']}",
        "DURABLE_WORKFLOW_TOKEN": TOKEN,
    }
    migrate, worker = commands(found["worker"])
    again, dashboard = commands(found["dashboard"])
    assert again == migrate
    for _ in range(2):
        assert run_command(*migrate, env=environment).returncode == 0
    with running(worker, environment):
        wait_until(lambda: living(url))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with running([*dashboard, "--port", str(port)], environment):
        wait_until(lambda: answers(port))


@contextmanager
def running(words: list[str], environment: dict[str, str]) -> Generator[None]:
    with Path(os.devnull).open("r+b") as null:
        process = begin_command(words, [null.fileno()] * 3, env=environment, cwd=EXAMPLES)
    try:
        yield
    finally:
        os.kill(process, signal.SIGKILL)
        exit_code(process)


def living(url: str) -> int:
    with open_reader(url) as reader:
        return reader.count_living_workers()


def answers(port: int) -> bool:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    try:
        with urllib.request.urlopen(asked, timeout=10) as page:
            return bool(page.status == 200)
    except OSError:
        return False

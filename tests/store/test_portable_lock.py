"""The lock of platforms without `flock` does what a worker's lock must; it runs here, too."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from durable_workflow_sqlite.store import portable_lock, worker_lock
from tests.processes import a_process


@pytest.mark.parametrize("lock", [portable_lock.lock, worker_lock.lock])
def test_a_lock_is_held_until_its_process_dies(tmp_path: Path, lock: Callable[..., bool]) -> None:
    path = tmp_path / "lock"

    def hold(say: Callable[[str], None]) -> None:
        file = os.open(path, os.O_RDWR | os.O_CREAT)
        say(str(lock(file, exclusive=True)))
        while True:
            signal.pause()

    with a_process(hold) as worker:
        assert worker.hear() == "True"
        one, two = os.open(path, os.O_RDWR), os.open(path, os.O_RDONLY)
        assert not lock(one, exclusive=True)
        assert not lock(two, exclusive=False)
        worker.kill()
        assert lock(two, exclusive=False)
        assert not lock(one, exclusive=True), "two open files of one process see each other"
        os.close(two)
        assert lock(one, exclusive=True)
        os.close(one)

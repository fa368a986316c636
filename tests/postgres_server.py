"""One PostgreSQL server for all tests of a run, started when the first of them needs it.

The processes of xdist share it, and each test has a schema of its own.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path
from typing import Final

import pytest

import postgres_server

FOLDER: Final = "DURABLE_POSTGRES_FOLDER"
"""Names the folder of the server for all processes of a run."""


def give_a_folder() -> None:
    """Called before the processes of xdist are started."""
    os.environ.setdefault(FOLDER, str(postgres_server.new_folder()))


def stop() -> None:
    """Called when all tests are over."""
    folder = Path(os.environ.pop(FOLDER))
    postgres_server.stop(folder)
    _lock_of(folder).unlink(missing_ok=True)


def url() -> str:
    """The database of the tests; skips the test where PostgreSQL is not installed."""
    if postgres_server.programs() is None:
        pytest.skip(postgres_server.WHY_NOT)
    folder = Path(os.environ[FOLDER])
    told = folder / "url"
    with _lock_of(folder).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not told.exists():
            told.write_text(postgres_server.start(folder))
    return f"{told.read_text()}postgres"


def schema_of(path: Path) -> str:
    """The schema in which a test keeps what belongs to a path."""
    return f"t_{hashlib.sha256(os.fsencode(path)).hexdigest()[:24]}"


def _lock_of(folder: Path) -> Path:
    return folder.with_suffix(".lock")

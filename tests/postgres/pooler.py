"""A real pgbouncer in transaction mode, before the server of the tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import psycopg
import pytest

SERVER_CONNECTIONS = 4


@contextmanager
def running_pooler(url: str) -> Generator[str]:
    """A pooler before the server of a URL; gives the URL of the same database through it.

    Skips the test where pgbouncer is not installed.
    """
    program = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        pytest.skip("pgbouncer is not installed here: `apt-get install pgbouncer`")
    parts = urlsplit(url)
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"""[databases]
* = host={unquote(parts.hostname or "")} user={parts.username} connect_query='set jit = off'
[pgbouncer]
listen_addr =
listen_port = 6432
unix_socket_dir = {folder}
auth_type = any
pool_mode = transaction
default_pool_size = {SERVER_CONNECTIONS}
max_client_conn = 300
logfile = {folder}/log
pidfile = {folder}/pid
"""
    )
    as_user: list[str] = []
    if os.getuid() == 0:
        shutil.chown(folder, "postgres")
        as_user = ["--user", "postgres"]
        folder.chmod(0o755)
    process = subprocess.Popen([program, "--quiet", *as_user, settings], stderr=subprocess.DEVNULL)
    pooled = f"postgresql://{parts.username}@{quote(str(folder), safe='')}:6432{parts.path}"
    try:
        _wait_for(pooled, process)
        yield f"{pooled}?pooled=yes"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(500):
        assert process.poll() is None, "pgbouncer has ended"
        with suppress(psycopg.OperationalError):
            psycopg.connect(url).close()
            return
        time.sleep(0.02)
    raise AssertionError("pgbouncer does not answer")

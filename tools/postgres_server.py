"""A PostgreSQL server for the tests and the tools, that lives as long as they do.

It needs the programs of PostgreSQL (`apt-get install postgresql`), and no server that runs already.
Its data is in a temporary folder, it listens on a socket in that folder alone, and it never waits
for the disk. Since it does not run as root, root starts it as the user `postgres`.
"""

from __future__ import annotations

import getpass
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import quote

WHY_NOT: Final = (
    "PostgreSQL 15 or later is not installed here: `apt-get install postgresql`, and the extra"
    " `postgres` of this library"
)

_SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "wal_retrieve_retry_interval": "50ms",  # so long a replica waits before it is promoted
}


def programs() -> Path | None:
    """The folder of initdb and pg_ctl; None where PostgreSQL or its driver is not installed."""
    if importlib.util.find_spec("psycopg") is None:
        return None
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda one: int(one.parent.name))
    on_the_path = shutil.which("initdb")
    if on_the_path is not None:
        found.append(Path(on_the_path).resolve().parent)
    return next((one for one in reversed(found) if (one / "pg_ctl").exists()), None)


@contextmanager
def running_server() -> Generator[str]:
    """A server; gives its URL without the name of a database. Raises FileNotFoundError."""
    folder = new_folder()
    try:
        yield start(folder)
    finally:
        stop(folder)


def new_folder() -> Path:
    """The name of a folder for a server: a short one, since it is part of the path of a socket."""
    return Path(tempfile.gettempdir()) / f"durable-postgres-{uuid.uuid4().hex[:12]}"


def start(folder: Path, *, data: Path | None = None) -> str:
    """Start a server in a folder that is not there yet; gives its URL, as `running_server`.

    data: where its data is to be, if not in the folder; it is not there yet, either.
    """
    where = programs()
    if where is None:
        raise FileNotFoundError(WHY_NOT)
    _make(folder)
    if data is not None:
        _make(data)
        (folder / "data").symlink_to(data)
    _run(
        where / "initdb",
        *("--pgdata", folder / "data", "--username", "postgres", "--auth", "trust", "--no-sync"),
        *("--encoding", "UTF8", "--locale", "C.UTF-8"),
    )
    return _start(folder)


def start_replica(folder: Path, primary: Path) -> str:
    """Start a replica, in a folder that is not there yet; gives its URL.

    From now on, the primary in the other folder acknowledges what the replica has, and no more.
    """
    import psycopg  # where it is not installed, tests are skipped

    where = programs()
    assert where is not None
    _make(folder)
    url = _url(primary)
    copy = (
        "--pgdata",
        folder / "data",
        "--checkpoint",
        "fast",
        "--no-sync",
        "--write-recovery-conf",
    )
    _run(where / "pg_basebackup", "--dbname", url, *copy)
    replica = _start(folder)
    with psycopg.connect(f"{url}postgres", autocommit=True) as connection:
        connection.execute("alter system set synchronous_standby_names = '*'")
        connection.execute("select pg_reload_conf()")
    return replica


def promote(folder: Path) -> None:
    """Let a replica take writes; its primary must be dead."""
    where = programs()
    assert where is not None
    _run(where / "pg_ctl", "--pgdata", folder / "data", "-w", "promote")


def kill(folder: Path) -> None:
    """End the server of a folder by SIGKILL; its sessions end as soon as they see that."""
    process = folder / "data" / "postmaster.pid"
    os.kill(int(process.read_text().split()[0]), signal.SIGKILL)
    process.unlink()


def restart(folder: Path) -> None:
    """Stop the server of a folder as a crash does, and start it again."""
    where = programs()
    assert where is not None
    control = (where / "pg_ctl", "--pgdata", folder / "data", "--log", folder / "log")
    _run(*control, "-m", "immediate", "-w", "restart")


def stop(folder: Path) -> None:
    """Stop the server of a folder, if there is one, and delete the folder."""
    where = programs()
    if where is not None and (folder / "data" / "postmaster.pid").exists():
        _run(where / "pg_ctl", "--pgdata", folder / "data", "-m", "immediate", "-w", "stop")
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def new_database(server: str, name: str, *, like: str = "template1") -> Generator[str]:
    """A database of a server, which is dropped in the end; gives its URL.

    like: the name of the database that it is a copy of.
    """
    import psycopg  # where it is not installed, tests are skipped

    with psycopg.connect(f"{server}postgres", autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{like}"'.encode())
        try:
            yield f"{server}{name}"
        finally:
            connection.execute(f'drop database "{name}" with (force)'.encode())


def _make(folder: Path) -> None:
    folder.mkdir()
    if os.getuid() == 0:
        shutil.chown(folder, _user())


def _url(folder: Path) -> str:
    return f"postgresql://postgres@{quote(str(folder), safe='')}/"


def _start(folder: Path) -> str:
    where = programs()
    assert where is not None
    settings = " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items())
    options = f"-c unix_socket_directories={folder} -c listen_addresses= {settings}"
    control = ("--pgdata", folder / "data", "--log", folder / "log", "--options", options)
    _run(where / "pg_ctl", *control, "-w", "start")
    return _url(folder)


def _user() -> str:
    return "postgres" if os.getuid() == 0 else getpass.getuser()


def _run(*command: object) -> None:
    words = [str(one) for one in command]
    if os.getuid() == 0:
        user = _user()
        words = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", *words]
    done = subprocess.run(words, capture_output=True, encoding="utf-8", cwd="/", check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        done.check_returncode()

"""What the operating system knows of processes: which are stopped, and which have a lock of a file.

Linux says so in /proc. Elsewhere nothing is known, and nothing is said.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

NAME_LENGTH: Final = 100
"""How much of the name of a program or a machine is kept."""


def host_name() -> str:
    """The name of this machine, as the row of a worker has it."""
    return safe(socket.gethostname())


def safe(text: str) -> str:
    """What stays as it is in a table and in JSON."""
    shown = "".join(one if one.isprintable() else "?" for one in text)
    return shown[:NAME_LENGTH]


def is_stopped(host: str | None, process_id: int | None) -> bool:
    """Whether a process is stopped, by SIGSTOP or Ctrl-Z; False for one of another machine."""
    if process_id is None or host != host_name():
        return False
    try:
        text = Path(f"/proc/{process_id}/stat").read_bytes()
    except OSError:
        return False
    # PID (PROGRAM) STATE ..., and the name of the program may hold anything.
    return text.rpartition(b")")[2].split()[:1] in ([b"T"], [b"t"])


def writers(file: Path) -> list[int]:
    """The processes that have the lock under which SQLite writes to a file, as far as is known."""
    found: list[int] = []
    with suppress(OSError):
        locked = {
            _place(Path(f"{file}-shm")): range(120, 121),  # WAL_WRITE_LOCK, in WAL mode
            _place(file): range(0x40000000, 0x40000200),  # otherwise
        }
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if len(words) != 8 or words[3] != "WRITE":  # such as one that waits: `1: -> POSIX`
                continue
            process, place, first = words[4], words[5], words[6]
            bytes_of = locked.get(place)
            if bytes_of is not None and int(first) in bytes_of and int(process) > 0:
                found.append(int(process))
    return sorted(set(found))


def _place(file: Path) -> str:
    """A file as /proc/locks names it. Raises OSError."""
    at = file.stat()
    return f"{os.major(at.st_dev):02x}:{os.minor(at.st_dev):02x}:{at.st_ino}"

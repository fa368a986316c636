"""Locking a file where there is no `flock`: on Windows, by portalocker."""

from __future__ import annotations

import portalocker


def lock(file: int, *, exclusive: bool) -> bool:
    """Lock an open file, as `flock` would; False if somebody else's lock forbids it."""
    kind = portalocker.LockFlags.EXCLUSIVE if exclusive else portalocker.LockFlags.SHARED
    try:
        portalocker.lock(file, kind | portalocker.LockFlags.NON_BLOCKING)
    except (portalocker.AlreadyLocked, portalocker.LockException):
        return False
    return True

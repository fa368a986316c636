"""Who may use the files beside a database: those who may use the database, whatever the umask.

SQLite gives the log and its index the mode of the database, and where it runs as root, its owner.
The group it leaves as it comes, so that another member of the database's group may be kept out.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from typing import Final

_READ_AND_WRITE: Final = 0o666


def give_rights_of(database: str, file: int | str) -> None:
    """Give a file, by its descriptor or its path, the rights of the database.

    Nothing happens where that is not allowed: it is another user's, who has done so.
    """
    if sys.platform == "win32":
        return
    with suppress(OSError):
        wanted, found = os.stat(database), os.stat(file)  # noqa: PTH116 - also of a descriptor
        if os.geteuid() == 0:
            if (found.st_uid, found.st_gid) != (wanted.st_uid, wanted.st_gid):
                os.chown(file, wanted.st_uid, wanted.st_gid)
        elif found.st_gid != wanted.st_gid:
            with suppress(PermissionError):  # not every owner is a member of the group
                os.chown(file, -1, wanted.st_gid)
        mode = stat.S_IMODE(wanted.st_mode) & _READ_AND_WRITE
        if stat.S_IMODE(found.st_mode) != mode:
            os.chmod(file, mode)  # noqa: PTH101 - also of a descriptor

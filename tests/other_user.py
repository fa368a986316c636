"""A process of root that goes on as another user, also where only root may read the code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from durable_workflow_sqlite.store.migration_files import Migration
from durable_workflow_sqlite.store.migrations import load_migrations, load_views
from durable_workflow_sqlite.store.sql import load_queries

NOBODY = 65534


def become_another_user(user: int = NOBODY, groups: Sequence[int] = ()) -> None:
    """Be nobody from here on, if this is root: for good, so in a process of its own.

    What the library reads of its own files is read before. groups: besides that of the user, which
    has the same number.
    """
    if os.getuid() != 0:
        return
    load_queries()
    load_views()
    loaded = load_migrations()
    texts = {migration.path: migration.sql() for migration in loaded}
    Migration.sql = lambda self: texts[self.path]  # type: ignore[method-assign]
    for name, module in list(sys.modules.items()):
        if name.startswith("durable_workflow_sqlite") and hasattr(module, "load_migrations"):
            module.load_migrations = lambda: loaded  # type: ignore[attr-defined]
    os.setgroups(groups)
    os.setgid(user)
    os.setuid(user)

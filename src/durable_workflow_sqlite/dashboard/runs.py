"""Acts on many executions: what was chosen for one, and how far it has got, in this process."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from threading import Event, Lock, Thread
from typing import Any, Final

from durable_workflow_sqlite.bulk import Advance, BulkOutcome, Ids
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.stores import open_reader

_log = logging.getLogger("durable_workflow_sqlite.dashboard")

KEPT: Final = 30
"""So many plans and runs are remembered; the oldest are forgotten, but none that still runs."""

Work = Callable[
    [Ids, BulkOutcome, Advance, Callable[[], bool]], Coroutine[Any, Any, StoreError | None]
]
"""Does it to all ids; gives the error that ended it before, or None."""


class BulkRun:
    """Some executions that were chosen, and what becomes of them.

    It is planned until it is begun; then it waits for those begun before, runs, and is over.
    query: the filters that chose them. is_cut: whether there are more than `ids`.
    """

    def __init__(self, act: str, query: str, ids: Ids, *, is_cut: bool) -> None:
        self.key = secrets.token_urlsafe(18)
        self.act = act
        self.query = query
        self.ids = ids
        self.is_cut = is_cut
        self.outcome = BulkOutcome(len(ids))
        self.state = "planned"
        self.planned_at = datetime.now(UTC)
        self.began_at: datetime | None = None
        self.ended_at: datetime | None = None
        self.trouble: str | None = None
        self._stop = Event()

    @property
    def is_over(self) -> bool:
        return self.state == "over"

    @property
    def is_begun(self) -> bool:
        return self.state != "planned"

    @property
    def is_stopped(self) -> bool:
        return self._stop.is_set()

    def stop(self) -> None:
        """Begin no other; what is under way is done."""
        self._stop.set()


class Runs:
    """The plans and runs of a dashboard. Runs are one after the other, each in a thread.

    on_end: is called in the thread of each run, before the run says that it is over.
    """

    def __init__(self, file: str, on_end: Callable[[], None]) -> None:
        self._file = file
        self._on_end = on_end
        self._runs: OrderedDict[str, BulkRun] = OrderedDict()
        self._threads: set[Thread] = set()
        self._one_at_a_time = Lock()
        self._remembering = Lock()
        self._is_closed = False

    def plan(self, act: str, query: str, ids: Ids, *, is_cut: bool) -> BulkRun:
        """Remember what was chosen, until it is begun or forgotten."""
        run = BulkRun(act, query, ids, is_cut=is_cut)
        with self._remembering:
            self._runs[run.key] = run
            for key, old in [*self._runs.items()][: max(len(self._runs) - KEPT, 0)]:
                if old.is_over or not old.is_begun:
                    del self._runs[key]
                    old.ids.close()
        return run

    def get(self, key: str) -> BulkRun | None:
        """None for one that was forgotten, or belongs to another process."""
        return self._runs.get(key)

    def begin(self, run: BulkRun, work: Work) -> None:
        """Do it in the background. A run is begun once, however often this is called."""
        with self._remembering:
            if run.is_begun or self._is_closed:
                return
            run.state = "waiting"
            # A daemon: an app that is mounted into another hears nothing of the other's end, and
            # what is not tried by then is not tried.
            thread = Thread(
                target=self._work, args=(run, work), name="durable-workflow-bulk", daemon=True
            )
            self._threads = {one for one in self._threads if one.is_alive()} | {thread}
        thread.start()

    async def close(self) -> None:
        """Stop what runs, and wait until what is under way is done."""
        with self._remembering:
            self._is_closed = True
            threads = [*self._threads]
            for run in self._runs.values():
                run.stop()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        for run in self._runs.values():
            run.ids.close()

    def _work(self, run: BulkRun, work: Work) -> None:
        with self._one_at_a_time:
            run.began_at = datetime.now(UTC)
            run.state = "running"
            try:
                # A store would create a file, and migrate it. Neither is done from a page.
                open_reader(self._file).close()
                doing = work(run.ids, run.outcome, _nothing, lambda: run.is_stopped)
                trouble = asyncio.run(doing)
                run.trouble = None if trouble is None else str(trouble)
            except StoreError as error:
                run.trouble = str(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, its page says so
                _log.exception("a run of %s ended early", run.act)
                run.trouble = str(error) or type(error).__name__
            finally:
                self._on_end()
                run.ended_at = datetime.now(UTC)
                run.state = "over"


def _nothing(_: int) -> None:
    """The pages ask by themselves how far it is."""

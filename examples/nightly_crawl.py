"""A nightly crawl: children in a queue, a limit for a server that refuses what is too fast.

    python nightly_crawl.py            # in a folder that is deleted at the end
    python nightly_crawl.py crawl.db   # in a file that stays

A schedule starts the crawl each night. The crawl maps over its sites, some in each run, and then
continues as new; each page is a child in a queue. While it runs, people add sites with a signal.

To see that it survives: give it a file, kill it in the middle (`kill -9`, its first line says the
process), and run the same line again. It continues with the pages that are missing. A page that it
was fetching when it died is fetched again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

from durable_workflow_sqlite import (
    DurableEngine,
    ExecutionFinishedError,
    ExecutionHandle,
    Limit,
    Queue,
    Rate,
    RetryPolicy,
    SqliteCheckpointStore,
    WorkflowContext,
    workflow,
)

SITES = ["news", "shop", "blog", "wiki"]
SITES_A_RUN = 2
PAGES_A_SITE = 4
LAST_CALL = timedelta(seconds=0.2)  # an hour, in a real night
PATIENT = RetryPolicy.exponential(max_attempts=5, initial_delay=timedelta(seconds=0.5))

# The server refuses more than 20 requests in any half a second. The crawl begins at most 10. Those
# that are under way may be late, and arrive together with the next 10; these are at most 4.
SERVER_ALLOWS = 20
PERIOD = timedelta(seconds=0.5)
WEB = Limit("web", concurrency=4, per_key=2, rate=Rate(10, PERIOD))

# The night and its pages share a queue: a parent that waits for its children holds no slot.
CRAWL = Queue("crawl", concurrency=6, per_key=3)


@workflow
async def nightly_crawl(
    ctx: WorkflowContext, sites: list[str], sizes: dict[str, int]
) -> dict[str, int]:
    """Crawl some sites in each run, and those that are added until the last call."""
    now, later = sites[:SITES_A_RUN], sites[SITES_A_RUN:]
    found = await ctx.map("site", crawl_site, now, key=str)
    sizes.update(zip(now, found, strict=True))
    if not later:
        added = ctx.signal("add site", type=str)
        last_call = ctx.timer("last call", LAST_CALL)
        if await ctx.wait_any(added, last_call) is last_call:
            return sizes
        later = [added.value]
    return ctx.continue_as_new(later, sizes)


@workflow
async def crawl_site(ctx: WorkflowContext, site: str) -> int:
    """Read the list of a site, then its pages side by side; return how many bytes they have."""
    home = await fetch_in_turn(ctx, f"/{site}/", site)
    pages = [
        ctx.child("page", crawl_page, path, site, queue=CRAWL.name, key=site)
        for path in home.split()
    ]
    return sum(await asyncio.gather(*pages))


@workflow
async def crawl_page(ctx: WorkflowContext, path: str, site: str) -> int:
    return len(await fetch_in_turn(ctx, path, site))


async def fetch_in_turn(ctx: WorkflowContext, path: str, site: str) -> str:
    """Fetch a page when the limit allows it: it counts for all pages, sites and workers."""
    return await ctx.step(f"fetch {path}", fetch, path, retry=PATIENT, limit="web", limit_key=site)


def fetch(path: str) -> str:
    # The address is no argument of a workflow: after a restart, the server has another port.
    try:
        with urlopen(web.address + path, timeout=30) as answer:
            text: str = answer.read().decode()
            return text
    except HTTPError as refusal:
        with refusal:
            raise ConnectionError(f"{path}: {refusal.code} {refusal.reason}") from None


class Web:
    """The server: it refuses what comes faster than it allows, and counts all that it does."""

    def __init__(self) -> None:
        self.address = ""
        self.answered: Counter[str] = Counter()
        self.refused = 0
        self._arrivals: deque[float] = deque()
        self._lock = threading.Lock()

    def is_allowed(self, path: str, now: float) -> bool:
        """Whether a request that arrives now, in seconds of any clock, is answered."""
        with self._lock:
            while self._arrivals and self._arrivals[0] <= now - PERIOD.total_seconds():
                self._arrivals.popleft()
            if len(self._arrivals) == SERVER_ALLOWS:
                self.refused += 1
                return False
            self._arrivals.append(now)
            self.answered[path] += 1
            return True

    @contextmanager
    def serve(self) -> Iterator[None]:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        self.address = f"http://127.0.0.1:{server.server_port}"
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if not web.is_allowed(self.path, time.monotonic()):
            self.send_error(429)
            return
        text = f"the text of {self.path}"
        if self.path.endswith("/"):  # the home of a site lists its pages
            text = "\n".join(f"{self.path}{number}" for number in range(1, PAGES_A_SITE + 1))
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """Keep the output to what the crawl says."""


web = Web()


async def main(database: Path) -> None:
    print(f"process {os.getpid()} crawls", flush=True)
    async with (
        SqliteCheckpointStore.file(database) as store,
        DurableEngine(store, workflows=[nightly_crawl, crawl_site, crawl_page]) as engine,
    ):
        await engine.declare(CRAWL, WEB)
        # To declare the same again, at each start, changes nothing.
        await engine.schedule(
            "nightly",
            nightly_crawl,
            SITES,
            {},
            cron="0 3 * * *",
            tz="Europe/Berlin",
            queue=CRAWL.name,
        )
        night = await this_night(engine)
        await add_site(night, "docs")
        for site, size in (await night.result()).items():
            print(f"{site}: {size} bytes")
        record = await engine.load(night.execution_id)
        print(f"{night.execution_id} is over after {record.run_number} runs")
        (tomorrow,) = await engine.next_times("nightly", 1)
        print(f"the next one begins at {tomorrow:%H:%M} UTC")
    pages, answers = len(web.answered), web.answered.total()
    print(f"the server answered {answers} requests for {pages} pages, and refused {web.refused}")


async def this_night(engine: DurableEngine) -> ExecutionHandle[dict[str, int]]:
    """The crawl that was killed; if there is none, do what the schedule does at night."""
    last = (await engine.load_schedule("nightly")).last_execution_id
    if last is not None:
        night = engine.handle(last)
        if not (await night.status()).is_terminal:
            print(f"{last} goes on")
            return night
    return await engine.trigger("nightly")


async def add_site(night: ExecutionHandle[dict[str, int]], site: str) -> None:
    """Add a site, as a web page would whose user clicks twice; the key makes it one."""
    for _ in range(2):
        try:
            result = await night.signal("add site", site, key=f"site-{site}")
            print(f"add {site}: {result.name}")
        except ExecutionFinishedError:
            print(f"add {site}: too late for tonight")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder, web.serve():
        asyncio.run(main(Path(sys.argv[1] if len(sys.argv) > 1 else f"{folder}/crawl.db")))

"""How long the pages of the dashboard take on a large file, from the first to the thousandth.

    python -m benchmarks.big_file FILE
    python -m benchmarks.dashboard_pages FILE

Over HTTP, from another process, in milliseconds.
"""

from __future__ import annotations

import argparse
import html
import http.client
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

SERVE = (
    "import sys; from durable_workflow_sqlite import dashboard;"
    "dashboard.serve(sys.argv[1], port=0, on_listening=lambda url: print(url, flush=True))"
)
_TIMES = 20
_PAGES = 1000


class Dashboard:
    """Asks over one connection that stays open."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port)

    def ask(self, place: str) -> tuple[float, str]:
        """The milliseconds until all of a page is there, and the page."""
        began = time.perf_counter()
        self._connection.request("GET", place)
        answer = self._connection.getresponse()
        body = answer.read()
        took = (time.perf_counter() - began) * 1000
        if answer.status != 200:
            raise SystemExit(f"{place}: {answer.status}")
        return took, body.decode()


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the pages of the dashboard.")
    parser.add_argument("file")
    file = parser.parse_args().file
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, file], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        measure(Dashboard(server.stdout.readline().strip()))
    finally:
        server.terminate()
        server.wait()


def measure(dashboard: Dashboard) -> None:
    took, _ = dashboard.ask("/")
    say("overview, nothing kept", [took])
    say("overview", (dashboard.ask("/")[0] for _ in range(_TIMES)))
    _, page = dashboard.ask("/executions")
    say("the list", (dashboard.ask("/executions")[0] for _ in range(_TIMES)))
    one = re.search(r'class="id" href="([^"]+)"', page)
    assert one is not None
    say("one execution", (dashboard.ask(html.unescape(one[1]))[0] for _ in range(_TIMES)))
    for filters in (
        "status=FAILED",
        "type=report",
        "id=a",
        "id=abcd",
        "begun=30d",
        "begun=-30d",
        "error=timeout",
        "error=nothing+has+this",
    ):
        place = f"/executions?{filters}"
        say(f"filtered by {filters}", (dashboard.ask(place)[0] for _ in range(_TIMES)))
    times: list[float] = []
    for _ in range(_PAGES):
        older = re.search(r'rel="next" href="([^"]+)"', page)
        if older is None:
            break
        took, page = dashboard.ask(html.unescape(older[1]))
        times.append(took)
    say("pages 2 to 101", times[:100])
    say(f"the last 100 of {len(times)} pages", times[-100:])


def say(what: str, times: Iterable[float]) -> None:
    sample = list(times)
    print(f"{what:32} median {statistics.median(sample):7.1f} ms, at most {max(sample):7.1f} ms")


if __name__ == "__main__":
    main()

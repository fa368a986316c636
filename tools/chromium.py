"""Headless Chromium, and the dashboard in a process of its own: for tests and for pictures.

Debian: apt-get install chromium chromium-driver
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def browser(profile: Path) -> Generator[Chrome]:
    """Headless Chromium with a new profile."""
    options = ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def run(chrome: Chrome, command: str, **arguments: Any) -> Any:
    """A command of the DevTools protocol."""
    return cast("Any", chrome).execute_cdp_cmd(command, arguments)


@contextmanager
def served(file: Path, options: str = "") -> Generator[str]:
    """The address of the dashboard of a file, as another process serves it."""
    program = (
        "import sys; from durable_workflow_sqlite import dashboard;"
        "dashboard.serve(sys.argv[1], port=0,"
        f" on_listening=lambda url: print(url, flush=True), {options})"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()

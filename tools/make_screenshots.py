"""Makes the pictures in docs/images, of a file that real engines have written.

    python tools/make_screenshots.py

Needs chromium and chromium-driver; the font is Inter where it is installed (fonts-inter).
"""

from __future__ import annotations

import asyncio
import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from rich.console import Console
from rich.text import Text
from selenium.webdriver import Chrome

import demonstration
from chromium import CHROMIUM, DRIVER, browser, run, served

IMAGES = Path(__file__).parents[1] / "docs" / "images"
MAX_BYTES = 150_000
COLUMNS = 110


class Picture(NamedTuple):
    name: str
    place: str
    width: int = 1280
    height: int = 760
    theme: str = "light"
    scale: float = 2
    script: str = ""
    """What is done to the page first."""


class Shell(NamedTuple):
    """A command, as a terminal shows it."""

    name: str
    arguments: tuple[str, ...]


SHELLS = (
    Shell("command-status", ("status",)),
    Shell("command-list", ("list", "--limit", "14")),
    Shell("command-show", ("show", "order-A-1023")),
)

PICTURES = (
    Picture("dashboard-overview", "", height=1000),
    Picture("dashboard-overview-dark", "", height=1000, theme="dark"),
    Picture("dashboard-list", "executions", height=640),
    Picture("dashboard-list-dark", "executions?status=FAILED&step=ship", height=640, theme="dark"),
    Picture("dashboard-many", "bulk/retry?status=FAILED&step=ship"),
    Picture(
        "dashboard-failed",
        "execution?id=order-A-1023",
        script="document.querySelectorAll('details.step')[2].open = true",
        height=900,
    ),
    Picture("dashboard-doubt-dark", "execution?id=order-A-1039", theme="dark"),
    Picture(
        "dashboard-signal",
        "execution?id=order-A-1013&squeeze=1",
        script="document.querySelector('[data-dialog][href*=\"/signal?\"]').click()",
    ),
    Picture("dashboard-phone", "execution?id=order-A-1017", width=390, height=780),
    Picture("dashboard-phone-dark", "", width=390, height=780, theme="dark"),
)


def main() -> int:
    if CHROMIUM is None or DRIVER is None:
        print("needs a browser: apt-get install chromium chromium-driver")
        return 1
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "orders.db"
        asyncio.run(demonstration.make(file))
        with served(file) as url, browser(Path(folder) / "profile") as chrome:
            for picture in PICTURES:
                take(chrome, url, picture)
            for shell in SHELLS:
                take_shell(chrome, file, shell)
    return 0


def take(chrome: Chrome, url: str, picture: Picture) -> None:
    set_device(chrome, picture)
    chrome.get(url + picture.place)
    if picture.script:
        run(chrome, "Runtime.evaluate", expression=picture.script)
        time.sleep(0.5)  # until a dialog has come
    save(chrome, picture.name)


def take_shell(chrome: Chrome, file: Path, shell: Shell) -> None:
    """Run a command in a terminal, and draw what it shows."""
    command, *arguments = shell.arguments
    text = run_in_terminal(command, file.name, *arguments, folder=file.parent)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ durable-workflow {command} {' '.join((file.name, *arguments))}", "bold"))
    console.print(Text.from_ansi(text))
    drawing = file.parent / f"{shell.name}.svg"
    svg = console.export_svg(title=file.name, font_aspect_ratio=0.602)
    drawing.write_text(svg)
    chrome.get(drawing.as_uri())
    view = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', svg)
    assert view is not None
    width, height = (int(float(number)) + 1 for number in view.groups())
    set_device(chrome, Picture(shell.name, "", width=width, height=height, scale=1.1))
    save(chrome, shell.name, colours=32)


def run_in_terminal(*arguments: str, folder: Path) -> str:
    """What a command prints on a terminal of `COLUMNS`."""
    ours, its = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(COLUMNS), "LINES": "50", "TERM": "xterm-256color"}
    command = [sys.executable, "-m", "durable_workflow_sqlite", *arguments]
    with subprocess.Popen(command, cwd=folder, stdout=its, stdin=its, env=environment):
        os.close(its)
        printed = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            printed += part
    os.close(ours)
    return printed.decode().replace("\r\n", "\n").rstrip()


def save(chrome: Chrome, name: str, colours: int = 256) -> None:
    target = IMAGES / f"{name}.png"
    with Image.open(io.BytesIO(chrome.get_screenshot_as_png())) as image:
        # So many colours are enough, and a third of the size.
        image.convert("RGB").quantize(colours, dither=Image.Dither.NONE).save(target, optimize=True)
    size = target.stat().st_size
    print(f"{target.relative_to(IMAGES.parents[1])}: {size // 1000} kB")
    if size > MAX_BYTES:
        raise SystemExit(f"{target} is larger than {MAX_BYTES} bytes; show less")


def set_device(chrome: Chrome, picture: Picture) -> None:
    metrics = {
        "width": picture.width,
        "height": picture.height,
        "deviceScaleFactor": picture.scale,
        "mobile": picture.width < 500,
    }
    run(chrome, "Emulation.setDeviceMetricsOverride", **metrics)
    theme = {"name": "prefers-color-scheme", "value": picture.theme}
    run(chrome, "Emulation.setEmulatedMedia", features=[theme])


if __name__ == "__main__":
    raise SystemExit(main())

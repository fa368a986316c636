"""Runs every Python example of README.md and docs/*.md, each in a process and folder of its own.

    python tools/check_docs.py [FILE ...]

A line of its own right before a block says what is special about it:

    <!-- not run: reason -->    it needs what a reader has and this machine does not
    <!-- continues -->          it goes on from the block before it, which is run first
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
AT_ONCE = 2
TIMEOUT_S = 30

_FENCE = re.compile(r"(?P<indent> *)(?P<ticks>`{3,})(?P<language>\w*)")
_NOT_RUN = re.compile(r"<!-- not run: .+ -->")
_CONTINUES = "<!-- continues -->"


class Example(NamedTuple):
    path: Path
    line: int
    """Of the first line of code, from 1."""

    code: str
    """As long as the file is up to its end, so that line numbers in a traceback are the file's."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the Python examples of the docs.")
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    files: list[Path] = parser.parse_args().files
    if not files:
        os.chdir(ROOT)
        files = [Path("README.md"), *sorted(Path("docs").glob("**/*.md"))]
    examples = [example for path in files for example in read_examples(path)]
    if not examples:
        print(f"no Python examples in {', '.join(map(str, files))}")
        return 1
    with ThreadPoolExecutor(AT_ONCE) as executor:
        failures = [text for text in executor.map(run, examples) if text is not None]
    for text in failures:
        print(text)
    return 1 if failures else 0


def read_examples(path: Path) -> list[Example]:
    """The examples of a file that are to be run, in its order."""
    examples: list[Example] = []
    before: list[str] = []
    """The lines of the block before, and of those that it continues; blank where others are."""
    note = ""
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), start=1))
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            note = line.strip() or note
            continue
        block: list[str] = []
        for _, inner in lines:
            if inner.strip() == fence["ticks"]:
                break
            block.append(inner.removeprefix(fence["indent"]))
        if fence["language"] == "python":
            start = before if note == _CONTINUES else []
            before = [*start, *[""] * (number - len(start)), *block]
            if not _NOT_RUN.fullmatch(note):
                examples.append(Example(path, number + 1, "\n".join(before) + "\n"))
        note = ""
    return examples


def run(example: Example) -> str | None:
    """What went wrong, or None."""
    where = f"{example.path}:{example.line}"
    with tempfile.TemporaryDirectory() as folder:
        # Under the name of the document, so that a traceback shows where it went wrong. And not
        # as a .py file: nothing may import it in place of a package of its name.
        script = Path(folder, example.path.name)
        script.write_text(example.code, encoding="utf-8")
        try:
            done = subprocess.run(
                [sys.executable, "-W", "error", script.name],
                cwd=folder,
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            return f"{where}: not done after {TIMEOUT_S} s\n{_text(error.output)}"
    if done.returncode:
        return f"{where}: exit status {done.returncode}\n{_indented(done.stdout.splitlines())}"
    return None


def _text(output: bytes | str | None) -> str:
    text = output.decode(errors="replace") if isinstance(output, bytes) else output or ""
    return _indented(text.splitlines())


def _indented(lines: Iterable[str]) -> str:
    return "\n".join(f"    {line}" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())

"""Checks what would be released, as those get it who install it; slower than `make check`.

    python tools/check_release.py [--python PYTHON ...] [--full] [PYTEST_ARGUMENT ...]

Builds the wheel and the sdist, has twine check them, and looks at what they hold. Then, for each
Python from 3.11 on that it finds (on the PATH and in pyenv), or for those that are named: installs
the wheel in a virtual environment of its own, measures how long the import takes, and runs the
tests of the sdist against it: a choice of them, or with --full all that need no checkout.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from check_wheel import PACKAGE, ROOT, CommandError, missing_files, run

OLDEST: Final = (3, 11)
IMPORT_MS: Final = 80
MEASURED_TIMES: Final = 15
CORE: Final = {"durable-workflow-sqlite", "aiosql", "msgspec"}
TESTS: Final = ("tests/engine", "tests/blocking", "tests/telemetry", "tests/examples")
NEED_A_CHECKOUT: Final = ("tests/queries", "tests/migrations/test_migration_files.py")
_IMPORT_TIME: Final = re.compile(r"^import time: +(\d+) \| +\d+ \| +(\S+)$", re.MULTILINE)
NOT_FOR_TESTS: Final = re.compile(
    r"build|hatchling|import-linter|mypy|pre-commit|pyright|ruff|sqlfluff|twine"
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Check what would be released.")
    parser.add_argument("--python", action="append", default=[], metavar="PYTHON")
    parser.add_argument("--full", action="store_true", help="run every test that can be run")
    options, pytest_arguments = parser.parse_known_args()
    os.chdir(ROOT)
    named: list[str] = options.python
    pythons = [shutil.which(name) or name for name in named] or find_pythons()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            problems = list(_check_artefacts(folder))
            for python in pythons:
                problems += _check_with(python, folder, pytest_arguments, full=options.full)
        except CommandError as error:
            problems = [str(error)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def find_pythons() -> list[str]:
    """One Python of each version from the oldest supported on, the oldest first."""
    folders = [Path(folder) for folder in os.environ["PATH"].split(os.pathsep)]
    if (pyenv := shutil.which("pyenv")) is not None:
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout
        folders += sorted(Path(root.strip()).glob("versions/*/bin"))
    found: dict[tuple[int, int], str] = {}
    for folder in folders:
        for path in sorted(folder.glob("python3.*")):
            if not re.fullmatch(r"python3\.\d+", path.name):
                continue
            version = _version(path)
            if version is not None and version >= OLDEST:
                found.setdefault(version, str(path))
    return [found[version] for version in sorted(found)]


def _version(python: Path) -> tuple[int, int] | None:
    """None for one that does not run, as a shim of a version that is not chosen, or has no venv."""
    code = "import ensurepip, sys, venv; print(*sys.version_info[:2])"
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    major, minor = done.stdout.split()
    return int(major), int(minor)


def _check_artefacts(folder: Path) -> Iterator[str]:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ".")
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, sdist)
    yield from missing_files(wheel, sdist)
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            ours = (f"{PACKAGE}/", f"{PACKAGE}-", f"{PACKAGE}_pytest.py")
            if not name.startswith(ours) or name.endswith(".pyc"):
                yield f"{wheel.name} holds {name}, which has no business there"
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sdist", filter="data")
    (root,) = (folder / "sdist").iterdir()
    root.rename(folder / "source")
    # The tests must find the package in the wheel, and nowhere else.
    shutil.rmtree(folder / "source" / "src")
    version = _project()["version"]
    changelog = Path("CHANGELOG.md").read_text(encoding="utf-8")
    if f"## [{version}]" not in changelog and "## [Unreleased]" not in changelog:
        yield f"CHANGELOG.md says nothing of {version}"


def _check_with(
    python: str, folder: Path, pytest_arguments: list[str], *, full: bool
) -> Iterator[str]:
    (wheel,) = (folder / "dist").glob("*.whl")
    environment = folder / f"venv-{Path(python).name}"
    run(python, "-m", "venv", environment)
    python_there = environment / "bin" / "python"
    pip: list[str | Path] = [python_there, "-m", "pip", "--disable-pip-version-check"]
    run(*pip, "install", "--quiet", wheel)
    named = "print(*(one.metadata['Name'] for one in importlib.metadata.distributions()))"
    installed = set(run(python_there, "-c", f"import importlib.metadata; {named}").split())
    if installed - {"pip", "setuptools"} != CORE:
        yield f"{python}: it installs {installed}, and should {CORE}"
    import_ms = _import_ms(python_there)
    if import_ms > IMPORT_MS:
        yield f"{python}: the import takes {import_ms:.0f} ms, and may take {IMPORT_MS}"
    print(f"{python}: the import takes {import_ms:.0f} ms over a bare interpreter", flush=True)

    needed: list[str] = _project()["optional-dependencies"]["dev"]
    run(*pip, "install", "--quiet", *(one for one in needed if not NOT_FOR_TESTS.match(one)))
    tests = ["tests"] if full else [*TESTS]
    ignored = [f"--ignore={path}" for path in NEED_A_CHECKOUT]
    command: list[str | Path] = [python_there, "-m", "pytest", "-q", "-n", "2", *ignored, *tests]
    try:
        printed = run(*command, *pytest_arguments, folder=folder / "source")
    except CommandError as error:
        yield str(error)
    else:
        print(f"{python}: {printed.splitlines()[-1]}", flush=True)


def _import_ms(python: Path) -> float:
    """What the import takes over a bare interpreter.

    Of each module what it took at the least, since a machine that has other work, too, makes this
    or that one slow in every run.
    """
    least: dict[str, int] = {}
    for _ in range(MEASURED_TIMES):
        code = f"import sys; print('bare', file=sys.stderr); import {PACKAGE}"
        timed = run(python, "-X", "importtime", "-c", code)
        for microseconds, module in _IMPORT_TIME.findall(timed.partition("bare\n")[2]):
            least[module] = min(int(microseconds), least.get(module, sys.maxsize))
    return sum(least.values()) / 1000


def _project() -> Any:
    return tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]


if __name__ == "__main__":
    raise SystemExit(main())

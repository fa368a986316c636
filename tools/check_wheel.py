"""Builds the wheel and the sdist, and uses the wheel as its users will: from another project.

    python tools/check_wheel.py

Both must hold sql/. tests/typing_project, away from this checkout and with the wheel in a virtual
environment of its own, must satisfy mypy --strict and pyright strict, and run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
PACKAGE = "durable_workflow_sqlite"
PROJECT = Path("tests/typing_project")


class CommandError(Exception):
    """A command failed; the message is what it printed."""


def main() -> int:
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder:
        try:
            problems = list(_check(Path(folder)))
        except CommandError as error:
            problems = [str(error)]
    for problem in problems:
        print(problem)
    return 1 if problems else 0


def _check(folder: Path) -> Iterator[str]:
    """What is wrong, after all that had to be done to find out; raises `CommandError`."""
    with ThreadPoolExecutor() as executor:
        making = executor.submit(_make_environment, folder / "venv")
        run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder / "dist", ".")
        python = making.result()
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    yield from missing_files(wheel, sdist)

    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--python", python, "install", wheel)
    project = shutil.copytree(PROJECT, folder / "project")
    commands: list[list[str | Path]] = [
        [BIN / "mypy", "--strict", "--no-error-summary", "--python-executable", python, "main.py"],
        [BIN / "pyright", "--pythonpath", python, "main.py"],
        [python, "-W", "error", "main.py"],
    ]
    for command in commands:
        try:
            run(*command, folder=project)
        except CommandError as error:
            yield f"{PROJECT}, with the wheel: {error}"


def missing_files(wheel: Path, sdist: Path) -> Iterator[str]:
    """What a wheel and an sdist lack."""
    sql = {str(path) for path in Path("sql").glob("**/*") if path.is_file()}
    shown = {
        str(path.relative_to("src"))
        for folder in ("templates", "static")
        for path in Path(f"src/{PACKAGE}/dashboard/{folder}").iterdir()
    }
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = set(archive.namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    others = {f"{PACKAGE}/py.typed", f"{PACKAGE}_pytest.py"}
    for name in sorted({f"{PACKAGE}/{path}" for path in sql} | others | shown):
        if name not in in_wheel:
            yield f"{wheel.name} lacks {name}"
    for name in sorted({*sql, f"src/{PACKAGE}/py.typed", "LICENSE", "CHANGELOG.md"}):
        if name not in in_sdist:
            yield f"{sdist.name} lacks {name}"


def _make_environment(path: Path) -> Path:
    """A virtual environment; gives its Python."""
    venv.create(path, with_pip=False)
    return path / "bin" / "python"


def run(*command: str | Path, folder: Path = ROOT) -> str:
    """Run a command; return what it prints. Raises `CommandError`."""
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise CommandError(f"{' '.join(map(str, command))}\n{done.stdout}")
    return done.stdout


if __name__ == "__main__":
    raise SystemExit(main())

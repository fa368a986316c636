"""Commands of this library, run as a shell runs them, without a new interpreter for each.

A command has its own arguments, environment, streams and folder, and its exit status. Most of them
are called in the process of the tests. What goes on until a signal, imports an application, has
something done to its process first, or is called from an event loop is a fork, which finds every
module imported. If the tests have its database open, it gets an interpreter of its own: SQLite's
locks do not live through a fork. So does all that is not run through here.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import io
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import IO, Any

import pytest

from durable_workflow_sqlite import __main__
from durable_workflow_sqlite.__main__ import main
from tests.databases import new_database

MAY_TAKE_S = 60
COMMAND = [sys.executable, "-m", "durable_workflow_sqlite"]


class Running:
    """A command at work, its output going into pipes."""

    def __init__(
        self,
        words: Sequence[str],
        env: Mapping[str, str],
        cwd: Path | None = None,
        before: Callable[[], object] | None = None,
    ) -> None:
        self._words = words
        null = os.open(os.devnull, os.O_RDONLY)
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        self._pid = fork_command(words, (null, out, err), env=env, cwd=cwd, before=before)
        for one in (null, out, err):
            os.close(one)

    def end(self) -> subprocess.CompletedProcess[str]:
        """Wait for its end, and hear all that it said, whichever pipe is filled first."""
        errors: list[str] = []
        with os.fdopen(self._out) as out, os.fdopen(self._err) as err:
            reader = threading.Thread(target=lambda: errors.append(err.read()))
            reader.start()
            text = out.read()
            reader.join()
        code = exit_code(self._pid)
        return subprocess.CompletedProcess([*COMMAND, *self._words], code, text, errors[0])


def run_command(
    *arguments: str | Path,
    env: Mapping[str, str],
    cwd: Path | None = None,
    before: Callable[[], object] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command as in a pipe; `before` is called in its process, before it begins."""
    words = [*map(str, arguments)]
    if before is None and _is_short(words):
        return _call(words, env, cwd)
    if may_fork(words, cwd):
        return Running(words, env, cwd, before).end()
    return subprocess.run(
        [*COMMAND, *words],
        env=env,
        cwd=cwd,
        preexec_fn=before,
        capture_output=True,
        text=True,
        timeout=MAY_TAKE_S,
        check=False,
    )


def _is_short(words: Sequence[str]) -> bool:
    """Whether it leaves this process as it was, once it has ended, and may run an event loop."""
    with suppress(RuntimeError):
        return not asyncio.get_running_loop()
    return "--app" not in words and words[:1] not in (["worker"], ["dashboard"])


def _call(
    words: Sequence[str], env: Mapping[str, str], cwd: Path | None
) -> subprocess.CompletedProcess[str]:
    """Run a command in this process."""
    prepare()
    binary = [io.BytesIO() for _ in range(3)]
    streams = [io.TextIOWrapper(one, encoding="utf-8", write_through=True) for one in binary]
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        patch.setattr(sys, "argv", [__main__.__file__, *words])
        patch.setattr(os, "environ", dict(env))
        if cwd is not None:
            patch.chdir(cwd)
        _warn_as_a_program()
        code = main()
    out, err = (one.getvalue().decode() for one in binary[1:])
    return subprocess.CompletedProcess([*COMMAND, *words], code, out, err)


def may_fork(words: Sequence[str], cwd: Path | None = None) -> bool:
    """Whether none of the files that are named is open in this process."""
    if sys.platform != "linux":
        return False
    named = tuple(os.path.realpath(os.path.join(cwd or "", word)) for word in words)  # noqa: PTH118
    for one in os.listdir("/proc/self/fd"):  # noqa: PTH208
        try:
            opened = os.readlink(f"/proc/self/fd/{one}")  # noqa: PTH115
        except OSError:  # it was the listing's own
            continue
        if opened.removesuffix("-wal").removesuffix("-shm") in named:
            return False
    return True


def fork_command(
    words: Sequence[str],
    streams: Sequence[int],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    before: Callable[[], object] | None = None,
) -> int:
    """Begin a command on stdin, stdout and stderr; the id of its process."""
    prepare()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork beside idle threads
        pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        for number, one in enumerate(streams):
            os.dup2(one, number)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        _be_new(words, env, cwd)
        if before is not None:
            before()
        code = _main()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


@functools.cache
def prepare() -> None:
    """Let this process import and work out once what each command needs."""
    for name in ("actions", "maintenance", "reading", "running", "starting"):
        importlib.import_module(f"durable_workflow_sqlite.cli.{name}")
    out, err = io.StringIO(), io.StringIO()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(out), redirect_stderr(err):
        file = new_database(Path(folder) / "new.db")
        assert main(["list", str(file)]) == 0
        assert main(["doctor", str(file)]) == 0


def begin_command(
    words: Sequence[str],
    streams: Sequence[int],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
) -> int:
    """`fork_command`, or where that cannot be an interpreter of its own."""
    if may_fork(words, cwd):
        return fork_command(words, streams, env=env, cwd=cwd)
    stdin, stdout, stderr = streams
    process = subprocess.Popen(
        [*COMMAND, *words], stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd
    )
    process.returncode = 0  # `exit_code` waits for it
    return process.pid


def exit_code(pid: int) -> int:
    """Wait for a process; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _main() -> int:
    code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _be_new(words: Sequence[str], env: Mapping[str, str], cwd: Path | None) -> None:
    """Forget what is of the tests: as an interpreter that has just begun."""
    gc.freeze()
    signal.alarm(MAY_TAKE_S)
    os.environ.clear()
    os.environ.update(env)
    if cwd is not None:
        os.chdir(cwd)
    sys.argv = [__main__.__file__, *words]
    sys.modules["__main__"] = __main__
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    plain = sys.__stdout__
    assert plain is not None
    encoding, errors = plain.encoding, plain.errors
    sys.stdin = _text(0, "r", encoding, errors)
    sys.stdout = _text(1, "w", encoding, errors)
    sys.stderr = _text(2, "w", encoding, "backslashreplace")
    sys.excepthook = sys.__excepthook__
    sys.unraisablehook = sys.__unraisablehook__
    _warn_as_a_program()
    logging.root.handlers.clear()
    logging.root.setLevel(logging.WARNING)


def _warn_as_a_program() -> None:
    warnings.resetwarnings()
    for ignored in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter("ignore", ignored)


def _text(number: int, mode: str, encoding: str, errors: str | None) -> IO[Any]:
    buffering = 1 if mode == "w" and (number == 2 or os.isatty(number)) else -1
    return open(number, mode, buffering, encoding=encoding, errors=errors, closefd=False)

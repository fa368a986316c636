"""Small disks of a test's own, where the machine lets a test mount them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest


@contextmanager
def a_disk_in_memory(folder: Path, size: str) -> Iterator[Path]:
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield folder


@contextmanager
def a_disk_in_a_file(folder: Path, image: Path, megabytes: int) -> Iterator[Path]:
    """An ext4 file system, which can be made read-only while files on it are open."""
    with image.open("wb") as file:
        file.truncate(megabytes << 20)
    if _run("mkfs.ext4", "-q", "-F", str(image)):
        pytest.skip("no mkfs.ext4, to make a small disk")
    with _mounted(folder, "-o", "loop", str(image)):
        yield folder


def make_read_only(folder: Path) -> None:
    """As the kernel does when a disk gives errors."""
    if _run("mount", "-o", "remount,abort", str(folder)):
        pytest.skip("no right to make a small disk read-only")


def fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(b"x" * 4096)


@contextmanager
def _mounted(folder: Path, *arguments: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    if _run("mount", *arguments, str(folder)):
        pytest.skip("no right to mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _run(command: str, *arguments: str) -> int:
    path = shutil.which(command, path="/usr/sbin:/sbin:/usr/bin:/bin")
    if path is None:
        return 127
    return subprocess.run([path, *arguments], capture_output=True, check=False).returncode

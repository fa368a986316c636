"""The sources of tests: what a test does decides where it runs, too."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any


def source_of(test: Callable[..., Any]) -> str:
    """As `inspect.getsource`, which reads the module once more for each of its tests."""
    code = inspect.unwrap(test).__code__
    return _sources(code.co_filename)[code.co_firstlineno]


@cache
def _sources(file: str) -> dict[int, str]:
    """The sources of the functions of a module, by their first lines."""
    text = Path(file).read_text()
    lines = text.splitlines(keepends=True)
    found: dict[int, str] = {}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            begin = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            found[begin] = "".join(lines[begin - 1 : node.end_lineno])
    return found

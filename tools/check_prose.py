"""Checks the prose of README, docs, docstrings, messages and comments in SQL: words and sentences.

proselint applies its own rules and the list in tools/words.txt; codespell finds misspellings. To
check some files only, name them.
"""

# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Iterator
from inspect import cleandoc
from pathlib import Path

import codespell_lib
from proselint import checks as proselint_checks
from proselint.config import DEFAULT
from proselint.registry import CheckRegistry
from proselint.registry.checks import Check, CheckFlags, types
from proselint.registry.checks.engine import Fancy
from proselint.tools import LintFile

MAX_WORDS = 25
"""In one sentence, or one part of it that ends with a colon or a semicolon."""

ROOT = Path(__file__).resolve().parent.parent
PROSE = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/*.md", "src/**/*.py"),
    *("sql/lists.sql", "sql/columns.sql", "sql/views/*.sql", "sql/queries/*.sql"),
    "sql/postgres/**/*.sql",
)
GENERATED = {"queries.py"}
SPELLED = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs", "src", "sql")
NOT_OURS = ("typography", "lexical_illusions")
"""Rules of proselint that are not for technical text: code has straight quotes, and `a, a`."""

_CODE_BLOCK = re.compile(
    r"^( *)(`{3,})[\s\S]*?^\1\2$|(?<=\n\n)(?: {4,}\S.*\n|\n(?= {4}))+|^<.*\n", re.MULTILINE
)
_CODE = re.compile(r"(`+)[^`]+\1|\]\([^)]*\)|<[^>\n]+>|https?://\S+")
_END = re.compile(r"(?<=[.!?:;])[)\"'*_]*\s+|\n\s*\n|\n\s*(?=[-*|#├└│]|\d+\.)|\|")
_SQL_CODE = re.compile(
    r"^(?:(?! *--).*"
    r"| *-- (?:name: .*|[:=]\w+ .*|@[\w ]+:|\w+(?:  +(?:text|integer|real|blob)(?: null)?)?(?=  ))"
    r"| *--)"
)
"""What begins a line of SQL and is no prose: a statement, a hint, the name of a query or column."""
_WORD = re.compile(r"\b(?!CODE\b)[^\W_]+(?:['._/-][^\W_]+)*")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    given: list[Path] = parser.parse_args(arguments).files
    files = given or [path for pattern in PROSE for path in sorted(ROOT.glob(pattern))]
    found = [
        f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}: {problem}"
        for path in files
        if path.name not in GENERATED
        for line, problem in problems(prose_of(path))
    ]
    print("".join(f"{line}\n" for line in found), end="")
    spelled = given or [ROOT / name for name in SPELLED]
    return codespell_lib.main(*map(str, spelled)) or bool(found)


def prose_of(path: Path) -> str:
    """The prose of a file, each word in its line; a piece of code is the word CODE."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        text = _strings(text)
    if path.suffix == ".sql":
        text = _comments(text)
    text = _CODE_BLOCK.sub(lambda block: "\n" * block[0].count("\n"), text)
    return _CODE.sub(lambda code: "CODE" + "\n" * code[0].count("\n"), text)


def problems(prose: str) -> Iterator[tuple[int, str]]:
    """What is wrong with a text, by line."""
    _register()
    checks = {**DEFAULT["checks"], **dict.fromkeys(NOT_OURS, False), "words": True}
    for result in LintFile("prose", prose).lint({"max_errors": 1000, "checks": checks}):
        at = result.check_result.span[0] - 1  # it puts a line break before the text
        yield prose.count("\n", 0, at) + 1, result.check_result.message
    start = 0
    for end in [*_END.finditer(prose), None]:
        sentence = prose[start : end.start() if end else None]
        if (count := len(_WORD.findall(sentence))) > MAX_WORDS:
            line = 1 + prose.count("\n", 0, start + len(sentence) - len(sentence.lstrip()))
            begins = " ".join(sentence.split()[:6])
            yield line, f"a sentence of {count} words, {MAX_WORDS} at most: {begins!r}"
        start = end.end() if end else start


def _comments(sql: str) -> str:
    """The comments of a file of SQL, without the names and types of columns, queries and hints."""
    lines = (_SQL_CODE.sub(_in_comment, line) for line in sql.split("\n"))
    return "\n".join(line.strip() for line in lines)


def _in_comment(code: re.Match[str]) -> str:
    return "" if code[0].strip() == "--" else " | "  # the end of what stands before


def _strings(code: str) -> str:
    """The strings of a module that have three words or more: its docstrings and its messages."""
    lines = [""] * (code.count("\n") + 1)
    parts: set[ast.AST] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.JoinedStr):
            parts.update(node.values)
        if isinstance(node, ast.Constant | ast.JoinedStr) and node not in parts:
            text = cleandoc(_text(node))
            if len(text.split()) > 2:
                first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
                lines[first] += " | "  # the end of what stands before
                for number, line in enumerate(text.split("\n"), first):
                    lines[min(number, last)] += line
    # proselint reads no lone surrogates.
    return "\n".join(lines).encode(errors="replace").decode()


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) or "CODE" for part in parts)
        case _:
            return ""


def _register() -> None:
    """Tell proselint its own rules and our words, once."""
    if CheckRegistry().checks:
        return
    lines = Path(__file__).with_name("words.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split(" -> ") for line in lines if line and not line.startswith("#")]
    words = Check(
        check_type=types.PreferredForms(
            {wrong.replace(" ", r"\s+"): right for wrong, right in pairs}
        ),
        engine=Fancy(),
        path="words",
        message="write {0}, not {1!r}",
        flags=CheckFlags(allow_quotes=True),
    )
    CheckRegistry().register_many((*proselint_checks.__register__, words))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

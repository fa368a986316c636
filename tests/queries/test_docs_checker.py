"""tools/check_docs.py: which examples of a document it runs, and what it says of one that fails."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKER = Path(__file__).parents[2] / "tools" / "check_docs.py"

Check = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check documents given as their texts: one.md, two.md ..."""

    def check(*texts: str) -> subprocess.CompletedProcess[str]:
        names = ["one.md", "two.md", "three.md"][: len(texts)]
        for name, text in zip(names, texts, strict=True):
            (tmp_path / name).write_text(text, encoding="utf-8")
        return subprocess.run(
            [sys.executable, CHECKER, *names],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return check


def passes(done: subprocess.CompletedProcess[str]) -> bool:
    assert done.stderr == ""
    return (done.returncode, done.stdout) == (0, "")


def python(code: str) -> str:
    return f"```python\n{code}\n```\n"


def test_examples_that_run_pass_without_a_word(check: Check) -> None:
    assert passes(check("# One\n\n" + python("print('not shown')"), python("assert True")))


def test_a_failing_example_is_reported_with_its_file_and_line(check: Check) -> None:
    done = check(python("x = 1"), "# Two\n\nText.\n\n" + python("x = 1\n\nassert x == 2, 'no'"))
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert lines[0] == "two.md:6: exit status 1"
    assert 'two.md", line 8, in <module>' in done.stdout, "the traceback's line is the document's"
    assert lines[-1].strip() == "AssertionError: no"
    assert "one.md" not in done.stdout


def test_every_failing_example_is_reported(check: Check) -> None:
    done = check(python("1 / 0") + "\n" + python("pass") + "\n" + python("[][0]"), python("{}[0]"))
    assert done.returncode == 1
    reported = [line for line in done.stdout.splitlines() if not line.startswith(" ")]
    assert reported == [
        f"{where}: exit status 1" for where in ("one.md:2", "one.md:10", "two.md:2")
    ]


def test_an_example_that_exits_with_a_status_fails(check: Check) -> None:
    done = check(python("import sys\nsys.exit(3)"))
    assert (done.returncode, done.stdout) == (1, "one.md:2: exit status 3\n\n")


def test_a_warning_is_a_failure(check: Check) -> None:
    done = check(python("import warnings\nwarnings.warn('old', DeprecationWarning)"))
    assert done.returncode == 1
    assert "DeprecationWarning: old" in done.stdout


def test_examples_are_apart(check: Check) -> None:
    one = python("x = 1\nopen('here', 'x').close()")
    assert passes(check(one + "\n" + one, one))
    done = check(one + "\n" + python("print(x)"))
    assert done.returncode == 1
    assert "NameError: name 'x' is not defined" in done.stdout


def test_an_example_that_continues_has_what_came_before(check: Check) -> None:
    text = (
        python("x = 1")
        + "\n<!-- continues -->\n"
        + python("x += 1")
        + "\nMore text.\n\n<!-- continues -->\n\n"
        + python("assert x == 2\nassert x == 3")
    )
    done = check(text)
    assert done.returncode == 1
    assert done.stdout.startswith("one.md:15: exit status 1\n")
    assert "line 16, in <module>" in done.stdout
    assert passes(check(text.replace("\nassert x == 3", "")))


def test_an_example_goes_on_from_the_block_right_before_it_only(check: Check) -> None:
    done = check(python("x = 1") + python("y = 1") + "<!-- continues -->\n" + python("x"))
    assert done.returncode == 1
    assert done.stdout.startswith("one.md:9: exit status 1\n")
    assert "NameError: name 'x'" in done.stdout


def test_text_between_the_line_and_the_example_takes_its_meaning_away(check: Check) -> None:
    done = check(python("x = 1") + "<!-- continues -->\nAnd so:\n\n" + python("x"))
    assert done.returncode == 1
    assert "NameError: name 'x'" in done.stdout


def test_an_example_that_is_not_to_be_run_is_not(check: Check) -> None:
    runs = python("open('x', 'w').close()")
    assert passes(check(runs + "\n<!-- not run: needs a bank -->\n" + python("1 / 0")))
    assert passes(check(runs + "\n<!-- not run: needs a bank -->\n\n" + python("1 / 0")))


def test_not_running_an_example_needs_a_reason(check: Check) -> None:
    for note in ("<!-- not run -->", "<!-- not run:  -->", "<!-- not run: -->"):
        assert check(f"{note}\n" + python("1 / 0")).returncode == 1, note


def test_the_line_is_about_one_example(check: Check) -> None:
    done = check("<!-- not run: needs a bank -->\n" + python("1 / 0") + "\n" + python("1 / 0"))
    assert done.returncode == 1
    assert done.stdout.startswith("one.md:7: exit status 1\n")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# Only text\n\n    indented = True\n",
        "```sql\nselect 1;\n```\n",
        "```\nno language\n```\n",
        "<!-- not run: needs a bank -->\n```python\n1 / 0\n```\n",
        "````markdown\n```python\n1 / 0\n```\n````\n",
    ],
)
def test_documents_without_an_example_to_run_fail(check: Check, text: str) -> None:
    done = check(text)
    assert (done.returncode, done.stdout) == (1, "no Python examples in one.md\n")


def test_an_example_in_a_list_is_run_without_its_indent(check: Check) -> None:
    text = "1. First\n\n   ```python\n   if True:\n       x = {}\n   ```\n"
    assert passes(check(text.format(1)))
    done = check(text.format("1 / 0"))
    assert done.returncode == 1
    assert done.stdout.startswith("one.md:4: exit status 1\n")
    assert "line 5, in <module>" in done.stdout


def test_examples_are_utf_8(check: Check) -> None:
    done = check(python("word = 'größer'\nassert len(word) == 6\nraise SystemExit(word)"))
    assert done.returncode == 1
    assert "größer" in done.stdout

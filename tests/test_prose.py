"""`make check-prose` finds what is planted, in its line, and does not read code."""

from pathlib import Path

import pytest

import check_prose

LONG = "It goes on" + " and on" * 12 + "."

DOCUMENT = f"""# Whoever claims it

An execution is left
alone. {LONG}

    heed = "whoever writes code"

```python
whoever = "upkeep"
```

| `whoever` | a class | that is no error |
- The intake is a point in time; it goes on{" and on" * 11}.
"""

MODULE = f'''"""A module: {LONG}"""

upkeep = "upkeep"


def go(heed: str) -> None:
    """Go on

    for ever.
    """
    raise ValueError(
        f"the data {{heed}} is no"
        " JSON"
    )
'''

QUERIES = f"""-- {LONG}

-- name: upkeep$
-- Whoever asks
-- @scan heed: for
-- ever
-- :upkeep integer
-- =heed text null
select 1 as heed  -- for the caller
where
    -- A text is no JSON.
    true;
"""

VIEW = f"""-- orders: it lets
-- go{" and on" * 11}
--
-- heed    text null  it goes on{" and on" * 11}
-- upkeep  integer    a number, taken
--                    on
create view orders as select 'whoever' as heed;
"""


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (
            "a.md",
            DOCUMENT,
            [
                (1, "the caller"),
                (3, "blocked"),
                (4, "27 words"),
                (12, "is not a"),
                (13, "Redundancy"),
                (13, "dispatcher"),
            ],
        ),
        (
            "queries.sql",
            QUERIES,
            [(1, "27 words"), (4, "the caller"), (5, "forever"), (11, "is not a")],
        ),
        ("view.sql", VIEW, [(1, "release"), (5, "claim")]),
        ("a.py", MODULE, [(1, "27 words"), (9, "archaic"), (9, "forever"), (12, "is not a")]),
    ],
)
def test_mistakes_are_found_in_their_lines(
    name: str, text: str, expected: list[tuple[int, str]], tmp_path: Path
) -> None:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    found = sorted(check_prose.problems(check_prose.prose_of(file)))
    assert [line for line, _ in found] == [line for line, _ in expected], found
    for (_, problem), (_, words) in zip(found, expected, strict=True):
        assert words in problem


def test_a_misspelled_word_fails_the_check(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.md"
    file.write_text("This is definately wrong.", encoding="utf-8")
    assert check_prose.main([str(file)]) != 0
    assert f"{file}:1: definately ==> definitely" in capfd.readouterr().out

"""What the pages say of parents, children, and executions that continued as new."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.cli.test_trees import CHILD, DEEP, fill
from tests.dashboard.conftest import Open, send
from tests.dashboard.test_pages import words


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("trees") / "trees.db"
    asyncio.run(fill(file))
    return file


def test_a_page_has_the_children_and_theirs(visit: Open, trees: Path) -> None:
    page = visit(trees).get("/execution", params={"id": "w"}).text
    text = words(page)
    assert "Children 1 completed , 1 failed , 2 suspended" in text
    order = ["w/free-0 detached", CHILD, DEEP, "w/part.1:part-0", "w/part.0:part-0"]
    table = text.partition("The whole tree as a list")[2]
    assert [table.index(one) for one in order] == sorted(table.index(one) for one in order)
    assert "no paper" in table
    assert "/execution?id=w%2Fpart.2%3Apart-0%2Fdeep-0" in page
    assert "/executions?status=FAILED&amp;parent=w" in page
    assert "$child:" not in text


def test_a_page_has_the_parent_the_root_and_the_run(visit: Open, trees: Path) -> None:
    client = visit(trees)
    page = client.get("/execution", params={"id": DEEP}).text
    assert f"Child of {CHILD} In the tree of w" in words(page).replace("  ", " ")
    assert 'href="/execution?id=w%2Fpart.2%3Apart-0"' in page
    assert "Run 3 it continued as new" in words(client.get("/execution?id=c").text)


def test_a_page_says_that_it_waits_for_a_child_and_links_it(visit: Open, trees: Path) -> None:
    page = visit(trees).get("/execution", params={"id": CHILD}).text
    assert f"Waits for its child “{DEEP}” Look at that child" in words(page)
    assert f"end of child {DEEP}" in words(page)
    assert not re.search(
        r'/signal\?[^"]*name=%24child', page
    )  # the form for a signal does not offer it
    assert "$child:" not in words(page)


def test_many_children_are_counted_and_the_others_are_a_link(visit: Open, trees: Path) -> None:
    page = visit(trees).get("/execution?id=many").text
    assert "all children of many: 30 suspended" in words(page)
    assert page.count('data-key="child ') == 20


async def test_a_page_says_by_the_pause_of_which_execution_it_is_held(
    visit: Open, tmp_path: Path
) -> None:
    file = tmp_path / "paused.db"
    await fill(file)
    client = visit(file)
    send(client, "pause", id="w", reason="the bank is closed")
    page = client.get("/execution", params={"id": DEEP}).text
    assert "The tree of w is paused by dashboard, from testclient: the bank is closed" in words(
        page
    )
    assert "Resume…" not in page
    assert "paused: waits for" in words(client.get("/executions", params={"root": "w"}).text)
    send(client, "resume", id="w")
    assert "is paused" not in words(client.get("/execution", params={"id": DEEP}).text)


def test_the_list_is_filtered_by_parent_and_by_tree(visit: Open, trees: Path) -> None:
    client = visit(trees)
    text = words(client.get("/executions", params={"parent": CHILD}).text)
    assert f"child of {CHILD}" in text
    assert DEEP in text
    assert "many/wait" not in text
    text = words(client.get("/executions", params={"root": "w"}).text)
    assert "in the tree of w" in text
    assert f"waits for its child “{DEEP}”" in text
    assert "$child:" not in text
    assert "$child:" not in words(client.get("/").text)

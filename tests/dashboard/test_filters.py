"""The list's filters: the choices of the command line, in the address and as chips."""

from __future__ import annotations

import html
import re
from pathlib import Path
from urllib.parse import urlencode

import pytest
from starlette.testclient import TestClient

from tests.dashboard.conftest import Open

ALL = {
    *("waiting", "done", "undone", "failed"),
    *(f"pay-{number}" for number in range(7)),
    *(f"parcel-{number}" for number in range(2)),
}
PAID = {f"pay-{number}" for number in range(7)}
PARCELS = {"parcel-0", "parcel-1"}


def ids_in(page: str) -> set[str]:
    return set(re.findall(r'class="id" href="/execution\?id=([\w-]+)"', page))


def ids(client: TestClient, query: list[tuple[str, str]]) -> set[str]:
    answer = client.get(f"/executions?{urlencode(query)}")
    assert answer.status_code == 200
    return ids_in(answer.text)


CHOICES: list[tuple[list[tuple[str, str]], set[str]]] = [
    ([], ALL),
    ([("status", "FAILED")], ALL - {"waiting", "done"}),
    ([("status", "COMPLETED"), ("status", "SUSPENDED")], {"waiting", "done"}),
    ([("type", "parcel")], PARCELS),
    ([("version", "2")], PARCELS),
    ([("type", "payment"), ("version", "2")], set()),
    ([("id", "pay-")], PAID),
    ([("step", "charge")], PAID),
    ([("step", "approved")], {"waiting"}),
    ([("error", "ANSWER ABOUT 3")], {"pay-3"}),
    ([("error", "ConnectionError"), ("step", "charge"), ("type", "payment")], PAID),
    ([("begun", "-1h")], ALL),
    ([("begun", "6h")], set()),
    ([("ended", "-1h")], ALL - {"waiting"}),
    ([("ended", "1h")], set()),
    ([("ended", "-1h"), ("status", "SUSPENDED")], {"waiting"}),
    ([("tag", "customer=1")], {"pay-1", "parcel-1"}),
    ([("tag", "customer=1"), ("error", "truck")], {"parcel-1"}),
    ([("input", "id=5")], {"pay-5"}),
    ([("input", "1=plan.pdf")], {"waiting"}),
    ([("state", "blocked")], set()),
    ([("state", "trouble")], set()),
    ([("state", "not-undone")], set()),
]


@pytest.mark.parametrize(
    ("query", "wanted"), CHOICES, ids=[urlencode(query) or "none" for query, _ in CHOICES]
)
def test_an_address_chooses_as_the_options_of_a_command_do(
    query: list[tuple[str, str]], wanted: set[str], outage: Path, visit: Open
) -> None:
    assert ids(visit(outage), query) == wanted


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("status=NONSENSE", "no status has the name NONSENSE"),
        ("type=paymant", "did you mean"),
        ("version=two", "a version is a number"),
        ("version=0", "at least 1"),
        ("begun=yesterday", "is not an age"),
        ("ended=-", "is not an age"),
        ("tag=customer", "is not NAME=VALUE"),
        ("input=x", "is not KEY=VALUE"),
        ("state=happy", "no state is named"),
        ("after=nonsense", "not the `next` of a page"),
    ],
)
def test_a_filter_that_makes_no_sense_chooses_nobody(
    query: str, why: str, outage: Path, visit: Open
) -> None:
    """Left out, it would choose all: for a page of acts, that would be the worst."""
    client = visit(outage)
    page = client.get(f"/executions?{query}")
    assert page.status_code == 400
    assert why in html.unescape(page.text)
    assert ids_in(page.text) == set()
    assert "/bulk/" not in page.text
    if not query.startswith("after"):
        act = client.get(f"/bulk/retry?{query}")
        assert act.status_code == 400
        assert "form_token" not in act.text


def test_each_filter_is_a_chip_that_can_be_removed(outage: Path, visit: Open) -> None:
    client = visit(outage)
    query = [
        ("status", "FAILED"),
        ("status", "COMPLETED"),
        ("type", "payment"),
        ("version", "1"),
        ("id", "pay"),
        ("step", "charge"),
        ("error", "no answer"),
        ("begun", "-6h"),
        ("ended", "-1d"),
        ("input", "id=3"),
        ("tag", "customer=3"),
    ]
    page = client.get(f"/executions?{urlencode(query)}").text
    assert ids_in(page) == {"pay-3"}
    chips = re.search(r'<ul class="chips".*?</ul>', page, re.S)
    assert chips is not None
    hrefs = [html.unescape(one) for one in re.findall(r'href="([^"]+)"', chips[0])]
    assert hrefs == [
        f"/executions?{urlencode([other for other in query if other != one])}" for one in query
    ]
    assert "begun <" not in chips[0]
    for words in ("in the last 6h", "in the last day", "at step charge", "tag customer=3"):
        assert words in chips[0]


def test_filters_stay_through_the_pages_and_lead_to_the_acts(outage: Path, visit: Open) -> None:
    page = visit(outage).get("/executions?type=payment&error=no+answer").text
    for act in ("retry", "cancel", "signal", "unblock", "acknowledge", "prune"):
        assert f'href="/bulk/{act}?type=payment&amp;error=no+answer"' in page
    assert 'value="no answer"' in page  # and the fields of the form say what is chosen

"""What stands between the network and the pages."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient

from durable_workflow_sqlite import dashboard
from durable_workflow_sqlite.dashboard import protection
from tests.dashboard.conftest import HOST, Open, send, token_in
from tests.dashboard.test_actions import signals

TOKEN = "correct horse battery staple"
PAGES = (
    "/",
    "/executions",
    "/execution?id=waiting",
    "/payload?id=waiting&what=input",
    "/signal?id=waiting",
    "/bulk/cancel",
)
ACTIONS = ("signal", "cancel", "retry")


def log_in(client: TestClient, token: str = TOKEN, wanted: str = "/") -> Any:
    page = client.get("/login")
    form = {"form_token": token_in(page.text), "token": token, "next": wanted}
    return client.post("/login", data=form)


# Headers


@pytest.mark.parametrize("address", [*PAGES, "/nothing", "/static/dashboard.js"])
def test_every_answer_forbids_foreign_script_and_frames(address: str, visit: Open) -> None:
    headers = visit().get(address).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"


def test_refusals_have_the_headers_too(visit: Open) -> None:
    answer = visit().get("/", headers={"host": "evil.example"})
    assert answer.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("address", PAGES)
def test_no_page_holds_inline_script_or_style_or_another_server(address: str, visit: Open) -> None:
    html = visit().get(address).text
    assert re.findall(r"<script(?! src=\"/static/)", html) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=|javascript:", html) == []
    assert re.findall(r"(?:src|href|action)=\"(?:https?:)?//", html) == []


def test_pages_are_not_kept_by_browsers_and_the_style_is(visit: Open) -> None:
    client = visit()
    html = client.get("/").text
    assert client.get("/").headers["cache-control"] == "no-store"
    style = re.search(r'href="(/static/dashboard\.css\?v=\w+)"', html)
    assert style is not None
    assert "immutable" in client.get(style[1]).headers["cache-control"]


# Names: DNS rebinding


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "localhost@evil.example",
        "evil.example:8642",
        "127.0.0.1/evil",
        "127.0.0.1:port",
        "",
    ],
)
def test_other_names_than_the_loopbacks_are_refused(host: str, visit: Open) -> None:
    assert visit().get("/", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8642", "127.0.0.1", "[::1]:8642", "LOCALHOST"])
def test_the_names_of_the_loopback_are_known(host: str, visit: Open) -> None:
    assert visit().get("/", headers={"host": host}).status_code == 200


def test_other_names_can_be_allowed(visit: Open) -> None:
    client = visit(allowed_hosts=["flows.example"])
    assert client.get("/", headers={"host": "flows.example:443"}).status_code == 200
    assert client.get("/").status_code == 421


def test_a_string_is_no_list_of_names(file: Path) -> None:
    with pytest.raises(TypeError, match="list of names"):
        dashboard.app(file, allowed_hosts="flows.example")


# Forms: requests that other sites make


@pytest.mark.parametrize("action", ACTIONS)
def test_a_form_without_its_token_does_nothing(action: str, file: Path, visit: Open) -> None:
    client = visit()
    client.get("/")
    form = {"id": "waiting", "name": "approved", "payload": "1"}
    for token in ({}, {"form_token": ""}, {"form_token": "0" * 64}, {"form_token": "ü"}):
        assert client.post(f"/{action}", data={**form, **token}).status_code == 403
    assert signals(file) == []


def test_the_token_of_a_form_is_worth_nothing_without_its_cookie(file: Path, visit: Open) -> None:
    token = token_in(visit().get("/cancel?id=waiting").text)
    other = visit()
    other.get("/")
    for client in (other, visit()):
        answer = client.post("/cancel", data={"id": "waiting", "form_token": token})
        assert answer.status_code == 403
    assert signals(file) == []


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_a_form_from_another_site_does_nothing(
    headers: dict[str, str], file: Path, visit: Open
) -> None:
    client = visit()
    token = token_in(client.get("/cancel?id=waiting").text)
    form = {"id": "waiting", "form_token": token}
    assert client.post("/cancel", data=form, headers=headers).status_code == 403
    assert signals(file) == []
    assert client.post("/cancel", data=form, headers={"origin": HOST}).status_code == 303


def test_the_cookie_of_forms_is_hidden_from_scripts_and_other_sites(visit: Open) -> None:
    cookie = visit().get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert "Secure" not in cookie
    secure = visit(base_url="https://127.0.0.1").get("/").headers["set-cookie"]
    assert "Secure" in secure


def test_only_forms_of_a_bounded_size_are_read(file: Path, visit: Open) -> None:
    client = visit()
    token = token_in(client.get("/signal?id=waiting").text)
    form = {"id": "waiting", "name": "approved", "form_token": token}
    large = '"' + "x" * protection.MAX_FORM_BYTES + '"'
    assert client.post("/signal", data={**form, "payload": large}).status_code == 413
    assert client.post("/signal", json=form).status_code == 415
    assert client.post("/signal", files={"payload": b"1"}, data=form).status_code == 415
    many = "&".join(f"f{number}=" for number in range(100))
    kind = {"content-type": "application/x-www-form-urlencoded"}
    assert client.post("/signal", content=many, headers=kind).status_code == 400
    assert client.post("/signal", content=b"\xff=%ff", headers=kind).status_code == 400
    assert signals(file) == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_no_other_methods_are_known(method: str, visit: Open) -> None:
    assert visit().request(method, "/cancel?id=waiting").status_code == 405


@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_is_done_by_a_get(action: str, file: Path, visit: Open) -> None:
    query = {"id": "waiting", "name": "approved", "payload": "1", "form_token": "x"}
    assert visit().get(f"/{action}", params=query).status_code == 200
    assert signals(file) == []


# Read-only


def test_a_read_only_dashboard_has_no_actions_at_all(file: Path, visit: Open) -> None:
    client = visit(read_only=True)
    for action in ACTIONS:
        assert client.get(f"/{action}?id=waiting").status_code == 404
        token = token_in(visit().get(f"/{action}?id=waiting").text)
        answer = client.post(f"/{action}", data={"id": "waiting", "form_token": token})
        assert answer.status_code in (403, 404, 405)
    html = client.get("/execution?id=waiting").text
    assert "read-only" in html
    assert "<form" not in html
    assert "Cancel…" not in html
    assert signals(file) == []


# The token


@pytest.mark.parametrize("address", [*PAGES, "/nothing"])
def test_without_the_token_there_is_only_the_login(address: str, visit: Open) -> None:
    client = visit(token=TOKEN)
    answer = client.get(address)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login?next=%2F")
    assert "waiting" not in answer.text
    part = client.get(address, headers={"x-dashboard-part": "main"})
    assert part.status_code == 401


def test_logging_in_leads_to_where_one_wanted_to_go(visit: Open) -> None:
    client = visit(token=TOKEN)
    answer = log_in(client, wanted="/execution?id=waiting")
    assert (answer.status_code, answer.headers["location"]) == (303, "/execution?id=waiting")
    cookie = answer.headers["set-cookie"]
    assert TOKEN not in cookie
    assert "HttpOnly" in cookie
    assert client.get("/").status_code == 200
    assert send(client, "cancel", id="waiting").status_code == 303


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil.example", ""]
)
def test_logging_in_leads_to_no_other_site(wanted: str, visit: Open) -> None:
    assert log_in(visit(token=TOKEN), wanted=wanted).headers["location"] == "/"


@pytest.mark.parametrize("token", ["", "wrong", TOKEN[:-1], TOKEN + "x", "ü" * 30, "\x00"])
def test_another_token_does_not_let_in(token: str, visit: Open) -> None:
    client = visit(token=TOKEN)
    assert log_in(client, token).status_code == 401
    assert client.get("/").status_code == 303


def test_logging_out_ends_the_session(visit: Open) -> None:
    client = visit(token=TOKEN)
    log_in(client)
    client.post("/logout", data={"form_token": token_in(client.get("/").text)})
    assert client.get("/").status_code == 303


def test_programs_give_the_token_in_a_header(visit: Open) -> None:
    client = visit(token=TOKEN)
    assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    for other in ("Bearer wrong", f"Basic {TOKEN}", "Bearer", f"Bearer {TOKEN}x"):
        assert client.get("/", headers={"authorization": other}).status_code in (303, 401)


@pytest.mark.parametrize(
    "change",
    [lambda s: "9" + s, lambda s: s[:-1], lambda s: "", lambda s: "9999999999.", str.upper],
)
def test_a_session_that_was_tampered_with_is_none(change: Any, visit: Open) -> None:
    client = visit(token=TOKEN)
    log_in(client)
    name = next(name for name in client.cookies if "session" in name)
    value = change(client.cookies[name])
    client.cookies.clear()
    assert client.get("/", headers={"cookie": f"{name}={value}"}).status_code == 303


def test_a_session_ends(visit: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protection, "SESSION_S", -1)
    client = visit(token=TOKEN)
    log_in(client)
    name = next((name for name in client.cookies if "session" in name), None)
    keys = protection.Keys(TOKEN, "file")
    assert not keys.is_session(keys.new_session())
    assert name is None or client.get("/").status_code == 303


def test_a_session_of_one_token_is_none_of_another(visit: Open) -> None:
    session = protection.Keys(TOKEN, "x").new_session()
    assert protection.Keys(TOKEN, "x").is_session(session)
    assert not protection.Keys(TOKEN + "!", "x").is_session(session)
    assert not protection.Keys(None, "x").is_session(session)


def test_a_short_token_is_refused(file: Path) -> None:
    with pytest.raises(ValueError, match="at least 16 characters"):
        dashboard.app(file, token="secret")


# Where it is served


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "flows.example"])
def test_another_address_than_the_loopback_wants_a_token(host: str, file: Path) -> None:
    with pytest.raises(ValueError, match="without a token"):
        dashboard.serve(file, host)


def test_an_address_that_is_taken_is_an_error(file: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError):
        dashboard.serve(file, port=taken.getsockname()[1])


def test_it_can_be_mounted_under_a_prefix(file: Path) -> None:
    site = Starlette(routes=[Mount("/ops/flows", dashboard.app(file, token=TOKEN))])
    with TestClient(site, base_url=HOST, follow_redirects=False) as client:
        away = client.get("/ops/flows/execution?id=waiting")
        assert away.headers["location"].startswith("/ops/flows/login?next=%2Fexecution")
        page = client.get("/ops/flows/login")
        form = {"form_token": token_in(page.text), "token": TOKEN, "next": "/execution?id=waiting"}
        answer = client.post("/ops/flows/login", data=form)
        assert answer.headers["location"] == "/ops/flows/execution?id=waiting"
        assert "Path=/ops/flows" in answer.headers["set-cookie"]
        html = client.get("/ops/flows/execution?id=waiting").text
        own = [one for one in re.findall(r'(?:href|action|src)="([^"]+)"', html) if one[0] != "#"]
        assert own
        assert [one for one in own if not one.startswith("/ops/flows/")] == []
        for address in own:
            if address.endswith("/logout"):
                continue
            assert client.get(address.replace("&amp;", "&")).status_code == 200, address
        token = token_in(client.get("/ops/flows/cancel?id=waiting").text)
        done = client.post("/ops/flows/cancel", data={"form_token": token, "id": "waiting"})
        assert done.headers["location"].startswith("/ops/flows/execution?id=waiting")

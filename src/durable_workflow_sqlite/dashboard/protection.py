"""What stands between the network and the pages: hosts, origins, logins, forms and headers.

Everything that asks for the dashboard comes through here first, so no page can forget a check.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, quote, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
MIN_TOKEN_LENGTH: Final = 16
MAX_FORM_BYTES: Final = 1_048_576
SESSION_S: Final = 12 * 3600

_MAX_FIELDS: Final = 20
_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self';"
        " connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types dashboard"
    ),
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",  # under no-referrer, browsers hide where a form is from
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


class Keys:
    """What is signed and compared: the token, sessions, and the tokens of forms.

    They depend on the token and the file alone, so that several processes may serve one dashboard.
    """

    def __init__(self, token: str | None, name: str) -> None:
        if token is not None and len(token) < MIN_TOKEN_LENGTH:
            raise ValueError(
                f"the token must have at least {MIN_TOKEN_LENGTH} characters; make one with"
                ' python -c "import secrets; print(secrets.token_urlsafe())"'
            )
        self._token = None if token is None else token.encode("utf-8", "surrogateescape")
        self._key = hashlib.sha256(b"durable-workflow dashboard\0" + (self._token or b"")).digest()
        # Cookies do not tell ports apart: two dashboards on one host must not share names.
        mark = hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:12]
        self.session_cookie = f"durable_workflow_session_{mark}"
        self.form_cookie = f"durable_workflow_form_{mark}"

    @property
    def is_open(self) -> bool:
        """Whether nobody has to log in."""
        return self._token is None

    def is_token(self, given: str) -> bool:
        if self._token is None:
            return False
        # Digests, since the time to compare must not depend on the length either.
        one = hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest()
        return hmac.compare_digest(one, hashlib.sha256(self._token).digest())

    def new_session(self) -> str:
        ends_at = str(int(time.time()) + SESSION_S)
        return f"{ends_at}.{self._sign('session', ends_at)}"

    def is_session(self, given: str) -> bool:
        ends_at, _, signature = given.partition(".")
        if not hmac.compare_digest(self._sign("session", ends_at), _ascii(signature)):
            return False
        return int(ends_at) > time.time()

    def form_token(self, nonce: str) -> str:
        return self._sign("form", nonce)

    def is_form_token(self, given: str, nonce: str) -> bool:
        return bool(nonce) and hmac.compare_digest(self.form_token(nonce), _ascii(given))

    def _sign(self, kind: str, what: str) -> str:
        text = f"{kind}\0{what}".encode("utf-8", "surrogateescape")
        return hmac.new(self._key, text, hashlib.sha256).hexdigest()


class Protection:
    """The dashboard, guarded. Puts into `scope["state"]`: `form_token`, and `form` of a POST."""

    def __init__(
        self, inner: ASGIApp, keys: Keys, *, allowed_hosts: Sequence[str] | None = None
    ) -> None:
        self._inner = inner
        self._keys = keys
        if allowed_hosts is None:
            allowed_hosts = LOOPBACK if keys.is_open else ("*",)
        elif isinstance(allowed_hosts, str):
            raise TypeError(f"allowed_hosts must be a list of names, not {allowed_hosts!r}")
        self._allowed_hosts = {host.lower().strip("[]") for host in allowed_hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._inner(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        cookies = _cookies(headers)
        nonce = cookies.get(self._keys.form_cookie, "")
        new_nonce = "" if nonce else secrets.token_urlsafe(24)
        scope = {**scope, "state": {**scope.get("state", {})}}
        scope["state"]["form_token"] = self._keys.form_token(nonce or new_nonce)
        guarded = _with_headers(scope, send)

        refusal = self._refusal(scope, headers)
        if refusal is None and not self._is_let_in(scope, headers, cookies):
            refusal = _to_login(scope, headers)
        if refusal is None and scope["method"] == "POST":
            refusal = await self._read_form(scope, receive, headers, nonce)
            receive = _nothing_more
        if refusal is not None:
            await refusal(scope, receive, guarded)
        elif new_nonce and not _place(scope).startswith("/static/"):
            cookie = cookie_header(scope, self._keys.form_cookie, new_nonce, strict=True)
            await self._inner(scope, receive, _with_cookie(guarded, cookie))
        else:
            await self._inner(scope, receive, guarded)

    def _refusal(self, scope: Scope, headers: Headers) -> Response | None:
        """Against DNS rebinding and requests that other sites make."""
        hosts = headers.getlist("host")
        name = _host_name(hosts[0]) if len(hosts) == 1 else None
        if name is None or not ("*" in self._allowed_hosts or name in self._allowed_hosts):
            return PlainTextResponse(
                "This dashboard is not served under this name. Its names are set by allowed_hosts.",
                status_code=421,
            )
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return PlainTextResponse(
                "Only GET, HEAD and POST are known here.",
                status_code=405,
                headers={"allow": "GET, HEAD, POST"},
            )
        if scope["method"] == "POST" and not _is_same_origin(headers, hosts[0]):
            return PlainTextResponse("This form was sent by another site.", status_code=403)
        return None

    def _is_let_in(self, scope: Scope, headers: Headers, cookies: dict[str, str]) -> bool:
        if self._keys.is_open or _place(scope) == "/login" or _place(scope).startswith("/static/"):
            return True
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._keys.is_token(given.strip())
        return self._keys.is_session(cookies.get(self._keys.session_cookie, ""))

    async def _read_form(
        self, scope: Scope, receive: Receive, headers: Headers, nonce: str
    ) -> Response | None:
        """Put the form into the state; what is wrong with it, or None."""
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return PlainTextResponse("This dashboard accepts only forms.", status_code=415)
        body = await _read_body(receive)
        if body is None:
            return PlainTextResponse(
                f"This is more than {MAX_FORM_BYTES:,} bytes, which is the limit.",
                status_code=413,
                headers={"connection": "close"},
            )
        try:
            pairs = parse_qsl(
                body.decode(),
                keep_blank_values=True,
                strict_parsing=True,
                errors="strict",
                max_num_fields=_MAX_FIELDS,
            )
        except ValueError:
            return PlainTextResponse("This form cannot be read.", status_code=400)
        form = dict(pairs)
        if not self._keys.is_form_token(form.pop("form_token", ""), nonce):
            return PlainTextResponse(
                "This form is out of date, or is from another program. Go back, reload the page,"
                " and send it again. Your browser must allow cookies.",
                status_code=403,
            )
        scope["state"]["form"] = form
        return None


def cookie_header(
    scope: Scope, name: str, value: str, *, strict: bool = False, max_age: int | None = None
) -> str:
    """A cookie that no script can read, for the addresses of this dashboard alone."""
    response = Response()
    response.set_cookie(
        name,
        value,
        max_age=max_age,
        path=scope.get("root_path", "") or "/",
        secure=scope.get("scheme") == "https",
        httponly=True,
        samesite="strict" if strict else "lax",
    )
    return response.headers["set-cookie"]


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address. Names are not looked up."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _to_login(scope: Scope, headers: Headers) -> Response:
    is_page = scope["method"] == "GET" and "authorization" not in headers
    if not is_page or headers.get("x-dashboard-part"):
        return PlainTextResponse(
            "Log in first.", status_code=401, headers={"www-authenticate": "Bearer"}
        )
    query = scope.get("query_string", b"").decode("latin-1")
    wanted = _place(scope) + (f"?{query}" if query else "")
    prefix = scope.get("root_path", "").rstrip("/")
    return Response(
        status_code=303,
        headers={"location": f"{quote(prefix)}/login?next={quote(wanted, safe='')}"},
    )


def _place(scope: Scope) -> str:
    """The path below the prefix that the dashboard is mounted under."""
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "").rstrip("/")
    return path[len(prefix) :] if prefix and path.startswith(f"{prefix}/") else path


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    return parts.hostname


def _is_same_origin(headers: Headers, host: str) -> bool:
    """By what browsers say, and pages cannot change. The token of the form is checked besides."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc.lower() == host.lower()


async def _read_body(receive: Receive) -> bytes | None:
    """What was sent; None if it is too much."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return bytes(body)
        body += message.get("body", b"")
        if len(body) > MAX_FORM_BYTES:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _nothing_more() -> Message:
    return {"type": "http.disconnect"}


def _with_headers(scope: Scope, send: Send) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            if not _place(scope).startswith("/static/"):
                headers.setdefault("cache-control", "no-store")
        await send(message)

    return guarded


def _with_cookie(send: Send, cookie: str) -> Send:
    async def guarded(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).append("set-cookie", cookie)
        await send(message)

    return guarded


def _cookies(headers: Headers) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in headers.getlist("cookie"):
        found.update(cookie_parser(line))
    return found


def _ascii(text: str) -> str:
    return text if text.isascii() else ""

"""Pages from templates. Whatever a template shows is escaped, unless the template says so."""

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from jinja2 import BytecodeCache, Environment, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from durable_workflow_sqlite import progress_texts
from durable_workflow_sqlite.dashboard import text
from durable_workflow_sqlite.dashboard.health import groups_of
from durable_workflow_sqlite.dashboard.reading import Source
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.reading.executions import step_words
from durable_workflow_sqlite.records import ExecutionStatus
from durable_workflow_sqlite.stores import name_of, short_name

_log = logging.getLogger("durable_workflow_sqlite.dashboard")

_HERE: Final = Path(__file__).parent
STATIC: Final = _HERE / "static"
NAVIGATION: Final = (
    ("overview", "", "Overview"),
    ("executions", "executions", "Executions"),
    ("questions", "questions", "Questions"),
    ("workers", "workers", "Workers"),
    ("queues", "queues", "Queues"),
    ("schedules", "schedules", "Schedules"),
)
"""The pages that every page leads to: name, address and words. A page of its own joins here."""

_LOOKS: Final = {name: name for name in (*ExecutionStatus, "BLOCKED", "PAUSED")} | {
    "NOT UNDONE": "FAILED"
}
"""The icon and the colour of a status; any other looks like one in doubt."""


class _Compiled(BytecodeCache):
    """The templates as code: to compile them takes long, and a process may have many dashboards."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], Any] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        self._code[bucket.key, bucket.checksum] = bucket.code


_compiled = _Compiled()


class Pages:
    """The templates, with what every page shows."""

    def __init__(self, file: str, source: Source, *, read_only: bool, has_login: bool) -> None:
        self._file = file
        self._source = source
        environment = Environment(
            loader=FileSystemLoader(_HERE / "templates"),
            bytecode_cache=_compiled,
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        filters: dict[str, Any] = {
            "visible": text.visible,
            "visible_lines": partial(text.visible, keep_lines=True),
            "payload": text.payload,
            "duration": text.duration,
            "of_seconds": _of_seconds,
            "exactly": text.exactly,
            "step_words": step_words,
            "reporter": progress_texts.name_of,
            "amount": progress_texts.amount_of,
            "shortly": text.shortly,
            "size": text.size,
            "in_query": partial(quote, safe="", errors="replace"),
            "ago": _ago,
        }
        environment.filters.update(filters)
        everywhere: dict[str, Any] = {
            "file_name": short_name(file),
            "file_path": name_of(file),
            "read_only": read_only,
            "has_login": has_login,
            "assets": _fingerprint(),
            "looks": _LOOKS,
            "is_login": False,
            "live": "",
            "announce": "",
            "place": "",
            "navigation": NAVIGATION,
        }
        environment.globals.update(everywhere)
        for name in environment.list_templates(extensions=["html"]):
            environment.get_template(name)  # compiled now, and not while somebody waits
        self._environment = environment

    async def page(
        self,
        request: Request,
        template: str,
        *,
        status: int = 200,
        etag: str | None = None,
        **content: Any,
    ) -> Response:
        """A page. etag: it is live, and stays as it is for as long as this does."""
        at = quote(prefix(request))
        health = None
        if not content.get("is_login"):
            try:
                health = groups_of(await self._source.alarms(), at)
            except StoreError as error:
                _log.warning("cannot read the alarms of %s: %s", self._file, error)
        html = self._environment.get_template(template).render(
            prefix=at,
            health=health,
            form_token=request.state.form_token,
            live=etag or "",
            **content,
        )
        headers = {} if etag is None else {"etag": etag}
        return HTMLResponse(html.encode("utf-8", "replace"), status, headers)

    async def message(self, request: Request, title: str, words: str, *, status: int) -> Response:
        return await self.page(request, "message.html", status=status, title=title, text=words)


def prefix(request: Request) -> str:
    """Where the dashboard is mounted, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def to_page(request: Request, place: str) -> Response:
    """Go on with another page, after a form."""
    return RedirectResponse(quote(prefix(request)) + place, status_code=303)


def _of_seconds(seconds: float) -> str:
    return text.duration(timedelta(seconds=seconds))


def _ago(time: datetime) -> str:
    return text.ago(time, datetime.now(UTC))


def _fingerprint() -> str:
    """Changes with the style and the script, so that browsers may keep them for good."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.iterdir()):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]

"""Errors of the standard library that hold a connection: what can be kept of them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from email.message import Message
    from urllib.error import HTTPError

    from durable_workflow_sqlite.engine.plain_errors import Pairs


def _http_error_to_plain(error: HTTPError) -> dict[str, Any]:
    given: Message | None = error.headers  # of an error that is made by hand, it may be None
    headers = given.items() if given else ()
    return {
        "url": error.filename,
        "code": error.code,
        "msg": error.msg,
        "headers": [[name, value] for name, value in headers if name.lower() != "set-cookie"],
    }


def _http_error_from_plain(data: dict[str, Any]) -> HTTPError:
    from email.message import Message  # few need these
    from urllib.error import HTTPError

    headers = Message()
    for name, value in data["headers"]:
        headers[name] = value
    # Its body was still in the connection, and is not read for the record.
    return HTTPError(data["url"], data["code"], data["msg"], headers, io.BytesIO())


KNOWN: Final[Pairs] = {"urllib.error:HTTPError": (_http_error_to_plain, _http_error_from_plain)}

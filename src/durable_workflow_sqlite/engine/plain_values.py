"""Values that an error may hold, to plain data and back; only those that come back equal."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, cast
from uuid import UUID

from durable_workflow_sqlite.engine.error_classes import Names, name_of

# Of a body of HTTP, so that an error with a long one is kept, too.
MAX_BODY_LENGTH: Final = 32_768

_HTTP: Final = ("httpx", "httpx2")
# Of a body that is kept as it was decoded; and what says who somebody is.
_LEFT_OUT: Final = ("content-encoding", "content-length", "transfer-encoding", "set-cookie")

# To text, and back by the class.
_AS_TEXT: Final[dict[type, tuple[Callable[[Any], str], Callable[[str], Any]]]] = {
    Decimal: (str, Decimal),
    UUID: (str, UUID),
    date: (date.isoformat, date.fromisoformat),
    datetime: (datetime.isoformat, datetime.fromisoformat),
    time: (time.isoformat, time.fromisoformat),
    PosixPath: (str, PosixPath),
    PurePosixPath: (str, PurePosixPath),
    WindowsPath: (str, WindowsPath),
    PureWindowsPath: (str, PureWindowsPath),
}
_BY_NAME: Final = {kind.__name__: back for kind, (_, back) in _AS_TEXT.items()}


class NotPlainError(TypeError):
    """A value that JSON cannot hold, and that this library does not know."""


class PlainWriter:
    """Makes plain data of values. `is_exact` until one was left out in part, on purpose."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.is_exact = True

    def error(self, error: Exception) -> dict[str, Any]:
        """An error within a value."""
        raise NotPlainError(f"JSON cannot hold a value of type {type(error).__qualname__}")

    def value(self, value: object) -> Any:
        kind = type(value)
        if value is None or kind in (bool, int, float, str):
            return value
        if kind is list:
            return self._all(cast("list[object]", value))
        if kind is tuple:
            return {"tuple": self._all(cast("tuple[object, ...]", value))}
        if kind in (set, frozenset):
            return {kind.__name__: sorted(self._all(cast("Iterable[object]", value)), key=repr)}
        if kind is bytes:
            return {"bytes": base64.b64encode(cast("bytes", value)).decode()}
        if kind is dict:
            items = cast("dict[object, object]", value)
            if all(type(key) is str for key in items):
                return {"dict": {key: self.value(one) for key, one in items.items()}}
            return {"items": [[self.value(key), self.value(one)] for key, one in items.items()]}
        if isinstance(value, Exception):
            return {"error": self.error(value)}
        return self._rare(value)

    def _all(self, values: Iterable[object]) -> list[Any]:
        return [self.value(one) for one in values]

    def _rare(self, value: Any) -> dict[str, Any]:
        kind = cast("Any", type(value))
        if kind in _AS_TEXT:
            zone = getattr(value, "tzinfo", None)
            if zone is None or type(zone) is timezone:
                return {kind.__name__: _AS_TEXT[kind][0](value)}
        elif kind is timedelta:
            span = cast("timedelta", value)
            return {"timedelta": [span.days, span.seconds, span.microseconds]}
        elif isinstance(value, Enum):
            if self.names.enum_member(name_of(kind), value.name) is value:
                return {"enum": [name_of(kind), value.name]}
        elif isinstance(value, type) and issubclass(value, Exception):
            if self.names.error_class(name_of(value)) is value:
                return {"class": name_of(value)}
        elif kind.__module__ in _HTTP and kind.__name__ in ("Request", "Response"):
            self.is_exact = False
            return {kind.__name__: self._http(value)}
        raise NotPlainError(f"JSON cannot hold a value of type {kind.__qualname__}")

    def _http(self, http: Any) -> dict[str, Any]:
        """What a workflow asks of a request or a response; no headers that may hold secrets."""
        module = type(http).__module__
        if type(http).__name__ == "Request":
            url = http.url.copy_with(userinfo=b"") if http.url.userinfo else http.url
            return {"module": module, "method": http.method, "url": str(url)}
        try:
            body = base64.b64encode(http.content[:MAX_BODY_LENGTH]).decode()
        except Exception:  # noqa: BLE001 - it was not read, and is not now
            body = ""
        headers = http.headers.multi_items()
        try:
            request = self._http(http.request)
        except RuntimeError:  # it has none
            request = None
        return {
            "module": module,
            "status": http.status_code,
            "headers": [list(one) for one in headers if one[0].lower() not in _LEFT_OUT],
            "body": body,
            "request": request,
        }


class PlainReader:
    """Makes values of what a `PlainWriter` made of them."""

    def __init__(self, names: Names) -> None:
        self.names = names

    def error(self, plain: dict[str, Any]) -> Exception:
        """An error within a value."""
        raise NotPlainError(f"{plain} is not a recorded value")

    def value(self, plain: Any) -> Any:
        if isinstance(plain, list):
            return self._all(cast("list[Any]", plain))  # type: ignore[redundant-cast]
        if not isinstance(plain, dict):
            return plain
        ((kind, inner),) = cast("dict[str, Any]", plain).items()
        match kind:
            case "tuple":
                return tuple(self._all(inner))
            case "set":
                return set(self._all(inner))
            case "frozenset":
                return frozenset(self._all(inner))
            case "dict":
                return {key: self.value(one) for key, one in inner.items()}
            case "items":
                return {self.value(key): self.value(one) for key, one in inner}
            case "bytes":
                return base64.b64decode(inner)
            case "error":
                return self.error(inner)
            case "timedelta":
                return timedelta(*inner)
            case "enum":
                return self.names.enum_member(*inner)
            case "class":
                return self.names.error_class(inner)
            case "Request" | "Response":
                return _http_again(kind, inner)
            case _:
                return _BY_NAME[kind](inner)

    def _all(self, plain: list[Any]) -> list[Any]:
        return [self.value(one) for one in plain]


def _http_again(kind: str, plain: dict[str, Any]) -> Any:
    if plain["module"] not in _HTTP:
        raise NotPlainError(f"{plain['module']} has no {kind}")
    make: Any = getattr(importlib.import_module(plain["module"]), kind)
    if kind == "Request":
        return make(plain["method"], plain["url"])
    request = plain["request"]
    return make(
        plain["status"],
        headers=[tuple(one) for one in plain["headers"]],
        content=base64.b64decode(plain["body"]),
        request=None if request is None else _http_again("Request", request),
    )

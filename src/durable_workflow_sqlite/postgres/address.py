"""What the URL of a store on PostgreSQL says: which database, and which schema of it.

It is a URL as libpq takes it. These parameters are this library's own; libpq never sees them:

schema: the schema in which the tables are.
pooled: `yes` if the URL leads to a pooler that gives each transaction any of its connections to the
    server, as pgbouncer does in transaction mode. What belongs to a session does not work there.
direct: HOST:PORT of the server itself, beside a pooler; HOST may be the folder of its socket. It
    implies `pooled`.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self
from urllib.parse import SplitResult, parse_qsl, quote, urlencode, urlsplit, urlunsplit

DEFAULT_SCHEMA: Final = "durable_workflow"

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_HOST_AND_PORT: Final = re.compile(r"([^\s/@:]+|\[[0-9a-fA-F:.]+\]|/[^\s@:]+):(\d{1,5})")
_OURS: Final = frozenset({"schema", "pooled", "direct"})
_SECRET: Final = frozenset({"password", "sslpassword"})


class Address(NamedTuple):
    """Where a store is.

    url: for libpq. name: the URL without its passwords, as people may see it.
    is_pooled: whether it leads to a pooler. direct: the URL of the server itself; None if that
        cannot be reached beside the pooler.
    """

    url: str
    schema: str
    name: str
    is_pooled: bool = False
    direct: str | None = None

    @property
    def short(self) -> str:
        """The database and the schema."""
        parts = urlsplit(self.url)
        return f"{parts.path.lstrip('/') or parts.hostname or 'PostgreSQL'}.{self.schema}"

    @classmethod
    def of(cls, url: str) -> Self:
        """Read a URL. Raises ValueError for one that names no schema, or several."""
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        ours: dict[str, str] = {}
        for name, value in given:
            if name in _OURS:
                if name in ours:
                    raise ValueError(f"{_shown(url)!r} gives `{name}` twice; give it once")
                ours[name] = value
        others = parts._replace(query=_encoded([one for one in given if one[0] not in _OURS]))
        pooled = ours.get("pooled", "yes" if "direct" in ours else "no")
        if pooled not in ("yes", "no"):
            raise ValueError(f"{_shown(url)!r}: `pooled` must be yes or no, not {pooled!r}")
        if pooled == "no" and "direct" in ours:
            raise ValueError(f"{_shown(url)!r}: `direct` is for a URL of a pooler")
        schema = ours.get("schema")
        return cls(
            urlunsplit(others),
            DEFAULT_SCHEMA if schema is None else checked_schema(schema),
            _shown(url),
            pooled == "yes",
            _at(others, ours["direct"]) if "direct" in ours else None,
        )


def checked_schema(schema: str) -> str:
    """The name of a schema; raises ValueError for one that needs quotes."""
    if _NAME.fullmatch(schema) is None:
        raise ValueError(
            f"schema must be a name of lower-case letters, digits and _, not {schema!r}"
        )
    return schema


def _at(parts: SplitResult, host_and_port: str) -> str:
    """The same database and user, on another host. Raises ValueError."""
    found = _HOST_AND_PORT.fullmatch(host_and_port)
    if found is None:
        raise ValueError(f"`direct` must be HOST:PORT, not {host_and_port!r}")
    user, at, _ = parts.netloc.rpartition("@")
    host = quote(found[1], safe="[:.]")
    others = [
        one
        for one in parse_qsl(parts.query, keep_blank_values=True)
        if one[0] not in ("host", "hostaddr", "port")
    ]
    return urlunsplit(parts._replace(netloc=f"{user}{at}{host}:{found[2]}", query=_encoded(others)))


def _shown(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    given = [
        (name, value)
        for name, value in parse_qsl(parts.query, keep_blank_values=True)
        if name not in _SECRET
    ]
    return urlunsplit(
        parts._replace(netloc=user.partition(":")[0] + at + host, query=_encoded(given))
    )


def _encoded(given: list[tuple[str, str]]) -> str:
    return urlencode(given, quote_via=quote, safe="/")

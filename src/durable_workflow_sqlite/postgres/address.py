"""What the URL of a store on PostgreSQL says: which database, and which schema of it.

It is a URL as libpq takes it. The parameter `schema` is this library's own; libpq never sees it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple, Self
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

DEFAULT_SCHEMA: Final = "durable_workflow"

_NAME: Final = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_SECRET: Final = frozenset({"password", "sslpassword"})


class Address(NamedTuple):
    """url: for libpq. name: the URL without its passwords, as people may see it."""

    url: str
    schema: str
    name: str

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
        schemas = [value for name, value in given if name == "schema"]
        if len(schemas) > 1:
            raise ValueError(f"{_shown(url)!r} names several schemas; give one")
        others = [(name, value) for name, value in given if name != "schema"]
        return cls(
            urlunsplit(parts._replace(query=_encoded(others))),
            checked_schema(schemas[0]) if schemas else DEFAULT_SCHEMA,
            _shown(url),
        )


def checked_schema(schema: str) -> str:
    """The name of a schema; raises ValueError for one that needs quotes."""
    if _NAME.fullmatch(schema) is None:
        raise ValueError(
            f"schema must be a name of lower-case letters, digits and _, not {schema!r}"
        )
    return schema


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

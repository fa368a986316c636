"""`open_store` and `open_reader`: the one place that knows which store a URL means.

What else the front ends do to a file of SQLite goes through here, too.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sqlite3
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import unquote, urlsplit

from durable_workflow_sqlite.encryption import KEY_FILE_VARIABLE, AesGcmCodec
from durable_workflow_sqlite.errors import StoreError
from durable_workflow_sqlite.moving.database import MovableDatabase
from durable_workflow_sqlite.payload_codec import (
    MAX_PAYLOAD_BYTES,
    PayloadCodec,
    check_codec,
)
from durable_workflow_sqlite.postgres.address import DEFAULT_SCHEMA, Address, checked_schema
from durable_workflow_sqlite.reading.reader import Reader
from durable_workflow_sqlite.store import backup, file_migration, joined
from durable_workflow_sqlite.store.connection import BUSY_TIMEOUT_MS, Synchronous
from durable_workflow_sqlite.store.file_migration import Say
from durable_workflow_sqlite.store.guard import guard_of
from durable_workflow_sqlite.store.migrations import SCHEMA_VERSION
from durable_workflow_sqlite.store.sql import load_queries
from durable_workflow_sqlite.store.sqlite import SqliteCheckpointStore
from durable_workflow_sqlite.store.statement_store import StatementStore

__all__ = [
    "BUSY_TIMEOUT_MS",
    "SCHEMA_VERSION",
    "SQLITE_VERSION",
    "Synchronous",
    "absolute",
    "address_of",
    "codec_of_environment",
    "get_ready",
    "identity_of",
    "is_there",
    "joined_store",
    "migrate",
    "name_of",
    "open_movable",
    "open_reader",
    "open_store",
    "path_of",
    "pending_sql",
    "short_name",
    "vacuum",
]

SQLITE_VERSION: Final = sqlite3.sqlite_version

_POSTGRES: Final = re.compile(r"postgres(ql)?://", re.IGNORECASE)
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # C: is a drive


def open_store(
    url: str | os.PathLike[str],
    *,
    synchronous: Synchronous = "normal",
    codec: PayloadCodec | None = None,
    max_payload_bytes: int = MAX_PAYLOAD_BYTES,
) -> StatementStore:
    """Open the store that a path or a URL names, or create it; use it in `async with`.

    url: the path of a SQLite file, such as `workflows.db`, or its URL: `sqlite:///workflows.db` for
        a file in the current folder, `sqlite:////var/lib/workflows.db` for an absolute path.
        Percent-encoded characters are decoded. `sqlite://` alone, `sqlite:///:memory:` and
        `:memory:` are a store in memory, for tests. `postgresql://USER@HOST/DATABASE` is the schema
        `durable_workflow` of a database of PostgreSQL, and `...?schema=NAME` is another schema of
        it; this needs the extra `postgres`.
    synchronous: as for `SqliteCheckpointStore.file`; a server has a setting of its own.
    codec: encodes and decodes the values in the database, such as an `AesGcmCodec`. By default the
        one of the file of keys that the variable DURABLE_WORKFLOW_KEY_FILE names; None without it.
    max_payload_bytes: how large one value may be: an input, a result, a payload, as JSON in UTF-8,
        before the codec encodes it.

    Raises ValueError for any other URL, and the errors of `SqliteCheckpointStore`. Raises
    KeyFileError for a file of keys that cannot be used.
    """
    address = address_of(url)
    codec = codec_of_environment() if codec is None else codec
    if address is not None:
        return _open_postgres(address, codec, max_payload_bytes)
    path = path_of(url)
    if path is None:
        return SqliteCheckpointStore.in_memory(codec=codec, max_payload_bytes=max_payload_bytes)
    return SqliteCheckpointStore.file(
        path, synchronous=synchronous, codec=codec, max_payload_bytes=max_payload_bytes
    )


def codec_of_environment() -> PayloadCodec | None:
    """The codec of the keys that DURABLE_WORKFLOW_KEY_FILE names; None if it is not set.

    Raises KeyFileError.
    """
    path = os.environ.get(KEY_FILE_VARIABLE)
    return AesGcmCodec.from_file(path) if path else None


def address_of(url: str | os.PathLike[str]) -> Address | None:
    """What a URL of PostgreSQL says; None for any other, and for a path. Raises ValueError."""
    return Address.of(url) if isinstance(url, str) and _POSTGRES.match(url) else None


def name_of(url: str | os.PathLike[str]) -> str:
    """A path or a URL as people may see it: without a password."""
    address = address_of(url)
    return os.fspath(url) if address is None else address.name


def short_name(url: str) -> str:
    """The name of a file without its folder, or of a database and its schema."""
    address = address_of(url)
    return Path(url).name if address is None else address.short


def absolute(url: str | os.PathLike[str]) -> str:
    """The same from any folder: a URL of PostgreSQL as it is, or the real path of a file."""
    return os.fspath(url) if address_of(url) is not None else os.path.realpath(url)


def is_there(url: str) -> bool:
    """Whether a path names a file. A URL of PostgreSQL is not tried."""
    return address_of(url) is not None or Path(url).is_file()


def identity_of(url: str) -> int:
    """A number that changes when another file takes the place of a file.

    Raises OSError if there is none.
    """
    return 0 if address_of(url) is not None else Path(url).stat().st_ino


def _open_postgres(
    address: Address, codec: PayloadCodec | None, max_payload_bytes: int
) -> StatementStore:
    try:
        from durable_workflow_sqlite.postgres.store import PostgresStore
    except ModuleNotFoundError as error:
        raise _without_psycopg(address) from error
    return PostgresStore(address, codec=codec, max_payload_bytes=max_payload_bytes)


def _without_psycopg(address: Address) -> StoreError:
    return StoreError(
        f"cannot open {address.name!r}: psycopg is not installed; install the extra"
        " `postgres`: pip install 'durable-workflow-sqlite[postgres]'"
    )


def joined_store(
    connection: Any,
    schema: str | None = None,
    codec: PayloadCodec | None = None,
    max_payload_bytes: int = MAX_PAYLOAD_BYTES,
) -> StatementStore:
    """The store in the database of a connection, in its transaction; see `CheckpointStore.joined`.

    schema: of PostgreSQL. codec, max_payload_bytes: as for `open_store`. None of them is needed for
        the connection of a function that a store calls.
    """
    if (guard := guard_of(connection)) is not None:
        return cast("StatementStore", guard.join(connection))
    is_sqlite = isinstance(connection, sqlite3.Connection)
    if not is_sqlite and hasattr(connection, "store_schema"):
        return cast("StatementStore", connection.joined())
    codec = codec_of_environment() if codec is None else codec
    if is_sqlite:
        if schema is not None:
            raise ValueError("a file of SQLite has no schema: leave it out")
        return joined.join(connection, joined.wanted(codec, max_payload_bytes))
    if importlib.util.find_spec("psycopg") is not None:
        from durable_workflow_sqlite.postgres import joined as on_postgres

        schema = checked_schema(DEFAULT_SCHEMA if schema is None else schema)
        how = on_postgres.wanted(schema, codec, max_payload_bytes)
        return on_postgres.join(connection, schema, how)
    raise TypeError(
        "connection must be a sqlite3.Connection or, with the extra `postgres`, a connection of"
        f" psycopg; it is {connection!r}"
    )


def open_reader(url: str | os.PathLike[str], *, codec: PayloadCodec | None = None) -> Reader:
    """Open a store only for reading; use it in `with`. It is neither created nor migrated.

    url: as for `open_store`, except a store in memory, which only its own process can read.
    codec: as for `open_store`. It shows what it cannot decode as "encrypted".

    Raises ValueError for any other URL, and StoreError for a database that does not exist or has an
    older schema. Raises SchemaTooNewError for a newer schema, MigrationError for a file of another
    application, and StoreCorruptError. Raises KeyFileError for a file of keys that cannot be used.
    """
    check_codec(codec)
    address = address_of(url)
    codec = codec_of_environment() if codec is None else codec
    if address is not None:
        try:
            from durable_workflow_sqlite.postgres.reader import PostgresReader
        except ModuleNotFoundError as error:
            raise _without_psycopg(address) from error
        return PostgresReader.open(address, codec)
    path = path_of(url)
    if path is None:
        raise ValueError("only its own process can read a store in memory; give the path of a file")
    # Programs that run workflows read nothing, and need not wait for this import.
    from durable_workflow_sqlite.store.sqlite_reader import SqliteReader

    return SqliteReader.open(path, codec)


def open_movable(url: str | os.PathLike[str], *, create: bool) -> MovableDatabase:
    """Open a database that is to be moved; or, with `create`, one that another is moved into.

    url: as for `open_store`, except a store in memory.

    Raises ValueError for any other URL, and StoreError.
    """
    address = address_of(url)
    if address is not None:
        if importlib.util.find_spec("psycopg") is None:
            raise _without_psycopg(address)
        from durable_workflow_sqlite.postgres.moving import PostgresMoving

        return PostgresMoving(address)
    path = path_of(url)
    if path is None:
        raise ValueError("a store in memory cannot be moved; give the path of a file")
    from durable_workflow_sqlite.store.moving import SqliteMoving

    return SqliteMoving.open_file(Path(path), create=create)


def migrate(
    url: str, *, create: bool, backup: Path | None, adopt: bool, busy_timeout: float, say: Say
) -> None:
    """Bring a database to the newest schema, or create one; see `file_migration.migrate_file`.

    Raises StoreError, OSError.
    """
    address = _address_to_migrate(url, backup=backup, adopt=adopt)
    if address is None:
        file_migration.migrate_file(
            Path(url), create=create, backup=backup, adopt=adopt, busy_timeout=busy_timeout, say=say
        )
        return
    from durable_workflow_sqlite.postgres.schema_migration import migrate_schema

    migrate_schema(address, create=create, busy_timeout=busy_timeout, say=say)


def pending_sql(url: str, *, create: bool, adopt: bool, busy_timeout: float) -> str:
    """The SQL that `migrate` would run, as a script; "" for none. Changes nothing.

    Raises StoreError, OSError.
    """
    address = _address_to_migrate(url, backup=None, adopt=adopt)
    if address is None:
        return file_migration.pending_sql(
            Path(url), create=create, adopt=adopt, busy_timeout=busy_timeout
        )
    from durable_workflow_sqlite.postgres.schema_migration import pending_schema_sql

    return pending_schema_sql(address, create=create, busy_timeout=busy_timeout)


def _address_to_migrate(url: str, *, backup: Path | None, adopt: bool) -> Address | None:
    """None for a file. Raises StoreError for what makes no sense in a schema."""
    address = address_of(url)
    if address is None:
        return None
    if importlib.util.find_spec("psycopg") is None:
        raise _without_psycopg(address)
    if backup is not None:
        raise StoreError(
            f"{address.name} is not a file, and is not copied as one; copy it with the tools of"
            f" PostgreSQL, such as `pg_dump --schema {address.schema}`, and leave out --backup"
        )
    if adopt:
        raise StoreError(
            "the tables get a schema of their own, beside those of other applications; leave out"
            " --adopt"
        )
    return address


def vacuum(url: str, busy_timeout: float) -> tuple[int, int]:
    """Make a file smaller; how many bytes it had, and has. Raises StoreError, OSError."""
    address = address_of(url)
    if address is not None:
        raise StoreError(
            f"{address.name} is not a file: its server uses the room of what was deleted again, by"
            " itself. To give it back to the disk, run `vacuum full` in psql, which locks the"
            " tables meanwhile"
        )
    open_reader(url).close()  # a file of another application is left alone
    real = Path(os.path.realpath(url))
    before = real.stat().st_size
    backup.vacuum(real, busy_timeout)
    return before, real.stat().st_size


def get_ready(url: str | os.PathLike[str]) -> None:
    """Load now what the first store or reader of a database would load."""
    address = address_of(url)
    if address is None:
        load_queries()
    elif importlib.util.find_spec("psycopg") is not None:
        from durable_workflow_sqlite.postgres.sql import load_queries as load_those_of_postgres

        load_those_of_postgres(address.schema)


def path_of(url: str | os.PathLike[str]) -> str | None:
    """The file that a path or a URL names; None for a store in memory. Raises ValueError."""
    text = os.fspath(url)
    if not isinstance(text, str):
        raise TypeError(f"url must be a path or a URL as text, not {url!r}")
    named = _URL.match(text) if isinstance(url, str) else None
    if named is not None:
        text = _in_url(text, named[1].lower())
    if text == "" and named is None:
        raise ValueError("the path of the database is empty")
    return None if text in ("", ":memory:") else text


def _in_url(url: str, scheme: str) -> str:
    if scheme != "sqlite":
        raise ValueError(
            f"{_without_password(url)!r} names no store: {scheme} is not known here; give the path"
            " of a SQLite file, or sqlite:///PATH"
        )
    parts = urlsplit(url)
    if parts.query or parts.fragment:
        raise ValueError(
            f"{url!r} names no store: a SQLite URL must not have ? or #. If the name of the file"
            " has them, write %3F and %23"
        )
    if parts.netloc:
        raise ValueError(
            f"{url!r} names no store: a SQLite URL has three slashes before the path, as in"
            f" sqlite:///{parts.netloc}{parts.path}"
        )
    return unquote(parts.path.removeprefix("/"))


def _without_password(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//...@", url)

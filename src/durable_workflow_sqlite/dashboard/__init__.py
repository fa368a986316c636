"""A dashboard in the browser: what is in the file, what each execution does, and what it needs.

It wants the extra `dashboard`: `pip install 'durable-workflow-sqlite[dashboard]'`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp

__all__ = ["DEFAULT_PORT", "app", "serve"]

DEFAULT_PORT: Final = 8642
_MISSING: Final = (
    "the dashboard needs packages that are not installed:"
    " pip install 'durable-workflow-sqlite[dashboard]'"
)


def app(
    path: str | os.PathLike[str],
    *,
    token: str | None = None,
    read_only: bool = False,
    allowed_hosts: Sequence[str] | None = None,
) -> ASGIApp:
    """The dashboard of one file as an ASGI app, to be served or to be mounted under a prefix.

    path: the database; the file may come later, pages say so until then.
    token: who opens a page must give it, in a login form or as `Authorization: Bearer`. At least
        16 characters. Without one, anyone who reaches the app may use it.
    read_only: nothing can be changed from the pages; there are no addresses for it either.
    allowed_hosts: the names under which the app may be asked for, "*" for any. By default the
        names of this machine's loopback, and any name where a token is needed.

    Raises ImportError if the extra is not installed, ValueError for a token that is too short.
    """
    try:
        from durable_workflow_sqlite.dashboard.application import build
    except ModuleNotFoundError as error:
        raise _explained(error) from error
    return build(path, token=token, read_only=read_only, allowed_hosts=allowed_hosts)


def serve(
    path: str | os.PathLike[str],
    host: str = "127.0.0.1",
    port: int = DEFAULT_PORT,
    *,
    token: str | None = None,
    read_only: bool = False,
    allowed_hosts: Sequence[str] | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Serve the dashboard of one file until the process is interrupted; see `app`.

    host: an address other than the machine's own loopback is refused without a token.
    port: 0 for any that is free.
    on_listening: is given the address, once the dashboard can be asked for.

    Raises ImportError if the extra is not installed, ValueError for a host that is refused, and
    OSError for an address that cannot be had.
    """
    try:
        from durable_workflow_sqlite.dashboard.server import run
    except ModuleNotFoundError as error:
        raise _explained(error) from error
    run(
        path,
        host,
        port,
        token=token,
        read_only=read_only,
        allowed_hosts=allowed_hosts,
        on_listening=on_listening,
    )


def _explained(error: ModuleNotFoundError) -> ImportError:
    name = error.name or ""
    if name.startswith("durable_workflow_sqlite"):
        return error
    return ImportError(_MISSING, name=error.name)

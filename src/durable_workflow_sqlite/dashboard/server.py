"""Serving the dashboard by itself."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Sequence

import uvicorn

from durable_workflow_sqlite.dashboard.application import build
from durable_workflow_sqlite.dashboard.protection import LOOPBACK, is_loopback


def run(
    path: str | os.PathLike[str],
    host: str,
    port: int,
    *,
    token: str | None,
    read_only: bool,
    allowed_hosts: Sequence[str] | None,
    on_listening: Callable[[str], None] | None,
) -> None:
    """See `dashboard.serve`."""
    host = host.strip("[]")
    if token is None and not is_loopback(host):
        raise ValueError(
            f"without a token, the dashboard works only on a loopback address, not on {host}:"
            " anyone who reaches it could cancel executions; give a token, or use 127.0.0.1"
        )
    if allowed_hosts is None and token is None:
        allowed_hosts = [*LOOPBACK, host]
    dashboard = build(path, token=token, read_only=read_only, allowed_hosts=allowed_hosts)
    is_v6 = ":" in host
    family = socket.AF_INET6 if is_v6 else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=128) as listening:
        # asyncio does so for its own sockets; without it, a page waits 40 ms for its second part.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        config = uvicorn.Config(
            dashboard,
            log_level="warning",
            server_header=False,
            # Whoever reaches us could pretend to be a proxy: nothing it says is believed.
            proxy_headers=False,
            timeout_graceful_shutdown=2,
        )
        if on_listening is not None:
            name = f"[{host}]" if is_v6 else host
            on_listening(f"http://{name}:{listening.getsockname()[1]}/")
        uvicorn.Server(config).run(sockets=[listening])

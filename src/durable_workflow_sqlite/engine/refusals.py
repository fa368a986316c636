"""What a workflow function cannot have of an event loop: all that depends on the machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from durable_workflow_sqlite.errors import NonDeterministicCallError

_REFUSED: Final = {
    "run_forever": "running the event loop",
    "run_until_complete": "running the event loop",
    "stop": "stopping the event loop",
    "close": "closing the event loop",
    "call_soon_threadsafe": "a callback from another thread",
    "run_in_executor": "a thread or an executor (`asyncio.to_thread`, `loop.run_in_executor`)",
    "set_default_executor": "an executor",
    "shutdown_default_executor": "an executor",
    "getaddrinfo": "a look-up of a host name",
    "getnameinfo": "a look-up of a host name",
    "create_connection": "a network connection (`asyncio.open_connection`)",
    "create_server": "a network server (`asyncio.start_server`)",
    "create_unix_connection": "a network connection (`asyncio.open_unix_connection`)",
    "create_unix_server": "a network server (`asyncio.start_unix_server`)",
    "create_datagram_endpoint": "a network socket",
    "connect_accepted_socket": "a network socket",
    "start_tls": "a network connection",
    "sendfile": "a network connection",
    "connect_read_pipe": "a pipe",
    "connect_write_pipe": "a pipe",
    "subprocess_shell": "a subprocess (`asyncio.create_subprocess_shell`)",
    "subprocess_exec": "a subprocess (`asyncio.create_subprocess_exec`)",
    "add_reader": "a file or socket",
    "remove_reader": "a file or socket",
    "add_writer": "a file or socket",
    "remove_writer": "a file or socket",
    "sock_recv": "a network socket",
    "sock_recv_into": "a network socket",
    "sock_recvfrom": "a network socket",
    "sock_recvfrom_into": "a network socket",
    "sock_sendall": "a network socket",
    "sock_sendto": "a network socket",
    "sock_connect": "a network socket",
    "sock_accept": "a network socket",
    "sock_sendfile": "a network socket",
    "add_signal_handler": "a handler of Unix signals",
    "remove_signal_handler": "a handler of Unix signals",
}


class RefusingLoop(asyncio.AbstractEventLoop):
    """An event loop without sockets, threads, subprocesses and signals: each says what to do."""


def _refusing(method: str, what: str) -> Callable[..., Any]:
    def refuse(self: RefusingLoop, *args: Any, **named: Any) -> Any:
        raise NonDeterministicCallError(
            f"a workflow function cannot use {what}: a replay would not meet the same again. Do it"
            " in a step: `await ctx.step(name, function, ...)`",
            call=method,
        )

    refuse.__name__ = method
    return refuse


for _method, _what in _REFUSED.items():
    setattr(RefusingLoop, _method, _refusing(_method, _what))

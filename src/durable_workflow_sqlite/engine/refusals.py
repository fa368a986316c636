"""What a workflow function cannot have of an event loop: all that depends on the machine.

Most of it is met where it is called, by a method of the event loop. asyncio refuses some calls
itself, with its own error: those that it refuses in any running event loop, and those with objects
of another loop. Such an error is recognized by its text.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, Final

from durable_workflow_sqlite.engine.body_tasks import new_future
from durable_workflow_sqlite.errors import NonDeterministicCallError

_NETWORK: Final = "a network connection"
_SOCKET: Final = "a network socket"
_RUNNING: Final = "an event loop of its own"

_REFUSED: Final[dict[str, tuple[str, ...]]] = {
    "run_forever": (_RUNNING,),
    "run_until_complete": (_RUNNING,),
    "stop": ("the end of the event loop",),
    "close": ("the end of the event loop",),
    "call_soon_threadsafe": (
        "a callback from a thread or another event loop",
        "asyncio.run_coroutine_threadsafe",
    ),
    "run_in_executor": ("a thread or an executor", "asyncio.to_thread"),
    "set_default_executor": ("an executor",),
    "shutdown_default_executor": ("an executor",),
    "getaddrinfo": ("a look-up of a host name",),
    "getnameinfo": ("a look-up of a host name",),
    "create_connection": (_NETWORK, "asyncio.open_connection"),
    "create_server": ("a network server", "asyncio.start_server"),
    "create_unix_connection": (_NETWORK, "asyncio.open_unix_connection"),
    "create_unix_server": ("a network server", "asyncio.start_unix_server"),
    "create_datagram_endpoint": (_SOCKET,),
    "connect_accepted_socket": (_SOCKET,),
    "start_tls": (_NETWORK,),
    "sendfile": (_NETWORK,),
    "connect_read_pipe": ("a pipe",),
    "connect_write_pipe": ("a pipe",),
    "subprocess_shell": ("a subprocess", "asyncio.create_subprocess_shell"),
    "subprocess_exec": ("a subprocess", "asyncio.create_subprocess_exec"),
    "add_reader": ("a file or socket",),
    "remove_reader": ("a file or socket",),
    "add_writer": ("a file or socket",),
    "remove_writer": ("a file or socket",),
    "sock_recv": (_SOCKET,),
    "sock_recv_into": (_SOCKET,),
    "sock_recvfrom": (_SOCKET,),
    "sock_recvfrom_into": (_SOCKET,),
    "sock_sendall": (_SOCKET,),
    "sock_sendto": (_SOCKET,),
    "sock_connect": (_SOCKET,),
    "sock_accept": (_SOCKET,),
    "sock_sendfile": (_SOCKET,),
    "add_signal_handler": ("a handler of Unix signals",),
    "remove_signal_handler": ("a handler of Unix signals",),
}
"""By method of the event loop: what it is, and by which other names it is called."""

_IN_A_STEP: Final = "Do it in a step: `await ctx.step(name, function, ...)`"
_IN_THE_PROGRAM: Final = "Do it in the program, outside of the workflow"
_AND_A_SIGNAL: Final = f"{_IN_THE_PROGRAM}, and send it a signal: `await handle.signal(name)`"

_ADVICE: Final[dict[str, str]] = {
    **dict.fromkeys(
        ("stop", "close", "set_default_executor", "shutdown_default_executor"), _IN_THE_PROGRAM
    ),
    **dict.fromkeys(
        (
            "call_soon_threadsafe",
            "add_reader",
            "remove_reader",
            "add_writer",
            "remove_writer",
            "add_signal_handler",
            "remove_signal_handler",
        ),
        _AND_A_SIGNAL,
    ),
}
"""By method of the event loop: what to do instead, where that is not a step."""

_OTHER_LOOP: Final = "something of another event loop"

_BY_TEXT: Final = {
    "attached to a different loop": (_OTHER_LOOP, "a future of another loop"),
    "future belongs to a different loop": (_OTHER_LOOP, "a future of another loop"),
    "bound to a different event loop": (_OTHER_LOOP, "a lock or the like of another loop"),
    "asyncio.run() cannot be called from": (_RUNNING, "asyncio.run"),
    "Runner.run() cannot be called from": (_RUNNING, "asyncio.Runner"),
    "Cannot run the event loop while another": (_RUNNING, "loop.run_until_complete"),
    "Already running asyncio in this thread": (_RUNNING, "anyio.run"),
    "You cannot use AsyncToSync in the same": (_RUNNING, "asgiref.sync.async_to_sync"),
}
"""By a part of the text of an error: what it is, and its name."""

_ANYIO: Final = "anyio._backends._asyncio"
_modules: Final = sys.modules
_frame: Final = sys._getframe  # pyright: ignore[reportPrivateUsage]

_THREAD_OF_ANYIO: Final = "run_sync_in_worker_thread"

_WRAP_FUTURE: Final = asyncio.wrap_future.__code__

_WAIT: Final = asyncio.tasks._wait.__code__  # type: ignore[attr-defined]
"""What `asyncio.wait` waits in: it takes futures of any event loop, without a word."""


def refusal(
    what: str, call: str, names: str, advice: str = _IN_A_STEP
) -> NonDeterministicCallError:
    """The error that says what to do instead."""
    return NonDeterministicCallError(
        f"a workflow function cannot use {what} ({names}): a replay would not meet the same"
        f" again. {advice}",
        call=call,
    )


def refused_by_asyncio(error: BaseException) -> NonDeterministicCallError | None:
    """As `refusal`, for what was refused by an error of asyncio's own, or of a library on it."""
    if isinstance(error, RuntimeError | ValueError):
        text = str(error)
        for part, (what, call) in _BY_TEXT.items():
            if part in text:
                # Of what is of another loop, asyncio says which one it is.
                refused = refusal(what, call, text if what is _OTHER_LOOP else f"`{call}`")
                refused.__cause__ = error
                return refused
    return None


class RefusingLoop(asyncio.AbstractEventLoop):
    """An event loop without sockets, threads, subprocesses and signals: each says what to do."""

    number_of_futures: int

    refused: dict[str, bool] | None = None
    """The calls that were refused, and whether the log says so. Most functions make none."""

    def refuse(self, error: NonDeterministicCallError) -> NonDeterministicCallError:
        """Remember for the log that a call is refused; the error is to be raised."""
        if self.refused is None:
            self.refused = {}
        self.refused.setdefault(str(error.call), False)
        return error

    def create_future(self) -> asyncio.Future[Any]:
        caller = _frame(1)
        if caller.f_code is _WRAP_FUTURE:
            name = "asyncio.wrap_future"
            raise self.refuse(refusal("a future of a thread or an executor", name, f"`{name}`"))
        if caller.f_code is _WAIT:
            for one in caller.f_locals["fs"]:
                if one.get_loop() is not self:
                    words = f"`asyncio.wait` for {one!r}"
                    raise self.refuse(refusal(_OTHER_LOOP, "asyncio.wait", words))
        number = self.number_of_futures = self.number_of_futures + 1
        return new_future(self, number)

    def run_in_executor(  # type: ignore[override]  # its own is generic
        self, executor: Any, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        """Refused, except for an executor whose `runs_in_place` is True: it is called at once."""
        if getattr(executor, "runs_in_place", False) is not True:
            _refuse_executor(self)
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - whoever waits for the future is told
            future.set_exception(error)
        return future

    def get_debug(self) -> bool:
        # Each new future asks this. To have one made is the first thing that a thread of anyio's
        # does which an event loop can see, and the thread begins after that.
        if _ANYIO in _modules and _frame(1).f_code.co_name == _THREAD_OF_ANYIO:
            name = "anyio.to_thread.run_sync"
            raise self.refuse(refusal("a thread", name, f"`{name}`"))
        return False


def _refusing(method: str, what: str, *names: str) -> Callable[..., Any]:
    call = f"loop.{method}"
    words = ", ".join(f"`{name}`" for name in (*names, call))

    def refuse(self: RefusingLoop, *args: Any, **named: Any) -> Any:
        raise self.refuse(refusal(what, call, words, _ADVICE.get(method, _IN_A_STEP)))

    refuse.__name__ = method
    return refuse


for _method, _words in _REFUSED.items():
    if _method not in vars(RefusingLoop):
        setattr(RefusingLoop, _method, _refusing(_method, *_words))

_refuse_executor = _refusing("run_in_executor", *_REFUSED["run_in_executor"])

"""The event loops of others: the tests run on one of them where DURABLE_LOOP names it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Final

NAMED_BY: Final = "DURABLE_LOOP"


class _Eager(asyncio.DefaultEventLoopPolicy):
    """Tasks run when they are made, as far as they get."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        loop.set_task_factory(vars(asyncio)["eager_task_factory"])
        return loop


class _Debug(asyncio.DefaultEventLoopPolicy):
    """asyncio looks for mistakes."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        loop = super().new_event_loop()
        loop.set_debug(True)
        return loop


def _uvloop() -> asyncio.AbstractEventLoopPolicy:
    import uvloop

    return uvloop.EventLoopPolicy()


_POLICIES: Final[dict[str, Callable[[], asyncio.AbstractEventLoopPolicy]]] = {
    "debug": _Debug,
    "eager": _Eager,
    "uvloop": _uvloop,
}


def use_the_named_loop() -> None:
    """Let `asyncio.run` make the loop that DURABLE_LOOP names."""
    name = os.environ.get(NAMED_BY)
    if name:
        asyncio.set_event_loop_policy(_POLICIES[name]())

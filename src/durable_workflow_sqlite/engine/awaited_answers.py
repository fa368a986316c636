"""What waits for the answer of a person, in one execution: steps and compensations in doubt."""

from __future__ import annotations

import asyncio
from typing import Any


class AwaitedAnswers:
    """Told whenever a signal has come: it may be an answer.

    One that is not under way meanwhile rests: the execution may leave memory. To look for its
    answer, it is performed again.
    """

    __slots__ = ("_news", "_waiting")

    def __init__(self) -> None:
        self._news: dict[Any, bool] = {}
        """What looks for its answer, or rests; whether a signal has come since it last looked."""
        self._waiting: dict[Any, asyncio.Future[None]] = {}

    def looks(self, one: Any) -> None:
        """It is about to look for its answer."""
        self._news[one] = False

    def has_news(self, one: Any) -> bool:
        """Whether a signal has come since it began to look."""
        return self._news.get(one, False)

    def is_over(self, one: Any) -> None:
        """It waits for no answer any more."""
        self._news.pop(one, None)

    async def until_news(self, one: Any) -> None:
        """Wait in memory until a signal comes."""
        if self.has_news(one):
            return
        waiting = self._waiting[one] = asyncio.get_running_loop().create_future()
        try:
            await waiting
        finally:
            del self._waiting[one]

    def signal_came(self) -> list[Any]:
        """Wake what waits in memory; return all that looks or rests."""
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        for one in self._news:
            self._news[one] = True
        return list(self._news)

"""A clock that stands still until a test lets time pass."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count

NOW_MS = 1_793_000_000_000

WITHIN_S = 30.0
"""Of real time, for whatever a test waits for."""

TURNS = 20
"""Of the event loop, in which whoever was woken up decides what to wait for next."""


class ManualClock:
    """What sleeps wakes up at its time, one after the other, when `advance` passes it."""

    def __init__(self) -> None:
        self._elapsed_s = 0.0
        self._numbers = count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def now_ms(self) -> int:
        return NOW_MS + round(self._elapsed_s * 1000)

    def monotonic(self) -> float:
        return 1_000.0 + self._elapsed_s

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._elapsed_s + seconds, next(self._numbers), woken))
        await woken

    @property
    def sleeping(self) -> int:
        """How many wait for a time to come."""
        return sum(not woken.done() for _, _, woken in self._sleepers)

    def suspend(self, seconds: float) -> None:
        """The machine is: the clock goes on, what sleeps does not."""
        self._elapsed_s += seconds
        self._sleepers = [(until_s + seconds, number, woken) for until_s, number, woken in self._sleepers]

    async def advance(self, seconds: float) -> None:
        until_s = self._elapsed_s + seconds
        await _turns()
        while self._sleepers and self._sleepers[0][0] <= until_s:
            self._elapsed_s, _, woken = heapq.heappop(self._sleepers)
            if not woken.done():
                woken.set_result(None)
                await _turns()
        self._elapsed_s = until_s
        await _turns()

    async def advance_until(self, condition: Callable[[], bool], what: str, *, step_s: float = 0.25) -> None:
        """Let time pass until something has happened, with some real time for the network."""
        try:
            async with asyncio.timeout(WITHIN_S):
                while not condition():
                    await self.advance(step_s)
                    await asyncio.sleep(0.002)
        except TimeoutError:
            raise AssertionError(f"waited in vain for: {what}") from None


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that takes no time of the clock's."""
    try:
        async with asyncio.timeout(WITHIN_S):
            while not condition():
                await asyncio.sleep(0.002)
    except TimeoutError:
        raise AssertionError(f"waited in vain for: {what}") from None


async def _turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)

"""A venue's time: asked for, and from then on counted by the machine's monotonic clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from statecast.clock import Clock
from statecast.errors import VenueUnreachable
from statecast.venues.http import repeated

PROBES = 3
"""Answers that are waited for until one is good; the fastest counts."""

GOOD_PART = 0.2
"""An answer that took this part of the longest time allowed is good enough."""


class Reading(NamedTuple):
    """The venue's time at one moment of the monotonic clock, and how long it took to learn it."""

    venue_ms: int
    mono_s: float
    took_ms: float


class ProbedClock:
    """A `VenueClock` that asks by `probe`: one call that returns the venue's time in milliseconds.

    The venue read its clock somewhere between question and answer: the middle errs by half of that at most. So an
    answer that took longer than twice `error_ms` is not used.
    """

    def __init__(
        self, clock: Clock, probe: Callable[[], Awaitable[int]], *, venue: str, call: str, error_ms: int
    ) -> None:
        """`venue` and `call` name what is asked in errors."""
        self._clock = clock
        self._probe = probe
        self._venue = venue
        self._call = call
        self._longest_ms = 2 * error_ms
        self._reading: Reading | None = None
        self._lock = asyncio.Lock()

    @property
    def reading(self) -> Reading | None:
        """By which the time is known; None before the first `sync`."""
        return self._reading

    def now_ms(self) -> int:
        """The venue's time; the machine's own where it was not yet asked for."""
        return self.at_ms(self._clock.monotonic())

    def at_ms(self, mono_s: float) -> int:
        """The venue's time, as far as it is known by now, at a moment of the monotonic clock."""
        if self._reading is None:
            return self._clock.now_ms()
        return self._reading.venue_ms + round((mono_s - self._reading.mono_s) * 1000)

    async def sync(self) -> None:
        """Ask the venue for its time.

        Raises VenueUnreachable where none of a few answers is quick enough, and what the probe raises.
        """
        async with self._lock:
            await self._ask()

    async def ensure(self) -> None:
        """`sync`, unless the time is known."""
        await self.correct(None)

    async def correct(self, wrong: Reading | None) -> None:
        """`sync`, unless another call has done so since the time was known by `wrong`."""
        async with self._lock:
            if self._reading is wrong:
                await self._ask()

    async def _ask(self) -> None:
        fastest = await repeated(self._clock, self._timed_probe)
        for _ in range(PROBES - 1):
            if fastest.took_ms <= GOOD_PART * self._longest_ms:
                break
            fastest = min(fastest, await repeated(self._clock, self._timed_probe), key=lambda reading: reading.took_ms)
        if fastest.took_ms > self._longest_ms:
            took = f"took {fastest.took_ms:.0f} ms, too slow to set the clock by (limit {self._longest_ms} ms)"
            raise VenueUnreachable(self._venue, self._call, took)
        self._reading = fastest

    async def _timed_probe(self) -> Reading:
        asked_mono_s = self._clock.monotonic()
        venue_ms = await self._probe()
        answered_mono_s = self._clock.monotonic()
        took_ms = (answered_mono_s - asked_mono_s) * 1000
        return Reading(venue_ms, (asked_mono_s + answered_mono_s) / 2, took_ms)

"""Time, injected: the only module that reads a clock or sleeps.

Everything else takes a `Clock`, so that a test can hand in one that jumps and a run can be repeated.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC; may step when the machine's clock is set."""

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back, and goes on while the machine sleeps. For durations."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; a negative duration counts as zero."""


_SLEEPS_NOT = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux's monotonic clock stands still while the machine is suspended, macOS's does not: a copy of an account that has
slept for an hour must not look young."""


class SystemClock:
    """The machine's clock and the event loop's sleep."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.clock_gettime(_SLEEPS_NOT)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, seconds))


async def wait_until(event: asyncio.Event, until_mono_s: float, clock: Clock) -> bool:
    """Whether the event is set by then: returns as soon as it is, or at that moment of the monotonic clock."""
    left_s = until_mono_s - clock.monotonic()
    if event.is_set() or left_s <= 0:
        return event.is_set()
    if left_s == math.inf:
        return await event.wait()
    happening = asyncio.create_task(event.wait())
    sleeping = asyncio.create_task(clock.sleep(left_s))
    try:
        await asyncio.wait((happening, sleeping), return_when=asyncio.FIRST_COMPLETED)
    finally:
        happening.cancel()
        sleeping.cancel()
    return event.is_set()

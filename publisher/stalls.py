"""Whether this process did not run for a while: it was stopped, its machine slept, or something blocked it."""

from __future__ import annotations

from publisher.logs import Log
from statecast.clock import Clock

CHECK_S = 0.25
LATE_S = 0.35
"""A process cannot see that it was stopped unless it had planned to run meanwhile. So it plans to run every `CHECK_S`,
and counts as stalled when that comes later than planned by `LATE_S`: a stop of 0.6 s is always found."""


class StallDetector:
    """Compares the monotonic clock with the next planned check: at each check, and whenever `has_stalled` is asked."""

    def __init__(self, clock: Clock, log: Log, catch_up_s: float) -> None:
        """`catch_up_s` is the time that the process gets to read the frames that arrived while it did not run."""
        self._clock = clock
        self._log = log
        self._catch_up_s = catch_up_s
        self._planned_mono_s = clock.monotonic() + CHECK_S
        self._caught_up_mono_s = 0.0

    @property
    def caught_up_mono_s(self) -> float:
        """Monotonic time at which the process has read what arrived during the last stall; 0 without one."""
        return self._caught_up_mono_s

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            self._planned_mono_s = self._clock.monotonic() + CHECK_S
            await self._clock.sleep(CHECK_S)
            self.has_stalled()

    def has_stalled(self) -> bool:
        """Whether the process did not run lately and has not had the time to read what arrived meanwhile."""
        now = self._clock.monotonic()
        late_s = now - self._planned_mono_s
        if late_s > LATE_S and now >= self._caught_up_mono_s:
            self._log.warning("stalled", late_s=round(late_s, 1))
            self._caught_up_mono_s = now + self._catch_up_s
        return now < self._caught_up_mono_s

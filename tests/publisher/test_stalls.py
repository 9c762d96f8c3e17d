"""A process that did not run is noticed when it runs again, and gets the time to read what arrived meanwhile."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from publisher.logs import account_log
from publisher.stalls import CHECK_S, LATE_S, StallDetector

CATCH_UP_S = 0.2


class JumpingClock:
    """A clock that stands where the test has put it; whoever sleeps on it goes on when the test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0
        self.wake = asyncio.Event()

    def now_ms(self) -> int:
        return round(self.now_s * 1000)

    def monotonic(self) -> float:
        return self.now_s

    async def sleep(self, seconds: float) -> None:
        self.wake.clear()
        await self.wake.wait()

    async def check(self, late_s: float = 0.0) -> None:
        """Let the next check come so late."""
        self.now_s += CHECK_S + late_s
        self.wake.set()
        for _ in range(3):
            await asyncio.sleep(0)


async def test_checks_that_come_in_time_or_a_little_late_are_no_stall() -> None:
    clock = JumpingClock()
    detector = StallDetector(clock, account_log("binance:main"), CATCH_UP_S)
    with capture_logs() as logs:
        task = asyncio.create_task(detector.run())
        await asyncio.sleep(0)
        for late_s in (0.0, 0.1, LATE_S - 0.01, 0.0):
            await clock.check(late_s)
            assert not detector.has_stalled()
        task.cancel()
    assert (logs, detector.caught_up_mono_s) == ([], 0.0)


async def test_a_stop_is_noticed_by_whoever_asks_first_and_lasts_until_it_has_caught_up() -> None:
    clock = JumpingClock()
    detector = StallDetector(clock, account_log("binance:main"), CATCH_UP_S)
    with capture_logs() as logs:
        task = asyncio.create_task(detector.run())
        await asyncio.sleep(0)
        clock.now_s += 4.0  # the process was stopped, and its check has not run yet
        assert detector.has_stalled(), "before anything is sent"
        assert detector.caught_up_mono_s == clock.now_s + CATCH_UP_S
        clock.wake.set()
        await asyncio.sleep(0)
        clock.now_s += CATCH_UP_S / 2
        assert detector.has_stalled()
        clock.now_s += CATCH_UP_S
        assert not detector.has_stalled()
        task.cancel()
    assert [(line["event"], line["late_s"]) for line in logs] == [("stalled", round(4.0 - CHECK_S, 1))], "said once"


async def test_a_stop_of_six_tenths_of_a_second_is_found_whenever_it_begins() -> None:
    for begins_s in (0.0, 0.1, CHECK_S - 0.01):
        clock = JumpingClock()
        detector = StallDetector(clock, account_log("binance:main"), CATCH_UP_S)
        task = asyncio.create_task(detector.run())
        await asyncio.sleep(0)
        clock.now_s += begins_s + CHECK_S + LATE_S + 0.001
        assert detector.has_stalled(), begins_s
        task.cancel()

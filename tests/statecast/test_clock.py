from __future__ import annotations

import asyncio
import time

import pytest

from statecast.clock import Clock, SystemClock


@pytest.fixture
def clock() -> Clock:
    return SystemClock()


def test_the_time_is_in_milliseconds_since_1970(clock: Clock) -> None:
    before = time.time()
    now = clock.now_ms()
    assert isinstance(now, int)
    assert int(before * 1000) <= now <= int(time.time() * 1000) + 1


def test_durations_are_measured_in_seconds_by_a_clock_that_never_goes_back(clock: Clock) -> None:
    before = time.monotonic()
    readings = [clock.monotonic() for _ in range(1000)]
    assert readings == sorted(readings)
    assert 0 < readings[-1] - readings[0] <= time.monotonic() - before
    assert readings[0] >= before, "it counts at least what the other one counts"


async def test_sleeping_lets_others_work_and_ends(clock: Clock) -> None:
    worked = asyncio.create_task(asyncio.sleep(0, "worked"))
    began = clock.monotonic()
    await clock.sleep(0.01)
    assert clock.monotonic() - began >= 0.009
    assert worked.done()


@pytest.mark.parametrize("seconds", [0.0, -5.0])
async def test_a_sleep_that_is_over_already_still_lets_others_work(clock: Clock, seconds: float) -> None:
    worked = asyncio.create_task(asyncio.sleep(0, "worked"))
    async with asyncio.timeout(5):
        await clock.sleep(seconds)
        await worked

from __future__ import annotations

import asyncio
import math
import time

import pytest
from support.clocks import ManualClock

from statecast.clock import Clock, SystemClock, wait_until


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


async def test_an_event_is_waited_for_until_a_moment_and_no_longer() -> None:
    clock, event = ManualClock(), asyncio.Event()
    waiting = asyncio.create_task(wait_until(event, clock.monotonic() + 10, clock))
    await clock.advance(9.9)
    assert not waiting.done()
    await clock.advance(0.1)
    assert waiting.result() is False


@pytest.mark.parametrize("until_s", [10.0, math.inf])
async def test_an_event_that_is_set_ends_the_waiting_and_leaves_nothing_behind(until_s: float) -> None:
    clock, event = ManualClock(), asyncio.Event()
    waiting = asyncio.create_task(wait_until(event, clock.monotonic() + until_s, clock))
    await clock.advance(5)
    event.set()
    assert await waiting is True
    await clock.advance(0)
    assert clock.sleeping == 0


@pytest.mark.parametrize("is_set", [True, False])
async def test_a_moment_that_has_passed_is_not_waited_for(is_set: bool) -> None:
    clock, event = ManualClock(), asyncio.Event()
    if is_set:
        event.set()
    assert await wait_until(event, clock.monotonic(), clock) is is_set


async def test_waiting_can_be_cancelled() -> None:
    clock = ManualClock()
    waiting = asyncio.create_task(wait_until(asyncio.Event(), clock.monotonic() + 10, clock))
    await clock.advance(1)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await clock.advance(0)
    assert clock.sleeping == 0

"""The venue's time on the machine's monotonic clock, by probes that take as long as a test says."""

from __future__ import annotations

import asyncio

import pytest

from statecast.errors import Rejected, VenueUnreachable
from statecast.venues.clock import ProbedClock

VENUE_MS = 1_793_000_050_000
MACHINE_MS = VENUE_MS - 10_000


class Machine:
    """A clock that jumps instead of sleeping, next to a venue that is ahead of it."""

    def __init__(self) -> None:
        self.elapsed_s = 0.0
        self.ahead_ms = 0
        self.probes = 0
        self.takes_s = [0.0]
        self.errors: list[Exception] = []
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return MACHINE_MS + round(self.elapsed_s * 1000)

    def monotonic(self) -> float:
        return 5000.0 + self.elapsed_s

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.elapsed_s += seconds

    @property
    def venue_ms(self) -> int:
        return VENUE_MS + self.ahead_ms + round(self.elapsed_s * 1000)

    async def probe(self) -> int:
        self.probes += 1
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        takes_s = self.takes_s.pop(0) if len(self.takes_s) > 1 else self.takes_s[0]
        self.elapsed_s += takes_s / 2
        venue_ms = self.venue_ms
        self.elapsed_s += takes_s / 2
        return venue_ms


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def clock(machine: Machine) -> ProbedClock:
    return ProbedClock(machine, machine.probe, venue="okx", call="GET /time", error_ms=500)


async def test_before_it_was_asked_for_the_time_is_the_machines(machine: Machine, clock: ProbedClock) -> None:
    assert (clock.now_ms(), clock.reading) == (machine.now_ms(), None)
    await clock.ensure()
    assert clock.now_ms() == machine.venue_ms
    assert clock.reading is not None


async def test_it_runs_on_the_monotonic_clock(machine: Machine, clock: ProbedClock) -> None:
    await clock.sync()
    then_mono_s, then_ms = machine.monotonic(), machine.venue_ms
    machine.elapsed_s += 7
    assert clock.now_ms() == then_ms + 7000
    assert clock.at_ms(then_mono_s) == then_ms
    assert clock.at_ms(then_mono_s - 1.5) == then_ms - 1500


async def test_it_is_set_by_the_middle_of_the_fastest_probe(machine: Machine, clock: ProbedClock) -> None:
    machine.takes_s = [3.0, 0.6, 0.8]
    await clock.sync()
    assert clock.now_ms() == machine.venue_ms
    assert machine.probes == 3


async def test_one_good_probe_is_enough(machine: Machine, clock: ProbedClock) -> None:
    machine.takes_s = [0.2]
    await clock.sync()
    assert machine.probes == 1


async def test_it_is_not_set_by_slow_probes(machine: Machine, clock: ProbedClock) -> None:
    machine.takes_s = [1.2]
    with pytest.raises(VenueUnreachable) as error:
        await clock.sync()
    assert str(error.value) == "okx: GET /time: took 1200 ms, too slow to set the clock by (limit 1000 ms)"
    assert clock.reading is None


async def test_a_probe_that_fails_is_repeated_and_timed_anew(machine: Machine, clock: ProbedClock) -> None:
    machine.errors = [VenueUnreachable("okx", "GET /time", "down")]
    await clock.sync()
    assert (machine.probes, machine.slept) == (2, [0.25])
    assert clock.now_ms() == machine.venue_ms
    machine.errors = [Rejected("okx", "GET /time", "no", -1)]
    with pytest.raises(Rejected):
        await clock.sync()


async def test_calls_at_once_ask_once(machine: Machine, clock: ProbedClock) -> None:
    await asyncio.gather(*(clock.ensure() for _ in range(5)))
    assert machine.probes == 1
    wrong = clock.reading
    machine.ahead_ms = 30_000
    await asyncio.gather(*(clock.correct(wrong) for _ in range(5)))
    assert machine.probes == 2
    assert clock.now_ms() == machine.venue_ms
    await clock.sync()
    assert machine.probes == 3, "sync asks in any case"

"""The simulated exchange on a port, for clients that we did not write."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from random import Random

import pytest

from statecast.clock import SystemClock
from statecast.secret import Secret
from statecast.simulator.binance import Exchange
from statecast.simulator.ledger import Ledger
from statecast.simulator.server import SimulatorServer
from statecast.simulator.signing import ApiKey

KEY, SECRET = "demo-key", "demo-secret"


@pytest.fixture(params=["one-way", "hedge"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[SimulatorServer]:
    """An exchange with two assets whose marks stand still, in either position mode."""
    clock = SystemClock()
    balances = {"USDT": Decimal(10_000), "USDC": Decimal(2_500)}
    ledger = Ledger(balances, now_ms=clock.now_ms(), hedge=request.param == "hedge")
    exchange = Exchange(ledger, [ApiKey(KEY, Secret(SECRET))], Random(11))
    async with SimulatorServer(exchange, clock, mark_interval_s=0) as running:
        yield running


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], object]:
    """Wait until a condition holds, at most ten seconds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    return wait

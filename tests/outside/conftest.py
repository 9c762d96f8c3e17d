"""The simulated exchange on a port, for clients that we did not write, and our publisher beside them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
from support.world import world

from statecast.simulator.server import SimulatorServer

KEY, SECRET = "demo-key", "demo-secret"


@pytest.fixture(params=["one-way", "hedge"])
async def server(request: pytest.FixtureRequest, redis_url: str, account_name: str) -> AsyncIterator[SimulatorServer]:
    """An exchange with two assets whose marks stand still, in either position mode.

    A publisher follows the account all the while; in the end Redis holds what the ledger says, whoever has traded.
    """
    async with world(redis_url, account_name, hedge=request.param == "hedge", seed=11) as here:
        yield here.server
        await here.agree()
        await here.agree_on_events()


@pytest.fixture
def until() -> Callable[[Callable[[], bool]], object]:
    """Wait until a condition holds, at most ten seconds."""

    async def wait(condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.01)

    return wait

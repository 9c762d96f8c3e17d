"""Thousands of random steps on the simulated exchange, and everything that Redis then says of the account."""

from __future__ import annotations

import asyncio

import pytest
from support.world import world

SEED = 20_261_122
INTERMEDIATE_EVENTS = 2_000


@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
async def test_hashes_and_log_equal_the_ledger_after_2000_steps(redis_url: str, account_name: str, hedge: bool) -> None:
    async with world(redis_url, account_name, hedge=hedge, seed=SEED) as here:
        for _ in range(INTERMEDIATE_EVENTS // 20):
            here.trade(20)
            here.exchange.publish_marks(here.now_ms())
            await asyncio.sleep(0)
        await here.agree()
        await here.agree_on_events()
        assert len(await here.log()) > INTERMEDIATE_EVENTS / 2, f"seed {SEED} traded too little to prove anything"
        status = await here.status()
        assert (status["unknownEvents"], status["malformedFrames"]) == ("0", "0")

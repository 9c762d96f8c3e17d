"""Order events of a time when nobody listened: in the log all the same, once, each order's in the venue's order."""

from __future__ import annotations

import asyncio
import statistics

import pytest
from support.world import World, unlimited, until, world

from publisher import follower

SEED = 20_261_123
CUTS = 100


PLENTY = 10_000_000


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many connections as it takes."""
    monkeypatch.setattr(follower, "STEADY_S", 0.0)


async def trade_through(here: World, *, steps: int, pause_s: float) -> None:
    for _ in range(steps):
        here.trade(2)
        await asyncio.sleep(pause_s)


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("hedge", [False, True], ids=["one-way", "hedge"])
async def test_100_cuts_during_trading_lose_and_double_nothing(redis_url: str, account_name: str, hedge: bool) -> None:
    took_ms: list[int] = []
    async with world(redis_url, account_name, hedge=hedge, seed=SEED, limits=unlimited(), RECONCILE_S="1") as here:
        here.exchange.limits.allow(PLENTY)
        for number in range(CUTS):
            await trade_through(here, steps=3, pause_s=0.01)
            before = await here.status()
            here.exchange.fault("cut_sockets", {"kind": "private"}, here.now_ms())
            cut_ms = here.now_ms()
            here.trade(6)  # nobody hears it
            await trade_through(here, steps=5, pause_s=0.005)  # and this perhaps
            since = int(before["streamSinceMs"])
            await until(here.status, lambda s: int(s["streamSinceMs"]) > since and s["state"] == "live")  # noqa: B023
            took_ms.append(here.now_ms() - cut_ms)
            if number % 20 == 19:
                await here.agree_on_events_after_gaps()
        await here.agree()
        entries = await here.agree_on_events_after_gaps()
    fetched = sum(entry["source"] == "rest" for entry in entries)
    assert fetched > CUTS, f"seed {SEED}: too little happened in the gaps to prove anything"
    print(
        f"{CUTS} cuts, {len(entries)} events, {fetched} by REST, live again after {statistics.median(took_ms):.0f} ms"
    )

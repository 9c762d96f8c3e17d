"""Connections come and go while an account trades: where the end is seen coming, nobody notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal

import pytest
from structlog.testing import capture_logs
from support.venues import registered
from support.world import FastClock, World, until, world

from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.venues.binance.venue import TRAITS, BinanceVenue

ROTATIONS = 5
RATE = 10.0
"""How fast time runs for publisher and exchange: a minute passes between two rotations. Checks may be late by as much,
so their period is long."""

FROM_THE_START = ["starting", "live"]
"""The first snapshot has to be proven; after that nothing is in doubt any more."""


@pytest.fixture
def logs() -> Iterator[list[dict[str, object]]]:
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]  # structlog's own mapping type


def rotated(logs: list[dict[str, object]]) -> int:
    return sum(line["event"] == "rotated" and line["proven"] is True for line in logs)


def states(logs: list[dict[str, object]]) -> list[object]:
    return [line["state"] for line in logs if line["event"] == "state"]


async def trade_until(here: World, done: Callable[[], bool]) -> None:
    """Trade on until something has happened, for a bounded time."""
    async with asyncio.timeout(120):
        while not done():
            here.trade(2)
            await asyncio.sleep(0.02)


async def expect_nothing_missed(here: World, logs: list[dict[str, object]]) -> None:
    here.exchange.fault("clear", {}, here.now_ms())
    here.trade(4)
    await here.agree()
    await here.agree_on_events()
    doubts = [line["reason"] for line in logs if line["event"] == "state"]
    assert states(logs) == FROM_THE_START, f"readers have never seen a doubt: {doubts}"
    entries = await here.log()
    assert {entry["source"] for entry in entries} == {"stream"}, "nothing had to be fetched"
    assert (await here.status())["drifts"] == "0"
    assert sum(stream.root == "private" for stream in here.exchange.streams) == 1


async def test_connections_that_the_venue_cuts_by_age_are_replaced_before_it(
    redis_url: str, account_name: str, logs: list[dict[str, object]]
) -> None:
    stream = replace(TRAITS.stream, life_s=50.0)
    with registered(BinanceVenue(replace(TRAITS, stream=stream))):
        await _replaced_before_the_cut(redis_url, account_name, logs)


async def _replaced_before_the_cut(redis_url: str, account_name: str, logs: list[dict[str, object]]) -> None:
    async with world(redis_url, account_name, live=False, RECONCILE_S="600", clock=FastClock(RATE)) as here:
        here.server._connection_life_s = 200.0  # The venue is late by as much as a loaded machine may be.
        await here.state("live")
        since = (await here.status())["streamSinceMs"]
        await trade_until(here, lambda: rotated(logs) >= 3)
        await expect_nothing_missed(here, logs)
        assert (await here.status())["streamSinceMs"] == since, "one stream, without a hole"


@pytest.mark.parametrize("fault", ["none", "duplicate_user_frames"])
async def test_a_server_that_shuts_down_is_left_without_a_hole(
    redis_url: str, account_name: str, logs: list[dict[str, object]], fault: str
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="600", clock=FastClock(RATE)) as here:
        for number in range(1, ROTATIONS + 1):
            if fault != "none":
                here.exchange.fault(fault, {"count": 200}, here.now_ms())
            here.exchange.fault("server_shutdown", {}, here.now_ms())
            await trade_until(here, lambda: rotated(logs) >= number)  # noqa: B023
        await expect_nothing_missed(here, logs)


async def test_leverage_does_not_go_back_when_two_connections_send_it(
    redis_url: str, account_name: str, logs: list[dict[str, object]]
) -> None:
    async with world(redis_url, account_name, RECONCILE_S="36000", clock=FastClock(RATE)) as here:
        now_ms = here.now_ms()
        order = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, qty=Decimal("0.01"))
        here.exchange.publish(here.ledger.place(order, now_ms), now_ms)
        await here.agree()
        here.exchange.fault("server_shutdown", {}, here.now_ms())
        number = 0
        async with asyncio.timeout(120):
            while rotated(logs) < 1:
                number += 1
                now_ms = here.now_ms()
                here.exchange.publish(here.ledger.set_leverage("BTCUSDT", 5 + number % 3, now_ms), now_ms)
                await asyncio.sleep(0.02)
        await here.agree()
        assert states(logs) == FROM_THE_START


async def test_a_server_that_ends_before_the_new_connection_is_proven_is_a_gap_like_any_other(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name) as here:
        here.trade(20)
        await here.agree()
        since = int((await here.status())["streamSinceMs"])
        old = [stream for stream in here.exchange.streams if stream.root == "private"]
        here.exchange.fault("server_shutdown", {}, here.now_ms())
        await until(_private(here), lambda count: count == 2)
        for stream in old:
            stream.close(1006)
        here.trade(10)
        await until(here.status, lambda status: int(status["streamSinceMs"]) > since and status["state"] == "live")
        here.trade(10)
        await here.agree()
        await here.agree_on_events_after_gaps()


async def test_where_connections_cannot_share_a_key_the_old_one_is_closed_first(
    redis_url: str, account_name: str
) -> None:
    async with world(redis_url, account_name, SHARED_STREAM="false") as here:
        here.trade(20)
        await here.agree()
        since = int((await here.status())["streamSinceMs"])
        most = 0

        async def status() -> dict[str, str]:
            nonlocal most
            most = max(most, await _private(here)())
            return await here.status()

        here.exchange.fault("server_shutdown", {}, here.now_ms())
        await until(status, lambda status: int(status["streamSinceMs"]) > since and status["state"] == "live")
        assert most == 1
        here.trade(10)
        await here.agree()
        await here.agree_on_events_after_gaps()


def _private(here: World):  # type: ignore[no-untyped-def]  # a reader for `until`
    async def count() -> int:
        return sum(stream.root == "private" for stream in here.exchange.streams)

    return count

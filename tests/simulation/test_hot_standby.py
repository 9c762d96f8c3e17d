"""Two publishers of one account, as processes: one writes, the other follows along and writes on after it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from support.programs import Program, program
from support.world import World, account_values, new_server, until

from statecast.store.client import connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.venues.binance.limits import LIMIT

SEED = 20_261_123
KILLS = 8


@dataclass
class Pair:
    """A world whose publishers are processes."""

    world: World
    directory: Path
    settings: dict[str, str]
    stack: AsyncExitStack

    async def start(self) -> Program:
        """One more publisher, that follows the account by now."""
        started = await self.stack.enter_async_context(program(self.directory, "publisher", **self.settings))
        await started.prints("stream connected, snapshot reconciled")
        return started

    async def writer(self) -> str:
        return (await self.world.status())["publisherId"]

    async def writes(self, one: Program) -> dict[str, str]:
        """Wait until this one writes; the status then."""
        name = f"-{one.process.pid}-"
        return await until(
            self.world.status, lambda status: name in status["publisherId"] and status["state"] == "live"
        )


@asynccontextmanager
async def pair(redis_url: str, account: str, directory: Path) -> AsyncIterator[Pair]:
    async with new_server(seed=SEED) as server:
        server.exchange.limits.allow(1_000 * LIMIT)
        settings = account_values(server, account, REDIS_URL=redis_url, RECONCILE_S="5")
        async with connect(redis_url, client_name="statecast-test") as client, AsyncExitStack() as stack:
            here = World(server, client, AccountId("binance", account), Random(SEED))
            yield Pair(here, directory, settings, stack)


async def trading(here: World) -> None:
    while True:
        here.trade(2)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def while_it_trades(here: World) -> AsyncIterator[None]:
    task = asyncio.create_task(trading(here))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.timeout(300)
async def test_a_killed_writer_is_followed_by_the_one_that_stands_by(
    redis_url: str, account_name: str, tmp_path: Path
) -> None:
    async with pair(redis_url, account_name, tmp_path) as both:
        here = both.world
        writer = await both.start()
        await both.writes(writer)
        async with while_it_trades(here):
            for _ in range(KILLS):
                standby = await both.start()
                assert f"-{writer.process.pid}-" in await both.writer(), "it takes nothing from a living writer"
                await asyncio.sleep(0.3)
                writer.process.send_signal(signal.SIGKILL)
                await both.writes(standby)
                writer = standby
        # So many starts in a minute may have spent what the venue allows in it.
        await here.agree(within_s=100.0)
        entries = await here.agree_on_events_after_gaps()
    epochs = {entry["epoch"] for entry in entries}
    assert len(epochs) > KILLS // 2


async def test_after_an_orderly_stop_the_other_writes_on_and_no_order_event_is_missing(
    redis_url: str, account_name: str, tmp_path: Path
) -> None:
    async with pair(redis_url, account_name, tmp_path) as both:
        first = await both.start()
        await both.writes(first)
        second = await both.start()
        async with while_it_trades(both.world):
            await asyncio.sleep(0.5)
            assert await first.stop() == 0
            await both.writes(second)
            await asyncio.sleep(0.5)
        await both.world.agree()
        await both.world.agree_on_events_after_gaps()


async def test_a_writer_that_slept_through_a_take_over_writes_nothing(
    redis_url: str, account_name: str, tmp_path: Path
) -> None:
    async with pair(redis_url, account_name, tmp_path) as both:
        here = both.world
        first = await both.start()
        await both.writes(first)
        second = await both.start()
        async with while_it_trades(here):
            first.process.send_signal(signal.SIGSTOP)
            taken = await both.writes(second)
            here.trade(50)
            first.process.send_signal(signal.SIGCONT)
            await first.prints("standby")
            await asyncio.sleep(1.0)
            status = await here.status()
            assert (status["publisherId"], status["epoch"]) == (taken["publisherId"], taken["epoch"])
        await here.agree()
        entries = await here.agree_on_events_after_gaps()
        assert max(int(entry["epoch"]) for entry in entries) == int(taken["epoch"])
        changes = await here.client.redis.xrange(AccountKeys(here.account_id).changes)
        epochs = [int(fields["epoch"]) for _, fields in changes]
        assert epochs == sorted(epochs), "nothing under the old epoch after the new one began"

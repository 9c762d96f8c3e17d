"""Reading an account of 20 positions: the mirror, the reader, and a bare HGETALL next to them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from timeit import Timer

import redis.asyncio
import uvloop

from bench.burst import empty_account, new_account
from consumers import AccountMirror, AccountReader
from statecast.domain.models import Position, Stamp, SymbolConfig
from statecast.store.client import connect
from statecast.store.keys import AccountId, AccountKeys
from statecast.store.writer import AccountWriter

ACCOUNT = AccountId("binance", "bench-reading")
POSITIONS = 20
READS = 300
ROUNDS = 5
LOOPS = 20_000


@asynccontextmanager
async def published(url: str) -> AsyncIterator[None]:
    """An account with positions that is verified once a second, as a publisher does."""
    account = new_account()
    positions = tuple(
        Position(
            symbol=f"COIN{number}USDT",
            position_side="BOTH",
            position_amt=Decimal("-0.125"),
            entry_price=Decimal("91250.40000"),
            stamp=Stamp(1_793_000_000_000),
            source="rest",
            break_even_price=Decimal("91252.10000"),
            mark_price=Decimal("91414.90000000"),
            mark_price_time_ms=1_793_000_001_000,
            unrealized_profit=Decimal("-20.56250000"),
            unrealized_profit_time_ms=1_793_000_001_000,
            leverage=20,
            margin_type="cross",
            isolated_wallet=Decimal(0),
            liquidation_price=Decimal("120400.12345678"),
            liquidation_price_time_ms=1_793_000_001_000,
            notional=Decimal("-11426.86250000"),
            margin_asset="USDT",
        )
        for number in range(POSITIONS)
    )
    configs = {row.symbol: SymbolConfig(20, "cross") for row in positions}
    snapshot = empty_account()
    whole = account.apply(
        (type(snapshot)(snapshot.totals, snapshot.balances, positions, (), configs, {}, False, 1),), "rest"
    )
    async with connect(url, client_name="bench") as client:
        writer = AccountWriter(client, ACCOUNT, "bench-1")
        await writer.open("starting", "")
        await writer.send(writer.encode([whole], {"state": "live"}, verified=True, published=False))

        async def beat() -> None:
            while True:
                await asyncio.sleep(1)
                await writer.send(writer.encode([], {"state": "live"}, verified=True, published=True))

        beating = asyncio.create_task(beat())
        try:
            yield
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)


async def microseconds(read: Callable[[], Awaitable[object]]) -> float:
    """The median of one read."""
    took = []
    for _ in range(READS):
        began = time.perf_counter()
        await read()
        took.append((time.perf_counter() - began) * 1e6)
    return statistics.median(took)


def nanoseconds(read: Callable[[], object]) -> float:
    """One read in the process, the best of a few rounds: the others met something else."""
    return min(Timer(read).repeat(ROUNDS, LOOPS)) / LOOPS * 1e9


async def measure(url: str) -> None:
    async with (
        published(url),
        AccountReader(ACCOUNT, url) as reader,
        AccountMirror(ACCOUNT, url) as mirror,
        redis.asyncio.Redis.from_url(url, decode_responses=True) as bare,
    ):
        keys = AccountKeys(ACCOUNT)
        reads: dict[str, Callable[[], Awaitable[object]]] = {
            "bare HGETALL of the positions": lambda: bare.hgetall(keys.positions),
            "reader.snapshot()": reader.snapshot,
            "reader.positions()": reader.positions,
            "reader.totals()": reader.totals,
        }
        found: dict[str, list[float]] = {name: [] for name in reads}
        for _ in range(ROUNDS):  # in turn, so that a drift of the machine meets all of them
            for name, read in reads.items():
                found[name].append(await microseconds(read))
        floor = statistics.median(found["bare HGETALL of the positions"])
        print(f"\nreading an account of {POSITIONS} positions; median of one read, {ROUNDS} x {READS} reads each")
        for name, values in found.items():
            print(f"  {name:<32} {statistics.median(values):8,.0f} µs   ratio {statistics.median(values) / floor:6.2f}")
        row = {"positionAmt": "-0.125", "entryPrice": "91250.40000", "markPrice": "91414.90000000"}
        copies: dict[str, Callable[[], object]] = {
            "a copy of a small dict": row.copy,
            "mirror.totals()": mirror.totals,
            "mirror.position(symbol)": lambda: mirror.position("COIN7USDT"),
            "mirror.positions()": mirror.positions,
            "mirror.snapshot()": mirror.snapshot,
        }
        # In a thread, so that the mirror goes on meanwhile.
        times = {name: await asyncio.to_thread(nanoseconds, copy) for name, copy in copies.items()}
        print(f"reads in the process, best of {ROUNDS} x {LOOPS:,}")
        for name, took in times.items():
            ratio = floor * 1000 / took
            print(f"  {name:<32} {took:8,.0f} ns   a bare HGETALL takes {ratio:8,.0f} times as long")


def report(url: str) -> None:
    """Print what was measured."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(measure(url))

"""What order events weigh that wait for a snapshot or for Redis: at the bound, each in a process of its own. And what
`…:changes` of a large account weighs in Redis after an hour of mark prices."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from random import Random

import uvloop

from bench.burst import committing, empty_account, frame, new_account
from publisher.record import EventRecord
from statecast.domain.catch_up import MAX_WAITING_EVENTS, CatchUp
from statecast.domain.changes import Frame, MarkPriceUpdate
from statecast.store.client import connect
from statecast.store.keys import CHANGES_BYTES, AccountId, AccountKeys
from statecast.venues.binance import snapshot as rest
from statecast.venues.binance.decode import decode_user_frame

PAGE_BYTES = 4096
FIRST_MS = 1_793_000_000_000


def resident_mb() -> float:
    """Memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES / 1e6


def flood() -> Iterator[Frame]:
    """Orders that are placed and amended nine times each."""
    for number in range(MAX_WAITING_EVENTS):
        raw = frame(8_000_000_000 + number // 10, "NEW", FIRST_MS + number)
        if number % 10:
            raw = raw.replace(b'"x":"NEW"', b'"x":"AMENDMENT"').replace(b"91250.4", b"91250.%d" % (number % 10))
        yield decode_user_frame(raw, FIRST_MS + number)


def for_a_snapshot() -> float:
    catch_up, before_mb = CatchUp(new_account()), resident_mb()
    for one in flood():
        catch_up.take(one, None)
    assert len(catch_up.waiting_events()) == MAX_WAITING_EVENTS
    return resident_mb() - before_mb


def for_redis() -> float:
    account, record, before_mb = new_account(), EventRecord(20_000), resident_mb()
    account.apply((empty_account(),), "rest")
    for one in flood():
        record.add(account.apply(one.changes, "stream").events, 0.0)
    assert record.unwritten == MAX_WAITING_EVENTS
    return resident_mb() - before_mb


POSITIONS = 500
SECONDS = 3600


async def changes_mb(url: str) -> tuple[float, float, int]:
    """The most that `…:changes` weighed in Redis, what it weighs at the end, and its entries."""
    account_id, rng, most = AccountId("binance", "bench-changes"), Random(1), 0
    symbols = [f"COIN{number}USDT" for number in range(POSITIONS)]
    risk = [
        {"symbol": symbol, "positionSide": "BOTH", "positionAmt": "0.500", "entryPrice": "91250.4", "updateTime": 1}
        | {"breakEvenPrice": "91296.1", "markPrice": "91250.4", "unRealizedProfit": "0", "liquidationPrice": "45871.2"}
        | {"isolatedMargin": "0", "notional": "45625.2", "marginAsset": "USDT", "isolatedWallet": "0"}
        for symbol in symbols
    ]
    async with (
        connect(url, client_name="bench") as client,
        committing(client, account_id) as (account, committer, writer),
    ):
        await client.redis.delete(AccountKeys(account_id).changes)
        positions = rest.positions(risk, FIRST_MS, {}, [])
        committer.submit(account.apply((replace(empty_account(), positions=positions, taken_ms=FIRST_MS),), "rest"))
        for second in range(1, SECONDS + 1):
            before = writer.seq
            marks = [
                MarkPriceUpdate(symbol, Decimal(rng.randint(900_000, 930_000)) / 10, FIRST_MS + second * 1000)
                for symbol in symbols
            ]
            committer.submit(account.apply(marks, "derived"))
            while writer.seq == before:  # noqa: ASYNC110 - the committer has no event for this
                await asyncio.sleep(0)
            if second % 60 == 0:
                used = await client.redis.memory_usage(AccountKeys(account_id).changes, samples=0)
                most = max(most, used or 0)
        now = await client.redis.memory_usage(AccountKeys(account_id).changes, samples=0) or 0
        return most / 1e6, now / 1e6, await client.redis.xlen(AccountKeys(account_id).changes)


def report(url: str) -> None:
    most, now, entries = uvloop.run(changes_mb(url))
    print(f"memory   …:changes of {POSITIONS} positions, {SECONDS:,} rounds of mark prices: at most {most:.1f} MB;")
    print(
        f"         {now:.1f} MB in {entries:,} entries at the end (no more than {CHANGES_BYTES / 1e6:.0f} MB of text)"
    )
    measures: dict[str, Callable[[], float]] = {"for a snapshot": for_a_snapshot, "for Redis": for_redis}
    for what, measure in measures.items():
        with multiprocessing.get_context("spawn").Pool(1) as process:
            print(f"memory   {MAX_WAITING_EVENTS:,} order events that wait {what}: {process.apply(measure):.0f} MB")

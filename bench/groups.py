"""From the stream of order events to the consumers of 1, 16 and 64 groups, next to bare XREADGROUP and XACK loops."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Coroutine
from contextlib import ExitStack

import orjson
import redis
import redis.asyncio
import uvloop

from bench.latency import percentiles, process
from consumers import OrderEvents
from statecast.store.keys import EVENT_FIELDS, AccountId, AccountKeys

GROUPS = (1, 16, 64)
RATE = 20.0
SECONDS = 8.0
A_PROCESS = 16
"""Groups whose consumers share a process."""

WARM_UP = 0.2


def entry(number: int) -> dict[str, str]:
    """An order event as a publisher writes it, stamped with the time."""
    known = {
        "eventSeq": str(number),
        "eventId": f"BTCUSDT:{number}:NEW",
        "eventType": "NEW",
        "symbol": "BTCUSDT",
        "orderId": str(number),
        "clientOrderId": str(time.time_ns()),
        "side": "BUY",
        "positionSide": "BOTH",
        "type": "LIMIT",
        "origType": "LIMIT",
        "timeInForce": "GTC",
        "status": "NEW",
        "price": "91250.4",
        "quantity": "0.050",
        "venueTimeMs": "1793000000000",
        "source": "stream",
        "receivedAtMs": "1793000000001",
        "epoch": "1",
    }
    return {name: known.get(name, "") for name in EVENT_FIELDS}


async def ours(url: str, account: str, group: str, count: int, ready: Callable[[], None]) -> list[float]:
    found: list[float] = []
    async with OrderEvents(f"binance:{account}", url, group, start="beginning") as events:
        ready()
        async for event in events:
            found.append((time.time_ns() - int(event.client_order_id)) / 1000)
            await event.ack()
            if len(found) == count:
                break
    return found


async def bare(url: str, account: str, group: str, count: int, ready: Callable[[], None]) -> list[float]:
    key = AccountKeys(AccountId("binance", account)).order_events
    found: list[float] = []
    async with redis.asyncio.Redis.from_url(url, decode_responses=True, socket_timeout=10) as client:
        await client.xgroup_create(key, group, "0", mkstream=True)
        ready()
        while len(found) < count:
            for _, entries in await client.xreadgroup(group, "bench", {key: ">"}, count=64, block=2000):
                for entry_id, fields in entries:
                    found.append((time.time_ns() - int(fields["clientOrderId"])) / 1000)
                    await client.xack(key, group, entry_id)
    return found


WAYS: dict[str, Callable[[str, str, str, int, Callable[[], None]], Coroutine[None, None, list[float]]]] = {
    "OrderEvents": ours,
    "XREADGROUP, XACK": bare,
}


async def work(way: str, url: str, account: str, first: int, groups: int, count: int) -> None:
    """The consumers of a few groups: `ready` when all read, then the latencies in µs as JSON."""
    waiting = groups

    def ready() -> None:
        nonlocal waiting
        waiting -= 1
        if not waiting:
            print("ready", flush=True)

    found = await asyncio.gather(*(WAYS[way](url, account, f"g{first + at}", count, ready) for at in range(groups)))
    print(orjson.dumps([value for values in found for value in values]).decode(), flush=True)


def latencies(url: str, way: str, groups: int) -> list[float]:
    """Microseconds from the writing of each event to each group's consumer."""
    account = f"bench-{len(way)}-{groups}"
    key = AccountKeys(AccountId("binance", account)).order_events
    count = int(RATE * SECONDS)
    firsts = range(0, groups, min(groups, A_PROCESS))
    client = redis.Redis.from_url(url)
    found: list[float] = []
    with ExitStack() as stack:
        workers = [
            stack.enter_context(process("bench.groups", way, url, account, str(first), str(firsts.step), str(count)))
            for first in firsts
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        time.sleep(0.5)
        began = time.perf_counter()
        for number in range(count):
            time.sleep(max(0.0, began + number / RATE - time.perf_counter()))
            client.xadd(key, entry(number + 1))  # type: ignore[arg-type]  # redis-py wants a wider dict
        for worker in workers:
            assert worker.stdout is not None
            values = orjson.loads(worker.stdout.readline())
            found += values[int(len(values) * WARM_UP) :]
    return found


def report(url: str) -> None:
    """Print what was measured."""
    print(f"\nfrom the stream to the consumers of its groups at {RATE:.0f} events/s, each acknowledged, in µs")
    print(f"  up to {A_PROCESS} groups share a process")
    for groups in GROUPS:
        figures = {way: percentiles(latencies(url, way, groups)) for way in WAYS}
        for way, (p50, p99, _) in figures.items():
            print(f"  {groups:>2} groups  {way:<18} p50 {p50:8,.0f}   p99 {p99:8,.0f}")
        (our50, our99, _), (floor50, floor99, _) = figures.values()
        print(f"  {'':<10} {'ratio':<18} p50 {our50 / floor50:8.1f}   p99 {our99 / floor99:8.1f}")


if __name__ == "__main__":
    way, url, account, first, groups, count = sys.argv[1:]
    uvloop.run(work(way, url, account, int(first), int(groups), int(count)))

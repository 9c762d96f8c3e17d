"""A burst of order events through one publisher, and the same script through redis-benchmark."""

from __future__ import annotations

import asyncio
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from urllib.parse import urlsplit

import uvloop

from publisher.committer import Committer
from publisher.lease import Lease
from publisher.logs import account_log, configure
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.status import Status
from publisher.tuning import Tuning
from statecast.clock import SystemClock
from statecast.domain.account import Account
from statecast.domain.changes import Snapshot
from statecast.domain.models import SymbolConfig
from statecast.domain.snapshot_merge import RestTiming
from statecast.store.client import Client, connect
from statecast.store.keys import AccountId
from statecast.store.writer import AccountWriter
from statecast.venues.binance import snapshot as rest
from statecast.venues.binance import wire
from statecast.venues.binance.decode import decode_user_frame

EVENTS = 10_000
BATCH = 64
ESCAPE = b"~0~"
PATCHES = (
    # redis-benchmark sends the same call again and again, which the script would recognise as done already ...
    (
        "local known_seq, known_event_seq = tonumber(known[2]), tonumber(known[3])",
        "local known_seq, known_event_seq = seq, event_seq",
    ),
    # ... and it sends no argument with a zero byte in it.
    ("cmsgpack.unpack(ARGV[11])", f"cmsgpack.unpack((ARGV[11]:gsub('{ESCAPE.decode()}', '\\0')))"),
)


def frame(order_id: int, execution: str, time_ms: int) -> bytes:
    """An ORDER_TRADE_UPDATE as the venue sends it."""
    return (
        b'{"e":"ORDER_TRADE_UPDATE","E":%d,"T":%d,"o":{"s":"BTCUSDT","c":"bot-%d","S":"BUY","o":"LIMIT","f":"GTC",'
        b'"q":"0.050","p":"91250.4","ap":"0","sp":"0","x":"%s","X":"%s","i":%d,"l":"0","z":"0","L":"0","n":"0",'
        b'"N":"USDT","T":%d,"t":0,"b":"4562.5","a":"0","m":false,"R":false,"wt":"CONTRACT_PRICE","ot":"LIMIT",'
        b'"ps":"BOTH","cp":false,"pP":false,"si":0,"ss":0,"rp":"0","V":"EXPIRE_MAKER","pm":"NONE","gtd":0,"er":"0"}}'
        % (time_ms + 3, time_ms, order_id, execution.encode(), execution.encode(), order_id, time_ms)
    )


def frames(first_order_id: int) -> list[bytes]:
    """Orders placed and cancelled, two events each: a burst, and a fifth of one before it."""
    return [
        frame(first_order_id + at, execution, 1_793_000_000_000 + at)
        for at in range(EVENTS * 6 // 10)
        for execution in ("NEW", "CANCELED")
    ]


def new_account() -> Account:
    rest_timing = RestTiming(wire.REST_LAG_MS, wire.REST_RECENT_MS)
    return Account(rest_timing, max_conditional_orders=wire.MAX_CONDITIONAL_ORDERS)


def empty_account() -> Snapshot:
    asset = {
        "asset": "USDT",
        "walletBalance": "10000",
        "crossWalletBalance": "10000",
        "availableBalance": "10000",
        "unrealizedProfit": "0",
        "updateTime": 1,
    }
    names = ("WalletBalance", "UnrealizedProfit", "MarginBalance", "InitialMargin", "MaintMargin")
    body = {f"total{name}": "10000" if name in names[::2][:2] else "0" for name in names}
    body |= {"totalWalletBalance": "10000", "totalMarginBalance": "10000", "availableBalance": "10000"}
    totals, balances = rest.account(body | {"assets": [asset], "positions": []}, 1, [])
    configs = {"BTCUSDT": SymbolConfig(20, "cross")}
    return Snapshot(totals, balances, (), (), configs, {"BTCUSDT": "USDT"}, False, 1, "USDT")


@asynccontextmanager
async def committing(client: Client, account_id: AccountId) -> AsyncIterator[tuple[Account, Committer, AccountWriter]]:
    """A live account that is written as the publisher writes it."""
    account, writer = new_account(), AccountWriter(client, account_id, "bench-1")
    clock, log, tuning = SystemClock(), account_log("bench"), Tuning()
    record, status, retry = EventRecord(tuning.recorded_events), Status(log), RedisRetry(clock, log)
    lease = Lease(writer, account, record, status, retry, clock, log, tuning)
    committer = Committer(writer, account, record, status, lease, retry, clock, log, tuning)
    running = asyncio.create_task(committer.run())
    try:
        await lease.acquired.wait()
        status.move("reconciled")
        yield account, committer, writer
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await committer.close(clock.monotonic() + 5.0)


async def publish(url: str, round_number: int) -> float:
    """Events per second: decode, apply, commit, all in Redis at the end. A smaller burst before it warms up."""
    rate, account_id = 0.0, AccountId("binance", "bench")
    async with (
        connect(url, client_name="bench") as client,
        committing(client, account_id) as (account, committer, writer),
    ):
        committer.submit(account.apply((empty_account(),), "rest"))
        orders = frames(8_000_000_000 + round_number * EVENTS)
        for burst in (orders[:-EVENTS], orders[-EVENTS:]):
            wanted = writer.event_seq + len(burst)
            began = time.perf_counter()
            for at, raw in enumerate(burst):
                committer.submit(account.apply(decode_user_frame(raw, 1_793_000_000_010).changes, "stream"))
                if at % 16 == 15:
                    await asyncio.sleep(0)  # as often as a socket in a burst lets others run
            while writer.event_seq < wanted:  # noqa: ASYNC110 - the committer has no event for this
                await asyncio.sleep(0)
            rate = len(burst) / (time.perf_counter() - began)
    return rate


async def prepare(url: str, count: int) -> list[bytes]:
    """A call that commits `count` events, on an account of its own, as redis-benchmark can send it."""
    async with connect(url, client_name="bench") as client:
        account = new_account()
        # A lease that outlives the measurement: nobody renews it.
        writer = AccountWriter(client, AccountId("binance", "bench-limit"), "bench-1", lease_ttl_ms=3_600_000)
        await writer.open("starting", "")
        whole = account.apply((empty_account(),), "rest")
        await writer.send(writer.encode([whole], {"state": "live"}, verified=True, published=False))
        decoded = (decode_user_frame(raw, 1_793_000_000_010) for raw in frames(9_000_000_000)[:count])
        deltas = [account.apply(each.changes, "stream") for each in decoded]
        *arguments, commits = writer.encode(deltas, {}, verified=False, published=True).arguments
        assert isinstance(commits, bytes)
        assert ESCAPE not in commits
        text = files("statecast.store").joinpath("commit.lua").read_text("utf-8")
        for what, instead in PATCHES:
            assert what in text
            text = text.replace(what, instead)
        sha = await client.redis.script_load(text)
        words = ["EVALSHA", sha, str(len(writer.keys)), *writer.keys, *map(str, arguments)]
        return [*(word.encode() for word in words), commits.replace(b"\0", ESCAPE)]


def benchmark(url: str, call: list[bytes], pipeline: int) -> float:
    """Calls per second that redis-benchmark reaches on one connection with `pipeline` calls in flight."""
    program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    assert program is not None
    calls = 40_000 if pipeline > 1 else 1_000
    arguments = [program, "-p", str(urlsplit(url).port), "-c", "1", "-P", str(pipeline), "-n", str(calls), "-q", *call]
    output = subprocess.run(arguments, capture_output=True, check=True).stdout.decode(errors="replace")
    assert "Error" not in output, output[-300:]
    return float(re.findall(r"([\d.]+) requests per second", output)[-1])


def report(url: str, rounds: int) -> None:
    """Print what was measured."""
    configure(least="error")
    have_benchmark = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
    rates: list[float] = []
    single: list[float] = []
    batched: list[float] = []
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        one, many = runner.run(prepare(url, 1)), runner.run(prepare(url, BATCH))
        for number in range(rounds):  # in turn, so that a drift of the machine meets all of them
            rates.append(runner.run(publish(url, number)))
            if have_benchmark:
                single.append(benchmark(url, one, 64))
                batched.append(benchmark(url, many, 1) * BATCH)
    rate = statistics.median(rates)
    most = Tuning().commits_in_batch
    print(f"\nburst of {EVENTS:,} order events, one publisher, batches of up to {most}, {rounds} rounds")
    print(f"  {'frame to Redis, statecast':<50} {rate:8,.0f} events/s  ({min(rates):,.0f} to {max(rates):,.0f})")
    if not have_benchmark:
        print("  redis-benchmark is not installed (Debian: redis-tools): no ratio")
        return
    for name, limits in (("one event a call, pipeline 64", single), (f"{BATCH} events a call", batched)):
        limit = statistics.median(limits)
        print(f"  redis-benchmark, script*, {name:<31} {limit:8,.0f} events/s   ratio {rate / limit:.2f}")
    print("  * the same script without its check for repeated calls, and with zero bytes, which redis-benchmark")
    print("    cannot send, put back by Lua: that slows it, most with many events, and flatters the ratio")

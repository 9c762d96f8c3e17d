"""Much at once: floods of frames, also while they can be put nowhere, large accounts, others on the same address."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from decimal import Decimal

from failures.matrix import Logged, scenario
from failures.stream import GAP, RECOVERS
from support.arena import Arena

from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.simulator.symbols import SYMBOLS

CHAPTER = "Much at once"
POSITIONS = 150


@scenario(
    CHAPTER,
    failure="30,000 amendments arrive in one go",
    readers="`verifiedAtMs` stops while order events wait to be read and written; sometimes `recovering`",
    heals="nothing that was received is dropped: every event is in the log, in sequence",
    processes=1,
    whole=True,
)
async def flood(here: Arena) -> None:
    await here.flood(30_000)
    here.over()


@scenario(
    CHAPTER,
    failure="the stream breaks, `GET account` answers 503 for 15 seconds, and the new stream sends 30,000 amendments",
    readers="`recovering` until the venue answers again, then `live`",
    heals="what was received waits in memory for the snapshot: every event is in the log, in sequence",
    log=(Logged("state", "503"),),
    processes=1,
    whole=True,
)
async def flood_without_rest(here: Arena) -> None:
    await here.trade_off()
    await here.agree()
    here.fault("answer_rest", count=100_000, status=503, body="Service Unavailable.", path="/fapi/v3/account")
    here.fault("cut_sockets", kind="private")
    await here.noticed()
    await here.until(lambda: any(stream.root == "private" for stream in here.exchange.streams), "a new connection")
    for _ in range(15):
        await here.flood(2000)
        await asyncio.sleep(1.0)
    here.exchange.faults.rest.clear()
    here.over()
    here.trade_on()


@scenario(
    CHAPTER,
    failure="Redis hangs for 13 seconds, longer than the lease, while 26,000 amendments arrive",
    readers="Redis does not answer, then `recovering`, then `live`",
    heals="what was received waits in memory for Redis: every event is in the log, in sequence, under a new epoch",
    log=(Logged("cannot_write"), Logged("state", "lease")),
    processes=1,
    whole=True,
)
async def flood_without_redis(here: Arena) -> None:
    await here.command("CLIENT", "PAUSE", 13_000, "ALL")
    await here.noticed()
    for _ in range(13):
        await here.flood(2000)
        await asyncio.sleep(0.8)
    here.over()


def many(now_ms: int) -> Ledger:
    """An account that has held a position in each of 150 symbols for an hour."""
    hour_ago = now_ms - 3_600_000
    sol = next(rules for rules in SYMBOLS if rules.symbol == "SOLUSDT")
    listed = [replace(sol, symbol=f"S{number}USDT", base_asset=f"S{number}") for number in range(POSITIONS)]
    ledger = Ledger({"USDT": Decimal(1_000_000)}, now_ms=hour_ago, symbols=listed)
    for rules in listed:
        request = OrderRequest(symbol=rules.symbol, side=Side.BUY, type=OrderType.MARKET, qty=Decimal("0.10"))
        ledger.place(request, hour_ago)
    return ledger


@scenario(
    CHAPTER,
    failure=f"the stream of an account with {POSITIONS} positions breaks, twice within a minute",
    readers=RECOVERS,
    heals=GAP + ", of symbols alone in which something has moved",
    log=(Logged("state", "connection closed"),),
    processes=1,
    holdings=many,
    step_pause_s=0.3,
)
async def large_account_cut(here: Arena) -> None:
    for _ in range(2):
        here.fault("cut_sockets", kind="private")
        here.trade(3)
        await here.noticed()
        await here.vouched()
    here.over()


@scenario(
    CHAPTER,
    failure="other programs on the same address use 1,700 of the 2,400 weight a minute, and the stream breaks twice"
    " (reconcile period 60 s)",
    readers=RECOVERS,
    heals="the publisher has a share of its own; snapshots and missed order events come first",
    log=(Logged("state", "connection closed"),),
    reconcile_s=60.0,
    fast=4.0,  # Figures may wait for the next minute.
)
async def address_shared(here: Arena) -> None:
    here.fault("other_programs", weight=1700)
    for _ in range(2):
        here.fault("cut_sockets", kind="private")
        here.trade(3)
        await here.noticed()
        await here.vouched()
    here.over()

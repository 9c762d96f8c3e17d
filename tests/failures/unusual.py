"""What a venue may do besides failing: what no document describes, or nobody is ready for."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from decimal import Decimal

from failures.behind import rest
from failures.matrix import Logged, scenario
from failures.stream import GAP, NOTHING, RECOVERS, UNHEARD_S
from support.arena import Arena
from support.world import until

from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side

CHAPTER = "A venue that does what nobody expects"
REWARDED = "BFUSD"


def numbered_by_symbol(now_ms: int) -> Ledger:
    """An account whose orders have the same numbers in each symbol."""
    return Ledger({"USDT": Decimal(10_000), "USDC": Decimal(2_500)}, now_ms=now_ms, ids_per_symbol=True)


@scenario(
    CHAPTER,
    failure="orders are numbered by symbol: two open orders have one id, one is cancelled, and the stream is cut",
    readers=RECOVERS,
    heals="symbol and id together name an order, in `…:orders`, in the log and in every question to the venue",
    log=(Logged("state", "connection closed"),),
    holdings=numbered_by_symbol,
)
async def same_id_twice(here: Arena) -> None:
    ledger = here.ledger

    def twins() -> list[int]:
        return [number for number, count in Counter(one.order_id for one in ledger.open_orders()).items() if count > 1]

    await here.until(lambda: bool(twins()), "two open orders that have one id")
    here.begins()
    order = next(one for one in ledger.open_orders() if one.order_id == twins()[0])
    now_ms = here.now_ms()
    here.exchange.publish(ledger.cancel(order.order_id, now_ms, symbol=order.symbol), now_ms)
    here.fault("cut_sockets", kind="private")
    here.trade(5)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="all of an asset is withdrawn while the stream is silent, and the venue lists the asset no more",
    readers="`live` until it is found, then `recovering`, then `live`",
    heals="balances are compared both ways: an asset that is not listed any more is drift",
    found="a reconcile period and the grace (5 s)",
    log=(Logged("state", "drift"), Logged("drift", REWARDED)),
    bound_s=UNHEARD_S,
)
async def asset_gone(here: Arena) -> None:
    await _hold_asset(here)
    here.fault("mute_open_sockets")
    now_ms = here.now_ms()
    here.exchange.publish(here.ledger.forget_asset(REWARDED, now_ms), now_ms)
    await here.noticed()
    here.trade_on()


async def _hold_asset(here: Arena) -> None:
    """The trader, who moves wallets as well, stands still from now on."""
    await here.trade_off()
    now_ms = here.now_ms()
    here.exchange.publish(here.ledger.transfer(REWARDED, Decimal(350), now_ms), now_ms)
    await until(here.stored, lambda stored: REWARDED in (stored.balances or {}))
    await here.agree()
    here.begins()


@scenario(
    CHAPTER,
    failure="an asset grows by itself again and again, and no event says so",
    readers="`live` until it is found, then `recovering`, then `live`; from the second time on `live`",
    heals="the first time as drift; from the second on, within an hour, the wallet is taken from REST, and counted",
    found="a reconcile period and the grace (5 s)",
    log=(Logged("drift", REWARDED), Logged("wallet_corrected", REWARDED)),
    bound_s=UNHEARD_S,
)
async def wallet_grows(here: Arena) -> None:
    await _hold_asset(here)
    _grow(here)
    await here.noticed()
    await here.vouched()
    drifts = (await here.status())["drifts"]
    for times in ("1", "2"):
        _grow(here)
        await until(here.status, lambda status, times=times: status["walletCorrections"] == times)  # type: ignore[misc]
    assert (await here.status())["drifts"] == drifts
    here.over()
    here.trade_on()


def _grow(here: Arena) -> None:
    ledger, now_ms = here.ledger, here.now_ms()
    here.exchange.publish(ledger.accrue(REWARDED, Decimal("0.01"), now_ms), now_ms)
    row = ledger.wallet(REWARDED).balance, ledger.cross_wallet(REWARDED)
    here.observer.exchange.rows.put(("balances", REWARDED), row, now_ms)


@scenario(
    CHAPTER,
    failure="the mark prices of a second are stamped an hour ahead",
    readers=NOTHING,
    heals="prices of the future are not used, and counted in `futureMarkPrices`",
    log=(Logged("future_mark_price"),),
)
async def marks_ahead(here: Arena) -> None:
    here.fault("shift_marks", by_ms=3_600_000, rounds=50)
    await here.until(lambda: here.logged("future_mark_price"), "the log to tell it")
    await here.traded(60)
    here.over()


@scenario(
    CHAPTER,
    failure="the venue's clock is set back by three seconds while the stream is open",
    readers="`recovering`, then `live`; rows may be as old as the clock was set back",
    heals="a frame that looks older than what is known has the account compared at once; an amendment that cannot be"
    " put in sequence is a `GAP` entry of its order",
    found="within the grace (5 s)",
    bound_s=UNHEARD_S,
)
async def clock_set_back(here: Arena) -> None:
    here.some_too_late = True
    here.fault("shift_clock", by_ms=-3000)
    await here.traded(60)
    await asyncio.sleep(6.0)


@scenario(
    CHAPTER,
    failure="a symbol is delisted: its open order of 90 seconds ago is gone without an event, and the venue answers no"
    " question about it",
    readers="`live` until it is found, then `recovering`, then `live`",
    heals="`GAP` entries of the order and of the symbol; all else goes on. An order of less than a minute ago"
    " stays until then, as REST might be behind, and the state is `recovering`",
    found="a reconcile period and the grace (5 s)",
    log=(Logged("order_refused"),),
    bound_s=UNHEARD_S,
)
async def symbol_delisted(here: Arena) -> None:
    ledger = here.ledger
    await here.trade_off()
    symbol = rest(here, age_ms=90_000).partition(":")[0]
    await here.agree()
    here.begins()
    gone = [f"{symbol}:{order.order_id}" for order in ledger.open_orders(symbol)]
    gone += [f"{symbol}:algo-{algo.algo_id}" for algo in ledger.open_algos(symbol)]
    now_ms = here.now_ms()
    here.exchange.publish(ledger.delist(symbol, now_ms, reported=False), now_ms)
    for one in gone:
        here.observer.exchange.rows.put(("orders", one), None, now_ms)
    here.gaps.update((*gone, "REFUSED"))
    await here.noticed()
    await here.vouched()
    here.trade_on()


@scenario(
    CHAPTER,
    failure="an order ends with a status that no document has, while the stream is down",
    readers=RECOVERS,
    heals="its end is an event with the venue's word, or a `GAP` entry of the order; everything else goes on",
    log=(Logged("state", "connection closed"),),
)
async def status_unknown(here: Arena) -> None:
    await here.trade_off()
    symbol, _, number = (name := rest(here)).partition(":")
    await here.agree()
    here.untold.add(name)
    here.fault("refuse_sockets", count=1)
    here.fault("cut_sockets", kind="private")
    await here.noticed()
    now_ms = here.now_ms()
    here.exchange.publish(here.ledger.expire_by_risk(int(number), now_ms, symbol=symbol), now_ms)
    await here.vouched()
    entries = [entry for entry in await here.log() if f"{entry['symbol']}:{entry['orderId']}" == name]
    assert [entry["eventType"] for entry in entries][:-1] == ["NEW"]
    assert entries[-1]["eventType"] in ("EXPIRED_BY_RISK", "GAP")
    here.trade_on()


@scenario(
    CHAPTER,
    failure="one position's row in REST's answer has no size",
    readers="`recovering`; the position is shown as last known, and `reason` names it",
    heals="the row stands until an answer has it; everything else goes on",
    log=(Logged("state", "positionAmt"),),
)
async def row_unreadable(here: Arena) -> None:
    await here.until(lambda: bool(here.ledger.positions()), "an open position")
    await here.trade_off()
    await here.agree()
    rows = [row for row in here.dump()["positions"] if Decimal(row["positionAmt"])]
    rows[0] = rows[0] | {"positionAmt": None}
    here.begins()
    here.fault("answer_rest", count=1000, status=200, body=json.dumps(rows), path="/fapi/v3/positionRisk")
    await here.noticed()
    await asyncio.sleep(2.0)
    assert f"{rows[0]['symbol']}:{rows[0]['positionSide']}" in ((await here.stored()).positions or {})
    here.exchange.faults.rest.clear()
    here.over()
    here.trade_on()


@scenario(
    CHAPTER,
    failure="a leverage is null and totals are empty in REST's answers",
    readers="`live`; the fields are absent, and counted in `unreadableValues`",
    heals="by itself: the fields come back with the next answer that has them",
    log=(Logged("unreadable_value"),),
)
async def values_unreadable(here: Arena) -> None:
    await here.trade_off()
    await here.agree()
    dump = here.dump()
    symbols = [{"symbol": one, "marginType": "CROSSED", "leverage": None} for one in here.ledger.rules]
    body = {"assets": dump["assets"], "positions": []} | dict.fromkeys(dump["totals"], "")
    here.begins()
    for path, answer in (("/fapi/v1/symbolConfig", symbols), ("/fapi/v3/account", body)):
        here.fault("answer_rest", count=1000, status=200, body=json.dumps(answer), path=path)
    await here.until(lambda: here.logged("unreadable_value"), "the log to tell it")
    await asyncio.sleep(3.0)
    here.exchange.faults.rest.clear()
    here.over()
    here.trade_on()


@scenario(
    CHAPTER,
    failure="the venue lists orders of all symbols by their id, and 1,200 of one symbol come in a gap, before others",
    readers=RECOVERS,
    heals=GAP + ", in pages that hold whatever they are sorted by",
    log=(Logged("state", "connection closed"),),
)
async def histories_by_id(here: Arena) -> None:
    here.exchange.behave(orders_by_id=True)
    here.fault("refuse_sockets", count=1)
    here.fault("cut_sockets", kind="private")
    for _ in range(12):
        here.burst(200)
        await asyncio.sleep(0.01)
    here.trade(40)
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the venue lists orders by symbol alone (-1102), and a symbol is traded for the first time in a gap",
    readers=RECOVERS,
    heals="bookings of commission name the symbols; of other symbols' orders without a fill there is a `GAP` entry",
    log=(Logged("state", "connection closed"),),
)
async def histories_want_symbol(here: Arena) -> None:
    await here.trade_off()
    await here.agree()
    here.exchange.behave(orders_want_symbol=True)
    here.fault("refuse_sockets", count=1)
    here.fault("cut_sockets", kind="private")
    await here.noticed()
    ledger, now_ms = here.ledger, here.now_ms()
    traded = {event.order.symbol for event in ledger.order_events}
    symbol = min(ledger.rules, key=lambda one: one in traded)
    rules = ledger.rules[symbol]
    qty = (rules.min_notional * 2 / ledger.marks[symbol] // rules.step_size + 1) * rules.step_size
    request = OrderRequest(symbol=symbol, side=Side.BUY, type=OrderType.MARKET, qty=qty)
    here.exchange.publish(ledger.place(request, now_ms), now_ms)
    here.gaps.add("UNFILLED")
    await here.vouched()
    here.exchange.behave(orders_want_symbol=False)
    here.trade_on()

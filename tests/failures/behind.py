"""Failures of what REST says: it is behind the stream, by little or by much, at a cut or while the stream lives."""

from __future__ import annotations

import asyncio
from decimal import Decimal

from failures.matrix import Logged, scenario
from failures.stream import NOTHING, RECOVERS
from support.arena import Arena

from statecast.simulator.orders import AlgoRequest, OrderRequest, OrderType, Side

CHAPTER = "A venue whose answers are old"
PROVEN = "; `live` when an answer agrees that was asked for 3 s after connecting"
FAR_S = 18.0


def rest(here: Arena, age_ms: int = 0) -> str:
    """An order that rests far from the market, and was placed so long ago; its symbol and id."""
    ledger, now_ms = here.ledger, here.now_ms()
    rules = ledger.rules["BTCUSDT"]
    price = ledger.marks["BTCUSDT"] * Decimal("0.9") // rules.tick_size * rules.tick_size
    request = OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=rules.step_size * 20, price=price)
    here.exchange.publish(ledger.place(request, here.exchange.server_ms(now_ms) - age_ms), now_ms)
    return f"BTCUSDT:{ledger.open_orders('BTCUSDT')[-1].order_id}"


def stop(here: Arena) -> None:
    """A stop order far from the market."""
    ledger, now_ms = here.ledger, here.now_ms()
    rules = ledger.rules["BTCUSDT"]
    trigger = ledger.marks["BTCUSDT"] * Decimal("0.8") // rules.tick_size * rules.tick_size
    request = AlgoRequest(
        symbol="BTCUSDT", side=Side.SELL, type=OrderType.STOP_MARKET, qty=rules.step_size, trigger_price=trigger
    )
    here.exchange.publish(ledger.place_algo(request, here.exchange.server_ms(now_ms)), now_ms)


@scenario(
    CHAPTER,
    failure="REST is 1.5 seconds behind when the stream is cut: it lists nothing of what has just been traded",
    readers="`recovering`, then `live`; no row goes back",
    heals="the stream's rows stand" + PROVEN,
    log=(Logged("state", "connection closed"), Logged("state", "REST may have been behind")),
)
async def rest_behind_at_a_cut(here: Arena) -> None:
    here.fault("lag_rest", ms=1500)
    await here.traded(30)
    here.fault("cut_sockets", kind="private")
    await here.noticed()


@scenario(
    CHAPTER,
    failure="the same, and the venue says of an order that is younger than 2.5 seconds that it does not exist (-2013)",
    readers="`recovering`, then `live`; the order stays",
    heals="asks again until the venue knows the order" + PROVEN,
    log=(Logged("state", "connection closed"), Logged("histories_disagree", "BTCUSDT:algo-")),
)
async def order_unknown_at_a_cut(here: Arena) -> None:
    here.fault("lag_rest", ms=800)
    here.fault("hide_young_orders", ms=2500)
    await here.trade_off()
    rest(here)
    stop(here)
    await asyncio.sleep(0.3)
    here.fault("cut_sockets", kind="private")
    await here.noticed()
    await here.vouched()
    here.trade_on()
    here.over()


@scenario(
    CHAPTER,
    failure=f"REST is {FAR_S:.0f} seconds behind and more, while the stream lives",
    readers="`live` for 3 to 10 s; then `recovering`, with the stream's rows, until REST has caught up",
    heals="an older answer never replaces a newer row, and is no drift: the stream is kept",
    log=(Logged("state", "the venue differs"),),
)
async def rest_far_behind(here: Arena) -> None:
    here.fault("lag_rest", ms=60_000)
    await here.noticed()
    await asyncio.sleep(FAR_S - 10.0)
    here.fault("lag_rest", ms=0)
    here.over()
    await here.vouched()
    assert (await here.status())["drifts"] == "0"


@scenario(
    CHAPTER,
    failure="REST is half a second behind an order that changes the available balance, and then nothing happens",
    readers="`live`; `availableBalanceTimeMs` is before the order for as long as the figure is that of before it",
    heals="asks again 2 s and 10 s after the last change",
    found="at once, by the figure's own time",
)
async def figures_behind(here: Arena) -> None:
    await here.trade_off()
    await here.agree()
    here.fault("lag_rest", ms=500)
    changed_ms = here.now_ms()
    rest(here)

    async def figure() -> tuple[Decimal, int]:
        account = (await here.stored()).account or {}
        return Decimal(account["availableBalance"]), int(account["availableBalanceTimeMs"])

    truth = Decimal(here.dump()["totals"]["availableBalance"])
    while (found := await figure()) != (truth, max(found[1], changed_ms)):
        assert found[0] == truth or found[1] < changed_ms, "stamped later than it was true"
        await asyncio.sleep(0.02)
    here.fault("lag_rest", ms=0)
    here.over()
    here.trade_on()


@scenario(
    CHAPTER,
    failure="each of REST's answers is behind by a time of its own, of up to 2.5 seconds",
    readers=NOTHING,
    heals="rows are compared by their own times; what differs is asked for again, and is there by then",
)
async def rest_behind_by_endpoint(here: Arena) -> None:
    names = ("v3/account", "v3/positionRisk", "v1/openOrders", "v1/openAlgoOrders", "v1/allOrders", "v1/userTrades")
    for at, name in enumerate(names):
        here.fault("lag_rest", ms=500 * at, paths=[f"/fapi/{name}"])
    await asyncio.sleep(8.0)
    here.fault("lag_rest", ms=0)
    here.over()
    assert (await here.status())["drifts"] == "0"


@scenario(
    CHAPTER,
    failure="an order is amended and partly filled while the stream is down",
    readers=RECOVERS,
    heals="the venue lists the amendments of an order that it is asked about: all events are in the log, in sequence",
    log=(Logged("state", "connection closed"),),
    whole=True,
)
async def amended_in_a_gap(here: Arena) -> None:
    await here.trade_off()
    symbol, _, number = rest(here).partition(":")
    await here.agree()
    here.fault("refuse_sockets", count=1)
    here.fault("cut_sockets", kind="private")
    await here.noticed()
    ledger, order_id, tick = here.ledger, int(number), here.ledger.rules[symbol].tick_size
    for step in range(4):
        order, now_ms = ledger.order(symbol, order_id), here.now_ms()
        events = ledger.amend(order_id, qty=order.qty, price=order.price - tick, now_ms=now_ms, symbol=symbol)
        here.exchange.publish(events, now_ms)
        if step == 1:
            here.exchange.publish(ledger.fill_resting(order_id, order.qty / 4, now_ms + 1, symbol=symbol), now_ms)
        await asyncio.sleep(0.02)
    here.trade_on()

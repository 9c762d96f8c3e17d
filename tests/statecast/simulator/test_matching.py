from __future__ import annotations

import pytest
from support.ledger import BOTH, NOW, D, expect_refused, fills, new_ledger, order, summary

from statecast.simulator.events import (
    OrderChanged,
)
from statecast.simulator.orders import (
    Execution,
    ExpiryReason,
    OrderRequest,
    PositionSide,
    Refusal,
    Side,
    TimeInForce,
)


def test_a_market_order_pays_the_taker_fee_out_of_the_wallet() -> None:
    ledger = new_ledger()
    events = ledger.place(order(qty="0.1"), NOW + 5)
    assert summary(events) == ["NEW NEW", "TRADE FILLED"]
    [fill] = fills(events)
    assert fill.order.last_price == D("91250.5")
    assert fill.order.commission == D("4.562525")
    assert fill.account.balances[0].wallet_balance == D("9995.437475")
    assert fill.account.balances[0].change == 0
    assert fill.account.at_ms == fill.order.at_ms == NOW + 5
    assert ledger.position("BTCUSDT", BOTH).profit_at(ledger.marks["BTCUSDT"]) == D("-0.01")


def test_a_large_order_sweeps_the_book_in_several_trades() -> None:
    ledger = new_ledger("1000000")
    events = ledger.place(order(qty="2"), NOW)
    assert summary(events) == ["NEW NEW", "TRADE PARTIALLY_FILLED", "TRADE PARTIALLY_FILLED", "TRADE FILLED"]
    assert [fill.order.last_price for fill in fills(events)] == [D("91250.5"), D("91250.6"), D("91250.7")]


def test_a_resting_order_is_filled_in_parts_as_the_mark_reaches_it() -> None:
    ledger = new_ledger("1000000")
    ledger.place(order(qty="1", price="91000"), NOW)
    assert summary(ledger.move_mark("BTCUSDT", D(91000), NOW)) == ["TRADE PARTIALLY_FILLED"]
    events = ledger.move_mark("BTCUSDT", D(90990), NOW)
    assert summary(events) == ["TRADE FILLED"]
    assert fills(events)[0].order.is_maker
    assert fills(events)[0].order.commission == D("0.25") * 91000 * D("0.0002")


def test_ioc_expires_what_does_not_fill() -> None:
    ledger = new_ledger("1000000")
    events = ledger.place(order(qty="1", price="91250.5", time_in_force=TimeInForce.IOC), NOW)
    assert summary(events) == ["NEW NEW", "TRADE PARTIALLY_FILLED", "EXPIRED EXPIRED"]
    assert ledger.orders()[0].expiry_reason == ExpiryReason.IOC_REMAINDER
    assert ledger.orders()[0].filled_qty == D("0.75")


def test_fok_and_post_only_leave_no_trace_when_declined() -> None:
    ledger = new_ledger("1000000")
    expect_refused(
        Refusal.FOK_UNFILLABLE,
        ledger.place,
        order(qty="1", price="91250.5", time_in_force=TimeInForce.FOK),
        NOW,
    )
    expect_refused(Refusal.GTX_WOULD_TAKE, ledger.place, order(price="91260", time_in_force=TimeInForce.GTX), NOW)
    assert ledger.orders() == []
    assert ledger.order_events == []


def test_an_amendment_keeps_the_ids() -> None:
    ledger = new_ledger()
    ledger.place(order(price="90000", client_order_id="mine"), NOW)
    [before] = ledger.open_orders()
    [event] = ledger.amend(before.order_id, qty=D("0.2"), price=D(90100), now_ms=NOW + 1, modify_id="m1")
    assert isinstance(event, OrderChanged)
    assert (event.execution, event.modify_id) == (Execution.AMENDMENT, "m1")
    [after] = ledger.open_orders()
    assert (after.order_id, after.client_order_id) == (before.order_id, "mine")
    assert (after.qty, after.price) == (D("0.2"), D(90100))
    expect_refused(Refusal.NOTHING_TO_AMEND, ledger.amend, after.order_id, qty=D("0.2"), price=D(90100), now_ms=NOW)


def test_an_amendment_across_the_book_trades() -> None:
    ledger = new_ledger()
    ledger.place(order(price="90000"), NOW)
    events = ledger.amend(ledger.open_orders()[0].order_id, qty=D("0.1"), price=D(91300), now_ms=NOW)
    assert summary(events) == ["AMENDMENT NEW", "TRADE FILLED"]


def test_an_amendment_below_what_is_filled_cancels() -> None:
    ledger = new_ledger()
    ledger.place(order(price="91000"), NOW)
    order_id = ledger.open_orders()[0].order_id
    ledger.fill_resting(order_id, D("0.05"), NOW)
    assert summary(ledger.amend(order_id, qty=D("0.05"), price=D(91000), now_ms=NOW)) == ["CANCELED CANCELED"]


@pytest.mark.parametrize(
    ("request_", "refusal"),
    [
        (order(symbol="NOPE"), Refusal.UNKNOWN_SYMBOL),
        (order(qty="0"), Refusal.QTY_NOT_POSITIVE),
        (order(qty="0.0005"), Refusal.QTY_PRECISION),
        (order(qty="1000"), Refusal.QTY_TOO_LARGE),
        (order(price="90000.05"), Refusal.PRICE_PRECISION),
        (order(price="150000"), Refusal.PRICE_TOO_HIGH),
        (order(price="10000"), Refusal.PRICE_TOO_LOW),
        (order(qty="0.001", price="90000"), Refusal.NOTIONAL_TOO_SMALL),
        (order(qty="10"), Refusal.MARGIN_INSUFFICIENT),
        (order(reduce_only=True), Refusal.REDUCE_ONLY),
        (order(position_side=PositionSide.LONG), Refusal.POSITION_SIDE),
    ],
    ids=lambda value: value.name if isinstance(value, Refusal) else "",
)
def test_what_is_declined_changes_nothing(request_: OrderRequest, refusal: Refusal) -> None:
    ledger = new_ledger()
    expect_refused(refusal, ledger.place, request_, NOW)
    assert ledger.order_events == []
    assert ledger.asset_margin("USDT").available == 10_000


def test_a_client_order_id_is_free_again_when_its_order_is_done() -> None:
    ledger = new_ledger()
    ledger.place(order(price="90000", client_order_id="mine"), NOW)
    expect_refused(Refusal.DUPLICATE_CLIENT_ID, ledger.place, order(price="90000", client_order_id="mine"), NOW)
    ledger.cancel(ledger.open_orders()[0].order_id, NOW)
    ledger.place(order(price="90000", client_order_id="mine"), NOW)


def test_closing_reports_the_flat_row_once() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    [fill] = fills(ledger.place(order(Side.SELL, reduce_only=True), NOW))
    [row] = fill.account.positions
    assert row.position.amount == 0
    assert row.position.entry_price == 0
    assert fill.order.realised == D("-0.02")
    assert ledger.positions() == []
    assert ledger.active_symbols() == []


def test_orders_that_no_longer_reduce_expire() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    ledger.place(order(Side.SELL, price="92000", reduce_only=True), NOW)
    expect_refused(Refusal.REDUCE_ONLY, ledger.place, order(Side.SELL, price="92000", reduce_only=True), NOW)
    events = ledger.place(order(Side.SELL), NOW)
    assert summary(events) == ["NEW NEW", "TRADE FILLED", "EXPIRED EXPIRED"]
    assert ledger.orders()[1].expiry_reason == ExpiryReason.REDUCE_ONLY


def test_hedge_mode_keeps_long_and_short_apart() -> None:
    ledger = new_ledger(hedge=True)
    ledger.place(order(position_side=PositionSide.LONG), NOW)
    ledger.place(order(Side.SELL, qty="0.05", position_side=PositionSide.SHORT), NOW)
    assert ledger.position("BTCUSDT", PositionSide.LONG).amount == D("0.1")
    assert ledger.position("BTCUSDT", PositionSide.SHORT).amount == D("-0.05")
    too_much = order(Side.SELL, qty="0.2", position_side=PositionSide.LONG)
    expect_refused(Refusal.REDUCE_ONLY, ledger.place, too_much, NOW)
    flagged = order(Side.SELL, position_side=PositionSide.LONG, reduce_only=True)
    expect_refused(Refusal.REDUCE_ONLY_IN_HEDGE, ledger.place, flagged, NOW)
    expect_refused(Refusal.MODE_POSITION, ledger.set_hedge, enabled=False)

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from statecast.simulator.events import (
    AccountChanged,
    AlgoChanged,
    Event,
    Filled,
    LeverageChanged,
    MarginCalled,
    OrderChanged,
    Reason,
)
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import (
    AlgoRequest,
    AlgoStatus,
    Execution,
    ExpiryReason,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionSide,
    Refusal,
    Refused,
    Side,
    TimeInForce,
)

NOW = 1_793_000_000_000
D = Decimal


def new_ledger(usdt: str = "10000", **options: Any) -> Ledger:
    return Ledger({"USDT": D(usdt), "USDC": D(1000)}, now_ms=NOW, **options)


def order(side: Side = Side.BUY, qty: str = "0.1", price: str = "", **fields: Any) -> OrderRequest:
    kind = OrderType.LIMIT if price else OrderType.MARKET
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": side, "type": kind, "qty": D(qty), "price": D(price or 0)}
    return OrderRequest(**(values | fields))


def algo(side: Side = Side.SELL, trigger: str = "88000", **fields: Any) -> AlgoRequest:
    values: dict[str, Any] = {"symbol": "BTCUSDT", "side": side, "type": OrderType.STOP_MARKET}
    return AlgoRequest(**(values | {"qty": D("0.1"), "trigger_price": D(trigger)} | fields))


def fills(events: list[Event]) -> list[Filled]:
    return [event for event in events if isinstance(event, Filled)]


def tells(events: list[Event]) -> list[str]:
    """Each event in two words."""
    words: list[str] = []
    for event in events:
        match event:
            case Filled(change, _) | (OrderChanged() as change):
                words.append(f"{change.execution} {change.order.status}")
            case AlgoChanged():
                words.append(f"algo {event.algo.status}")
            case AccountChanged():
                words.append(f"account {event.reason}")
            case _:
                words.append(type(event).__name__)
    return words


def expect_refused(refusal: Refusal, call: Any, *args: Any, **kwargs: Any) -> None:
    with pytest.raises(Refused) as caught:
        call(*args, **kwargs)
    assert caught.value.refusal is refusal


BOTH = PositionSide.BOTH

# -- orders ----------------------------------------------------------------------------------------------------------


def test_a_resting_order_changes_no_balance() -> None:
    ledger = new_ledger()
    assert tells(ledger.place(order(price="90000"), NOW)) == ["NEW NEW"]
    [resting] = ledger.open_orders()
    assert ledger.asset_margin("USDT").open_order_initial == D(450)
    assert ledger.asset_margin("USDT").available == D(9550)
    assert tells(ledger.cancel(resting.order_id, NOW)) == ["CANCELED CANCELED"]
    assert ledger.asset_margin("USDT").available == D(10000)
    assert ledger.wallet("USDT").balance == D(10000)


def test_a_market_order_pays_the_taker_fee_out_of_the_wallet() -> None:
    ledger = new_ledger()
    events = ledger.place(order(qty="0.1"), NOW + 5)
    assert tells(events) == ["NEW NEW", "TRADE FILLED"]
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
    assert tells(events) == ["NEW NEW", "TRADE PARTIALLY_FILLED", "TRADE PARTIALLY_FILLED", "TRADE FILLED"]
    assert [fill.order.last_price for fill in fills(events)] == [D("91250.5"), D("91250.6"), D("91250.7")]


def test_a_resting_order_is_filled_in_parts_as_the_mark_reaches_it() -> None:
    ledger = new_ledger("1000000")
    ledger.place(order(qty="1", price="91000"), NOW)
    assert tells(ledger.move_mark("BTCUSDT", D(91000), NOW)) == ["TRADE PARTIALLY_FILLED"]
    events = ledger.move_mark("BTCUSDT", D(90990), NOW)
    assert tells(events) == ["TRADE FILLED"]
    assert fills(events)[0].order.is_maker
    assert fills(events)[0].order.commission == D("0.25") * 91000 * D("0.0002")


def test_ioc_expires_what_does_not_fill() -> None:
    ledger = new_ledger("1000000")
    events = ledger.place(order(qty="1", price="91250.5", time_in_force=TimeInForce.IOC), NOW)
    assert tells(events) == ["NEW NEW", "TRADE PARTIALLY_FILLED", "EXPIRED EXPIRED"]
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
    assert tells(events) == ["AMENDMENT NEW", "TRADE FILLED"]


def test_an_amendment_below_what_is_filled_cancels() -> None:
    ledger = new_ledger()
    ledger.place(order(price="91000"), NOW)
    order_id = ledger.open_orders()[0].order_id
    ledger.fill_resting(order_id, D("0.05"), NOW)
    assert tells(ledger.amend(order_id, qty=D("0.05"), price=D(91000), now_ms=NOW)) == ["CANCELED CANCELED"]


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


# -- positions -------------------------------------------------------------------------------------------------------


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
    assert tells(events) == ["NEW NEW", "TRADE FILLED", "EXPIRED EXPIRED"]
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


def test_isolated_margin_leaves_the_cross_wallet() -> None:
    ledger = new_ledger()
    ledger.set_margin_type("BTCUSDT", NOW, isolated=True)
    ledger.place(order(), NOW)
    row = ledger.position("BTCUSDT", BOTH)
    assert row.isolated_wallet == D("456.2525")
    assert ledger.cross_wallet("USDT") == ledger.wallet("USDT").balance - row.isolated_wallet
    [event] = ledger.add_isolated_margin("BTCUSDT", BOTH, D(50), NOW)
    assert isinstance(event, AccountChanged)
    assert event.reason is Reason.MARGIN_TRANSFER
    assert ledger.position("BTCUSDT", BOTH).isolated_wallet == D("506.2525")


def test_the_margin_type_is_told_with_rows_that_exist() -> None:
    ledger = new_ledger()
    assert ledger.set_margin_type("BTCUSDT", NOW, isolated=True) == []
    ledger.place(order(), NOW)
    expect_refused(Refusal.MARGIN_TYPE_POSITION, ledger.set_margin_type, "BTCUSDT", NOW, isolated=False)
    ledger.place(order(Side.SELL), NOW)
    [event] = ledger.set_margin_type("BTCUSDT", NOW, isolated=False)
    assert isinstance(event, AccountChanged)
    assert (event.reason, event.balances) == (Reason.MARGIN_TYPE_CHANGE, ())
    assert [row.position.amount for row in event.positions] == [0]
    expect_refused(Refusal.MARGIN_TYPE_SAME, ledger.set_margin_type, "BTCUSDT", NOW, isolated=False)


# -- conditional orders ----------------------------------------------------------------------------------------------


def test_a_stop_goes_through_its_whole_life() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    assert tells(ledger.place_algo(algo(client_algo_id="sl-1"), NOW)) == ["algo NEW"]
    assert ledger.move_mark("BTCUSDT", D("88000.1"), NOW) == []
    events = ledger.move_mark("BTCUSDT", D(88000), NOW + 9)
    assert tells(events) == ["algo TRIGGERING", "NEW NEW", "algo TRIGGERED", "TRADE FILLED", "algo FINISHED"]
    done = ledger.algo(client_algo_id="sl-1")
    child = ledger.order("BTCUSDT", done.order_id)
    assert (child.client_order_id, child.type, child.original_type) == (
        "sl-1",
        OrderType.MARKET,
        OrderType.STOP_MARKET,
    )
    assert (done.filled_qty, done.average_price, done.triggered_at_ms) == (D("0.1"), D("87999.9"), NOW + 9)
    assert ledger.open_algos() == []


def test_a_triggered_limit_rests_and_finishes_when_cancelled() -> None:
    ledger = new_ledger()
    request = algo(Side.BUY, "92000", type=OrderType.STOP, price=D(91000), qty=D("0.01"))
    ledger.place_algo(request, NOW)
    assert tells(ledger.move_mark("BTCUSDT", D(92000), NOW)) == ["algo TRIGGERING", "NEW NEW", "algo TRIGGERED"]
    [child] = ledger.open_orders()
    assert child.type is OrderType.LIMIT
    assert tells(ledger.cancel(child.order_id, NOW)) == ["CANCELED CANCELED", "algo FINISHED"]


def test_the_engine_may_refuse_a_triggered_order() -> None:
    ledger = new_ledger("100")
    ledger.place_algo(algo(Side.BUY, "92000", qty=D(1)), NOW)
    assert tells(ledger.move_mark("BTCUSDT", D(92000), NOW)) == ["algo TRIGGERING", "algo REJECTED"]
    assert ledger.algos()[0].refusal is Refusal.MARGIN_INSUFFICIENT
    assert ledger.orders() == []


def test_a_closing_stop_expires_with_its_position() -> None:
    ledger = new_ledger()
    expect_refused(Refusal.REDUCE_ONLY, ledger.place_algo, algo(close_position=True), NOW)
    ledger.place(order(), NOW)
    ledger.place_algo(algo(close_position=True), NOW)
    expect_refused(Refusal.CLOSE_POSITION_EXISTS, ledger.place_algo, algo(close_position=True), NOW)
    assert tells(ledger.place(order(Side.SELL), NOW)) == ["NEW NEW", "TRADE FILLED", "algo EXPIRED"]


def test_a_closing_stop_closes_everything() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    ledger.place(order(Side.SELL, qty="0.05", price="93000", reduce_only=True), NOW)
    ledger.place_algo(algo(close_position=True), NOW)
    events = ledger.move_mark("BTCUSDT", D(87990), NOW)
    assert tells(events)[:2] == ["algo TRIGGERING", "EXPIRED EXPIRED"]
    assert tells(events)[-1] == "algo FINISHED"
    assert ledger.positions() == []


def test_a_trailing_stop_is_activated_follows_and_turns() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    request = algo(
        type=OrderType.TRAILING_STOP_MARKET, trigger_price=D(0), activation_price=D(92000), callback_rate=D(1)
    )
    [placed] = ledger.place_algo(request, NOW)
    assert isinstance(placed, AlgoChanged)
    assert not placed.algo.activated
    [activated] = ledger.move_mark("BTCUSDT", D(92000), NOW)
    assert isinstance(activated, AlgoChanged)
    assert (activated.algo.status, activated.algo.activated) == (AlgoStatus.NEW, True)
    assert ledger.move_mark("BTCUSDT", D(94000), NOW) == []
    assert ledger.move_mark("BTCUSDT", D("93060.1"), NOW) == []
    assert tells(ledger.move_mark("BTCUSDT", D(93060), NOW))[0] == "algo TRIGGERING"


def test_conditionals_that_would_trigger_at_once_are_declined() -> None:
    ledger = new_ledger()
    expect_refused(Refusal.IMMEDIATE_TRIGGER, ledger.place_algo, algo(trigger="95000"), NOW)
    [event] = ledger.place_algo(algo(), NOW)
    assert isinstance(event, AlgoChanged)
    assert tells(ledger.cancel_algo(event.algo.algo_id, NOW)) == ["algo CANCELED"]
    expect_refused(Refusal.UNKNOWN_ORDER, ledger.cancel_algo, event.algo.algo_id, NOW)


# -- account ---------------------------------------------------------------------------------------------------------


def test_longs_pay_positive_funding_and_no_position_is_named() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    before = ledger.wallet("USDT").balance
    [event] = ledger.fund("BTCUSDT", NOW)
    assert isinstance(event, AccountChanged)
    assert (event.reason, event.symbol, event.positions) == (Reason.FUNDING_FEE, "BTCUSDT", ())
    assert event.balances[0].change == D("-0.912504")
    assert ledger.wallet("USDT").balance == before + event.balances[0].change
    assert ledger.fund("ETHUSDT", NOW) == []


def test_isolated_funding_names_its_position() -> None:
    ledger = new_ledger()
    ledger.set_margin_type("BTCUSDT", NOW, isolated=True)
    ledger.place(order(Side.SELL), NOW)
    cross = ledger.cross_wallet("USDT")
    [event] = ledger.fund("BTCUSDT", NOW)
    assert isinstance(event, AccountChanged)
    [row] = event.positions
    assert row.position.isolated_wallet == D("456.2515") + event.balances[0].change
    assert ledger.cross_wallet("USDT") == cross


def test_transfers_stop_at_what_is_free() -> None:
    ledger = new_ledger()
    [event] = ledger.transfer("USDT", D("25.5"), NOW)
    assert isinstance(event, AccountChanged)
    assert (event.reason, event.positions) == (Reason.DEPOSIT, ())
    ledger.place(order(), NOW)
    expect_refused(Refusal.BALANCE_INSUFFICIENT, ledger.transfer, "USDT", D(-9800), NOW)
    [out] = ledger.transfer("USDT", D(-9000), NOW)
    assert isinstance(out, AccountChanged)
    assert (out.reason, out.balances[0].change) == (Reason.WITHDRAW, D(-9000))
    [fresh] = ledger.transfer("BNB", D(2), NOW)
    assert isinstance(fresh, AccountChanged)
    assert ledger.wallet("BNB").balance == 2


def test_leverage() -> None:
    ledger = new_ledger()
    assert ledger.set_leverage("BTCUSDT", 50, NOW) == [LeverageChanged(NOW, "BTCUSDT", 50)]
    assert ledger.set_leverage("BTCUSDT", 50, NOW) == []
    ledger.place(order(qty="2"), NOW)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.set_leverage, "BTCUSDT", 2, NOW)
    expect_refused(Refusal.LEVERAGE_INVALID, ledger.set_leverage, "BTCUSDT", 126, NOW)


def test_thin_margin_is_called_once_and_then_liquidated() -> None:
    ledger = new_ledger("500")
    ledger.place(order(), NOW)
    ledger.place(order(qty="0.002", price="85000"), NOW)
    assert ledger.move_mark("BTCUSDT", D(87500), NOW) == []
    called = ledger.move_mark("BTCUSDT", D(86700), NOW)
    assert [type(event) for event in called] == [MarginCalled]
    assert ledger.move_mark("BTCUSDT", D(86690), NOW) == []
    events = ledger.move_mark("BTCUSDT", D(86600), NOW)
    assert tells(events)[:2] == ["EXPIRED EXPIRED", "CALCULATED FILLED"]
    [fill] = fills(events)
    assert fill.order.order.client_order_id.startswith("autoclose-")
    assert fill.order.order.type is OrderType.LIQUIDATION
    assert ledger.positions() == []
    assert ledger.orders()[1].expiry_reason == ExpiryReason.LIQUIDATION


def test_the_insurance_fund_clears_a_deficit() -> None:
    ledger = new_ledger("500")
    ledger.place(order(), NOW)
    events = ledger.move_mark("BTCUSDT", D(80000), NOW)
    assert tells(events) == ["CALCULATED FILLED", "account INSURANCE_CLEAR"]
    assert ledger.wallet("USDT").balance == 0


def test_pooled_assets_carry_each_others_orders() -> None:
    ledger = Ledger({"USDT": D(10), "USDC": D(5000)}, now_ms=NOW)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.place, order(), NOW)
    ledger.set_multi_assets(NOW, enabled=True)
    ledger.place(order(), NOW)
    assert ledger.asset_margin("USDC").available < 4600
    expect_refused(Refusal.MARGIN_TYPE_MULTI_ASSETS, ledger.set_margin_type, "ETHUSDT", NOW, isolated=True)
    expect_refused(Refusal.MARGIN_INSUFFICIENT, ledger.set_multi_assets, NOW, enabled=False)


def test_order_events_are_numbered_without_gaps() -> None:
    ledger = new_ledger()
    for _ in range(3):
        ledger.place(order(), NOW)
        ledger.place(order(Side.SELL), NOW)
    assert [event.index for event in ledger.order_events] == list(range(12))
    assert ledger.order_events_seen == 12
    assert ledger.orders()[0].status is OrderStatus.FILLED

from __future__ import annotations

from support.ledger import NOW, D, algo, expect_refused, new_ledger, order, summary

from statecast.simulator.events import (
    AlgoChanged,
)
from statecast.simulator.orders import (
    AlgoStatus,
    OrderType,
    Refusal,
    Side,
)


def test_a_stop_goes_through_its_whole_life() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    assert summary(ledger.place_algo(algo(client_algo_id="sl-1"), NOW)) == ["algo NEW"]
    assert ledger.move_mark("BTCUSDT", D("88000.1"), NOW) == []
    events = ledger.move_mark("BTCUSDT", D(88000), NOW + 9)
    assert summary(events) == ["algo TRIGGERING", "NEW NEW", "algo TRIGGERED", "TRADE FILLED", "algo FINISHED"]
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
    assert summary(ledger.move_mark("BTCUSDT", D(92000), NOW)) == ["algo TRIGGERING", "NEW NEW", "algo TRIGGERED"]
    [child] = ledger.open_orders()
    assert child.type is OrderType.LIMIT
    assert summary(ledger.cancel(child.order_id, NOW)) == ["CANCELED CANCELED", "algo FINISHED"]


def test_the_engine_may_refuse_a_triggered_order() -> None:
    ledger = new_ledger("100")
    ledger.place_algo(algo(Side.BUY, "92000", qty=D(1)), NOW)
    assert summary(ledger.move_mark("BTCUSDT", D(92000), NOW)) == ["algo TRIGGERING", "algo REJECTED"]
    assert ledger.algos()[0].refusal is Refusal.MARGIN_INSUFFICIENT
    assert ledger.orders() == []


def test_a_closing_stop_expires_with_its_position() -> None:
    ledger = new_ledger()
    expect_refused(Refusal.REDUCE_ONLY, ledger.place_algo, algo(close_position=True), NOW)
    ledger.place(order(), NOW)
    ledger.place_algo(algo(close_position=True), NOW)
    expect_refused(Refusal.CLOSE_POSITION_EXISTS, ledger.place_algo, algo(close_position=True), NOW)
    assert summary(ledger.place(order(Side.SELL), NOW)) == ["NEW NEW", "TRADE FILLED", "algo EXPIRED"]


def test_a_closing_stop_closes_everything() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    ledger.place(order(Side.SELL, qty="0.05", price="93000", reduce_only=True), NOW)
    ledger.place_algo(algo(close_position=True), NOW)
    events = ledger.move_mark("BTCUSDT", D(87990), NOW)
    assert summary(events)[:2] == ["algo TRIGGERING", "EXPIRED EXPIRED"]
    assert summary(events)[-1] == "algo FINISHED"
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
    assert summary(ledger.move_mark("BTCUSDT", D(93060), NOW))[0] == "algo TRIGGERING"


def test_conditionals_that_would_trigger_at_once_are_declined() -> None:
    ledger = new_ledger()
    expect_refused(Refusal.IMMEDIATE_TRIGGER, ledger.place_algo, algo(trigger="95000"), NOW)
    [event] = ledger.place_algo(algo(), NOW)
    assert isinstance(event, AlgoChanged)
    assert summary(ledger.cancel_algo(event.algo.algo_id, NOW)) == ["algo CANCELED"]
    expect_refused(Refusal.UNKNOWN_ORDER, ledger.cancel_algo, event.algo.algo_id, NOW)

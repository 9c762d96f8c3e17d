from __future__ import annotations

from support.ledger import NOW, D, expect_refused, new_ledger, order

from statecast.simulator.book import History, Trade
from statecast.simulator.orders import Order, OrderStatus, Refusal, Side


def test_order_events_are_numbered_without_gaps() -> None:
    ledger = new_ledger()
    for _ in range(3):
        ledger.place(order(), NOW)
        ledger.place(order(Side.SELL), NOW)
    assert [event.index for event in ledger.order_events] == list(range(12))
    assert ledger.order_events_seen == 12
    assert ledger.orders()[0].status is OrderStatus.FILLED


def test_of_several_orders_with_one_client_id_the_latest_is_found() -> None:
    ledger = new_ledger()
    for price in ("90000", "90100"):
        ledger.place(order(price=price, client_order_id="mine"), NOW)
        ledger.cancel(ledger.open_orders()[0].order_id, NOW)
    assert ledger.order("BTCUSDT", client_order_id="mine").price == 90100
    expect_refused(Refusal.UNKNOWN_ORDER, ledger.order, "ETHUSDT", client_order_id="mine")
    expect_refused(Refusal.UNKNOWN_ORDER, ledger.algo, client_algo_id="mine")


def test_what_the_exchange_does_not_list_is_declined() -> None:
    expect_refused(Refusal.UNKNOWN_SYMBOL, new_ledger().settings, "NOPE")


def test_the_history_drops_its_older_half_at_its_limit() -> None:
    history = History(limit=4)
    for number in range(5):
        history.add_income("TRANSFER", "USDT", D(number), "", NOW)
        history.add_trade(Trade(an_order(), number, D(1), D(1), D(0), "USDT", D(0), is_maker=False, at_ms=NOW))
    assert [income.amount for income in history.incomes] == [2, 3, 4]
    assert [trade.trade_id for trade in history.trades] == [2, 3, 4]
    assert len({income.transaction_id for income in history.incomes}) == 3


def an_order() -> Order:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    return ledger.orders()[0]

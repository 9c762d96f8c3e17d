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


def test_two_symbols_have_one_id_where_each_numbers_its_own() -> None:
    ledger = new_ledger(ids_per_symbol=True)
    for symbol, price in (("BTCUSDT", "90000"), ("ETHUSDT", "2800"), ("BTCUSDT", "90100")):
        ledger.place(order(symbol=symbol, price=price), NOW)
    btc, eth, second = ledger.open_orders()
    assert (btc.order_id, second.order_id) == (eth.order_id, eth.order_id + 1)
    expect_refused(Refusal.UNKNOWN_ORDER, ledger.cancel, btc.order_id, NOW)
    ledger.fill_resting(btc.order_id, D("0.1"), NOW, symbol="BTCUSDT")
    ledger.fill_resting(eth.order_id, D("0.1"), NOW, symbol="ETHUSDT")
    assert [trade.trade_id for trade in ledger.trades] == [ledger.trades[0].trade_id] * 2
    assert ledger.order("ETHUSDT", eth.order_id).price == 2800
    ledger.cancel(second.order_id, NOW)
    assert ledger.open_orders() == []


def test_ids_are_the_exchanges_else() -> None:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    ledger.place(order(symbol="ETHUSDT"), NOW)
    first, second = ledger.orders()
    assert second.order_id == first.order_id + 1
    assert ledger.trades[1].trade_id == ledger.trades[0].trade_id + 1


def an_order() -> Order:
    ledger = new_ledger()
    ledger.place(order(), NOW)
    return ledger.orders()[0]

from __future__ import annotations

from support.binance_account import NOW, Account, error


def test_unfilled_orders_are_forgotten_after_three_days() -> None:
    account = Account()
    placed = account.order(type="LIMIT", price="90000", timeInForce="GTC")
    ids = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    account.signed("DELETE", "/fapi/v1/order", **ids)
    account.now_ms += 3 * 86_400_000 - 1
    assert account.get("/fapi/v1/order", **ids)["status"] == "CANCELED"
    account.now_ms += 1
    assert error(account.signed("GET", "/fapi/v1/order", **ids)) == (400, -2013)
    assert account.get("/fapi/v1/allOrders", symbol="BTCUSDT") == []


def test_history_pages() -> None:
    account = Account()
    for _ in range(3):
        account.order(quantity="0.01")
        account.now_ms += 10
    trades = account.get("/fapi/v1/userTrades", symbol="BTCUSDT")
    assert [trade["id"] for trade in trades] == [5512345678, 5512345679, 5512345680]
    later = account.get("/fapi/v1/userTrades", symbol="BTCUSDT", fromId=5512345679, limit=1)
    assert [trade["id"] for trade in later] == [5512345679]
    since = account.get("/fapi/v1/allOrders", symbol="BTCUSDT", startTime=NOW + 10)
    assert [order["orderId"] for order in since] == [8886774002, 8886774003]
    span = {"startTime": NOW, "endTime": NOW + 8 * 86_400_000}
    assert error(account.signed("GET", "/fapi/v1/allOrders", symbol="BTCUSDT", **span)) == (400, -1127)


def test_amendments_of_an_order_newest_first() -> None:
    account = Account()
    placed = account.order(type="LIMIT", price="90000", timeInForce="GTC", quantity="0.01")
    ids = {"symbol": "BTCUSDT", "orderId": placed["orderId"]}
    for price in ("90001", "90002"):
        account.now_ms += 10
        account.signed("PUT", "/fapi/v1/order", **ids, side="BUY", quantity="0.02", price=price)
    rows = account.get("/fapi/v1/orderAmendment", **ids)
    assert [(row["time"], row["amendment"]["count"]) for row in rows] == [(NOW + 20, 2), (NOW + 10, 1)]
    assert rows[1]["amendment"]["price"] == {"before": "90000", "after": "90001"}
    assert rows[1]["amendment"]["origQty"] == {"before": "0.01", "after": "0.02"}
    assert len(account.get("/fapi/v1/orderAmendment", **ids, endTime=NOW + 10)) == 1
    assert error(account.signed("GET", "/fapi/v1/orderAmendment", symbol="BTCUSDT", orderId=1)) == (400, -2013)


def test_habits_of_which_no_document_says_whether_the_venue_has_them() -> None:
    account = Account()
    for symbol in ("ETHUSDT", "BTCUSDT"):
        account.order(symbol=symbol, quantity="0.01" if symbol == "BTCUSDT" else "0.1")
    listed = "/fapi/v1/allOrders"
    assert [row["symbol"] for row in account.get(listed)] == ["ETHUSDT", "BTCUSDT"]
    account.exchange.behave(orders_by_id=True)
    assert [row["symbol"] for row in account.get(listed)] == ["BTCUSDT", "ETHUSDT"]
    account.exchange.behave(orders_want_symbol=True)
    assert error(account.signed("GET", listed)) == (400, -1102)
    assert len(account.get(listed, symbol="BTCUSDT")) == 1
    account.exchange.behave(history_ms=1_000)
    assert error(account.signed("GET", listed, symbol="BTCUSDT", startTime=NOW - 1_001)) == (400, -4166)
    assert len(account.get(listed, symbol="BTCUSDT", startTime=NOW - 1_000)) == 1

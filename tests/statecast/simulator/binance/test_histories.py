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

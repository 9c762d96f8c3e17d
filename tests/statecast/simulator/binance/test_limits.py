from __future__ import annotations

import json

from support.binance_account import NOW, Account, error


def test_weights_are_counted_per_minute() -> None:
    account = Account()
    account.now_ms = NOW // 60_000 * 60_000
    assert account.signed("GET", "/fapi/v1/openOrders").headers["X-MBX-USED-WEIGHT-1M"] == "40"
    assert account.signed("GET", "/fapi/v1/openOrders", symbol="BTCUSDT").headers["X-MBX-USED-WEIGHT-1M"] == "41"
    account.now_ms += 60_000
    assert account.signed("GET", "/fapi/v3/account").headers["X-MBX-USED-WEIGHT-1M"] == "5"


def test_who_goes_on_after_429_is_banned() -> None:
    account = Account(weight_limit=20)
    account.now_ms = NOW // 60_000 * 60_000
    for _ in range(4):
        account.get("/fapi/v3/account")
    limited = [account.signed("GET", "/fapi/v3/account") for _ in range(10)]
    assert {error(one) for one in limited} == {(429, -1003)}
    banned = account.signed("GET", "/fapi/v3/account")
    assert error(banned) == (418, -1003)
    assert f"IP banned until {account.now_ms + 120_000}" in json.loads(banned.body)["msg"]
    assert banned.headers["Retry-After"] == "120"
    account.now_ms += 119_999
    assert account.raw("GET", "/fapi/v1/time").status == 418
    account.now_ms += 1
    assert account.raw("GET", "/fapi/v1/time").status == 200


def test_order_counts() -> None:
    account = Account()
    answer = account.signed("POST", "/fapi/v1/order", symbol="BTCUSDT", side="BUY", type="MARKET", quantity="0.01")
    assert answer.headers["X-MBX-ORDER-COUNT-10S"] == "1"
    assert answer.headers["X-MBX-ORDER-COUNT-1M"] == "1"


def test_the_limit_can_be_changed_and_the_use_hidden() -> None:
    account = Account(weight_limit=5)
    account.get("/fapi/v3/account")
    assert error(account.signed("GET", "/fapi/v3/account")) == (429, -1003)
    account.exchange.limits.allow(1000, shown=False)
    assert account.signed("GET", "/fapi/v3/account").headers["X-MBX-USED-WEIGHT-1M"] == "-1"
    assert account.exchange.limits.weight_used == 15


def test_what_other_programs_use_is_counted_over_the_minute() -> None:
    account = Account(weight_limit=200)
    account.now_ms = NOW // 60_000 * 60_000
    account.exchange.fault("other_programs", {"weight": 190}, account.now_ms)

    def used() -> str:
        return account.signed("GET", "/fapi/v3/account").headers["X-MBX-USED-WEIGHT-1M"]

    assert used() == "5"
    account.now_ms += 30_000
    assert used() == "105"
    account.now_ms += 29_999
    assert used() == "204"
    assert error(account.signed("GET", "/fapi/v3/account")) == (429, -1003)
    account.now_ms += 1
    assert used() == "5"
    account.exchange.fault("clear", {}, account.now_ms)
    account.now_ms += 30_000
    assert used() == "10"

"""Answers have the keys of the documented samples (REST pages, read 2026-11): no fewer, and none that v3 dropped."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from statecast.simulator.binance.errors import ApiError
from statecast.simulator.binance.rest import ROUTES, Params, RestApi
from statecast.simulator.ledger import Ledger

NOW = 1_793_000_000_000

ACCOUNT = (
    "totalInitialMargin totalMaintMargin totalWalletBalance totalUnrealizedProfit totalMarginBalance "
    "totalPositionInitialMargin totalOpenOrderInitialMargin totalCrossWalletBalance totalCrossUnPnl availableBalance "
    "maxWithdrawAmount assets positions"
)
ASSET = (
    "asset walletBalance unrealizedProfit marginBalance maintMargin initialMargin positionInitialMargin "
    "openOrderInitialMargin crossWalletBalance crossUnPnl availableBalance maxWithdrawAmount updateTime"
)
ACCOUNT_POSITION = (
    "symbol positionSide positionAmt unrealizedProfit isolatedMargin notional isolatedWallet initialMargin maintMargin "
    "updateTime"
)
BALANCE = (
    "accountAlias asset balance crossWalletBalance crossUnPnl availableBalance maxWithdrawAmount marginAvailable "
    "updateTime"
)
RISK = (
    "symbol positionSide positionAmt entryPrice breakEvenPrice markPrice unRealizedProfit liquidationPrice "
    "isolatedMargin notional marginAsset isolatedWallet initialMargin maintMargin positionInitialMargin "
    "openOrderInitialMargin adl bidNotional askNotional updateTime"
)
ORDER = (
    "avgPrice clientOrderId cumQuote executedQty orderId origQty origType price reduceOnly side positionSide status "
    "stopPrice closePosition symbol time timeInForce type updateTime workingType priceProtect priceMatch "
    "selfTradePreventionMode goodTillDate"
)
ALGO = (
    "algoId clientAlgoId algoType orderType symbol side positionSide timeInForce quantity algoStatus actualOrderId "
    "actualPrice triggerPrice price icebergQuantity tpTriggerPrice tpPrice slTriggerPrice slPrice tpOrderType "
    "selfTradePreventionMode workingType priceMatch closePosition priceProtect reduceOnly createTime updateTime "
    "triggerTime goodTillDate"
)
TRADE = (
    "buyer commission commissionAsset id maker orderId price qty quoteQty baseQty marginAsset realizedPnl side "
    "positionSide symbol pair time"
)
INCOME = "symbol incomeType income asset info time tranId tradeId"
ORDER_PARAMS = {"symbol": "BTCUSDT", "side": "BUY", "quantity": "0.1"}


@pytest.fixture
def rest() -> RestApi:
    """An account with a position, an open order and a conditional order."""
    api = RestApi(Ledger({"USDT": Decimal(10_000)}, now_ms=NOW), lambda _: None)
    api.new_order(Params(ORDER_PARAMS, type="MARKET"), NOW)
    api.new_order(Params(ORDER_PARAMS, type="LIMIT", timeInForce="GTC", price="90000"), NOW)
    api.new_algo(Params(ORDER_PARAMS, type="STOP_MARKET", triggerPrice="93000", algoType="CONDITIONAL"), NOW)
    return api


@pytest.mark.parametrize(
    ("path", "keys"),
    [
        ("v3/account", ACCOUNT),
        ("v3/balance", BALANCE),
        ("v3/positionRisk", RISK),
        ("v1/openOrders", ORDER),
        ("v1/allOrders", ORDER + " cumBase pair"),
        ("v1/openAlgoOrders", ALGO),
        ("v1/userTrades", TRADE),
        ("v1/income", INCOME),
        ("v1/symbolConfig", "symbol marginType isAutoAddMargin leverage maxNotionalValue"),
        (
            "v1/accountConfig",
            "feeTier canTrade canDeposit canWithdraw dualSidePosition updateTime multiAssetsMargin tradeGroupId",
        ),
        ("v1/leverageBracket", "symbol notionalCoef brackets"),
    ],
)
def test_the_documented_keys(rest: RestApi, path: str, keys: str) -> None:
    answer: Any = ROUTES["GET", f"/fapi/{path}"].handler(rest, Params(symbol="BTCUSDT"), NOW)
    first = answer[0] if isinstance(answer, list) else answer
    assert set(first) == set(keys.split())


def test_the_rows_within_an_account(rest: RestApi) -> None:
    account = rest.account_v3(Params(), NOW)
    assert set(account["assets"][0]) == set(ASSET.split())
    assert set(account["positions"][0]) == set(ACCOUNT_POSITION.split())


def test_margins_follow_from_the_definitions(rest: RestApi) -> None:
    account = rest.account_v3(Params(), NOW)
    # 9125.04 of position at the mark and 9000 of bids, at 20 times.
    assert account["totalPositionInitialMargin"] == "456.25200000"
    assert account["totalOpenOrderInitialMargin"] == "450.00000000"
    wallet, profit = Decimal("9995.437475"), Decimal("-0.01")
    assert Decimal(account["availableBalance"]) == wallet + profit - Decimal("906.252")


def test_a_batch_fails_one_by_one(rest: RestApi) -> None:
    orders = (
        '[{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"0.01"},'
        '{"symbol":"BTCUSDT","side":"BUY","type":"MARKET","quantity":"99"}]'
    )
    first, second = rest.new_batch(Params(batchOrders=orders), NOW)
    assert first["status"] == "NEW"
    assert second == {"code": -2019, "msg": "Margin is insufficient."}
    open_id = rest.open_orders(Params(), NOW)[0]["orderId"]
    cancelled, unknown = rest.cancel_batch(Params(symbol="BTCUSDT", orderIdList=f"[{open_id},7]"), NOW)
    assert cancelled["status"] == "CANCELED"
    assert unknown["code"] == -2011


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"side": "HOLD", "type": "MARKET"}, -1117),
        ({"type": "ICEBERG"}, -1116),
        ({"type": "LIMIT", "price": "90000"}, -1102),
        ({"type": "LIMIT", "price": "90000", "timeInForce": "SOON"}, -1115),
        ({"type": "MARKET", "quantity": "1e3"}, -1100),
        ({"type": "MARKET", "newClientOrderId": "x" * 37}, -4015),
        ({"type": "TRAILING_STOP_MARKET"}, -4120),
    ],
)
def test_bad_parameters(rest: RestApi, params: dict[str, str], code: int) -> None:
    with pytest.raises(ApiError) as caught:
        rest.new_order(Params(ORDER_PARAMS | params), NOW)
    assert caught.value.code == code

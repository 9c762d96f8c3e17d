"""Answers have the keys of the documented samples (REST pages, read 2026-11): no fewer, and none that v3 dropped."""

from __future__ import annotations

from typing import Any

import pytest
from support.binance_account import NOW, api_of_an_account

from statecast.simulator.binance.rest import Params, RestApi
from statecast.simulator.binance.routes import ROUTES

ACCOUNT = (
    "totalInitialMargin totalMaintMargin totalWalletBalance totalUnrealizedProfit totalMarginBalance "
    "totalPositionInitialMargin totalOpenOrderInitialMargin totalCrossWalletBalance totalCrossUnPnl availableBalance "
    "maxWithdrawAmount assets positions"
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


@pytest.fixture
def api() -> RestApi:
    return api_of_an_account()


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
def test_the_documented_keys(api: RestApi, path: str, keys: str) -> None:
    answer: Any = ROUTES["GET", f"/fapi/{path}"].handler(api, Params(symbol="BTCUSDT"), NOW)
    first = answer[0] if isinstance(answer, list) else answer
    assert set(first) == set(keys.split())

from __future__ import annotations

from decimal import Decimal

import pytest
from support.binance_account import NOW, Account, D, api_of_an_account

from statecast.simulator.binance import account
from statecast.simulator.binance.rest import Params, RestApi
from statecast.simulator.orders import PositionSide

ASSET = (
    "asset walletBalance unrealizedProfit marginBalance maintMargin initialMargin positionInitialMargin "
    "openOrderInitialMargin crossWalletBalance crossUnPnl availableBalance maxWithdrawAmount updateTime"
)
ACCOUNT_POSITION = (
    "symbol positionSide positionAmt unrealizedProfit isolatedMargin notional isolatedWallet initialMargin maintMargin "
    "updateTime"
)


@pytest.fixture
def api() -> RestApi:
    return api_of_an_account()


def test_the_rows_within_an_account(api: RestApi) -> None:
    body = account.account_v3(api, Params(), NOW)
    assert set(body["assets"][0]) == set(ASSET.split())
    assert set(body["positions"][0]) == set(ACCOUNT_POSITION.split())


def test_margins_follow_from_the_definitions(api: RestApi) -> None:
    body = account.account_v3(api, Params(), NOW)
    # 9125.04 of position at the mark and 9000 of bids, at 20 times.
    assert body["totalPositionInitialMargin"] == "456.25200000"
    assert body["totalOpenOrderInitialMargin"] == "450.00000000"
    wallet, profit = Decimal("9995.437475"), Decimal("-0.01")
    assert Decimal(body["availableBalance"]) == wallet + profit - Decimal("906.252")


def test_rows_keep_the_time_of_their_own_change() -> None:
    account = Account(hedge=True)
    account.now_ms += 50
    account.order(positionSide="LONG")
    account.exchange.publish(account.ledger.move_mark("BTCUSDT", D(91000), NOW + 99), NOW + 99)
    long, short = account.get("/fapi/v3/positionRisk")
    assert (long["positionSide"], long["updateTime"], long["markPrice"]) == ("LONG", NOW + 50, "91000")
    assert (short["positionSide"], short["positionAmt"], short["updateTime"]) == ("SHORT", "0", 0)
    assert "leverage" not in long
    assert "marginType" not in long


def test_positions_may_be_read_with_v2_whatever_the_mode() -> None:
    account = Account()
    account.order()
    rows = account.get("/fapi/v2/positionRisk", symbol="BTCUSDT")
    assert [(row["positionSide"], row["leverage"], row["marginType"]) for row in rows] == [("BOTH", "20", "cross")]
    assert len(account.get("/fapi/v2/account")["positions"]) == len(account.ledger.rules)
    assert account.ledger.position("BTCUSDT", PositionSide.BOTH).amount == D("0.1")


def test_every_asset_that_could_be_margin_is_listed() -> None:
    account = Account()
    account.exchange.publish(account.ledger.set_multi_assets(NOW, enabled=True), NOW)
    assets = {row["asset"]: row for row in account.get("/fapi/v3/account")["assets"]}
    assert set(assets) == {"USDT", "USDC", "BNB"} == {row["asset"] for row in account.get("/fapi/v3/balance")}
    assert (assets["BNB"]["walletBalance"], assets["BNB"]["updateTime"]) == ("0.00000000", 0)
    assert D(assets["BNB"]["availableBalance"]) > 0, "what is free of the others"

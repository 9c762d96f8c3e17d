"""What the account holds: assets, margins, positions. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from statecast.simulator.binance.frames import money, plain
from statecast.simulator.binance.rest import Params, RestApi, or_zero
from statecast.simulator.book import Wallet
from statecast.simulator.exchange import Json
from statecast.simulator.margin import Statement
from statecast.simulator.orders import PositionSide
from statecast.simulator.positions import PositionMargin
from statecast.simulator.symbols import INDEX_PRICES

ACCOUNT_ALIAS = "SgsRfWsR"


def account_v3(api: RestApi, params: Params, now_ms: int) -> Json:
    statement = api.ledger.statement()
    return _totals(statement) | {
        "assets": [_asset(statement, wallet.asset) for wallet in _listed(api)],
        "positions": [
            {
                "symbol": margin.row.symbol,
                "positionSide": margin.row.side,
                "positionAmt": plain(margin.row.amount),
                "unrealizedProfit": money(margin.profit),
                "isolatedMargin": or_zero(margin.isolated_margin),
                "notional": plain(margin.notional),
                "isolatedWallet": or_zero(margin.row.isolated_wallet),
                "initialMargin": or_zero(margin.initial),
                "maintMargin": or_zero(margin.maintenance),
                "updateTime": margin.row.updated_at_ms,
            }
            for margin in _active_rows(api, statement)
        ],
    }


def account_v2(api: RestApi, params: Params, now_ms: int) -> Json:
    statement = api.ledger.statement()
    return (
        {
            "feeTier": 0,
            "feeBurn": True,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "updateTime": 0,
            "multiAssetsMargin": api.ledger.multi_assets,
            "tradeGroupId": -1,
        }
        | _totals(statement)
        | {
            "assets": [_asset(statement, wallet.asset) | {"marginAvailable": True} for wallet in _listed(api)],
            "positions": [
                {
                    "symbol": margin.row.symbol,
                    "initialMargin": or_zero(margin.initial),
                    "maintMargin": or_zero(margin.maintenance),
                    "unrealizedProfit": money(margin.profit),
                    "positionInitialMargin": or_zero(margin.position_initial),
                    "openOrderInitialMargin": or_zero(margin.open_order_initial),
                    "leverage": str(margin.leverage),
                    "isolated": margin.isolated,
                    "entryPrice": plain(margin.row.entry_price),
                    "breakEvenPrice": plain(margin.row.break_even_price),
                    "maxNotional": plain(margin.rules.max_notional(margin.leverage)),
                    "positionSide": margin.row.side,
                    "positionAmt": plain(margin.row.amount),
                    "notional": plain(margin.notional),
                    "isolatedWallet": or_zero(margin.row.isolated_wallet),
                    "bidNotional": plain(margin.bid_notional),
                    "askNotional": plain(margin.ask_notional),
                    "updateTime": margin.row.updated_at_ms,
                }
                for margin in _all_rows(api, statement)
            ],
        }
    )


def _listed(api: RestApi) -> list[Wallet]:
    """Every asset that could be margin, whether the account ever had it or not."""
    held = api.ledger.wallets()
    names = {wallet.asset for wallet in held}
    return [*held, *(api.ledger.wallet(asset) for asset in INDEX_PRICES if asset not in names)]


def balance(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    fields = ("crossUnPnl", "availableBalance", "maxWithdrawAmount")
    statement = api.ledger.statement()
    rows: list[Json] = []
    for wallet in _listed(api):
        asset = _asset(statement, wallet.asset)
        rows.append(
            {
                "accountAlias": ACCOUNT_ALIAS,
                "asset": wallet.asset,
                "balance": asset["walletBalance"],
                "crossWalletBalance": asset["crossWalletBalance"],
                **{name: asset[name] for name in fields},
                "marginAvailable": True,
                "updateTime": wallet.updated_at_ms,
            }
        )
    return rows


def position_risk_v3(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol, statement = api.symbol_or_none(params), api.ledger.statement()
    return [
        _risk(statement, margin)
        | {
            "isolatedMargin": or_zero(margin.isolated_margin),
            "marginAsset": margin.rules.margin_asset,
            "initialMargin": or_zero(margin.initial),
            "maintMargin": or_zero(margin.maintenance),
            "positionInitialMargin": or_zero(margin.position_initial),
            "openOrderInitialMargin": or_zero(margin.open_order_initial),
            "adl": 1 if margin.row.amount else 0,
            "bidNotional": plain(margin.bid_notional),
            "askNotional": plain(margin.ask_notional),
        }
        for margin in _active_rows(api, statement)
        if symbol is None or margin.row.symbol == symbol
    ]


def position_risk_v2(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol, statement = api.symbol_or_none(params), api.ledger.statement()
    return [
        _risk(statement, margin)
        | {
            "leverage": str(margin.leverage),
            "marginType": "isolated" if margin.isolated else "cross",
            "isolatedMargin": money(margin.isolated_margin),
            "isAutoAddMargin": "false",
            "maxNotionalValue": plain(margin.rules.max_notional(margin.leverage)),
        }
        for margin in _all_rows(api, statement)
        if symbol is None or margin.row.symbol == symbol
    ]


def _active_rows(api: RestApi, statement: Statement) -> Iterable[PositionMargin]:
    for symbol in api.ledger.active_symbols():
        for side in api.ledger.sides():
            yield statement.row(symbol, side)


def _all_rows(api: RestApi, statement: Statement) -> Iterable[PositionMargin]:
    sides = (PositionSide.BOTH, *api.ledger.sides()) if api.ledger.hedge else api.ledger.sides()
    for symbol in api.ledger.rules:
        for side in sides:
            yield statement.row(symbol, side)


def _risk(statement: Statement, margin: PositionMargin) -> Json:
    """What the versions of positionRisk share."""
    row = margin.row
    return {
        "symbol": row.symbol,
        "positionSide": row.side,
        "positionAmt": plain(row.amount),
        "entryPrice": plain(row.entry_price),
        "breakEvenPrice": plain(row.break_even_price),
        "markPrice": plain(margin.mark),
        "unRealizedProfit": money(margin.profit),
        "liquidationPrice": plain(statement.liquidation_price(margin)),
        "notional": plain(margin.notional),
        "isolatedWallet": or_zero(row.isolated_wallet),
        "updateTime": row.updated_at_ms,
    }


def _asset(statement: Statement, asset: str) -> Json:
    margin = statement.asset(asset)
    return {
        "asset": asset,
        "walletBalance": money(margin.wallet.balance),
        "unrealizedProfit": money(margin.profit),
        "marginBalance": money(margin.margin_balance),
        "maintMargin": money(margin.maintenance),
        "initialMargin": money(margin.initial),
        "positionInitialMargin": money(margin.position_initial),
        "openOrderInitialMargin": money(margin.open_order_initial),
        "crossWalletBalance": money(margin.cross_wallet),
        "crossUnPnl": money(margin.cross_profit),
        "availableBalance": money(margin.available),
        "maxWithdrawAmount": money(margin.max_withdraw),
        "updateTime": margin.wallet.updated_at_ms,
    }


def _totals(statement: Statement) -> Json:
    margin = statement.account()
    return {
        "totalInitialMargin": money(margin.initial),
        "totalMaintMargin": money(margin.maintenance),
        "totalWalletBalance": money(margin.wallet_balance),
        "totalUnrealizedProfit": money(margin.profit),
        "totalMarginBalance": money(margin.margin_balance),
        "totalPositionInitialMargin": money(margin.position_initial),
        "totalOpenOrderInitialMargin": money(margin.open_order_initial),
        "totalCrossWalletBalance": money(margin.cross_wallet),
        "totalCrossUnPnl": money(margin.cross_profit),
        "availableBalance": money(margin.available),
        "maxWithdrawAmount": money(margin.max_withdraw),
    }

"""The truth about an account, as programs outside read it: the ledger's own figures, as JSON. Pure.

What a client of the exchange holds is compared with this, so nothing here comes from a dialect: a dialect that answers
wrongly must differ from it. Field names are those that the readers of `GET /simulate/ledger` know: of Binance's v3
answers, with what the ledger does not model as constants. Decimals are strings.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

from statecast.simulator.exchange import Json
from statecast.simulator.ledger import Ledger
from statecast.simulator.margin import Statement
from statecast.simulator.orders import AlgoOrder, Order, OrderType
from statecast.simulator.positions import PositionMargin

NOT_MODELLED_OF_ORDERS: Json = {
    "priceProtect": False,
    "priceMatch": "NONE",
    "selfTradePreventionMode": "EXPIRE_MAKER",
    "goodTillDate": 0,
}
NOT_MODELLED_OF_ALGOS: Json = NOT_MODELLED_OF_ORDERS | {
    "icebergQuantity": None,
    "tpTriggerPrice": "0.000",
    "tpPrice": "0.000",
    "slTriggerPrice": "0.000",
    "slPrice": "0.000",
    "tpOrderType": "",
}


def account_truth(ledger: Ledger) -> Json:
    """Modes, mark prices, assets, totals, positions, settings per symbol, open orders, waiting conditional orders.

    `positions` has the rows of every symbol with a position or an open order, flat ones too; `totals` is in USDT, in
    USD with `multiAssetsMargin`.
    """
    statement = ledger.statement()
    return {
        "dualSidePosition": ledger.hedge,
        "multiAssetsMargin": ledger.multi_assets,
        "marks": {symbol: format(mark, "f") for symbol, mark in ledger.marks.items()},
        "assets": [_asset(statement, wallet.asset) for wallet in ledger.wallets()],
        "totals": _totals(statement),
        "positions": [_position(statement, margin) for margin in _active_rows(ledger, statement)],
        "symbolConfig": [_symbol_config(ledger, symbol) for symbol in ledger.rules],
        "openOrders": [_order(order) for order in ledger.open_orders()],
        "openAlgoOrders": [_algo(algo) for algo in ledger.open_algos()],
    }


def _active_rows(ledger: Ledger, statement: Statement) -> Iterable[PositionMargin]:
    for symbol in ledger.active_symbols():
        for side in ledger.sides():
            yield statement.row(symbol, side)


def _asset(statement: Statement, asset: str) -> Json:
    margin = statement.asset(asset)
    return {
        "asset": asset,
        "walletBalance": _places(margin.wallet.balance),
        "unrealizedProfit": _places(margin.profit),
        "marginBalance": _places(margin.margin_balance),
        "maintMargin": _places(margin.maintenance),
        "initialMargin": _places(margin.initial),
        "positionInitialMargin": _places(margin.position_initial),
        "openOrderInitialMargin": _places(margin.open_order_initial),
        "crossWalletBalance": _places(margin.cross_wallet),
        "crossUnPnl": _places(margin.cross_profit),
        "availableBalance": _places(margin.available),
        "maxWithdrawAmount": _places(margin.max_withdraw),
        "updateTime": margin.wallet.updated_at_ms,
    }


def _totals(statement: Statement) -> Json:
    margin = statement.account()
    return {
        "totalInitialMargin": _places(margin.initial),
        "totalMaintMargin": _places(margin.maintenance),
        "totalWalletBalance": _places(margin.wallet_balance),
        "totalUnrealizedProfit": _places(margin.profit),
        "totalMarginBalance": _places(margin.margin_balance),
        "totalPositionInitialMargin": _places(margin.position_initial),
        "totalOpenOrderInitialMargin": _places(margin.open_order_initial),
        "totalCrossWalletBalance": _places(margin.cross_wallet),
        "totalCrossUnPnl": _places(margin.cross_profit),
        "availableBalance": _places(margin.available),
        "maxWithdrawAmount": _places(margin.max_withdraw),
    }


def _position(statement: Statement, margin: PositionMargin) -> Json:
    row = margin.row
    return {
        "symbol": row.symbol,
        "positionSide": row.side,
        "positionAmt": _plain(row.amount),
        "entryPrice": _plain(row.entry_price),
        "breakEvenPrice": _plain(row.break_even_price),
        "markPrice": _plain(margin.mark),
        "unRealizedProfit": _places(margin.profit),
        "liquidationPrice": _plain(statement.liquidation_price(margin)),
        "notional": _plain(margin.notional),
        "isolatedWallet": _places_or_zero(row.isolated_wallet),
        "updateTime": row.updated_at_ms,
        "isolatedMargin": _places_or_zero(margin.isolated_margin),
        "marginAsset": margin.rules.margin_asset,
        "initialMargin": _places_or_zero(margin.initial),
        "maintMargin": _places_or_zero(margin.maintenance),
        "positionInitialMargin": _places_or_zero(margin.position_initial),
        "openOrderInitialMargin": _places_or_zero(margin.open_order_initial),
        "adl": 1 if row.amount else 0,
        "bidNotional": _plain(margin.bid_notional),
        "askNotional": _plain(margin.ask_notional),
        "leverage": margin.leverage,
        "marginType": _margin_type(isolated=margin.isolated),
    }


def _symbol_config(ledger: Ledger, symbol: str) -> Json:
    settings = ledger.settings(symbol)
    return {
        "symbol": symbol,
        "marginType": _margin_type(isolated=settings.isolated),
        "isAutoAddMargin": False,
        "leverage": settings.leverage,
        "maxNotionalValue": _plain(ledger.rules[symbol].max_notional(settings.leverage)),
    }


def _order(order: Order) -> Json:
    return NOT_MODELLED_OF_ORDERS | {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_order_id,
        "price": _plain(order.price),
        "origQty": _plain(order.qty),
        "executedQty": _plain(order.filled_qty),
        "timeInForce": order.time_in_force,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": _plain(order.stop_price),
        "workingType": order.working_type,
        "origType": order.original_type,
        "updateTime": order.updated_at_ms,
        "avgPrice": _average(order.average_price) if order.filled_qty else "0",
        "cumQuote": _plain(order.filled_quote),
        "time": order.created_at_ms,
    }


def _algo(algo: AlgoOrder) -> Json:
    row = NOT_MODELLED_OF_ALGOS | {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_algo_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.type,
        "symbol": algo.symbol,
        "side": algo.side,
        "positionSide": algo.position_side,
        "timeInForce": algo.time_in_force,
        "quantity": _plain(algo.qty),
        "algoStatus": algo.status,
        "triggerPrice": _plain(algo.trigger_price),
        "price": _plain(algo.price),
        "workingType": algo.working_type,
        "closePosition": algo.close_position,
        "reduceOnly": algo.reduce_only,
        "createTime": algo.created_at_ms,
        "updateTime": algo.updated_at_ms,
        "triggerTime": algo.triggered_at_ms,
        "actualOrderId": str(algo.order_id) if algo.order_id else "",
        "actualPrice": _average(algo.average_price),
    }
    if algo.type is OrderType.TRAILING_STOP_MARKET:
        row |= {"activatePrice": _plain(algo.activation_price), "callbackRate": _plain(algo.callback_rate)}
    return row


def _margin_type(*, isolated: bool) -> str:
    return "ISOLATED" if isolated else "CROSSED"


def _plain(value: Decimal) -> str:
    """Without exponent and trailing zeros."""
    if not value:
        return "0"
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _places(value: Decimal) -> str:
    """With eight places."""
    return f"{value:.8f}"


def _places_or_zero(value: Decimal) -> str:
    return _places(value) if value else "0"


def _average(value: Decimal) -> str:
    """With five places where they suffice, else eight."""
    return _places(value).removesuffix("000")

"""What anybody may ask: the time, the symbols and their rules, prices. Pure."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from statecast.simulator.binance.errors import as_api_error
from statecast.simulator.binance.frames import money, next_funding_ms, plain
from statecast.simulator.binance.rest import ORDER_LIMIT_1M, ORDER_LIMIT_10S, WEIGHT_LIMIT, Params, RestApi
from statecast.simulator.exchange import Json
from statecast.simulator.matching import PRICE_BAND
from statecast.simulator.orders import CONDITIONAL, OrderType, Refusal, Refused
from statecast.simulator.symbols import FUNDING_RATE, INDEX_PRICES, Rules

ONBOARD_MS = 1_569_398_400_000
DELIVERY_MS = 4_133_404_800_000
"""The delivery date that perpetual contracts carry: the end of the century."""


def ping(api: RestApi, params: Params, now_ms: int) -> Json:
    return {}


def time(api: RestApi, params: Params, now_ms: int) -> Json:
    return {"serverTime": now_ms}


def exchange_info(api: RestApi, params: Params, now_ms: int) -> Json:
    assets = {rules.margin_asset for rules in api.ledger.rules.values()} | {"BNB"}
    return {
        "timezone": "UTC",
        "serverTime": now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": [
            _rate_limit("REQUEST_WEIGHT", "MINUTE", 1, WEIGHT_LIMIT),
            _rate_limit("ORDERS", "MINUTE", 1, ORDER_LIMIT_1M),
            _rate_limit("ORDERS", "SECOND", 10, ORDER_LIMIT_10S),
        ],
        "exchangeFilters": [],
        "assets": [
            {"asset": asset, "marginAvailable": True, "autoAssetExchange": "-10000"} for asset in sorted(assets)
        ],
        "symbols": [_symbol(rules) for rules in api.ledger.rules.values()],
    }


def premium_index(api: RestApi, params: Params, now_ms: int) -> Any:
    return _per_symbol(
        api,
        params,
        lambda rules: {
            "symbol": rules.symbol,
            "markPrice": money(api.ledger.marks[rules.symbol]),
            "indexPrice": money(api.ledger.marks[rules.symbol]),
            "estimatedSettlePrice": money(api.ledger.marks[rules.symbol]),
            "lastFundingRate": money(FUNDING_RATE),
            "interestRate": money(FUNDING_RATE),
            "nextFundingTime": next_funding_ms(now_ms),
            "time": now_ms,
        },
    )


def ticker_price(api: RestApi, params: Params, now_ms: int) -> Any:
    return _per_symbol(
        api,
        params,
        lambda rules: {"symbol": rules.symbol, "price": plain(api.ledger.marks[rules.symbol]), "time": now_ms},
    )


def book_ticker(api: RestApi, params: Params, now_ms: int) -> Any:
    return _per_symbol(
        api,
        params,
        lambda rules: {
            "symbol": rules.symbol,
            "bidPrice": plain(api.ledger.marks[rules.symbol] - rules.tick_size),
            "bidQty": plain(rules.depth_qty),
            "askPrice": plain(api.ledger.marks[rules.symbol] + rules.tick_size),
            "askQty": plain(rules.depth_qty),
            "time": now_ms,
        },
    )


def asset_index(api: RestApi, params: Params, now_ms: int) -> Any:
    def row(asset: str, price: Decimal) -> Json:
        return {
            "symbol": f"{asset}USD",
            "time": now_ms,
            "index": money(price),
            "bidBuffer": "0.00000000",
            "askBuffer": "0.00000000",
            "bidRate": money(price),
            "askRate": money(price),
            "autoExchangeBidBuffer": "0.00000000",
            "autoExchangeAskBuffer": "0.00000000",
            "autoExchangeBidRate": money(price),
            "autoExchangeAskRate": money(price),
        }

    rows = [row(asset, price) for asset, price in INDEX_PRICES.items()]
    if symbol := params.get("symbol"):
        rows = [one for one in rows if one["symbol"] == symbol]
        if not rows:
            raise as_api_error(Refused(Refusal.UNKNOWN_SYMBOL))
        return rows[0]
    return rows


def _per_symbol(api: RestApi, params: Params, row: Callable[[Rules], Json]) -> Any:
    symbol = api.symbol_or_none(params)
    if symbol:
        return row(api.ledger.rules[symbol])
    return [row(rules) for rules in api.ledger.rules.values()]


def _rate_limit(kind: str, interval: str, number: int, limit: int) -> Json:
    return {"rateLimitType": kind, "interval": interval, "intervalNum": number, "limit": limit}


def _places(step: Decimal) -> int:
    exponent = step.as_tuple().exponent
    assert isinstance(exponent, int)
    return -exponent


def _symbol(rules: Rules) -> Json:
    mark_high, mark_low = 1 + PRICE_BAND, 1 - PRICE_BAND
    lot = {"minQty": plain(rules.step_size), "maxQty": plain(rules.max_qty), "stepSize": plain(rules.step_size)}
    return {
        "symbol": rules.symbol,
        "pair": rules.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": DELIVERY_MS,
        "onboardDate": ONBOARD_MS,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": rules.base_asset,
        "quoteAsset": rules.margin_asset,
        "marginAsset": rules.margin_asset,
        "pricePrecision": _places(rules.tick_size),
        "quantityPrecision": _places(rules.step_size),
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "maxMoveOrderLimit": 10000,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": plain(rules.tick_size),
                "maxPrice": plain(rules.start_price * 50 // rules.tick_size * rules.tick_size),
                "tickSize": plain(rules.tick_size),
            },
            {"filterType": "LOT_SIZE", **lot},
            {"filterType": "MARKET_LOT_SIZE", **lot},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MIN_NOTIONAL", "notional": plain(rules.min_notional)},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": f"{mark_high:.4f}",
                "multiplierDown": f"{mark_low:.4f}",
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": ["LIMIT", "MARKET", *(kind for kind in OrderType if kind in CONDITIONAL)],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        "permissionSets": ["GRID", "COPY"],
    }

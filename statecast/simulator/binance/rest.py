"""The REST answers of Binance USDⓈ-M futures, from the ledger. Pure.

Each endpoint is a method that takes the request's parameters and the server's time and returns the JSON body; `ROUTES`
says where it lives, who may call it and what it weighs. Shapes and weights: developers.binance.com, derivatives →
usds-margined-futures (2026-05 to 2026-09) and the change log up to 2026-10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import Any, TypeVar

import orjson

from statecast.simulator.binance.errors import ApiError, as_api_error, missing
from statecast.simulator.binance.frames import (
    STP_MODE,
    Json,
    algo_type,
    average,
    money,
    next_funding_ms,
    plain,
)
from statecast.simulator.book import Income, Trade
from statecast.simulator.events import Event, OrderChanged
from statecast.simulator.ledger import Ledger
from statecast.simulator.matching import MAKER_RATE, PRICE_BAND, TAKER_RATE
from statecast.simulator.orders import (
    CONDITIONAL,
    ZERO,
    AlgoOrder,
    AlgoRequest,
    AlgoStatus,
    Order,
    OrderRequest,
    OrderStatus,
    OrderType,
    PositionSide,
    Refusal,
    Refused,
    Side,
    TimeInForce,
)
from statecast.simulator.positions import PositionMargin
from statecast.simulator.symbols import FUNDING_RATE, INDEX_PRICES, Rules

DAY_MS = 86_400_000
ONBOARD_MS = 1_569_398_400_000
DELIVERY_MS = 4_133_404_800_000
"""The delivery date that perpetual contracts carry: the end of the century."""
ACCOUNT_ALIAS = "SgsRfWsR"
WEIGHT_LIMIT = 2400
"""Request weight per minute and IP."""
ORDER_LIMIT_10S = 300
ORDER_LIMIT_1M = 1200

_DECIMAL = re.compile(r"-?\d{1,20}(\.\d{1,20})?")
_E = TypeVar("_E", bound=StrEnum)


class Params(dict[str, str]):
    """The parameters of a request, each read with the error that Binance gives for a bad one."""

    def text(self, name: str) -> str:
        """A mandatory text."""
        value = self.get(name, "")
        if not value:
            raise missing(name)
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        value = self.get(name, "")
        if not value and default is not None:
            return default
        if not value.removeprefix("-").isascii() or not value.removeprefix("-").isdigit():
            raise missing(name)
        return int(value)

    def decimal(self, name: str, default: Decimal | None = None) -> Decimal:
        value = self.get(name, "")
        if not value and default is not None:
            return default
        if not value:
            raise missing(name)
        if not _DECIMAL.fullmatch(value):
            raise ApiError(-1100, f"Illegal characters found in parameter '{name}'.")
        return Decimal(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        value = self.get(name, "").lower()
        if not value and default is not None:
            return default
        if value not in ("true", "false"):
            raise missing(name)
        return value == "true"

    def one_of(self, name: str, kind: type[_E], default: _E | None = None, code: int = -1130) -> _E:
        value = self.get(name, "")
        if not value and default is not None:
            return default
        if not value:
            raise missing(name)
        try:
            return kind(value)
        except ValueError:
            raise ApiError(code, _INVALID.get(code, f"Data sent for parameter '{name}' is not valid.")) from None


_INVALID = {-1115: "Invalid timeInForce.", -1116: "Invalid orderType.", -1117: "Invalid side."}


class Security(StrEnum):
    """What a caller has to show."""

    NONE = "NONE"
    KEY = "KEY"
    """The API key alone, unsigned: listen keys."""
    READ = "READ"
    """Signed, with a key that may read."""
    TRADE = "TRADE"
    """Signed, with a key that may trade."""


Handler = Callable[["RestApi", Params, int], Any]


@dataclass(frozen=True, slots=True)
class Route:
    """One endpoint. `weight_all` is the weight without a `symbol`, where that differs."""

    security: Security
    handler: Handler
    weight: int = 1
    weight_all: int | None = None
    is_order: bool = False
    """Counted against the order limits."""

    def weigh(self, params: Params) -> int:
        if self.weight_all is not None and not params.get("symbol"):
            return self.weight_all
        return self.weight


class RestApi:
    """The endpoints over one ledger. `publish` is told what the ledger reports, before the answer is returned."""

    def __init__(self, ledger: Ledger, publish: Callable[[list[Event]], None]) -> None:
        self.ledger = ledger
        self._publish = publish

    # -- public ------------------------------------------------------------------------------------------------------

    def ping(self, params: Params, now_ms: int) -> Json:
        return {}

    def time(self, params: Params, now_ms: int) -> Json:
        return {"serverTime": now_ms}

    def exchange_info(self, params: Params, now_ms: int) -> Json:
        assets = {rules.margin_asset for rules in self.ledger.rules.values()} | {"BNB"}
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
            "symbols": [_symbol(rules) for rules in self.ledger.rules.values()],
        }

    def premium_index(self, params: Params, now_ms: int) -> Any:
        return self._per_symbol(
            params,
            lambda rules: {
                "symbol": rules.symbol,
                "markPrice": money(self.ledger.marks[rules.symbol]),
                "indexPrice": money(self.ledger.marks[rules.symbol]),
                "estimatedSettlePrice": money(self.ledger.marks[rules.symbol]),
                "lastFundingRate": money(FUNDING_RATE),
                "interestRate": money(FUNDING_RATE),
                "nextFundingTime": next_funding_ms(now_ms),
                "time": now_ms,
            },
        )

    def ticker_price(self, params: Params, now_ms: int) -> Any:
        return self._per_symbol(
            params,
            lambda rules: {"symbol": rules.symbol, "price": plain(self.ledger.marks[rules.symbol]), "time": now_ms},
        )

    def book_ticker(self, params: Params, now_ms: int) -> Any:
        return self._per_symbol(
            params,
            lambda rules: {
                "symbol": rules.symbol,
                "bidPrice": plain(self.ledger.marks[rules.symbol] - rules.tick_size),
                "bidQty": plain(rules.depth_qty),
                "askPrice": plain(self.ledger.marks[rules.symbol] + rules.tick_size),
                "askQty": plain(rules.depth_qty),
                "time": now_ms,
            },
        )

    def asset_index(self, params: Params, now_ms: int) -> Any:
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

    # -- account -----------------------------------------------------------------------------------------------------

    def account_v3(self, params: Params, now_ms: int) -> Json:
        return self._totals() | {
            "assets": [self._asset(wallet.asset) for wallet in self.ledger.wallets()],
            "positions": [
                {
                    "symbol": margin.row.symbol,
                    "positionSide": margin.row.side,
                    "positionAmt": plain(margin.row.amount),
                    "unrealizedProfit": money(margin.profit),
                    "isolatedMargin": _or_zero(margin.isolated_margin),
                    "notional": plain(margin.notional),
                    "isolatedWallet": _or_zero(margin.row.isolated_wallet),
                    "initialMargin": _or_zero(margin.initial),
                    "maintMargin": _or_zero(margin.maintenance),
                    "updateTime": margin.row.updated_at_ms,
                }
                for margin in self._active_rows()
            ],
        }

    def account_v2(self, params: Params, now_ms: int) -> Json:
        return (
            {
                "feeTier": 0,
                "feeBurn": True,
                "canTrade": True,
                "canDeposit": True,
                "canWithdraw": True,
                "updateTime": 0,
                "multiAssetsMargin": self.ledger.multi_assets,
                "tradeGroupId": -1,
            }
            | self._totals()
            | {
                "assets": [self._asset(wallet.asset) | {"marginAvailable": True} for wallet in self.ledger.wallets()],
                "positions": [
                    {
                        "symbol": margin.row.symbol,
                        "initialMargin": _or_zero(margin.initial),
                        "maintMargin": _or_zero(margin.maintenance),
                        "unrealizedProfit": money(margin.profit),
                        "positionInitialMargin": _or_zero(margin.position_initial),
                        "openOrderInitialMargin": _or_zero(margin.open_order_initial),
                        "leverage": str(margin.leverage),
                        "isolated": margin.isolated,
                        "entryPrice": plain(margin.row.entry_price),
                        "breakEvenPrice": plain(margin.row.break_even_price),
                        "maxNotional": plain(margin.rules.max_notional(margin.leverage)),
                        "positionSide": margin.row.side,
                        "positionAmt": plain(margin.row.amount),
                        "notional": plain(margin.notional),
                        "isolatedWallet": _or_zero(margin.row.isolated_wallet),
                        "bidNotional": plain(margin.bid_notional),
                        "askNotional": plain(margin.ask_notional),
                        "updateTime": margin.row.updated_at_ms,
                    }
                    for margin in self._all_rows()
                ],
            }
        )

    def balance(self, params: Params, now_ms: int) -> list[Json]:
        fields = ("crossUnPnl", "availableBalance", "maxWithdrawAmount")
        rows: list[Json] = []
        for wallet in self.ledger.wallets():
            asset = self._asset(wallet.asset)
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

    def position_risk_v3(self, params: Params, now_ms: int) -> list[Json]:
        symbol = self._symbol_or_none(params)
        return [
            self._risk(margin)
            | {
                "isolatedMargin": _or_zero(margin.isolated_margin),
                "marginAsset": margin.rules.margin_asset,
                "initialMargin": _or_zero(margin.initial),
                "maintMargin": _or_zero(margin.maintenance),
                "positionInitialMargin": _or_zero(margin.position_initial),
                "openOrderInitialMargin": _or_zero(margin.open_order_initial),
                "adl": 1 if margin.row.amount else 0,
                "bidNotional": plain(margin.bid_notional),
                "askNotional": plain(margin.ask_notional),
            }
            for margin in self._active_rows()
            if symbol is None or margin.row.symbol == symbol
        ]

    def position_risk_v2(self, params: Params, now_ms: int) -> list[Json]:
        symbol = self._symbol_or_none(params)
        return [
            self._risk(margin)
            | {
                "leverage": str(margin.leverage),
                "marginType": "isolated" if margin.isolated else "cross",
                "isolatedMargin": money(margin.isolated_margin),
                "isAutoAddMargin": "false",
                "maxNotionalValue": plain(margin.rules.max_notional(margin.leverage)),
            }
            for margin in self._all_rows()
            if symbol is None or margin.row.symbol == symbol
        ]

    def account_config(self, params: Params, now_ms: int) -> Json:
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "dualSidePosition": self.ledger.hedge,
            "updateTime": 0,
            "multiAssetsMargin": self.ledger.multi_assets,
            "tradeGroupId": -1,
        }

    def symbol_config(self, params: Params, now_ms: int) -> list[Json]:
        symbol = self._symbol_or_none(params)
        rows: list[Json] = []
        for rules in self.ledger.rules.values():
            settings = self.ledger.settings(rules.symbol)
            rows.append(
                {
                    "symbol": rules.symbol,
                    "marginType": "ISOLATED" if settings.isolated else "CROSSED",
                    "isAutoAddMargin": False,
                    "leverage": settings.leverage,
                    "maxNotionalValue": plain(rules.max_notional(settings.leverage)),
                }
            )
        return [row for row in rows if symbol is None or row["symbol"] == symbol]

    def position_mode(self, params: Params, now_ms: int) -> Json:
        return {"dualSidePosition": self.ledger.hedge}

    def set_position_mode(self, params: Params, now_ms: int) -> Json:
        self._publish(self.ledger.set_hedge(enabled=params.flag("dualSidePosition")))
        return _done()

    def multi_assets_mode(self, params: Params, now_ms: int) -> Json:
        return {"multiAssetsMargin": self.ledger.multi_assets}

    def set_multi_assets_mode(self, params: Params, now_ms: int) -> Json:
        self._publish(self.ledger.set_multi_assets(now_ms, enabled=params.flag("multiAssetsMargin")))
        return _done()

    def set_leverage(self, params: Params, now_ms: int) -> Json:
        symbol, leverage = params.text("symbol"), params.integer("leverage")
        self._publish(self.ledger.set_leverage(symbol, leverage, now_ms))
        max_notional = self.ledger.rules[symbol].max_notional(leverage)
        return {"leverage": leverage, "maxNotionalValue": plain(max_notional), "symbol": symbol}

    def set_margin_type(self, params: Params, now_ms: int) -> Json:
        kind = params.text("marginType")
        if kind not in ("ISOLATED", "CROSSED"):
            raise ApiError(-4064, "Invalid margin type.")
        self._publish(self.ledger.set_margin_type(params.text("symbol"), now_ms, isolated=kind == "ISOLATED"))
        return _done()

    def set_position_margin(self, params: Params, now_ms: int) -> Json:
        amount, kind = params.decimal("amount"), params.integer("type")
        side = params.one_of("positionSide", PositionSide, PositionSide.BOTH)
        signed = amount if kind == 1 else -amount
        self._publish(self.ledger.add_isolated_margin(params.text("symbol"), side, signed, now_ms))
        return {"amount": float(amount), "code": 200, "msg": "Successfully modify position margin.", "type": kind}

    def leverage_bracket(self, params: Params, now_ms: int) -> list[Json]:
        symbol = self._symbol_or_none(params)
        return [
            {
                "symbol": rules.symbol,
                "notionalCoef": 1.0,
                "brackets": [
                    {
                        "bracket": one.number,
                        "initialLeverage": one.max_leverage,
                        "notionalCap": int(one.cap),
                        "notionalFloor": int(one.floor),
                        "maintMarginRatio": float(one.maintenance_rate),
                        "cum": float(one.cum),
                    }
                    for one in rules.brackets
                ],
            }
            for rules in self.ledger.rules.values()
            if symbol is None or rules.symbol == symbol
        ]

    def commission_rate(self, params: Params, now_ms: int) -> Json:
        self.ledger.settings(params.text("symbol"))
        return {
            "symbol": params["symbol"],
            "makerCommissionRate": plain(MAKER_RATE),
            "takerCommissionRate": plain(TAKER_RATE),
            "rpiCommissionRate": plain(MAKER_RATE),
        }

    def trading_status(self, params: Params, now_ms: int) -> Json:
        return {"indicators": {}, "updateTime": now_ms}

    # -- orders ------------------------------------------------------------------------------------------------------

    def new_order(self, params: Params, now_ms: int) -> Json:
        request = _order_request(params)
        events = self.ledger.place(request, now_ms)
        first = events[0]
        assert isinstance(first, OrderChanged)
        self._publish(events)
        order = first.order
        # ACK tells the order as it was accepted, RESULT as it is after matching.
        if params.get("newOrderRespType") == "RESULT":
            order = self.ledger.order(order.symbol, order.order_id)
        return _acknowledged(order)

    def test_order(self, params: Params, now_ms: int) -> Json:
        self.ledger.check(_order_request(params))
        return {}

    def amend_order(self, params: Params, now_ms: int) -> Json:
        order = self._open_order(params)
        events = self.ledger.amend(
            order.order_id,
            qty=params.decimal("quantity"),
            price=params.decimal("price"),
            now_ms=now_ms,
            modify_id=params.get("modifyId", ""),
        )
        self._publish(events)
        return _acknowledged(self.ledger.order(order.symbol, order.order_id))

    def cancel_order(self, params: Params, now_ms: int) -> Json:
        order = self._open_order(params)
        self._publish(self.ledger.cancel(order.order_id, now_ms))
        return _acknowledged(self.ledger.order(order.symbol, order.order_id))

    def new_batch(self, params: Params, now_ms: int) -> list[Json]:
        orders = _json_list(params, "batchOrders")
        if len(orders) > 5:
            raise ApiError(-4083, "Place batch orders not allowed more than 5.")
        answers: list[Json] = []
        for order in orders:
            if not isinstance(order, dict):
                raise ApiError(-1130, "Data sent for parameter 'batchOrders' is not valid.")
            one = Params({key: _as_text(value) for key, value in order.items()})
            answers.append(_or_error(partial(self.new_order, one, now_ms)))
        return answers

    def cancel_batch(self, params: Params, now_ms: int) -> list[Json]:
        symbol = params.text("symbol")
        ids = [("orderId", one) for one in _json_list(params, "orderIdList")]
        ids += [("origClientOrderId", one) for one in _json_list(params, "origClientOrderIdList")]
        answers: list[Json] = []
        for name, value in ids:
            one = Params({"symbol": symbol, name: _as_text(value)})
            answers.append(_or_error(partial(self.cancel_order, one, now_ms)))
        return answers

    def cancel_all(self, params: Params, now_ms: int) -> Json:
        symbol = params.text("symbol")
        self.ledger.settings(symbol)
        for order in self.ledger.open_orders(symbol):
            self._publish(self.ledger.cancel(order.order_id, now_ms))
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def get_order(self, params: Params, now_ms: int) -> Json:
        try:
            order = self._find(params)
        except Refused as refused:
            raise _no_such_order(refused) from None
        if not _is_kept(order, now_ms):
            raise _NO_SUCH_ORDER
        return _order(order)

    def open_order(self, params: Params, now_ms: int) -> Json:
        try:
            order = self._find(params)
        except Refused as refused:
            raise _no_such_order(refused) from None
        if not order.is_open:
            raise _NO_SUCH_ORDER
        return _order(order)

    def open_orders(self, params: Params, now_ms: int) -> list[Json]:
        return [_order(order) for order in self.ledger.open_orders(self._symbol_or_none(params))]

    def all_orders(self, params: Params, now_ms: int) -> list[Json]:
        symbol = self._symbol_or_none(params)
        orders = (
            order
            for order in self.ledger.orders()
            if (symbol is None or order.symbol == symbol) and _is_kept(order, now_ms)
        )
        page = _page(params, now_ms, orders, "orderId", lambda one: one.order_id, lambda one: one.created_at_ms)
        return [_order(order) | {"cumBase": "0", "pair": order.symbol} for order in page]

    def user_trades(self, params: Params, now_ms: int) -> list[Json]:
        symbol = params.text("symbol")
        self.ledger.settings(symbol)
        if "fromId" in params and ("startTime" in params or "endTime" in params):
            raise ApiError(-1128, "Combination of optional parameters invalid.")
        order_id = params.integer("orderId", 0)
        trades = (
            trade
            for trade in self.ledger.trades
            if trade.order.symbol == symbol and order_id in (0, trade.order.order_id)
        )
        page = _page(params, now_ms, trades, "fromId", lambda one: one.trade_id, lambda one: one.at_ms)
        return [_trade(trade) for trade in page]

    def income(self, params: Params, now_ms: int) -> list[Json]:
        symbol, kind = self._symbol_or_none(params), params.get("incomeType")
        incomes = (
            one
            for one in self.ledger.incomes
            if (symbol is None or one.symbol == symbol) and (not kind or one.kind == kind)
        )
        page = _page(params, now_ms, incomes, "", lambda one: one.transaction_id, lambda one: one.at_ms, default=100)
        return [_income(one) for one in page]

    def force_orders(self, params: Params, now_ms: int) -> list[Json]:
        symbol = self._symbol_or_none(params)
        orders = (
            order
            for order in self.ledger.orders()
            if order.type is OrderType.LIQUIDATION and (symbol is None or order.symbol == symbol)
        )
        page = _page(params, now_ms, orders, "", lambda one: one.order_id, lambda one: one.created_at_ms, default=50)
        return [_order(order) for order in page]

    # -- conditional orders ------------------------------------------------------------------------------------------

    def new_algo(self, params: Params, now_ms: int) -> Json:
        if params.text("algoType") != "CONDITIONAL":
            raise ApiError(-1130, "Data sent for parameter 'algoType' is not valid.")
        kind = params.one_of("type", OrderType, code=-1116)
        if kind not in CONDITIONAL:
            raise ApiError(-1116, "Invalid orderType.")
        close = params.flag("closePosition", default=False)
        trailing = kind is OrderType.TRAILING_STOP_MARKET
        limited = kind in (OrderType.STOP, OrderType.TAKE_PROFIT)
        if close and ("quantity" in params or "reduceOnly" in params or limited):
            raise ApiError(-4137, "Quantity must be zero with closePosition equals true")
        request = AlgoRequest(
            symbol=params.text("symbol"),
            side=params.one_of("side", Side, code=-1117),
            type=kind,
            qty=ZERO if close else params.decimal("quantity"),
            price=params.decimal("price") if limited else ZERO,
            trigger_price=ZERO if trailing else params.decimal("triggerPrice"),
            activation_price=params.decimal("activatePrice", ZERO),
            callback_rate=params.decimal("callbackRate") if trailing else ZERO,
            time_in_force=params.one_of("timeInForce", TimeInForce, TimeInForce.GTC, code=-1115),
            position_side=params.one_of("positionSide", PositionSide, PositionSide.BOTH),
            reduce_only=params.flag("reduceOnly", default=False),
            close_position=close,
            working_type=params.get("workingType", "CONTRACT_PRICE"),
            client_algo_id=params.get("clientAlgoId", ""),
        )
        before = {algo.algo_id for algo in self.ledger.open_algos()}
        events = self.ledger.place_algo(request, now_ms)
        self._publish(events)
        placed = next(algo for algo in self.ledger.open_algos() if algo.algo_id not in before)
        return _algo_acknowledged(placed)

    def cancel_algo(self, params: Params, now_ms: int) -> Json:
        algo = self.ledger.algo(params.integer("algoId", 0), params.get("clientAlgoId", ""))
        self._publish(self.ledger.cancel_algo(algo.algo_id, now_ms))
        return {"algoId": algo.algo_id, "clientAlgoId": algo.client_algo_id, "code": "200", "msg": "success"}

    def cancel_all_algos(self, params: Params, now_ms: int) -> Json:
        symbol = params.text("symbol")
        self.ledger.settings(symbol)
        for algo in self.ledger.open_algos(symbol):
            self._publish(self.ledger.cancel_algo(algo.algo_id, now_ms))
        return {"code": 200, "msg": "The operation of cancel all open order is done."}

    def get_algo(self, params: Params, now_ms: int) -> Json:
        try:
            algo = self.ledger.algo(params.integer("algoId", 0), params.get("clientAlgoId", ""))
        except Refused as refused:
            raise _no_such_order(refused) from None
        if not _is_algo_kept(algo, now_ms):
            raise _NO_SUCH_ORDER
        return _algo(algo, listed=False)

    def open_algos(self, params: Params, now_ms: int) -> list[Json]:
        algo_id = params.integer("algoId", 0)
        algos = self.ledger.open_algos(self._symbol_or_none(params))
        return [_algo(algo, listed=True) for algo in algos if algo_id in (0, algo.algo_id)]

    def all_algos(self, params: Params, now_ms: int) -> list[Json]:
        symbol = params.text("symbol")
        self.ledger.settings(symbol)
        algos = (algo for algo in self.ledger.algos() if algo.symbol == symbol and _is_algo_kept(algo, now_ms))
        page = _page(params, now_ms, algos, "algoId", lambda one: one.algo_id, lambda one: one.created_at_ms)
        return [_algo(algo, listed=True) for algo in page]

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _symbol_or_none(self, params: Params) -> str | None:
        symbol = params.get("symbol")
        if not symbol:
            return None
        self.ledger.settings(symbol)
        return symbol

    def _per_symbol(self, params: Params, row: Callable[[Rules], Json]) -> Any:
        symbol = self._symbol_or_none(params)
        if symbol:
            return row(self.ledger.rules[symbol])
        return [row(rules) for rules in self.ledger.rules.values()]

    def _find(self, params: Params) -> Order:
        order_id, client_order_id = params.integer("orderId", 0), params.get("origClientOrderId", "")
        if not order_id and not client_order_id:
            raise missing("orderId")
        return self.ledger.order(params.text("symbol"), order_id, client_order_id)

    def _open_order(self, params: Params) -> Order:
        order = self._find(params)
        if not order.is_open:
            raise Refused(Refusal.UNKNOWN_ORDER)
        return order

    def _active_rows(self) -> Iterable[PositionMargin]:
        for symbol in self.ledger.active_symbols():
            for side in self.ledger.sides():
                yield self.ledger.position_margin(symbol, side)

    def _all_rows(self) -> Iterable[PositionMargin]:
        sides = (PositionSide.BOTH, *self.ledger.sides()) if self.ledger.hedge else self.ledger.sides()
        for symbol in self.ledger.rules:
            for side in sides:
                yield self.ledger.position_margin(symbol, side)

    def _risk(self, margin: PositionMargin) -> Json:
        """What the versions of positionRisk share."""
        row = margin.row
        asset = self.ledger.asset_margin(margin.rules.margin_asset)
        free = row.isolated_wallet
        if not margin.isolated:
            free = asset.cross_wallet + asset.cross_profit - margin.profit
        return {
            "symbol": row.symbol,
            "positionSide": row.side,
            "positionAmt": plain(row.amount),
            "entryPrice": plain(row.entry_price),
            "breakEvenPrice": plain(row.break_even_price),
            "markPrice": plain(margin.mark),
            "unRealizedProfit": money(margin.profit),
            "liquidationPrice": plain(margin.liquidation_price(free)),
            "notional": plain(margin.notional),
            "isolatedWallet": _or_zero(row.isolated_wallet),
            "updateTime": row.updated_at_ms,
        }

    def _asset(self, asset: str) -> Json:
        margin = self.ledger.asset_margin(asset)
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

    def _totals(self) -> Json:
        """USDT alone in single-asset mode; the USD value of everything in multi-assets mode."""
        assets = [wallet.asset for wallet in self.ledger.wallets()] if self.ledger.multi_assets else ["USDT"]
        rows = [(self.ledger.asset_margin(asset), INDEX_PRICES.get(asset, Decimal(1))) for asset in assets]
        first = self.ledger.asset_margin("USDT")

        def total(value: Callable[[Any], Decimal]) -> str:
            return money(sum((value(row) * index for row, index in rows), ZERO))

        return {
            "totalInitialMargin": total(lambda row: row.initial),
            "totalMaintMargin": total(lambda row: row.maintenance),
            "totalWalletBalance": total(lambda row: row.wallet.balance),
            "totalUnrealizedProfit": total(lambda row: row.profit),
            "totalMarginBalance": total(lambda row: row.margin_balance),
            "totalPositionInitialMargin": total(lambda row: row.position_initial),
            "totalOpenOrderInitialMargin": total(lambda row: row.open_order_initial),
            "totalCrossWalletBalance": total(lambda row: row.cross_wallet),
            "totalCrossUnPnl": total(lambda row: row.cross_profit),
            "availableBalance": money(first.available),
            "maxWithdrawAmount": money(first.max_withdraw),
        }


# -- requests --------------------------------------------------------------------------------------------------------


def _order_request(params: Params) -> OrderRequest:
    kind = params.one_of("type", OrderType, code=-1116)
    if kind in CONDITIONAL:
        raise ApiError(
            -4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
        )
    if kind is OrderType.LIQUIDATION:
        raise ApiError(-1116, "Invalid orderType.")
    limited = kind is OrderType.LIMIT
    if limited:
        params.text("timeInForce")
    client_order_id = params.get("newClientOrderId", "")
    if len(client_order_id) > 36:
        raise ApiError(-4015, "Client order id length should be less than 36 chars")
    return OrderRequest(
        symbol=params.text("symbol"),
        side=params.one_of("side", Side, code=-1117),
        type=kind,
        qty=params.decimal("quantity"),
        price=params.decimal("price") if limited else ZERO,
        time_in_force=params.one_of("timeInForce", TimeInForce, TimeInForce.GTC, code=-1115),
        position_side=params.one_of("positionSide", PositionSide, PositionSide.BOTH),
        reduce_only=params.flag("reduceOnly", default=False),
        client_order_id=client_order_id,
    )


_T = TypeVar("_T")


def _page(
    params: Params,
    now_ms: int,
    items: Iterable[_T],
    id_name: str,
    id_of: Callable[[_T], int],
    time_of: Callable[[_T], int],
    default: int = 500,
) -> list[_T]:
    """A page of history in ascending order: from an id, from a start time, or the latest of the last seven days."""
    limit = min(1000, params.integer("limit", default))
    if id_name and id_name in params:
        first = params.integer(id_name)
        return [item for item in items if id_of(item) >= first][:limit]
    start, end = params.integer("startTime", 0), params.integer("endTime", 0)
    if start and end and end - start > 7 * DAY_MS:
        raise ApiError(-1127, "Lookup interval is too big: More than 168 hours between startTime and endTime.")
    last = end or (start + 7 * DAY_MS if start else now_ms)
    found = [item for item in items if (start or last - 7 * DAY_MS) <= time_of(item) <= last]
    return found[:limit] if start else found[-limit:]


def _json_list(params: Params, name: str) -> list[Any]:
    # python-binance spells the names of these lists in lower case.
    text = params.get(name) or params.get(name.lower(), "[]")
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.") from None
    if not isinstance(value, list):
        raise ApiError(-1130, f"Data sent for parameter '{name}' is not valid.")
    return value


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _or_error(call: Callable[[], Json]) -> Json:
    """A member of a batch fails alone."""
    try:
        return call()
    except Refused as refused:
        error = as_api_error(refused)
    except ApiError as failed:
        error = failed
    return {"code": error.code, "msg": error.message}


_NO_SUCH_ORDER = ApiError(-2013, "Order does not exist.")


def _no_such_order(refused: Refused) -> ApiError:
    return _NO_SUCH_ORDER if refused.refusal is Refusal.UNKNOWN_ORDER else as_api_error(refused)


def _is_kept(order: Order, now_ms: int) -> bool:
    """What is done without any fill is forgotten three days after creation, everything after ninety."""
    if order.is_open:
        return True
    unfilled = order.status in (OrderStatus.CANCELED, OrderStatus.EXPIRED) and not order.filled_qty
    return now_ms - order.created_at_ms < (3 if unfilled else 90) * DAY_MS


def _is_algo_kept(algo: AlgoOrder, now_ms: int) -> bool:
    if algo.status in (AlgoStatus.NEW, AlgoStatus.TRIGGERED):
        return True
    return now_ms - algo.created_at_ms < (90 if algo.filled_qty else 3) * DAY_MS


# -- answers ---------------------------------------------------------------------------------------------------------


def _done() -> Json:
    return {"code": 200, "msg": "success"}


def _or_zero(value: Decimal) -> str:
    """Eight places, or the bare zero that Binance writes where a figure does not apply."""
    return money(value) if value else "0"


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


def _acknowledged(order: Order) -> Json:
    """An order as placing, amending and cancelling answer it: since 2026-07-15 without avgPrice and cumQuote."""
    return {
        "orderId": order.order_id,
        "symbol": order.symbol,
        "status": order.status,
        "clientOrderId": order.client_order_id,
        "price": plain(order.price),
        "origQty": plain(order.qty),
        "executedQty": plain(order.filled_qty),
        "cumQty": plain(order.filled_qty),
        "timeInForce": order.time_in_force,
        "type": order.type,
        "reduceOnly": order.reduce_only,
        "closePosition": order.close_position,
        "side": order.side,
        "positionSide": order.position_side,
        "stopPrice": plain(order.stop_price),
        "workingType": order.working_type,
        "priceProtect": False,
        "origType": order.original_type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": STP_MODE,
        "goodTillDate": 0,
        "updateTime": order.updated_at_ms,
    }


def _order(order: Order) -> Json:
    """An order as the queries answer it."""
    body = _acknowledged(order)
    del body["cumQty"]
    return body | {
        "avgPrice": average(order.average_price) if order.filled_qty else "0",
        "cumQuote": plain(order.filled_quote),
        "time": order.created_at_ms,
    }


def _trade(trade: Trade) -> Json:
    return {
        "buyer": trade.order.side is Side.BUY,
        "commission": money(trade.commission),
        "commissionAsset": trade.commission_asset,
        "id": trade.trade_id,
        "maker": trade.is_maker,
        "orderId": trade.order.order_id,
        "price": plain(trade.price),
        "qty": plain(trade.qty),
        "quoteQty": plain(trade.price * trade.qty),
        "baseQty": "0",
        "marginAsset": trade.commission_asset,
        "realizedPnl": money(trade.realised) if trade.realised else "0",
        "side": trade.order.side,
        "positionSide": trade.order.position_side,
        "symbol": trade.order.symbol,
        "pair": trade.order.symbol,
        "time": trade.at_ms,
    }


def _income(income: Income) -> Json:
    return {
        "symbol": income.symbol,
        "incomeType": income.kind,
        "income": money(income.amount),
        "asset": income.asset,
        "info": str(income.trade_id) if income.trade_id else income.kind,
        "time": income.at_ms,
        "tranId": income.transaction_id,
        "tradeId": str(income.trade_id) if income.trade_id else "",
    }


def _algo_acknowledged(algo: AlgoOrder) -> Json:
    body: Json = {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_algo_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.type,
        "symbol": algo.symbol,
        "side": algo.side,
        "positionSide": algo.position_side,
        "timeInForce": algo.time_in_force,
        "quantity": plain(algo.qty),
        "algoStatus": algo.status,
        "triggerPrice": plain(algo.trigger_price),
        "price": plain(algo.price),
        "icebergQuantity": None,
        "selfTradePreventionMode": STP_MODE,
        "workingType": algo.working_type,
        "priceMatch": "NONE",
        "closePosition": algo.close_position,
        "priceProtect": False,
        "reduceOnly": algo.reduce_only,
        "createTime": algo.created_at_ms,
        "updateTime": algo.updated_at_ms,
        "triggerTime": algo.triggered_at_ms,
        "goodTillDate": 0,
    }
    if algo.type is OrderType.TRAILING_STOP_MARKET:
        body |= {"activatePrice": plain(algo.activation_price), "callbackRate": plain(algo.callback_rate)}
    return body


def _algo(algo: AlgoOrder, *, listed: bool) -> Json:
    """A conditional order; lists still carry the tp/sl prices that the single query dropped in 2026-06."""
    body = _algo_acknowledged(algo) | {
        "actualOrderId": str(algo.order_id) if algo.order_id else "",
        "actualPrice": average(algo.average_price),
    }
    if listed:
        zero = dict.fromkeys(("tpTriggerPrice", "tpPrice", "slTriggerPrice", "slPrice"), "0.000")
        return body | zero | {"tpOrderType": ""}
    return body | {
        "actualType": algo_type(algo.type) if algo.order_id else "",
        "actualQty": plain(algo.filled_qty),
    }


_V1, _V2, _V3 = "/fapi/v1/", "/fapi/v2/", "/fapi/v3/"

ROUTES: dict[tuple[str, str], Route] = {
    ("GET", _V1 + "ping"): Route(Security.NONE, RestApi.ping),
    ("GET", _V1 + "time"): Route(Security.NONE, RestApi.time),
    ("GET", _V1 + "exchangeInfo"): Route(Security.NONE, RestApi.exchange_info),
    ("GET", _V1 + "premiumIndex"): Route(Security.NONE, RestApi.premium_index, 1, 10),
    ("GET", _V1 + "assetIndex"): Route(Security.NONE, RestApi.asset_index, 1, 10),
    ("GET", _V1 + "ticker/price"): Route(Security.NONE, RestApi.ticker_price, 1, 2),
    ("GET", _V2 + "ticker/price"): Route(Security.NONE, RestApi.ticker_price, 1, 2),
    ("GET", _V1 + "ticker/bookTicker"): Route(Security.NONE, RestApi.book_ticker, 2, 5),
    ("GET", _V2 + "account"): Route(Security.READ, RestApi.account_v2, 5),
    ("GET", _V3 + "account"): Route(Security.READ, RestApi.account_v3, 5),
    ("GET", _V2 + "balance"): Route(Security.READ, RestApi.balance, 5),
    ("GET", _V3 + "balance"): Route(Security.READ, RestApi.balance, 5),
    ("GET", _V2 + "positionRisk"): Route(Security.READ, RestApi.position_risk_v2, 5),
    ("GET", _V3 + "positionRisk"): Route(Security.READ, RestApi.position_risk_v3, 5),
    ("GET", _V1 + "accountConfig"): Route(Security.READ, RestApi.account_config, 5),
    ("GET", _V1 + "symbolConfig"): Route(Security.READ, RestApi.symbol_config, 5),
    ("GET", _V1 + "positionSide/dual"): Route(Security.READ, RestApi.position_mode, 30),
    ("POST", _V1 + "positionSide/dual"): Route(Security.TRADE, RestApi.set_position_mode),
    ("GET", _V1 + "multiAssetsMargin"): Route(Security.READ, RestApi.multi_assets_mode, 30),
    ("POST", _V1 + "multiAssetsMargin"): Route(Security.TRADE, RestApi.set_multi_assets_mode),
    ("POST", _V1 + "leverage"): Route(Security.TRADE, RestApi.set_leverage),
    ("POST", _V1 + "marginType"): Route(Security.TRADE, RestApi.set_margin_type),
    ("POST", _V1 + "positionMargin"): Route(Security.TRADE, RestApi.set_position_margin),
    ("GET", _V1 + "leverageBracket"): Route(Security.READ, RestApi.leverage_bracket),
    ("GET", _V1 + "commissionRate"): Route(Security.READ, RestApi.commission_rate, 20),
    ("GET", _V1 + "apiTradingStatus"): Route(Security.READ, RestApi.trading_status, 1, 10),
    ("POST", _V1 + "order"): Route(Security.TRADE, RestApi.new_order, 0, is_order=True),
    ("POST", _V1 + "order/test"): Route(Security.TRADE, RestApi.test_order),
    ("PUT", _V1 + "order"): Route(Security.TRADE, RestApi.amend_order, 1, is_order=True),
    ("DELETE", _V1 + "order"): Route(Security.TRADE, RestApi.cancel_order),
    ("GET", _V1 + "order"): Route(Security.READ, RestApi.get_order),
    ("POST", _V1 + "batchOrders"): Route(Security.TRADE, RestApi.new_batch, 5, is_order=True),
    ("DELETE", _V1 + "batchOrders"): Route(Security.TRADE, RestApi.cancel_batch),
    ("DELETE", _V1 + "allOpenOrders"): Route(Security.TRADE, RestApi.cancel_all),
    ("GET", _V1 + "openOrder"): Route(Security.READ, RestApi.open_order),
    ("GET", _V1 + "openOrders"): Route(Security.READ, RestApi.open_orders, 1, 40),
    ("GET", _V1 + "allOrders"): Route(Security.READ, RestApi.all_orders, 5),
    ("GET", _V1 + "userTrades"): Route(Security.READ, RestApi.user_trades, 5),
    ("GET", _V1 + "income"): Route(Security.READ, RestApi.income, 30),
    ("GET", _V1 + "forceOrders"): Route(Security.READ, RestApi.force_orders, 20, 50),
    ("POST", _V1 + "algoOrder"): Route(Security.TRADE, RestApi.new_algo, 0, is_order=True),
    ("DELETE", _V1 + "algoOrder"): Route(Security.TRADE, RestApi.cancel_algo),
    ("GET", _V1 + "algoOrder"): Route(Security.READ, RestApi.get_algo),
    ("DELETE", _V1 + "algoOpenOrders"): Route(Security.TRADE, RestApi.cancel_all_algos),
    ("GET", _V1 + "openAlgoOrders"): Route(Security.READ, RestApi.open_algos, 1, 40),
    ("GET", _V1 + "allAlgoOrders"): Route(Security.READ, RestApi.all_algos, 5),
    # Clients of several products ask Spot for the time when they start.
    ("GET", "/api/v3/ping"): Route(Security.NONE, RestApi.ping),
    ("GET", "/api/v3/time"): Route(Security.NONE, RestApi.time),
}

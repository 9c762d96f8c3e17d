"""Answers of Binance's REST endpoints → balances, positions, orders, totals. Pure; a malformed body raises FrameError.

Sources: the endpoints' pages, as of 2026-05-28 to 2026-09. Amounts are text, times milliseconds; `updateTime` is 0 for
a row that was never touched. `event` of an error is the endpoint. Trimmed payloads stand with each function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from statecast.domain.event_ids import conditional_order_id
from statecast.domain.models import Balance, Order, Position, Stamp, SymbolConfig, Totals
from statecast.domain.orders import is_over
from statecast.errors import FrameError
from statecast.venues.binance import wire
from statecast.venues.binance.decode import is_all_filled, margin_type, trails
from statecast.venues.binance.fields import (
    Json,
    flag,
    maybe_flag,
    maybe_id,
    maybe_number,
    name,
    number,
    obj,
    one_of,
    rows,
    text,
    time_ms,
    whole,
    word,
)

_HARMLESS_PERMISSIONS = frozenset({"ipRestrict", "enableReading", "enableFixReadOnly"})
_TRADE_PERMISSIONS = frozenset(
    {
        "enableFutures",
        "enableMargin",
        "enableSpotAndMarginTrading",
        "enableVanillaOptions",
        "enableFixApiTrade",
        "enablePortfolioMarginTrading",
    }
)
_WITHDRAW_PERMISSIONS = frozenset({"enableWithdrawals", "enableInternalTransfer", "permitsUniversalTransfer"})


@dataclass(frozen=True, slots=True)
class KeyPermissions:
    """What an API key may do. `extra` names the permissions it has that this version does not know.

    `portfolio_margin` says that the account trades by another interface (papi): its futures data are not to be used.
    """

    can_trade: bool
    can_withdraw: bool
    extra: tuple[str, ...]
    portfolio_margin: bool

    @property
    def read_only(self) -> bool:
        """Nothing known or unknown beyond reading."""
        return not (self.can_trade or self.can_withdraw or self.extra)


def proven_ms(rows_of_answer: list[Json], asked_ms: int, event: str) -> int:
    """As of when the figures of an answer are that have no time of their own: of its youngest row, or what REST is
    usually behind the question, whichever is later."""
    youngest_ms = max((time_ms(row, "updateTime", event) for row in rows_of_answer), default=0)
    return max(youngest_ms, asked_ms - wire.REST_RECENT_MS)


def account(body: object, asked_ms: int) -> tuple[Totals, tuple[Balance, ...]]:
    """`GET /fapi/v3/account`, asked for at a time: the totals and the assets.

    {"totalInitialMargin":"114.06","totalMaintMargin":"9.13","totalWalletBalance":"10250.11873421",…,
     "assets":[{"asset":"USDT","walletBalance":"10250.11873421","crossWalletBalance":"10250.11873421","unrealizedProfit":"4.11",
      "availableBalance":"10140.17",…,"updateTime":1793000001046}],"positions":[…]}

    The venue lists every asset that could be margin. Kept are those with an amount in them, or an `updateTime`: that is
    every asset that the account holds or that ever moved, so that an asset which the stream reports as 0 does not come
    and go with each snapshot, while assets that were never touched stay out of the reader's sight. In multi-assets mode
    the pooled `availableBalance` is an amount in every asset, and all of them are kept.

    The totals are USDT's alone in single-asset mode, and the USD value of all assets in multi-assets mode. A never-used
    account may give `""` for them: where no asset is kept and none has a position, that is 0; otherwise it is an error.
    """
    event = str(wire.ACCOUNT)
    whole_account = obj(body, event, "body")
    assets = rows(whole_account.get("assets"), event, "assets")
    taken_ms = proven_ms(assets, asked_ms, event)
    balances = tuple(_balance(row, taken_ms, event) for row in assets if _is_held(row, event))
    empty = not balances and not rows(whole_account.get("positions", []), event, "positions")

    def total(key: str) -> Decimal:
        return Decimal(0) if empty and whole_account.get(key) == "" else number(whole_account, key, event)

    totals = Totals(
        total_wallet_balance=total("totalWalletBalance"),
        total_wallet_balance_time_ms=taken_ms,
        total_unrealized_profit=total("totalUnrealizedProfit"),
        total_unrealized_profit_time_ms=taken_ms,
        total_margin_balance=total("totalMarginBalance"),
        total_margin_balance_time_ms=taken_ms,
        available_balance=total("availableBalance"),
        available_balance_time_ms=taken_ms,
        total_initial_margin=total("totalInitialMargin"),
        total_maint_margin=total("totalMaintMargin"),
        margin_time_ms=taken_ms,
    )
    return totals, balances


def _is_held(row: Json, event: str) -> bool:
    amounts = ("walletBalance", "crossWalletBalance", "availableBalance")
    return time_ms(row, "updateTime", event) > 0 or any(maybe_number(row, key, event) for key in amounts)


def _balance(row: Json, taken_ms: int, event: str) -> Balance:
    available = maybe_number(row, "availableBalance", event)
    profit = maybe_number(row, "unrealizedProfit", event)
    return Balance(
        asset=name(row, "asset", event),
        wallet_balance=number(row, "walletBalance", event),
        cross_wallet_balance=number(row, "crossWalletBalance", event),
        stamp=Stamp(time_ms(row, "updateTime", event)),
        source="rest",
        available_balance=available,
        available_balance_time_ms=None if available is None else taken_ms,
        unrealized_profit=profit,
        unrealized_profit_time_ms=None if profit is None else taken_ms,
    )


def positions(body: object, asked_ms: int, configs: Mapping[str, SymbolConfig]) -> tuple[Position, ...]:
    """`GET /fapi/v3/positionRisk`, asked for at a time: the open positions; flat rows (a symbol with orders alone) are
    dropped.

    [{"symbol":"BTCUSDT","positionSide":"BOTH","positionAmt":"0.025","entryPrice":"91250.4","breakEvenPrice":"91286.9",
      "markPrice":"91414.9","unRealizedProfit":"4.11250000","liquidationPrice":"0","notional":"2285.37","marginAsset":"USDT",
      "isolatedWallet":"0",…,"updateTime":1793000001046}]

    Leverage and margin type are not in it since v3; they come from `configs` where that knows the symbol. A
    `liquidationPrice` of 0 is the venue's word for "none".
    """
    event = str(wire.POSITION_RISK)
    listed = rows(body, event, "body")
    taken_ms = proven_ms(listed, asked_ms, event)
    return tuple(_position(row, taken_ms, configs, event) for row in listed if number(row, "positionAmt", event))


def _position(row: Json, taken_ms: int, configs: Mapping[str, SymbolConfig], event: str) -> Position:
    symbol = name(row, "symbol", event)
    config = configs.get(symbol)
    mark_price = maybe_number(row, "markPrice", event)
    profit = maybe_number(row, "unRealizedProfit", event)
    liquidation_price = maybe_number(row, "liquidationPrice", event)
    return Position(
        symbol=symbol,
        position_side=one_of(row, "positionSide", wire.POSITION_SIDES, event),
        position_amt=number(row, "positionAmt", event),
        entry_price=number(row, "entryPrice", event),
        stamp=Stamp(time_ms(row, "updateTime", event)),
        source="rest",
        break_even_price=maybe_number(row, "breakEvenPrice", event),
        mark_price=mark_price,
        mark_price_time_ms=None if mark_price is None else taken_ms,
        unrealized_profit=profit,
        unrealized_profit_time_ms=None if profit is None else taken_ms,
        leverage=config.leverage if config else None,
        margin_type=config.margin_type if config else None,
        isolated_wallet=maybe_number(row, "isolatedWallet", event),
        liquidation_price=liquidation_price,
        liquidation_price_time_ms=None if liquidation_price is None else taken_ms,
        notional=maybe_number(row, "notional", event),
        margin_asset=name(row, "marginAsset", event) if row.get("marginAsset") else None,
    )


Holdings = dict[tuple[str, str], tuple[Decimal, int]]
"""Amount and update time of every open position, by symbol and side."""


def account_holdings(body: object) -> Holdings:
    """The open positions as `GET /fapi/v3/account` has them, next to the balances of the same moment.

    {"assets":[…],"positions":[{"symbol":"BTCUSDT","positionSide":"BOTH","positionAmt":"0.025",…,"updateTime":1793000001046}]}
    """
    event = str(wire.ACCOUNT)
    return _holdings(obj(body, event, "body").get("positions"), event, "positions")


def risk_holdings(body: object) -> Holdings:
    """The open positions as `GET /fapi/v3/positionRisk` has them."""
    return _holdings(body, str(wire.POSITION_RISK), "body")


def _holdings(body: object, event: str, where: str) -> Holdings:
    return {
        (name(row, "symbol", event), name(row, "positionSide", event)): (amount, time_ms(row, "updateTime", event))
        for row in rows(body, event, where)
        if (amount := number(row, "positionAmt", event))
    }


def amounts(holdings: Holdings) -> dict[tuple[str, str], Decimal]:
    """The amounts alone."""
    return {position: amount for position, (amount, _) in holdings.items()}


def open_orders(body: object) -> tuple[Order, ...]:
    """`GET /fapi/v1/openOrders`: the ordinary orders; conditional ones are not among them until they trigger.

    [{"orderId":8886774001,"clientOrderId":"my-0001","symbol":"BTCUSDT","side":"BUY","positionSide":"BOTH","type":"LIMIT",
      "origType":"LIMIT","timeInForce":"GTC","status":"PARTIALLY_FILLED","price":"91250.4","stopPrice":"0","origQty":"0.050",
      "executedQty":"0.025","avgPrice":"91250.40000","reduceOnly":false,"time":1793000000900,"updateTime":1793000001046,…}]
    """
    event = str(wire.OPEN_ORDERS)
    orders = (order_row(row, event) for row in rows(body, event, "body"))
    return tuple(order for order in orders if not is_over(order))


def order_row(row: Json, event: str) -> Order:
    """An ordinary order as every query answers it. Its status may be one that nobody named."""
    status = word(row, "status", event)
    return Order(
        order_id=str(whole(row, "orderId", event)),
        symbol=name(row, "symbol", event),
        client_order_id=text(row, "clientOrderId", event),
        side=one_of(row, "side", wire.SIDES, event),
        position_side=one_of(row, "positionSide", wire.POSITION_SIDES, event),
        type=text(row, "type", event),
        orig_type=text(row, "origType", event),
        time_in_force=text(row, "timeInForce", event),
        status=status,
        price=maybe_number(row, "price", event),
        stop_price=None if trails(row, "type", "origType") else maybe_number(row, "stopPrice", event),
        quantity=number(row, "origQty", event),
        executed_qty=number(row, "executedQty", event),
        avg_price=maybe_number(row, "avgPrice", event),
        reduce_only=maybe_flag(row, "reduceOnly", event),
        venue_time_ms=time_ms(row, "updateTime", event),
        source="rest",
        close_position=maybe_flag(row, "closePosition", event),
        activate_price=maybe_number(row, "activatePrice", event) if trails(row, "type", "origType") else None,
        callback_rate=maybe_number(row, "priceRate", event) if trails(row, "type", "origType") else None,
        ended=status not in wire.ORDER_STATUSES and is_all_filled(row, "executedQty", "origQty", event),
    )


def open_algo_orders(body: object) -> tuple[Order, ...]:
    """`GET /fapi/v1/openAlgoOrders`: the conditional orders that have not triggered.

    [{"algoId":2148719,"clientAlgoId":"sl-0007","orderType":"STOP_MARKET","symbol":"BTCUSDT","side":"SELL","positionSide":"BOTH",
      "timeInForce":"GTC","quantity":"0.025","algoStatus":"NEW","actualOrderId":"","actualPrice":"0.00000","triggerPrice":"88000.0",
      "price":"0.00000","reduceOnly":true,"updateTime":1793000004010,…}]

    `actualPrice` and `actualQty` mean something only after the trigger; before it they are left out, as in the stream.
    """
    event = str(wire.OPEN_ALGO_ORDERS)
    orders = (algo_order_row(row, event) for row in rows(body, event, "body"))
    return tuple(order for order in orders if not is_over(order))


def algo_order_row(row: Json, event: str) -> Order:
    """A conditional order as every query answers it."""
    algo_id = str(whole(row, "algoId", event))
    actual_order_id = maybe_id(row, "actualOrderId", event)
    order_type = text(row, "orderType", event)
    return Order(
        order_id=conditional_order_id(algo_id),
        symbol=name(row, "symbol", event),
        client_order_id=text(row, "clientAlgoId", event),
        side=one_of(row, "side", wire.SIDES, event),
        position_side=one_of(row, "positionSide", wire.POSITION_SIDES, event),
        type=order_type,
        orig_type=order_type,
        time_in_force=text(row, "timeInForce", event),
        status=word(row, "algoStatus", event),
        price=maybe_number(row, "price", event),
        stop_price=None if trails(row, "orderType") else maybe_number(row, "triggerPrice", event),
        quantity=maybe_number(row, "quantity", event),
        executed_qty=maybe_number(row, "actualQty", event) if actual_order_id else None,
        avg_price=maybe_number(row, "actualPrice", event) if actual_order_id else None,
        reduce_only=maybe_flag(row, "reduceOnly", event),
        venue_time_ms=time_ms(row, "updateTime", event),
        source="rest",
        algo_id=algo_id,
        actual_order_id=actual_order_id,
        close_position=maybe_flag(row, "closePosition", event),
        activate_price=maybe_number(row, "activatePrice", event) if trails(row, "orderType") else None,
        callback_rate=maybe_number(row, "callbackRate", event) if trails(row, "orderType") else None,
    )


def multi_assets(body: object) -> bool:
    """`GET /fapi/v1/accountConfig`: `{"dualSidePosition":false,"multiAssetsMargin":false,…}`."""
    event = str(wire.ACCOUNT_CONFIG)
    return flag(obj(body, event, "body"), "multiAssetsMargin", event)


def symbol_configs(body: object) -> dict[str, SymbolConfig]:
    """`GET /fapi/v1/symbolConfig`: `[{"symbol":"BTCUSDT","marginType":"CROSSED","leverage":20,…}]`, by symbol."""
    event = str(wire.SYMBOL_CONFIG)
    return {
        name(row, "symbol", event): SymbolConfig(whole(row, "leverage", event), margin_type(row, "marginType", event))
        for row in rows(body, event, "body")
    }


def margin_assets(body: object) -> dict[str, str]:
    """`GET /fapi/v1/exchangeInfo`: `{"symbols":[{"symbol":"BTCUSDT","marginAsset":"USDT",…}]}`, the asset by symbol."""
    event = str(wire.EXCHANGE_INFO)
    symbols = rows(obj(body, event, "body").get("symbols"), event, "symbols")
    return {name(row, "symbol", event): name(row, "marginAsset", event) for row in symbols}


def key_permissions(body: object) -> KeyPermissions:
    """`GET /sapi/v1/account/apiRestrictions`: `{"ipRestrict":true,"enableReading":true,"enableFutures":false,…}`.

    A key is read-only if nothing but restriction and reading is true; a true flag of an unknown name is named in
    `extra`. (`canTrade` of accountConfig describes the account, not the key.) A body without `enableReading` is not
    this endpoint's answer.
    """
    event = str(wire.API_RESTRICTIONS)
    flags = obj(body, event, "body")
    flag(flags, "enableReading", event)
    for key in _TRADE_PERMISSIONS | _WITHDRAW_PERMISSIONS:
        maybe_flag(flags, key, event)
    granted = {key for key, value in flags.items() if value is True} - _HARMLESS_PERMISSIONS
    return KeyPermissions(
        can_trade=bool(granted & _TRADE_PERMISSIONS),
        can_withdraw=bool(granted & _WITHDRAW_PERMISSIONS),
        extra=tuple(sorted(granted - _TRADE_PERMISSIONS - _WITHDRAW_PERMISSIONS)),
        portfolio_margin="enablePortfolioMarginTrading" in granted,
    )


def server_time_ms(body: object) -> int:
    """`GET /fapi/v1/time`: `{"serverTime":1793000000000}`."""
    event = str(wire.TIME)
    time = time_ms(obj(body, event, "body"), "serverTime", event)
    if not time:
        raise FrameError(event, "serverTime", "is 0")
    return time


def listen_key(body: object) -> str:
    """`POST /fapi/v1/listenKey`: `{"listenKey":"pqia91ma…"}`. No error repeats it."""
    event = str(wire.LISTEN_KEY_CREATE)
    key = obj(body, event, "body").get("listenKey")
    if type(key) is not str or not key:
        raise FrameError(event, "listenKey", "is not a text")
    return key

"""Answers of Binance's REST endpoints → balances, positions, orders, totals. Pure; a malformed body raises FrameError.

Sources: the endpoints' pages, as of 2026-05-28 to 2026-09. Amounts are text, times milliseconds; `updateTime` is 0 for
a row that was never touched. `event` of an error is the endpoint. Trimmed payloads stand with each function.

One value that makes no sense must not cost the account all others. What only decorates its row is left out; a row that
is not understood is missing, and the functions add to `unreadable` which one. FrameError is for what is left: a body of
another shape, or a row that cannot be named.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple, TypeVar

from statecast.domain.changes import Unreadable
from statecast.domain.event_ids import algo_id, conditional_order_id
from statecast.domain.models import (
    Balance,
    Order,
    OrderKey,
    Position,
    PositionKey,
    Stamp,
    SymbolConfig,
    Totals,
)
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
    time_or_zero,
    whole,
    word,
)

T = TypeVar("T")

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


class Asking(NamedTuple):
    """When the venue was asked, and when all had been answered, in its own time."""

    asked_ms: int
    answered_ms: int

    def proven_ms(self, rows_of_answer: list[Json]) -> int:
        """As of when the figures of an answer are that have no time of their own: of its youngest row, or what REST is
        usually behind the question, whichever is later. A row of later than the answer proves nothing: it was stamped
        by a clock that was wrong, or in another unit."""
        times = (row.get("updateTime") for row in rows_of_answer)
        latest_ms = self.answered_ms + wire.CLOCK_ERROR_MS
        youngest_ms = max((time for time in times if type(time) is int and time <= latest_ms), default=0)
        return min(max(youngest_ms, self.asked_ms - wire.REST_RECENT_MS), self.answered_ms)


def account(body: object, asking: Asking, unreadable: list[Unreadable]) -> tuple[Totals, tuple[Balance, ...]]:
    """`GET /fapi/v3/account`, asked for then: the totals and the assets.

    {"totalInitialMargin":"114.06","totalMaintMargin":"9.13","totalWalletBalance":"10250.11873421",…,
     "assets":[{"asset":"USDT","walletBalance":"10250.11873421","crossWalletBalance":"10250.11873421","unrealizedProfit":"4.11",
      "availableBalance":"10140.17",…,"updateTime":1793000001046}],"positions":[…]}

    The venue lists every asset that could be margin. Kept are those with an amount in them, or an `updateTime`: that is
    every asset that the account holds or that ever moved, so that an asset which the stream reports as 0 does not come
    and go with each snapshot, while assets that were never touched stay out of the reader's sight. (In multi-assets
    mode those have an `availableBalance` all the same, which is what is free of the others.)

    The totals are USDT's alone in single-asset mode, and the USD value of all assets in multi-assets mode. A never-used
    account may give `""` for them: where nothing is in any asset and no position is listed, that is 0; otherwise it is
    not given.
    """
    event = str(wire.ACCOUNT)
    whole_account = obj(body, event, "body")
    balances: list[Balance] = []
    is_empty = not rows(whole_account.get("positions", []), event, "positions")
    assets = rows(whole_account.get("assets"), event, "assets")
    taken_ms = asking.proven_ms(assets)
    for row in assets:
        asset = name(row, "asset", event)
        try:
            if _is_held(row, event):
                balances.append(_balance(row, taken_ms, event, unreadable))
        except FrameError as error:
            is_empty = False
            unreadable.append(Unreadable(_text(f"asset {asset}", error), asset))
    is_empty = is_empty and not any(row.wallet_balance or row.cross_wallet_balance for row in balances)

    def total(key: str) -> Decimal | None:
        if whole_account.get(key) == "":
            return Decimal(0) if is_empty else None
        return _figure(number, whole_account, key, event, "totals", unreadable)

    wallet, profit, margin = (
        total(key) for key in ("totalWalletBalance", "totalUnrealizedProfit", "totalMarginBalance")
    )
    available, initial, maintenance = (
        total(key) for key in ("availableBalance", "totalInitialMargin", "totalMaintMargin")
    )
    totals = Totals(
        total_wallet_balance=wallet,
        total_wallet_balance_time_ms=None if wallet is None else taken_ms,
        total_unrealized_profit=profit,
        total_unrealized_profit_time_ms=None if profit is None else taken_ms,
        total_margin_balance=margin,
        total_margin_balance_time_ms=None if margin is None else taken_ms,
        available_balance=available,
        available_balance_time_ms=None if available is None else taken_ms,
        total_initial_margin=initial,
        total_maint_margin=maintenance,
        margin_time_ms=None if initial is None and maintenance is None else taken_ms,
    )
    return totals, tuple(balances)


def _is_held(row: Json, event: str) -> bool:
    if row.get("walletBalance") == "":
        return False
    moved = time_or_zero(row, "updateTime") > 0
    return moved or any(
        maybe_number(row, key, event) for key in ("walletBalance", "crossWalletBalance", "unrealizedProfit")
    )


def _balance(row: Json, taken_ms: int, event: str, unreadable: list[Unreadable]) -> Balance:
    asset = name(row, "asset", event)
    what = f"asset {asset}"
    available = _figure(maybe_number, row, "availableBalance", event, what, unreadable)
    profit = _figure(maybe_number, row, "unrealizedProfit", event, what, unreadable)
    return Balance(
        asset=asset,
        wallet_balance=number(row, "walletBalance", event),
        cross_wallet_balance=number(row, "crossWalletBalance", event),
        stamp=_stamp(row, event, what, unreadable),
        source="rest",
        available_balance=available,
        available_balance_time_ms=None if available is None else taken_ms,
        unrealized_profit=profit,
        unrealized_profit_time_ms=None if profit is None else taken_ms,
    )


# What of an answer cannot be understood. A row that cannot be named makes the whole answer useless.


def _figure(
    read: Callable[[Json, str, str], T], row: Json, key: str, event: str, what: str, unreadable: list[Unreadable]
) -> T | None:
    """A value that says nothing of the rest of its row: left out where it makes no sense."""
    try:
        return read(row, key, event)
    except FrameError as error:
        unreadable.append(Unreadable(_text(what, error)))
        return None


def _stamp(row: Json, event: str, what: str, unreadable: list[Unreadable]) -> Stamp:
    """When a row last changed; 0 where that makes no sense, as for one that was never touched."""
    return Stamp(_figure(time_ms, row, "updateTime", event, what, unreadable) or 0)


def _text(what: str, error: FrameError) -> str:
    return f"{what}: the venue's answer cannot be understood: {error.where} {error.problem}"


def positions(
    body: object, asking: Asking, configs: Mapping[str, SymbolConfig], unreadable: list[Unreadable]
) -> tuple[Position, ...]:
    """`GET /fapi/v3/positionRisk`, asked for then: the open positions; flat rows (a symbol with orders alone) are
    dropped.

    [{"symbol":"BTCUSDT","positionSide":"BOTH","positionAmt":"0.025","entryPrice":"91250.4","breakEvenPrice":"91286.9",
      "markPrice":"91414.9","unRealizedProfit":"4.11250000","liquidationPrice":"0","notional":"2285.37","marginAsset":"USDT",
      "isolatedWallet":"0",…,"updateTime":1793000001046}]

    Leverage and margin type are not in it since v3; they come from `configs` where that knows the symbol. A
    `liquidationPrice` of 0 is the venue's word for "none".
    """
    event = str(wire.POSITION_RISK)
    found: list[Position] = []
    listed = rows(body, event, "body")
    taken_ms = asking.proven_ms(listed)
    for row in listed:
        key = PositionKey(name(row, "symbol", event), name(row, "positionSide", event))
        try:
            if number(row, "positionAmt", event):
                found.append(_position(row, key.symbol, taken_ms, configs.get(key.symbol), event, unreadable))
        except FrameError as error:
            unreadable.append(Unreadable(_text(f"position {key.symbol} {key.position_side}", error), key))
    return tuple(found)


def _position(
    row: Json, symbol: str, taken_ms: int, config: SymbolConfig | None, event: str, unreadable: list[Unreadable]
) -> Position:
    side = one_of(row, "positionSide", wire.POSITION_SIDES, event)
    what = f"position {symbol} {side}"

    def figure(key: str) -> Decimal | None:
        return _figure(maybe_number, row, key, event, what, unreadable)

    mark_price, profit, liquidation_price = (
        figure(key) for key in ("markPrice", "unRealizedProfit", "liquidationPrice")
    )
    margin_asset = _figure(name, row, "marginAsset", event, what, unreadable) if row.get("marginAsset") else None
    return Position(
        symbol=symbol,
        position_side=side,
        position_amt=number(row, "positionAmt", event),
        entry_price=number(row, "entryPrice", event),
        stamp=_stamp(row, event, what, unreadable),
        source="rest",
        break_even_price=figure("breakEvenPrice"),
        mark_price=mark_price,
        mark_price_time_ms=None if mark_price is None else taken_ms,
        unrealized_profit=profit,
        unrealized_profit_time_ms=None if profit is None else taken_ms,
        leverage=config.leverage if config else None,
        margin_type=config.margin_type if config else None,
        isolated_wallet=figure("isolatedWallet"),
        liquidation_price=liquidation_price,
        liquidation_price_time_ms=None if liquidation_price is None else taken_ms,
        notional=figure("notional"),
        margin_asset=margin_asset,
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
        (name(row, "symbol", event), name(row, "positionSide", event)): (amount, time_or_zero(row, "updateTime"))
        for row in rows(body, event, where)
        if (amount := number(row, "positionAmt", event))
    }


def amounts(holdings: Holdings) -> dict[tuple[str, str], Decimal]:
    """The amounts alone."""
    return {position: amount for position, (amount, _) in holdings.items()}


def open_orders(body: object, unreadable: list[Unreadable]) -> tuple[Order, ...]:
    """`GET /fapi/v1/openOrders`: the ordinary orders; conditional ones are not among them until they trigger.

    [{"orderId":8886774001,"clientOrderId":"my-0001","symbol":"BTCUSDT","side":"BUY","positionSide":"BOTH","type":"LIMIT",
      "origType":"LIMIT","timeInForce":"GTC","status":"PARTIALLY_FILLED","price":"91250.4","stopPrice":"0","origQty":"0.050",
      "executedQty":"0.025","avgPrice":"91250.40000","reduceOnly":false,"time":1793000000900,"updateTime":1793000001046,…}]
    """
    return _open(body, str(wire.OPEN_ORDERS), order_key, order_row, unreadable)


def _open(
    body: object,
    event: str,
    key_of: Callable[[Json, str], OrderKey],
    read: Callable[[Json, str, list[Unreadable]], Order],
    unreadable: list[Unreadable],
) -> tuple[Order, ...]:
    found: list[Order] = []
    for row in rows(body, event, "body"):
        key = key_of(row, event)
        try:
            order = read(row, event, unreadable)
        except FrameError as error:
            unreadable.append(Unreadable(_text(f"order {key}", error), key))
            continue
        if not is_over(order):
            found.append(order)
    return tuple(found)


def order_key(row: Json, event: str) -> OrderKey:
    """Which ordinary order it is."""
    return OrderKey(name(row, "symbol", event), str(whole(row, "orderId", event)))


def algo_order_key(row: Json, event: str) -> OrderKey:
    """Which conditional order it is."""
    return OrderKey(name(row, "symbol", event), conditional_order_id(str(whole(row, "algoId", event))))


def order_row(row: Json, event: str, unreadable: list[Unreadable]) -> Order:
    """An ordinary order as every query answers it. Its status may be one that nobody named."""
    key, status = order_key(row, event), word(row, "status", event)
    is_trailing = trails(row, "type", "origType")

    def figure(read: Callable[[Json, str, str], T], name: str) -> T | None:
        return _figure(read, row, name, event, f"order {key}", unreadable)

    return Order(
        order_id=key.order_id,
        symbol=key.symbol,
        client_order_id=text(row, "clientOrderId", event),
        side=one_of(row, "side", wire.SIDES, event),
        position_side=one_of(row, "positionSide", wire.POSITION_SIDES, event),
        type=text(row, "type", event),
        orig_type=text(row, "origType", event),
        time_in_force=text(row, "timeInForce", event),
        status=status,
        price=maybe_number(row, "price", event),
        stop_price=None if is_trailing else figure(maybe_number, "stopPrice"),
        quantity=number(row, "origQty", event),
        executed_qty=number(row, "executedQty", event),
        avg_price=figure(maybe_number, "avgPrice"),
        reduce_only=figure(maybe_flag, "reduceOnly"),
        venue_time_ms=time_ms(row, "updateTime", event),
        source="rest",
        close_position=figure(maybe_flag, "closePosition"),
        activate_price=figure(maybe_number, "activatePrice") if is_trailing else None,
        callback_rate=figure(maybe_number, "priceRate") if is_trailing else None,
        ended=status not in wire.ORDER_STATUSES and is_all_filled(row, "executedQty", "origQty", event),
    )


def open_algo_orders(body: object, unreadable: list[Unreadable]) -> tuple[Order, ...]:
    """`GET /fapi/v1/openAlgoOrders`: the conditional orders that have not triggered.

    [{"algoId":2148719,"clientAlgoId":"sl-0007","orderType":"STOP_MARKET","symbol":"BTCUSDT","side":"SELL","positionSide":"BOTH",
      "timeInForce":"GTC","quantity":"0.025","algoStatus":"NEW","actualOrderId":"","actualPrice":"0.00000","triggerPrice":"88000.0",
      "price":"0.00000","closePosition":false,"reduceOnly":true,"updateTime":1793000004010,…}]

    A trailing stop has `activatePrice` and `callbackRate` as well. `actualPrice` and `actualQty` mean something only
    after the trigger; before it they are left out, as in the stream.
    """
    return _open(body, str(wire.OPEN_ALGO_ORDERS), algo_order_key, algo_order_row, unreadable)


def algo_order_row(row: Json, event: str, unreadable: list[Unreadable]) -> Order:
    """A conditional order as every query answers it."""
    key = algo_order_key(row, event)
    order_type, is_trailing = text(row, "orderType", event), trails(row, "orderType")

    def figure(read: Callable[[Json, str, str], T], name: str) -> T | None:
        return _figure(read, row, name, event, f"order {key}", unreadable)

    actual_order_id = figure(maybe_id, "actualOrderId")
    return Order(
        order_id=key.order_id,
        symbol=key.symbol,
        client_order_id=text(row, "clientAlgoId", event),
        side=one_of(row, "side", wire.SIDES, event),
        position_side=one_of(row, "positionSide", wire.POSITION_SIDES, event),
        type=order_type,
        orig_type=order_type,
        time_in_force=text(row, "timeInForce", event),
        status=word(row, "algoStatus", event),
        price=maybe_number(row, "price", event),
        stop_price=None if is_trailing else maybe_number(row, "triggerPrice", event),
        quantity=maybe_number(row, "quantity", event),
        executed_qty=figure(maybe_number, "actualQty") if actual_order_id else None,
        avg_price=figure(maybe_number, "actualPrice") if actual_order_id else None,
        reduce_only=figure(maybe_flag, "reduceOnly"),
        venue_time_ms=time_ms(row, "updateTime", event),
        source="rest",
        algo_id=algo_id(key.order_id),
        actual_order_id=actual_order_id,
        close_position=figure(maybe_flag, "closePosition"),
        activate_price=figure(maybe_number, "activatePrice") if is_trailing else None,
        callback_rate=figure(maybe_number, "callbackRate") if is_trailing else None,
    )


def multi_assets(body: object, unreadable: list[Unreadable]) -> bool | None:
    """`GET /fapi/v1/accountConfig`: `{"dualSidePosition":false,"multiAssetsMargin":false,…}`. What the totals count
    depends on it, and nothing else."""
    event = str(wire.ACCOUNT_CONFIG)
    return _figure(flag, obj(body, event, "body"), "multiAssetsMargin", event, "the margin mode", unreadable)


def totals_asset(multi_assets: bool | None) -> str | None:
    """What the totals count, in a margin mode."""
    if multi_assets is None:
        return None
    return wire.MULTI_ASSETS_TOTALS if multi_assets else wire.SINGLE_ASSET_TOTALS


def symbol_configs(body: object, unreadable: list[Unreadable]) -> dict[str, SymbolConfig]:
    """`GET /fapi/v1/symbolConfig`: `[{"symbol":"BTCUSDT","marginType":"CROSSED","leverage":20,…}]`, by symbol."""
    event = str(wire.SYMBOL_CONFIG)
    found: dict[str, SymbolConfig] = {}
    for row in rows(body, event, "body"):
        if (symbol := _figure(name, row, "symbol", event, "settings", unreadable)) is not None:
            what = f"settings of {symbol}"
            leverage = _figure(whole, row, "leverage", event, what, unreadable)
            found[symbol] = SymbolConfig(leverage, _figure(margin_type, row, "marginType", event, what, unreadable))
    return found


def margin_assets(body: object) -> dict[str, str]:
    """`GET /fapi/v1/exchangeInfo`: `{"symbols":[{"symbol":"BTCUSDT","marginAsset":"USDT",…}]}`, the asset by symbol."""
    event = str(wire.EXCHANGE_INFO)
    symbols = rows(obj(body, event, "body").get("symbols"), event, "symbols")
    named = [(row.get("symbol"), row.get("marginAsset")) for row in symbols]
    return {symbol: asset for symbol, asset in named if type(symbol) is type(asset) is str and symbol and asset}


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

"""What is past: orders, trades, incomes, liquidations, conditional orders, page by page. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from statecast.simulator.binance.algos import algo_row, is_algo_kept
from statecast.simulator.binance.errors import ApiError, missing
from statecast.simulator.binance.frames import money, plain
from statecast.simulator.binance.orders import find_order, is_kept, order_row
from statecast.simulator.binance.rest import DAY_MS, Params, RestApi
from statecast.simulator.book import Income, Trade
from statecast.simulator.events import OrderChanged
from statecast.simulator.exchange import Json
from statecast.simulator.orders import Execution, Order, OrderType, Side

_T = TypeVar("_T")


def all_orders(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol = api.symbol_or_none(params)
    if symbol is None and api.habits.orders_want_symbol:
        raise missing("symbol")
    _check_age(api, params, now_ms)
    orders = [
        order
        for order in api.ledger.orders()
        if (order.symbol in api.ledger.rules if symbol is None else order.symbol == symbol) and is_kept(order, now_ms)
    ]
    if api.habits.orders_by_id:
        orders.sort(key=lambda order: (order.symbol, order.order_id))
    page = _page(params, now_ms, orders, "orderId", lambda one: one.order_id, lambda one: one.created_at_ms)
    return [order_row(order) | {"cumBase": "0", "pair": order.symbol} for order in page]


def user_trades(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol = params.text("symbol")
    api.ledger.settings(symbol)
    if "fromId" in params and ("startTime" in params or "endTime" in params):
        raise ApiError(-1128, "Combination of optional parameters invalid.")
    _check_age(api, params, now_ms)
    order_id = params.integer("orderId", 0)
    trades = (
        trade for trade in api.ledger.trades if trade.order.symbol == symbol and order_id in (0, trade.order.order_id)
    )
    page = _page(params, now_ms, trades, "fromId", lambda one: one.trade_id, lambda one: one.at_ms)
    return [_trade(trade) for trade in page]


def order_amendments(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    """Newest first."""
    order = find_order(api, params)
    start, end = params.integer("startTime", 0), params.integer("endTime", now_ms)
    rows: list[Json] = []
    before = order
    for event in _events_of(order, api.ledger.order_events):
        if event.execution is Execution.AMENDMENT:
            rows.append(_amendment(event, before, len(rows) + 1))
        before = event.order
    found = [row for row in reversed(rows) if start <= row["time"] <= end]
    return found[: min(100, params.integer("limit", 50))]


def income(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol, kind = api.symbol_or_none(params), params.get("incomeType")
    incomes = (
        one for one in api.ledger.incomes if (symbol is None or one.symbol == symbol) and (not kind or one.kind == kind)
    )
    page = _page(params, now_ms, incomes, "", lambda one: one.transaction_id, lambda one: one.at_ms, default=100)
    return [_income(one) for one in page]


def force_orders(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol = api.symbol_or_none(params)
    orders = (
        order
        for order in api.ledger.orders()
        if order.type is OrderType.LIQUIDATION
        and (order.symbol in api.ledger.rules if symbol is None else order.symbol == symbol)
    )
    page = _page(params, now_ms, orders, "", lambda one: one.order_id, lambda one: one.created_at_ms, default=50)
    return [order_row(order) for order in page]


def all_algos(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol = params.text("symbol")
    api.ledger.settings(symbol)
    _check_age(api, params, now_ms)
    algos = (algo for algo in api.ledger.algos() if algo.symbol == symbol and is_algo_kept(algo, now_ms))
    page = _page(params, now_ms, algos, "algoId", lambda one: one.algo_id, lambda one: one.created_at_ms)
    return [algo_row(algo, listed=True) for algo in page]


def _check_age(api: RestApi, params: Params, now_ms: int) -> None:
    if api.habits.history_ms and 0 < params.integer("startTime", 0) < now_ms - api.habits.history_ms:
        raise ApiError(-4166, "Search window is restricted to recent 90 days only.")


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


def _events_of(order: Order, events: list[OrderChanged]) -> list[OrderChanged]:
    """What happened to an order, oldest first; of many events those since it was placed are looked at."""
    found: list[OrderChanged] = []
    for event in reversed(events):
        if (event.order.symbol, event.order.order_id) == (order.symbol, order.order_id):
            found.append(event)
            if event.execution is Execution.NEW:
                break
    return found[::-1]


def _amendment(event: OrderChanged, before: Order, count: int) -> Json:
    after = event.order
    return {
        "amendmentId": event.index,
        "symbol": after.symbol,
        "pair": after.symbol,
        "orderId": after.order_id,
        "clientOrderId": after.client_order_id,
        "time": event.at_ms,
        "amendment": {
            "price": {"before": plain(before.price), "after": plain(after.price)},
            "origQty": {"before": plain(before.qty), "after": plain(after.qty)},
            "count": count,
        },
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

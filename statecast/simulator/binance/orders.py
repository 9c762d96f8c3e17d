"""Orders in the engine: placed, amended, cancelled, asked for. Pure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import orjson

from statecast.simulator.binance.errors import NO_SUCH_ORDER, ApiError, as_api_error, missing, no_such_order
from statecast.simulator.binance.frames import STP_MODE, average, plain
from statecast.simulator.binance.rest import DAY_MS, Params, RestApi
from statecast.simulator.events import OrderChanged
from statecast.simulator.exchange import Json
from statecast.simulator.orders import (
    CONDITIONAL,
    ZERO,
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


def new_order(api: RestApi, params: Params, now_ms: int) -> Json:
    request = _order_request(params)
    events = api.ledger.place(request, now_ms)
    first = events[0]
    assert isinstance(first, OrderChanged)
    api.publish(events)
    order = first.order
    # ACK answers the order as it was accepted, RESULT as it is after matching.
    if params.get("newOrderRespType") == "RESULT":
        order = api.ledger.order(order.symbol, order.order_id)
    return acknowledged(order)


def test_order(api: RestApi, params: Params, now_ms: int) -> Json:
    api.ledger.check(_order_request(params))
    return {}


def amend_order(api: RestApi, params: Params, now_ms: int) -> Json:
    order = _open_order(api, params)
    events = api.ledger.amend(
        order.order_id,
        symbol=order.symbol,
        qty=params.decimal("quantity"),
        price=params.decimal("price"),
        now_ms=now_ms,
        modify_id=params.get("modifyId", ""),
    )
    api.publish(events)
    return acknowledged(api.ledger.order(order.symbol, order.order_id))


def cancel_order(api: RestApi, params: Params, now_ms: int) -> Json:
    order = _open_order(api, params)
    api.publish(api.ledger.cancel(order.order_id, now_ms, symbol=order.symbol))
    return acknowledged(api.ledger.order(order.symbol, order.order_id))


def new_batch(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    orders = _json_list(params, "batchOrders")
    if len(orders) > 5:
        raise ApiError(-4083, "Place batch orders not allowed more than 5.")
    answers: list[Json] = []
    for order in orders:
        if not isinstance(order, dict):
            raise ApiError(-1130, "Data sent for parameter 'batchOrders' is not valid.")
        one = Params({key: _as_text(value) for key, value in order.items()})
        answers.append(_or_error(partial(new_order, api, one, now_ms)))
    return answers


def cancel_batch(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    symbol = params.text("symbol")
    ids = [("orderId", one) for one in _json_list(params, "orderIdList")]
    ids += [("origClientOrderId", one) for one in _json_list(params, "origClientOrderIdList")]
    answers: list[Json] = []
    for name, value in ids:
        one = Params({"symbol": symbol, name: _as_text(value)})
        answers.append(_or_error(partial(cancel_order, api, one, now_ms)))
    return answers


def cancel_all(api: RestApi, params: Params, now_ms: int) -> Json:
    symbol = params.text("symbol")
    api.ledger.settings(symbol)
    for order in api.ledger.open_orders(symbol):
        api.publish(api.ledger.cancel(order.order_id, now_ms, symbol=symbol))
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def get_order(api: RestApi, params: Params, now_ms: int) -> Json:
    order = find_order(api, params)
    if not is_kept(order, now_ms):
        raise NO_SUCH_ORDER
    return order_row(order)


def open_order(api: RestApi, params: Params, now_ms: int) -> Json:
    order = find_order(api, params)
    if not order.is_open:
        raise NO_SUCH_ORDER
    return order_row(order)


def open_orders(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    return [order_row(order) for order in api.ledger.open_orders(api.symbol_or_none(params))]


def find_order(api: RestApi, params: Params) -> Order:
    """The order that is asked about."""
    try:
        return _find(api, params)
    except Refused as refused:
        raise no_such_order(refused) from None


def is_kept(order: Order, now_ms: int) -> bool:
    """What is done without any fill is forgotten three days after creation, everything after ninety."""
    if order.is_open:
        return True
    unfilled = order.status is not OrderStatus.FILLED and not order.filled_qty
    return now_ms - order.created_at_ms < (3 if unfilled else 90) * DAY_MS


def acknowledged(order: Order) -> Json:
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


def order_row(order: Order) -> Json:
    """An order as the queries answer it."""
    body = acknowledged(order)
    del body["cumQty"]
    return body | {
        "avgPrice": average(order.average_price) if order.filled_qty else "0",
        "cumQuote": plain(order.filled_quote),
        "time": order.created_at_ms,
    }


def _find(api: RestApi, params: Params) -> Order:
    order_id, client_order_id = params.integer("orderId", 0), params.get("origClientOrderId", "")
    if not order_id and not client_order_id:
        raise missing("orderId")
    symbol = params.text("symbol")
    api.ledger.settings(symbol)
    return api.ledger.order(symbol, order_id, client_order_id)


def _open_order(api: RestApi, params: Params) -> Order:
    order = _find(api, params)
    if not order.is_open:
        raise Refused(Refusal.UNKNOWN_ORDER)
    return order


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

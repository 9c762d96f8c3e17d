"""Conditional orders, which Binance calls algo orders: placed, cancelled, asked for. Pure."""

from __future__ import annotations

from statecast.simulator.binance.errors import NO_SUCH_ORDER, ApiError, no_such_order
from statecast.simulator.binance.frames import STP_MODE, algo_type, average, plain
from statecast.simulator.binance.rest import DAY_MS, Params, RestApi
from statecast.simulator.exchange import Json
from statecast.simulator.orders import (
    CONDITIONAL,
    ZERO,
    AlgoOrder,
    AlgoRequest,
    AlgoStatus,
    OrderType,
    PositionSide,
    Refused,
    Side,
    TimeInForce,
)


def new_algo(api: RestApi, params: Params, now_ms: int) -> Json:
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
    before = {algo.algo_id for algo in api.ledger.open_algos()}
    events = api.ledger.place_algo(request, now_ms)
    api.publish(events)
    placed = next(algo for algo in api.ledger.open_algos() if algo.algo_id not in before)
    return _acknowledged(placed)


def cancel_algo(api: RestApi, params: Params, now_ms: int) -> Json:
    algo = api.ledger.algo(params.integer("algoId", 0), params.get("clientAlgoId", ""))
    api.publish(api.ledger.cancel_algo(algo.algo_id, now_ms))
    return {"algoId": algo.algo_id, "clientAlgoId": algo.client_algo_id, "code": "200", "msg": "success"}


def cancel_all_algos(api: RestApi, params: Params, now_ms: int) -> Json:
    symbol = params.text("symbol")
    api.ledger.settings(symbol)
    for algo in api.ledger.open_algos(symbol):
        api.publish(api.ledger.cancel_algo(algo.algo_id, now_ms))
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def get_algo(api: RestApi, params: Params, now_ms: int) -> Json:
    try:
        algo = api.ledger.algo(params.integer("algoId", 0), params.get("clientAlgoId", ""))
    except Refused as refused:
        raise no_such_order(refused) from None
    if not is_algo_kept(algo, now_ms):
        raise NO_SUCH_ORDER
    return algo_row(algo, listed=False)


def open_algos(api: RestApi, params: Params, now_ms: int) -> list[Json]:
    algo_id = params.integer("algoId", 0)
    algos = api.ledger.open_algos(api.symbol_or_none(params))
    return [algo_row(algo, listed=True) for algo in algos if algo_id in (0, algo.algo_id)]


def is_algo_kept(algo: AlgoOrder, now_ms: int) -> bool:
    if algo.status in (AlgoStatus.NEW, AlgoStatus.TRIGGERED):
        return True
    return now_ms - algo.created_at_ms < (90 if algo.filled_qty else 3) * DAY_MS


def algo_row(algo: AlgoOrder, *, listed: bool) -> Json:
    """A conditional order; lists still carry the tp/sl prices that the single query dropped in 2026-06."""
    body = _acknowledged(algo) | {
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


def _acknowledged(algo: AlgoOrder) -> Json:
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

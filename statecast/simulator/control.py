"""The control API of the simulated exchange, for programs outside: read the truth, make things happen. Pure.

`GET /simulate/<name>?…` and `POST /simulate/<name>` with a JSON object; decimals are strings. The endpoints:

    GET  ledger?order_events_from=N   the whole truth, from the ledger itself (see `truth`): wallets, positions, orders,
                                      conditional orders, marks, totals; positions have the fields of positionRisk v3
                                      plus leverage and marginType; and the order events from index N, each as the `o`
                                      of its frame plus `index`
    GET  requests                     calls per "METHOD path status", weight used, listen key, connected sockets,
                                      user frames per event
    POST fault      {"name": …, …}    switch a fault on; names and fields in `statecast.simulator.faults`
    POST step       {"count": 1}      steps of the random trader
    POST mark       {"symbol", "price"}
    POST fund       {"symbol", "rate": "0.0001"}
    POST transfer   {"asset", "amount"}          negative to withdraw
    POST liquidate  {"symbol", "position_side": "BOTH"}
    POST fill       {"order_id", "qty", "symbol": ""}   somebody trades with a resting order; its symbol is needed
                                      where several open orders have the id
    POST expire     {"order_id", "symbol": ""}   an order ends with a status that no document has: EXPIRED_BY_RISK
    POST delist     {"symbol", "reported": true}  the exchange gives a symbol up: it is in no list any more, and calls
                                      that name it fail (-1121). Its position is settled, its orders expire; unless
                                      `reported`, they are gone without an event
    POST accrue     {"asset", "amount"}          a wallet grows, and no event says so
    POST forget     {"asset"}                    all of an asset is withdrawn, and the account knows nothing of it any
                                      more: it is not listed, unless it is one that could be margin
    POST frame      {"event"} or {"event", "body"}   send a user frame that no ledger event makes: STRATEGY_UPDATE,
                                      GRID_UPDATE, CONDITIONAL_ORDER_TRIGGER_REJECT with documented bodies, or any
    POST burst      {"count", "kind": "cancels"}  real order events, two for each pair: an order placed and cancelled,
                                      or, with "fills", a market order and its fill; with "amendments", one order that
                                      is placed, amended again and again, and cancelled. `rate` (events a second) is
                                      the server's: without it they come at once
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qs

from statecast.simulator import trading
from statecast.simulator.exchange import Exchange, Json
from statecast.simulator.faults import FaultError
from statecast.simulator.orders import OrderRequest, OrderType, PositionSide, Refused, Side
from statecast.simulator.truth import account_truth

BURST_SYMBOL = "BTCUSDT"


class ControlError(Exception):
    """The control API was asked for something that it does not know or cannot do."""


def control(exchange: Exchange, method: str, name: str, query: str, args: Mapping[str, Any], now_ms: int) -> Json:
    """Answer one call of the control API."""
    endpoint = _ENDPOINTS.get((method, name))
    if endpoint is None:
        raise ControlError(f"there is no {method} /simulate/{name}")
    given = {key: values[-1] for key, values in parse_qs(query).items()} | dict(args)
    try:
        return endpoint(exchange, given, now_ms)
    except (Refused, FaultError) as error:
        raise ControlError(str(error)) from error


def burst(exchange: Exchange, pairs: int, kind: str, now_ms: int) -> None:
    """Make `pairs` × two order events: placed and cancelled, or filled at once (buying and selling by turns); or one
    order that is amended in between."""
    if kind == "amendments":
        return _amendments(exchange, 2 * pairs, now_ms)
    ledger = exchange.ledger
    rules = ledger.rules[BURST_SYMBOL]
    at_ms = exchange.server_ms(now_ms)
    sides = (PositionSide.LONG, PositionSide.LONG) if ledger.hedge else (PositionSide.BOTH, PositionSide.BOTH)
    for number in range(pairs):
        mark = ledger.marks[BURST_SYMBOL]
        price = mark * Decimal("0.95") // rules.tick_size * rules.tick_size
        qty = (rules.min_notional / price // rules.step_size + 1) * rules.step_size
        fills = kind == "fills"
        # Buy first, sell next: the position never grows, and a hedge row is only ever reduced by what it holds.
        side = Side.SELL if fills and _is_long(exchange, sides[number % 2]) else Side.BUY
        request = OrderRequest(
            symbol=BURST_SYMBOL,
            side=side,
            type=OrderType.MARKET if fills else OrderType.LIMIT,
            qty=qty,
            price=Decimal(0) if fills else price,
            position_side=sides[number % 2],
        )
        events = ledger.place(request, at_ms)
        exchange.publish(events, now_ms)
        if not fills:
            order = ledger.open_orders(BURST_SYMBOL)[-1]
            exchange.publish(ledger.cancel(order.order_id, at_ms, symbol=BURST_SYMBOL), now_ms)
    return None


def _amendments(exchange: Exchange, count: int, now_ms: int) -> None:
    """One order, with so many events. Each amendment has a price of its own."""
    ledger, at_ms = exchange.ledger, exchange.server_ms(now_ms)
    rules = ledger.rules[BURST_SYMBOL]
    price = ledger.marks[BURST_SYMBOL] * Decimal("0.95") // rules.tick_size * rules.tick_size
    qty = (rules.min_notional / price // rules.step_size + 1) * rules.step_size
    side = PositionSide.LONG if ledger.hedge else PositionSide.BOTH
    request = OrderRequest(
        symbol=BURST_SYMBOL, side=Side.BUY, type=OrderType.LIMIT, qty=qty, price=price, position_side=side
    )
    exchange.publish(ledger.place(request, at_ms), now_ms)
    order_id = ledger.open_orders(BURST_SYMBOL)[-1].order_id
    for number in range(1, count - 1):
        amended = price - number * rules.tick_size
        events = ledger.amend(order_id, qty=qty, price=amended, now_ms=at_ms, symbol=BURST_SYMBOL)
        exchange.publish(events, now_ms)
    exchange.publish(ledger.cancel(order_id, at_ms, symbol=BURST_SYMBOL), now_ms)


def _is_long(exchange: Exchange, side: PositionSide) -> bool:
    return exchange.ledger.position(BURST_SYMBOL, side).amount > 0


def ledger_dump(exchange: Exchange, order_events_from: int, now_ms: int) -> Json:
    """The whole truth as JSON, with the order events from that index on, as far as the ledger still has them."""
    ledger = exchange.ledger
    oldest = ledger.order_events_seen - len(ledger.order_events)
    return {
        "serverTime": exchange.server_ms(now_ms),
        **account_truth(ledger),
        "orderEventsSeen": ledger.order_events_seen,
        "orderEvents": [
            {"index": event.index} | exchange.order_event(event)
            for event in ledger.order_events[max(0, order_events_from - oldest) :]
        ],
    }


# -- endpoints -------------------------------------------------------------------------------------------------------


def _get_ledger(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    return ledger_dump(exchange, _integer(args, "order_events_from", 0), now_ms)


def _get_requests(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    return exchange.activity()


def _post_fault(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    exchange.fault(_text(args, "name"), {key: value for key, value in args.items() if key != "name"}, now_ms)
    return {}


def _post_step(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    for _ in range(_integer(args, "count", 1)):
        exchange.publish(trading.step(exchange.ledger, exchange.rng, exchange.server_ms(now_ms)), now_ms)
    return _seen(exchange)


def _post_mark(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    at_ms = exchange.server_ms(now_ms)
    exchange.publish(exchange.ledger.move_mark(_text(args, "symbol"), _decimal(args, "price"), at_ms), now_ms)
    return _seen(exchange)


def _post_fund(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    at_ms = exchange.server_ms(now_ms)
    rate = _decimal({"rate": "0.0001"} | dict(args), "rate")
    exchange.publish(exchange.ledger.fund(_text(args, "symbol"), at_ms, rate), now_ms)
    return _seen(exchange)


def _post_transfer(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    at_ms = exchange.server_ms(now_ms)
    exchange.publish(exchange.ledger.transfer(_text(args, "asset"), _decimal(args, "amount"), at_ms), now_ms)
    return _seen(exchange)


def _post_liquidate(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    side = args.get("position_side", PositionSide.BOTH)
    if side not in list(PositionSide):
        raise ControlError(f"position_side has to be BOTH, LONG or SHORT, not {side!r}")
    at_ms = exchange.server_ms(now_ms)
    exchange.publish(exchange.ledger.liquidate(_text(args, "symbol"), PositionSide(side), at_ms), now_ms)
    return _seen(exchange)


def _post_fill(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    at_ms = exchange.server_ms(now_ms)
    order_id, symbol = _integer(args, "order_id", 0), _symbol_if_given(args)
    exchange.publish(exchange.ledger.fill_resting(order_id, _decimal(args, "qty"), at_ms, symbol=symbol), now_ms)
    return _seen(exchange)


def _post_expire(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    at_ms = exchange.server_ms(now_ms)
    order_id, symbol = _integer(args, "order_id", 0), _symbol_if_given(args)
    exchange.publish(exchange.ledger.expire_by_risk(order_id, at_ms, symbol=symbol), now_ms)
    return _seen(exchange)


def _post_delist(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    reported = args.get("reported", True)
    if not isinstance(reported, bool):
        raise ControlError(f"reported has to be true or false, not {reported!r}")
    at_ms = exchange.server_ms(now_ms)
    exchange.publish(exchange.ledger.delist(_text(args, "symbol"), at_ms, reported=reported), now_ms)
    return _seen(exchange)


def _post_accrue(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    at_ms = exchange.server_ms(now_ms)
    exchange.publish(exchange.ledger.accrue(_text(args, "asset"), _decimal(args, "amount"), at_ms), now_ms)
    return _seen(exchange)


def _post_forget(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    at_ms = exchange.server_ms(now_ms)
    exchange.publish(exchange.ledger.forget_asset(_text(args, "asset"), at_ms), now_ms)
    return _seen(exchange)


def _post_frame(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    event, body = _text(args, "event"), args.get("body")
    if "body" in args and not isinstance(body, dict):
        raise ControlError(f"body has to be an object, not {body!r}")
    exchange.send_event(event, body, now_ms)
    return {}


def _post_burst(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    kind = args.get("kind", "cancels")
    if kind not in ("cancels", "fills", "amendments"):
        raise ControlError(f"kind has to be cancels, fills or amendments, not {kind!r}")
    burst(exchange, (_integer(args, "count", None) + 1) // 2, kind, now_ms)
    return _seen(exchange)


_ENDPOINTS: dict[tuple[str, str], Callable[[Exchange, Mapping[str, Any], int], Json]] = {
    ("GET", "ledger"): _get_ledger,
    ("GET", "requests"): _get_requests,
    ("POST", "fault"): _post_fault,
    ("POST", "step"): _post_step,
    ("POST", "mark"): _post_mark,
    ("POST", "fund"): _post_fund,
    ("POST", "transfer"): _post_transfer,
    ("POST", "liquidate"): _post_liquidate,
    ("POST", "fill"): _post_fill,
    ("POST", "expire"): _post_expire,
    ("POST", "delist"): _post_delist,
    ("POST", "accrue"): _post_accrue,
    ("POST", "forget"): _post_forget,
    ("POST", "frame"): _post_frame,
    ("POST", "burst"): _post_burst,
}


def _seen(exchange: Exchange) -> Json:
    return {"orderEventsSeen": exchange.ledger.order_events_seen}


def _text(args: Mapping[str, Any], name: str) -> str:
    value = args.get(name)
    if not isinstance(value, str) or not value:
        raise ControlError(f"{name} has to be a text, not {value!r}")
    return value


def _symbol_if_given(args: Mapping[str, Any]) -> str:
    return _text(args, "symbol") if "symbol" in args else ""


def _integer(args: Mapping[str, Any], name: str, default: int | None) -> int:
    value = args.get(name, default)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ControlError(f"{name} has to be a whole number, not {value!r}") from None


def _decimal(args: Mapping[str, Any], name: str) -> Decimal:
    value = args.get(name)
    try:
        number = Decimal(value if isinstance(value, str) else "")
    except InvalidOperation:
        raise ControlError(f"{name} has to be a decimal in a string, not {value!r}") from None
    if not number.is_finite():
        raise ControlError(f"{name} has to be finite, not {value!r}")
    return number

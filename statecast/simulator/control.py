"""The control API of the simulated exchange, for programs outside: read the truth, make things happen. Pure.

`GET /simulate/<name>?…` and `POST /simulate/<name>` with a JSON object; decimals are strings. The endpoints:

    GET  ledger?order_events_from=N   the whole truth: wallets, positions, orders, conditional orders, marks, totals,
                                      and the order events from index N, each as the `o` of its frame plus `index`
    GET  requests                     calls per "METHOD path status", weight used, listen key, connected sockets,
                                      user frames per event
    POST fault      {"name": …, …}    switch a fault on; names and fields in `statecast.simulator.faults`
    POST step       {"count": 1}      steps of the random trader
    POST mark       {"symbol", "price"}
    POST fund       {"symbol", "rate": "0.0001"}
    POST transfer   {"asset", "amount"}          negative to withdraw
    POST liquidate  {"symbol", "position_side": "BOTH"}
    POST fill       {"order_id", "qty"}          somebody trades with a resting order
    POST frame      {"event"} or {"event", "body"}   send a user frame that no ledger event makes: STRATEGY_UPDATE,
                                      GRID_UPDATE, CONDITIONAL_ORDER_TRIGGER_REJECT with documented bodies, or any
    POST burst      {"count", "kind": "cancels"}  real order events, two for each pair: an order placed and cancelled,
                                      or, with "fills", a market order and its fill. `rate` (events a second) is the
                                      server's: without it they come at once
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any
from urllib.parse import parse_qs

from statecast.simulator import trading
from statecast.simulator.binance.exchange import Exchange
from statecast.simulator.binance.frames import Frame, Json, order_body
from statecast.simulator.binance.rest import Params, RestApi
from statecast.simulator.faults import FaultError
from statecast.simulator.orders import OrderRequest, OrderType, PositionSide, Refused, Side

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
    """Make `pairs` × two order events: placed and cancelled, or filled at once (buying and selling by turns)."""
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
            exchange.publish(ledger.cancel(order.order_id, at_ms), now_ms)


def _is_long(exchange: Exchange, side: PositionSide) -> bool:
    return exchange.ledger.position(BURST_SYMBOL, side).amount > 0


def ledger_dump(exchange: Exchange, order_events_from: int, now_ms: int) -> Json:
    """The ledger as JSON. Positions have the fields of positionRisk v3 plus leverage and marginType."""
    ledger = exchange.ledger
    # The rows are read as the REST endpoints show them; what compares REST with the truth uses the ledger itself.
    rest = RestApi(ledger, lambda _: None)
    account = rest.account_v3(Params(), now_ms)
    configs = {row["symbol"]: row for row in rest.symbol_config(Params(), now_ms)}
    positions = [
        row | {name: configs[row["symbol"]][name] for name in ("leverage", "marginType")}
        for row in rest.position_risk_v3(Params(), now_ms)
    ]
    oldest = ledger.order_events_seen - len(ledger.order_events)
    return {
        "serverTime": exchange.server_ms(now_ms),
        "dualSidePosition": ledger.hedge,
        "multiAssetsMargin": ledger.multi_assets,
        "marks": {symbol: format(mark, "f") for symbol, mark in ledger.marks.items()},
        "assets": account.pop("assets"),
        "totals": {name: value for name, value in account.items() if name != "positions"},
        "positions": positions,
        "symbolConfig": list(configs.values()),
        "openOrders": rest.open_orders(Params(), now_ms),
        "openAlgoOrders": rest.open_algos(Params(), now_ms),
        "orderEventsSeen": ledger.order_events_seen,
        "orderEvents": [
            {"index": event.index} | order_body(event)
            for event in ledger.order_events[max(0, order_events_from - oldest) :]
        ],
    }


# -- endpoints -------------------------------------------------------------------------------------------------------


def _get_ledger(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    return ledger_dump(exchange, _integer(args, "order_events_from", 0), now_ms)


def _get_requests(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    key = exchange.listen_key
    return {
        "requests": dict(exchange.requests),
        "weightUsed": exchange.weight_used,
        "listenKey": {"listenKey": key.key, "expiresAt": key.expires_at_ms} if key else None,
        "sockets": [
            {"root": stream.root, "wrapped": stream.wrapped, "subscriptions": list(stream.subscriptions)}
            for stream in exchange.streams
        ],
        "userFrames": dict(exchange.frames_sent),
    }


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
    events = exchange.ledger.fill_resting(_integer(args, "order_id", 0), _decimal(args, "qty"), at_ms)
    exchange.publish(events, now_ms)
    return _seen(exchange)


def _post_frame(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    event, at_ms = _text(args, "event"), exchange.server_ms(now_ms)
    body = args.get("body", _RARE.get(event, {}))
    if not isinstance(body, dict):
        raise ControlError(f"body has to be an object, not {body!r}")
    exchange.send_user(Frame(event, {"e": event, "E": at_ms, "T": at_ms, **body}), now_ms)
    return {}


def _post_burst(exchange: Exchange, args: Mapping[str, Any], now_ms: int) -> Json:
    kind = args.get("kind", "cancels")
    if kind not in ("cancels", "fills"):
        raise ControlError(f"kind has to be cancels or fills, not {kind!r}")
    burst(exchange, (_integer(args, "count", None) + 1) // 2, kind, now_ms)
    return _seen(exchange)


_RARE: dict[str, Json] = {
    "STRATEGY_UPDATE": {
        "su": {"si": 176054594, "st": "GRID", "ss": "NEW", "s": "BTCUSDT", "ut": 1793000005100, "c": 8007}
    },
    "GRID_UPDATE": {
        "gu": {
            "si": 176057039,
            "st": "GRID",
            "ss": "WORKING",
            "s": "BTCUSDT",
            "r": "-0.0030787",
            "up": "16720",
            "uq": "-0.001",
            "uf": "-0.00300",
            "mp": "0.0",
            "ut": 1793000005200,
        }
    },
    "CONDITIONAL_ORDER_TRIGGER_REJECT": {
        "or": {
            "s": "ETHUSDT",
            "i": 155618472834,
            "r": "Due to the order could not be filled immediately, the FOK order has been rejected.",
        }
    },
}

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

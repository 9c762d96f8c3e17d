"""Conditional orders: what may be left with the exchange, and how a mark price triggers it. Pure.

A conditional order waits outside the matching engine and ties up no margin. When its condition is met it sends an order
of its own, which the engine may decline; `matching` gives it the result when that order has ended.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from statecast.simulator import matching
from statecast.simulator.book import Book
from statecast.simulator.events import Event
from statecast.simulator.orders import (
    ZERO,
    AlgoOrder,
    AlgoRequest,
    AlgoStatus,
    Execution,
    ExpiryReason,
    OrderRequest,
    OrderType,
    Refusal,
    Refused,
    TimeInForce,
)

MAX_ALGOS = 200
"""Live conditional orders of an account over all symbols."""
CALLBACK_RATES = (Decimal("0.1"), Decimal(10))
"""The least and the greatest callback rate of a trailing stop, in percent."""


def place(book: Book, request: AlgoRequest, now_ms: int) -> list[Event]:
    """Leave a conditional order with the exchange. No margin is looked at before it triggers."""
    _check(book, request)
    algo = _new_algo(book, request, now_ms)
    mark = book.marks[request.symbol]
    if algo.type is not OrderType.TRAILING_STOP_MARKET and algo.is_hit_by(mark):
        raise Refused(Refusal.IMMEDIATE_TRIGGER)
    return [book.change_algo(algo, now_ms)]


def cancel(book: Book, algo_id: int, now_ms: int) -> list[Event]:
    """Withdraw a conditional order that has not triggered."""
    algo = book.open_algo(algo_id)
    if algo is None:
        raise Refused(Refusal.UNKNOWN_ORDER, str(algo_id))
    return [book.change_algo(replace(algo, status=AlgoStatus.CANCELED), now_ms)]


def watch(book: Book, algo: AlgoOrder, mark: Decimal, now_ms: int) -> list[Event]:
    """Let a waiting conditional order see a mark price: activate it, follow the price, or trigger it."""
    events: list[Event] = []
    if algo.type is OrderType.TRAILING_STOP_MARKET:
        if not algo.activated:
            if not algo.is_activated_by(mark):
                return []
            algo = replace(algo, activated=True, extreme_price=mark)
            events.append(book.change_algo(algo, now_ms))
        algo = book.store_algo(algo.following(mark))
    return [*events, *_trigger(book, algo, now_ms)] if algo.is_hit_by(mark) else events


def _check(book: Book, request: AlgoRequest) -> None:
    """Decline what the exchange does not take."""
    rules = book.listed(request.symbol)
    matching.check_side(book, request.position_side, reduce_only=request.reduce_only)
    waiting = book.open_algos()
    if len(waiting) >= MAX_ALGOS:
        raise Refused(Refusal.TOO_MANY_ALGOS)
    if request.client_algo_id and any(algo.client_algo_id == request.client_algo_id for algo in waiting):
        raise Refused(Refusal.DUPLICATE_CLIENT_ID, request.client_algo_id)
    if request.close_position:
        _check_close_position(book, request)
    else:
        matching.check_qty(rules, request.qty)
    if request.type in (OrderType.STOP, OrderType.TAKE_PROFIT):
        matching.check_price(rules, request.price, book.marks[request.symbol])
    if request.type is OrderType.TRAILING_STOP_MARKET:
        least, greatest = CALLBACK_RATES
        if not least <= request.callback_rate <= greatest:
            raise Refused(Refusal.CALLBACK_RATE)
        return
    if request.trigger_price <= 0:
        raise Refused(Refusal.TRIGGER_INVALID)
    if request.trigger_price % rules.tick_size:
        raise Refused(Refusal.PRICE_PRECISION)


def _check_close_position(book: Book, request: AlgoRequest) -> None:
    """Decline to close what is not there, and a second closing order of the same kind."""
    row = book.position(request.symbol, request.position_side)
    if row.amount * request.side.sign >= 0:
        raise Refused(Refusal.REDUCE_ONLY)
    for algo in book.open_algos(request.symbol):
        same = (algo.position_side, algo.side, algo.type) == (request.position_side, request.side, request.type)
        if algo.close_position and same:
            raise Refused(Refusal.CLOSE_POSITION_EXISTS)


def _new_algo(book: Book, request: AlgoRequest, now_ms: int) -> AlgoOrder:
    algo_id = book.next_algo_id
    trailing = request.type is OrderType.TRAILING_STOP_MARKET
    return AlgoOrder(
        algo_id=algo_id,
        client_algo_id=request.client_algo_id or f"sim-algo-{algo_id}",
        symbol=request.symbol,
        side=request.side,
        position_side=request.position_side,
        type=request.type,
        time_in_force=TimeInForce.GTE_GTC if request.close_position else request.time_in_force,
        qty=ZERO if request.close_position else request.qty,
        price=request.price,
        trigger_price=request.trigger_price,
        activation_price=request.activation_price,
        callback_rate=request.callback_rate,
        reduce_only=request.reduce_only or (request.close_position and not book.hedge),
        close_position=request.close_position,
        working_type=request.working_type,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
        activated=trailing and not request.activation_price,
        extreme_price=book.marks[request.symbol] if trailing else ZERO,
    )


def _trigger(book: Book, algo: AlgoOrder, now_ms: int) -> list[Event]:
    """Send the order of a conditional order to the engine, which may decline it."""
    algo = replace(algo, status=AlgoStatus.TRIGGERING, triggered_at_ms=now_ms)
    events: list[Event] = [book.change_algo(algo, now_ms)]
    row = book.position(algo.symbol, algo.position_side)
    if algo.close_position:
        # Closing everything displaces the orders that would have closed a part.
        for order in book.open_orders(algo.symbol):
            if order.position_side is algo.position_side and book.is_reducing(order):
                events += matching.close(book, order, Execution.EXPIRED, now_ms, ExpiryReason.REDUCE_ONLY)
    qty = abs(row.amount) if algo.close_position else algo.qty
    if algo.reduce_only and not algo.close_position:
        qty = min(qty, matching.room_to_reduce(book, algo.symbol, algo.position_side, algo.side))
    request = OrderRequest(
        symbol=algo.symbol,
        side=algo.side,
        type=OrderType.LIMIT if algo.type in (OrderType.STOP, OrderType.TAKE_PROFIT) else OrderType.MARKET,
        qty=qty,
        price=algo.price,
        time_in_force=TimeInForce.GTC if algo.time_in_force is TimeInForce.GTE_GTC else algo.time_in_force,
        position_side=algo.position_side,
        reduce_only=algo.reduce_only,
    )
    try:
        if qty <= 0:
            raise Refused(Refusal.REDUCE_ONLY)
        matching.check_fill_policy(book, request)
        matching.check_room(book, request)
    except Refused as refused:
        rejected = replace(algo, status=AlgoStatus.REJECTED, refusal=refused.refusal)
        return [*events, book.change_algo(rejected, now_ms)]
    child = matching.add_order(book, request, now_ms, algo)
    events.append(matching.report(book, child, Execution.NEW, now_ms))
    algo = replace(algo, status=AlgoStatus.TRIGGERED, order_id=child.order_id, qty=qty)
    events.append(book.change_algo(algo, now_ms))
    return [*events, *matching.match(book, child, now_ms)]

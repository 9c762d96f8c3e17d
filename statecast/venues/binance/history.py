"""Order and trade histories by REST → the order events that the stream would have told. Pure.

Pages "All Orders", "Account Trade List", "Query All Algo Orders", as of 2026-05-28 to 2026-09; read in November 2026.
Trimmed rows stand with each function.

A history tells of each order when it was placed, every fill, and how it ended. It does not tell amendments, and of a
conditional order only the step that it is at: not that it was triggering, triggered before it was finished, or that a
trailing stop was activated. Price and quantity of an order are those at the time of asking, also in the events that
came before an amendment.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from statecast.domain import event_ids
from statecast.domain.changes import OrderUpdate
from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.orders import ENDED_BY, filled_of, is_over
from statecast.venues.binance import wire
from statecast.venues.binance.fields import maybe_flag, maybe_number, name, number, obj, rows, time_ms, whole
from statecast.venues.binance.snapshot import algo_order_row, order_row

ZERO = Decimal(0)


class Reconstructed(NamedTuple):
    """`updates` are in the venue's order. `behind` are orders whose fills do not add up to what they have filled: the
    venue's histories are computed apart, and one may lag. They are logged all the same. `filled` is, by order, what is
    filled by the last event, whether it is among `updates` or was logged before."""

    updates: tuple[OrderUpdate, ...]
    behind: tuple[Order, ...]
    filled: Mapping[OrderKey, Decimal]


def orders(body: object) -> tuple[PastOrder, ...]:
    """`GET /fapi/v1/allOrders`: rows as those of openOrders, with the time of creation in `time`."""
    event = str(wire.ALL_ORDERS)
    return tuple(PastOrder(order_row(row, event), time_ms(row, "time", event)) for row in rows(body, event, "body"))


def order(body: object) -> PastOrder:
    """`GET /fapi/v1/order`: one such row."""
    event = str(wire.ORDER)
    row = obj(body, event, "body")
    return PastOrder(order_row(row, event), time_ms(row, "time", event))


def algo_orders(body: object) -> tuple[PastOrder, ...]:
    """`GET /fapi/v1/allAlgoOrders`: rows as those of openAlgoOrders, with the time of creation in `createTime`."""
    event = str(wire.ALL_ALGO_ORDERS)
    return tuple(
        PastOrder(algo_order_row(row, event), time_ms(row, "createTime", event)) for row in rows(body, event, "body")
    )


def algo_order(body: object) -> PastOrder:
    """`GET /fapi/v1/algoOrder`: one such row."""
    event = str(wire.ALGO_ORDER)
    row = obj(body, event, "body")
    return PastOrder(algo_order_row(row, event), time_ms(row, "createTime", event))


def trades(body: object) -> tuple[PastTrade, ...]:
    """`GET /fapi/v1/userTrades`.

    [{"symbol":"BTCUSDT","id":5512345678,"orderId":8886774001,"side":"BUY","price":"91250.4","qty":"0.025","realizedPnl":"0",
      "commission":"0.45625200","commissionAsset":"USDT","maker":true,"positionSide":"BOTH","time":1793000001046,…}]

    `id` is the trade id of the stream (`t`).
    """
    event = str(wire.USER_TRADES)
    return tuple(
        PastTrade(
            symbol=name(row, "symbol", event),
            order_id=str(whole(row, "orderId", event)),
            trade_id=whole(row, "id", event),
            time_ms=time_ms(row, "time", event),
            qty=number(row, "qty", event),
            price=number(row, "price", event),
            commission=maybe_number(row, "commission", event),
            commission_asset=name(row, "commissionAsset", event) if row.get("commissionAsset") else None,
            realized_profit=maybe_number(row, "realizedPnl", event),
            maker=maybe_flag(row, "maker", event),
        )
        for row in rows(body, event, "body")
    )


def events_from_history(
    past_orders: Iterable[PastOrder],
    past_trades: Iterable[PastTrade],
    *,
    since_ms: int,
    until_ms: int,
    told: Container[str],
    known_filled: Mapping[OrderKey, tuple[Decimal, int]],
    received_at_ms: int,
) -> Reconstructed:
    """The events of these orders up to `until_ms` whose ids are not in `told`.

    `past_trades` must hold every fill of these orders from `since_ms` until their rows were read, so the trades are to
    be asked for after the orders. What an order says of a time after `until_ms` is the stream's to tell.
    `known_filled` is, by order, what was known to be filled of orders older than `since_ms`, and as of when.
    """
    fills: defaultdict[OrderKey, dict[int, PastTrade]] = defaultdict(dict)
    for trade in past_trades:
        fills[trade.order][trade.trade_id] = trade
    timed: list[tuple[int, OrderUpdate]] = []
    behind: list[Order] = []
    filled: dict[OrderKey, Decimal] = {}
    for past in sorted(past_orders, key=lambda one: (len(one.order.order_id), one.order.order_id)):
        key = past.order.key
        own = [fills[key][number] for number in sorted(fills[key])] if key in fills else []
        created_in_window = past.created_ms >= since_ms
        if past.order.algo_id is not None:
            events = _algo_events(past, created_in_window, received_at_ms)
        else:
            events = _events(past, own, created_in_window, received_at_ms)
            if _is_behind(past.order, own, created_in_window, told, known_filled):
                behind.append(past.order)
        at_ms = 0
        for update in events:
            # Whatever the venue's clocks say, an order's own events stay in their order.
            at_ms = max(at_ms, update.order.venue_time_ms)
            if at_ms > until_ms:
                break
            filled[update.order.key] = filled_of(update.order)
            if not event_ids.is_logged(update.event.event_id, told):
                timed.append((at_ms, update))
    timed.sort(key=lambda pair: pair[0])
    return Reconstructed(tuple(update for _, update in timed), tuple(behind), filled)


def _events(past: PastOrder, fills: list[PastTrade], created_in_window: bool, received_at_ms: int) -> list[OrderUpdate]:
    """Everything that the rows tell of an ordinary order, in its order."""
    row = past.order
    events: list[OrderUpdate] = []
    if created_in_window and not row.client_order_id.startswith(wire.SYSTEM_ORDERS):
        placed = row._replace(
            status="NEW", executed_qty=ZERO, avg_price=ZERO, venue_time_ms=past.created_ms, source="rest"
        )
        events.append(OrderUpdate(OrderEvent(event_ids.of_order(placed, "NEW"), "NEW", placed, received_at_ms), True))
    assert row.executed_qty is not None, "a row of an ordinary order says what is filled"
    # Of an order that is older than the trades asked for, the row alone says where its sum began.
    within = fills if created_in_window else [trade for trade in fills if trade.time_ms <= row.venue_time_ms]
    filled = ZERO if created_in_window else row.executed_qty - sum((trade.qty for trade in within), ZERO)
    execution = "CALCULATED" if row.type == "LIQUIDATION" else "TRADE"
    for trade in within:
        filled += trade.qty
        if filled > row.executed_qty:
            break  # It came after the row was read.
        is_last = filled == row.executed_qty
        after = row._replace(
            status="FILLED" if is_last and row.status == "FILLED" else "PARTIALLY_FILLED",
            executed_qty=filled,
            avg_price=row.avg_price if is_last else None,
            venue_time_ms=trade.time_ms,
            source="rest",
        )
        event = OrderEvent(
            event_id=event_ids.of_order(after, execution, trade.trade_id),
            event_type=execution,
            order=after,
            received_at_ms=received_at_ms,
            last_qty=trade.qty,
            last_price=trade.price,
            trade_id=str(trade.trade_id),
            commission=trade.commission,
            commission_asset=trade.commission_asset,
            realized_profit=trade.realized_profit,
            maker=trade.maker,
        )
        events.append(OrderUpdate(event, open=after.status != "FILLED"))
    if row.status in ENDED_BY:
        end = ENDED_BY[row.status]
        ended = row._replace(source="rest")
        events.append(OrderUpdate(OrderEvent(event_ids.of_order(ended, end), end, ended, received_at_ms), False))
    return events


def _is_behind(
    row: Order,
    fills: list[PastTrade],
    created_in_window: bool,
    told: Container[str],
    known_filled: Mapping[OrderKey, tuple[Decimal, int]],
) -> bool:
    """Whether the row has more filled than the trades explain, together with what was known before."""
    assert row.executed_qty is not None
    if created_in_window:
        return sum((trade.qty for trade in fills), ZERO) < row.executed_qty
    if row.key not in known_filled:
        return False
    known, at_ms = known_filled[row.key]
    # What is told and younger than that, another publisher has told.
    beyond = (
        trade.qty
        for trade in fills
        if trade.time_ms > at_ms or event_ids.of_fill(trade.order, trade.trade_id) not in told
    )
    return known + sum(beyond, ZERO) < row.executed_qty


def _algo_events(past: PastOrder, created_in_window: bool, received_at_ms: int) -> list[OrderUpdate]:
    """That a conditional order was placed, and the step that it is at now."""
    row = past.order._replace(source="rest")
    events: list[OrderUpdate] = []
    if created_in_window:
        placed = row._replace(
            status="NEW", executed_qty=None, avg_price=None, actual_order_id=None, venue_time_ms=past.created_ms
        )
        events.append(
            OrderUpdate(
                OrderEvent(
                    event_ids.of_conditional(placed.order_id, placed.status), "ALGO_NEW", placed, received_at_ms
                ),
                True,
            )
        )
    if row.status != "NEW":
        event = OrderEvent(
            event_ids.of_conditional(row.order_id, row.status), f"ALGO_{row.status}", row, received_at_ms
        )
        events.append(OrderUpdate(event, open=not is_over(row)))
    return events

"""Ids of order events: made and read here alone.

    <SYMBOL>:<ORDERID>:NEW                                           an ordinary order was placed
    <SYMBOL>:<ORDERID>:FILL:<FILLID>                                 one fill (event types TRADE and CALCULATED)
    <SYMBOL>:<ORDERID>:AMENDMENT:<ms>:<QUANTITY>@<PRICE>             it was amended to this, at this venue time
    <SYMBOL>:<ORDERID>:CALCULATED:<ms>:<EXECUTEDQTY>                 a liquidation's step without a trade's number
    <SYMBOL>:<ORDERID>:<STATUS>                                      it ended with this status
    <SYMBOL>:<ORDERID>:<EVENTTYPE>:<STATUS>:<ms>:<EXECUTEDQTY>       anything else
    algo-<ID>:<STATUS>                                               a conditional order has come to this status
    algo-<ID>:NEW:ACTIVATED                                          a trailing stop was activated: its second NEW
    <SYMBOL>:<ORDERID>:GAP, algo-<ID>:GAP                            nobody knows what became of the order
    <SYMBOL>:<ORDERID>:GAP:<ms>, algo-<ID>:GAP:<ms>                  its events from then on were received, not logged
    GAP:<ms>:<KIND>, <SYMBOL>:GAP:<ms>:<KIND>                        nobody knows what happened from then on (gaps.py)

They are made of what streams and histories both have: one event has one id wherever it was found. Symbols may hold
colons, and no order id does. Conditional orders are numbered for the whole account, so their ids name no symbol.
"""

from __future__ import annotations

import re
from collections.abc import Container
from decimal import Decimal
from typing import NamedTuple

from statecast.domain.models import Order, OrderEvent, OrderKey, plain
from statecast.domain.orders import FILL_EVENTS, is_over

CONDITIONAL_PREFIX = "algo-"
GAP = "GAP"
ACTIVATED = "ACTIVATED"


class EventId(NamedTuple):
    """An id in its parts. `symbol` and `order_id` are empty where the id names none; `step` is NEW, FILL, AMENDMENT, a
    status, GAP …, and `detail` whatever comes after it."""

    symbol: str
    order_id: str
    step: str
    detail: str = ""


_ORDINARY = re.compile(
    r"(?P<symbol>.+?):(?P<order_id>[^:]+):(?:"
    r"(?P<a>FILL|AMENDMENT|CALCULATED|GAP):(?P<b>.+)"
    r"|(?P<c>[A-Z][A-Z0-9_]*):(?P<d>[A-Z][A-Z0-9_]*:\d+:[^:]*)"
    r"|(?P<e>[A-Z][A-Z0-9_]*))"
)
_CONDITIONAL = re.compile(r"(?P<order_id>algo-[^:]+):(?P<step>[A-Z][A-Z0-9_]*)(?::(?P<detail>ACTIVATED|\d+))?")
_GAP = re.compile(r"(?:(?P<symbol>.+):)?GAP:(?P<detail>\d+:[A-Z]+)")


def parse(event_id: str) -> EventId | None:
    """The parts of an id; None for one that is of no form above."""
    if found := _CONDITIONAL.fullmatch(event_id):
        return EventId("", found["order_id"], found["step"], found["detail"] or "")
    if found := _GAP.fullmatch(event_id):
        return EventId(found["symbol"] or "", "", GAP, found["detail"])
    if found := _ORDINARY.fullmatch(event_id):
        step, detail = found["a"] or found["c"] or found["e"], found["b"] or found["d"] or ""
        return EventId(found["symbol"], found["order_id"], step, detail)
    return None


# Conditional orders


def conditional_order_id(algo_id: str) -> str:
    """The `orderId` of a conditional order, by its number at the venue."""
    return CONDITIONAL_PREFIX + algo_id


def algo_id(order_id: str) -> str:
    """A conditional order's number at the venue, by its `orderId`."""
    return order_id.removeprefix(CONDITIONAL_PREFIX)


def of_conditional(order_id: str, status: str) -> str:
    """That a conditional order has come to a status; `order_id` is `algo-<ID>`."""
    return f"{order_id}:{status}"


# A trailing stop is NEW twice: when it was placed, and when its activation price was reached. Of one that is active
# from the beginning, the stream has the second alone, and the histories never have more than the first.


def of_activation(order_id: str) -> str:
    """A trailing stop's second NEW."""
    return f"{of_conditional(order_id, 'NEW')}:{ACTIVATED}"


def placing_of(event_id: str) -> str | None:
    """The id of the first NEW of the trailing stop whose second this is; None for any other id."""
    first = event_id.removesuffix(f":{ACTIVATED}")
    return first if first != event_id and event_id.startswith(CONDITIONAL_PREFIX) else None


def stream_ids(of_history: OrderEvent) -> tuple[str, ...]:
    """The ids under which the stream may have sent an event of a history: its own; of a NEW, that of the second one; of
    a liquidation's fill, that of a trade without a number, which no document rules out on the stream."""
    event_id = of_history.event_id
    if event_id.startswith(CONDITIONAL_PREFIX) and event_id.endswith(":NEW"):
        return event_id, f"{event_id}:{ACTIVATED}"
    if of_history.event_type == "CALCULATED":
        return event_id, of_order(of_history.order, "CALCULATED")
    return (event_id,)


def is_logged(of_history: OrderEvent, logged: Container[str]) -> bool:
    """Whether a history's event is among `logged` ids, in one of the forms that the stream may have given it."""
    return any(event_id in logged for event_id in stream_ids(of_history))


# Ordinary orders


def of_fill(order: OrderKey, fill_id: str) -> str:
    """One fill; `fill_id` as in `PastTrade`."""
    return f"{order}:FILL:{fill_id}"


def of_end(order: OrderKey, status: str) -> str:
    """The end of an ordinary order that left this status."""
    return f"{order}:{status}"


def of_order(order: Order, event_type: str, fill_id: str = "") -> str:
    """Any event of an ordinary order, with the order as it is after it. `fill_id` is empty without a trade.

    Of histories, the event types are NEW, TRADE or CALCULATED with a fill id, and those that end an order.
    """
    key = order.key
    if event_type in FILL_EVENTS and fill_id:
        return of_fill(key, fill_id)
    if event_type == "NEW":
        return f"{key}:NEW"
    if event_type == "AMENDMENT":
        # By what it became, too: an order can be amended twice within a millisecond.
        return f"{key}:AMENDMENT:{order.venue_time_ms}:{_shortest(order.quantity)}@{_shortest(order.price)}"
    if event_type == "CALCULATED":
        # By what is filled, too: several levels of the book are taken within a millisecond.
        return f"{key}:CALCULATED:{order.venue_time_ms}:{_shortest(order.executed_qty)}"
    if event_type != "TRADE" and is_over(order):
        return of_end(key, order.status)
    return f"{key}:{event_type}:{order.status}:{order.venue_time_ms}:{_shortest(order.executed_qty)}"


def _shortest(quantity: Decimal | None) -> str:
    """The same text for equal numbers: stream and REST may pad with different zeros."""
    if quantity is None:
        return ""
    digits = plain(quantity)
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


# Gaps


def of_lost_order(order: Order) -> str:
    """That nobody knows what became of an order."""
    return f"{order.order_id if order.algo_id is not None else order.key}:{GAP}"


def of_unlogged_order(order: Order, since_ms: int) -> str:
    """That events of an order from `since_ms` on were received and not logged."""
    return f"{of_lost_order(order)}:{since_ms}"


def of_gap(symbol: str, since_ms: int, kind: str) -> str:
    """That nobody knows what happened from `since_ms` on, in all symbols if `symbol` is empty. It names no end: the
    same gap found again a moment later is the same."""
    return f"{symbol}:{GAP}:{since_ms}:{kind}" if symbol else f"{GAP}:{since_ms}:{kind}"

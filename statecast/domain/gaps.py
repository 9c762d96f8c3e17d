"""Entries of type GAP: each stands in the log for order events that are missing in it for good.

what         in the id               which events are missing
all          ALL                     all of the time
all          REFUSED                 all of the time and the symbol: the venue refuses to list them
unfilled     UNFILLED                those of orders that ended without a fill
order        (an order)              whatever became of this order
unlogged     OVERFLOW                of what was received in the time, what no history has: there was no room for it
unlogged     (an order and a time)   the same of this order: it came too late, or the publisher ended before it could
                                     be logged
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

from statecast.domain import event_ids
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.orders import FILL_EVENTS, HISTORY_EVENTS, LOST

GAP = event_ids.GAP
"""The `eventType` of such an entry."""

Kind = Literal["ALL", "UNFILLED", "REFUSED", "OVERFLOW"]
What = Literal["all", "unfilled", "order", "unlogged", "other"]

_WHAT: Mapping[str, What] = {"ALL": "all", "REFUSED": "all", "UNFILLED": "unfilled", "OVERFLOW": "unlogged"}


class GapInfo(NamedTuple):
    """Which order events are missing from the log for good.

    `what`: `all` of the time and, if it is not empty, the symbol; of `unfilled` orders alone, which ended without a
    fill; or of one `order`. `unlogged`: the publisher had received them and could not log them; the fills and the ends
    among them are in the log nevertheless, from the venue's histories. `other` is a kind that this version does not
    know. Times are the venue's; where nobody knows what became of an order, `since_ms` is None and `until_ms` that of
    its last known change.
    """

    what: What
    symbol: str
    order_id: str
    since_ms: int | None
    until_ms: int

    def __str__(self) -> str:
        of = f" of {self.symbol}" if self.symbol else ""
        if self.what == "unlogged" and self.order_id:
            of = f" of order {self.order_id}{of}"
        when = f"until {utc(self.until_ms)}"
        if self.since_ms is not None:
            when = f"between {utc(self.since_ms)} and {utc(self.until_ms)}"
        match self.what:
            case "all":
                what = f"any order event{of} {when}"
            case "unfilled":
                what = f"the orders{of} that ended without a fill {when}"
            case "unlogged":
                return f"order events{of} {when} are not in the log; no history has all of them"
            case "order":
                what = f"what became of order {self.order_id}{of} after {utc(self.until_ms)}"
            case _:
                what = f"some order events{of} {when}"
        return f"the venue no longer has {what}"


def parse(entry: Mapping[str, str]) -> GapInfo | None:
    """What an entry of the log says is missing, by its fields in the contract's words; None for an event."""
    if entry.get("eventType") != GAP:
        return None
    symbol, order_id, time = entry.get("symbol", ""), entry.get("orderId", ""), entry.get("venueTimeMs", "")
    until_ms = int(time) if time.isdecimal() else 0
    parts = event_ids.parse(entry.get("eventId", ""))
    if order_id and parts is not None and parts.step == GAP and parts.order_id and parts.detail.isdecimal():
        return GapInfo("unlogged", symbol, order_id, int(parts.detail), until_ms)
    if order_id:
        return GapInfo("order", symbol, order_id, None, until_ms)
    if parts is None or parts.step != GAP or parts.order_id or parts.symbol not in ("", symbol):
        return GapInfo("other", symbol, "", None, until_ms)
    since, _, kind = parts.detail.partition(":")
    return GapInfo(_WHAT.get(kind, "other"), symbol, "", int(since), until_ms)


def unknown_order(key: OrderKey, venue_time_ms: int, side: str = "", position_side: str = "") -> Order:
    """An order of which nothing else is known."""
    return Order(
        order_id=key.order_id,
        symbol=key.symbol,
        client_order_id="",
        side=side,
        position_side=position_side,
        type="",
        orig_type="",
        time_in_force="",
        status=LOST,
        price=None,
        stop_price=None,
        quantity=None,
        executed_qty=None,
        avg_price=None,
        reduce_only=None,
        venue_time_ms=venue_time_ms,
        source="rest",
        algo_id=event_ids.algo_id(key.order_id) if key.order_id.startswith(event_ids.CONDITIONAL_PREFIX) else None,
    )


def of_time(kind: Kind, symbol: str, since_ms: int, until_ms: int, received_at_ms: int) -> OrderEvent:
    """The entry for what happened from `since_ms` to `until_ms`, which is its venue time; `symbol` empty: of all."""
    nothing = unknown_order(OrderKey(symbol, ""), until_ms)
    return OrderEvent(event_ids.of_gap(symbol, since_ms, kind), GAP, nothing, received_at_ms)


def of_order(order: Order, received_at_ms: int) -> OrderEvent:
    """The entry for what became of one order after it was as it is here."""
    return OrderEvent(event_ids.of_lost_order(order), GAP, order._replace(status=LOST, source="rest"), received_at_ms)


def of_overflow(events: Iterable[OrderEvent]) -> OrderEvent:
    """The entry for events, at least one, that were received and are dropped for want of room."""
    events = list(events)
    spans = [_span_ms(event) for event in events]
    since_ms, until_ms = min(since_ms for since_ms, _ in spans), max(until_ms for _, until_ms in spans)
    return of_time("OVERFLOW", "", since_ms, until_ms, events[-1].received_at_ms)


def of_unlogged(events: Sequence[OrderEvent]) -> OrderEvent:
    """The entry for events of one order, at least one, in their order, that were received and are not logged."""
    first, last = events[0], events[-1]
    order = last.order._replace(status=LOST)
    event_id = event_ids.of_unlogged_order(order, first.order.venue_time_ms)
    return OrderEvent(event_id, GAP, order, last.received_at_ms)


def of_late(event: OrderEvent) -> OrderEvent | None:
    """The entry for an event that was received behind later ones of its order, and is not logged there. None where it
    needs no entry, because the histories have it."""
    return None if is_in_history(event) else of_unlogged([event])


def is_in_history(event: OrderEvent) -> bool:
    """Whether every history has such an event."""
    if event.event_type in FILL_EVENTS:
        return bool(event.trade_id)
    return event.event_type in HISTORY_EVENTS and event_ids.placing_of(event.event_id) is None


def ends_order(entry: OrderEvent) -> bool:
    """Whether an entry of type GAP is the last of its order."""
    return bool(entry.order.order_id) and entry.event_id == event_ids.of_lost_order(entry.order)


def _span_ms(event: OrderEvent) -> tuple[int, int]:
    """From when to when an event tells: a GAP entry of a time tells of all of it."""
    until_ms = event.order.venue_time_ms
    parts = event_ids.parse(event.event_id) if event.event_type == GAP else None
    since = parts.detail.partition(":")[0] if parts is not None else ""
    return int(since) if since.isdecimal() else until_ms, until_ms


def utc(ms: int) -> str:
    """A time for people."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

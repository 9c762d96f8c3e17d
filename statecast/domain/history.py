"""Orders and trades as a venue's histories have them by REST → the order events that its stream would have sent. Pure.

A history has of each order when it was created, every fill, and how it ended; amendments, where they were asked for
(`PastAmendment`), and of a conditional order only the step that it is at: not that it was triggering, triggered before
it was finished, or that a trailing stop was activated. Price and quantity of an order are those at the time of asking,
also in the events that came before an amendment that nobody asked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

from statecast.domain import event_ids, gaps
from statecast.domain.changes import OrderUpdate
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.orders import LOST, ended_by, filled_of, is_over, is_understood

ZERO = Decimal(0)


class PastOrder(NamedTuple):
    """An order as a history has it now. `created_ms` is the venue's time of its creation, 0 where that is not known.

    How the venue's stream speaks of it: whether it has an event for the opening, and the type of its fills. An order of
    status `LOST` is one whose row cannot be understood: nobody knows what became of it.
    """

    order: Order
    created_ms: int
    has_opening_event: bool = True
    fill_event: str = "TRADE"


class PastAmendment(NamedTuple):
    """An order was given another price or quantity, at the venue's `time_ms`."""

    time_ms: int
    price_before: Decimal
    quantity_before: Decimal
    price: Decimal
    quantity: Decimal

    @property
    def begins(self) -> tuple[Decimal, Decimal]:
        """Price and quantity before it."""
        return self.price_before, self.quantity_before


class PastTrade(NamedTuple):
    """One fill. A history does not say which state of the order it led to.

    `trade_id` is as the venue publishes it, which may be no identity: both orders of a trade with oneself may have one,
    and stream and history may write it in two ways. `fill_id` is unique within the order, and the same on the stream
    and in the history; the adapter makes it, without a colon. `time_ms` is the venue's. The fills of an order are in
    the order of `sequence`, whatever the venue's clock has done meanwhile.
    """

    symbol: str
    order_id: str
    trade_id: str
    fill_id: str
    time_ms: int
    sequence: int
    qty: Decimal
    price: Decimal
    commission: Decimal | None
    commission_asset: str | None
    realized_profit: Decimal | None
    maker: bool | None
    side: str = ""
    position_side: str = ""
    """Of its order; empty where the history does not say."""

    @property
    def order(self) -> OrderKey:
        """Of which order it is."""
        return OrderKey(self.symbol, self.order_id)


NO_AMENDMENTS: Mapping[OrderKey, tuple[PastAmendment, ...]] = {}


class Reconstructed(NamedTuple):
    """`updates` are in the venue's order. `behind` are orders whose fills do not add up to what they had filled at the
    end: the venue's histories are computed apart, and one may lag. They are logged all the same. `filled` is, by order,
    what is filled by the last event, whether it is among `updates` or was logged before. `unplaced` are entries for
    amendments of which nobody knows between which events they belong."""

    updates: tuple[OrderUpdate, ...]
    behind: tuple[Order, ...]
    filled: Mapping[OrderKey, Decimal]
    unplaced: tuple[OrderEvent, ...] = ()


def settled(past: PastOrder, open_orders: Container[OrderKey], asked_ms: int, lag_ms: int) -> PastOrder:
    """Of an order whose status nobody named: whether it is over, by the open orders, which the venue was asked for at
    `asked_ms`. Where it has changed so late that it may be missing there, `lag_ms` being how far an answer may be
    behind, nobody knows: then it is lost."""
    order = past.order
    if is_understood(order) or order.key in open_orders:
        return past
    if order.venue_time_ms > asked_ms - lag_ms:
        return past._replace(order=order._replace(status=LOST))
    return past._replace(order=order._replace(ended=True))


def events_from_history(
    past_orders: Iterable[PastOrder],
    past_trades: Iterable[PastTrade],
    *,
    since_ms: int,
    until_ms: int,
    logged: Container[str],
    known_filled: Mapping[OrderKey, tuple[Decimal, int]],
    received_at_ms: int,
    amendments: Mapping[OrderKey, tuple[PastAmendment, ...]] = NO_AMENDMENTS,
    without_trades: Container[str] = frozenset(),
) -> Reconstructed:
    """The events of these orders up to `until_ms` whose ids are not in `logged`.

    `past_trades` must hold every fill of these orders from `since_ms` until their rows were read, so the trades are to
    be asked for after the orders. What an order says of a time after `until_ms` is left to the stream.
    `known_filled` is, by order, what was known to be filled of orders older than `since_ms`, and as of when.
    `amendments` are those that are missing, oldest first. One that was made before something that is logged already is
    left out: the log would have it in the wrong place. Where the venue's clock was set back they have no place.
    `without_trades` are symbols of which no trades were asked for, because all fills are logged.
    """
    fills: defaultdict[OrderKey, dict[str, PastTrade]] = defaultdict(dict)
    for trade in past_trades:
        fills[trade.order][trade.fill_id] = trade
    timed: list[tuple[int, OrderUpdate]] = []
    behind: list[Order] = []
    filled: dict[OrderKey, Decimal] = {}
    unplaced: list[OrderEvent] = []
    for past in sorted(past_orders, key=lambda one: (len(one.order.order_id), one.order.order_id)):
        key = past.order.key
        own = sorted(fills[key].values(), key=lambda trade: trade.sequence) if key in fills else []
        created_in_window = past.created_ms >= since_ms
        if past.order.algo_id is not None:
            events = _conditional_events(past, created_in_window, received_at_ms)
        else:
            events = _events(past, own, created_in_window, received_at_ms)
            filled_before = (
                filled_of(past.order) if key.symbol in without_trades else _filled_before(events, past.order)
            )
            own_amendments = amendments.get(key, ())
            merged = _with_amendments(events, past, own_amendments, filled_before, received_at_ms, logged)
            if merged is None:
                rows = (_amended(past.order, one, None, None, received_at_ms).event for one in own_amendments)
                lost = [event for event in rows if event.event_id not in logged]
                unplaced += [gaps.of_unlogged(lost)] if lost else []
            events = events if merged is None else merged
            # Of a row that has changed since, the stream sends the change, and with it what is filled before that.
            is_checked = key.symbol not in without_trades and past.order.venue_time_ms <= until_ms
            if is_checked and _is_behind(past.order, own, created_in_window, logged, known_filled):
                behind.append(past.order)
        at_ms = 0
        for update in events:
            # Whatever the venue's clocks say, an order's own events stay in their order.
            at_ms = max(at_ms, update.order.venue_time_ms)
            if at_ms > until_ms:
                break
            filled[update.order.key] = filled_of(update.order)
            if not event_ids.is_logged(update.event, logged):
                timed.append((at_ms, update))
    timed.sort(key=lambda pair: pair[0])
    return Reconstructed(tuple(update for _, update in timed), tuple(behind), filled, tuple(unplaced))


def fill_of_unknown_order(trade: PastTrade, known: Order | None, received_at_ms: int) -> OrderEvent:
    """A fill whose order the venue does not show: as far as the trade's row says, and what does not change of the order
    where it was known before. Which state it led to, and how much is filled, nobody says."""
    row = known or gaps.unknown_order(trade.order, trade.time_ms, trade.side, trade.position_side)
    after = row._replace(status=LOST, executed_qty=None, avg_price=None, venue_time_ms=trade.time_ms, source="rest")
    return _fill_event(trade, after, "TRADE", received_at_ms)


def _fill_event(trade: PastTrade, after: Order, event_type: str, received_at_ms: int) -> OrderEvent:
    return OrderEvent(
        event_id=event_ids.of_order(after, event_type, trade.fill_id),
        event_type=event_type,
        order=after,
        received_at_ms=received_at_ms,
        last_qty=trade.qty,
        last_price=trade.price,
        trade_id=trade.trade_id,
        commission=trade.commission,
        commission_asset=trade.commission_asset,
        realized_profit=trade.realized_profit,
        maker=trade.maker,
    )


def missing_amendments(
    amendments: Iterable[PastAmendment], known: Order | None, since_ms: int
) -> tuple[PastAmendment, ...]:
    """Those that are not logged, of all since `since_ms`. Of an order that was `known`, with all that had happened to
    it by then, they begin with the first one that begins with what it was; stream and history may give one amendment
    times of their own."""
    later = [one for one in amendments if one.time_ms >= since_ms]
    if known is None:
        return tuple(later)
    terms = known.price, known.quantity
    for index, one in enumerate(later):
        if one.begins == terms and one.time_ms >= known.venue_time_ms:
            return tuple(later[index:])
    return ()


def may_be_amended(past: PastOrder, known: Order | None, last_fill_ms: int) -> bool:
    """Whether something of an ordinary order is explained by an amendment alone: other terms than were `known`, or of
    an open one a time of its last change when it was neither placed nor filled."""
    order = past.order
    if order.algo_id is not None:
        return False
    if known is not None and (order.price, order.quantity) != (known.price, known.quantity):
        return True
    before_ms = max(past.created_ms, last_fill_ms, known.venue_time_ms if known is not None else 0)
    return not is_over(order) and order.venue_time_ms > before_ms


def are_explained(order: Order, known: Order | None, amendments: Iterable[PastAmendment]) -> bool:
    """Whether these amendments, oldest first, lead to the terms that an order's row has: from those that were `known`,
    or from where they begin, without a step between them that is missing. What is later than the row may lead on."""
    terms: tuple[Decimal | None, Decimal | None] = order.price, order.quantity
    at = (known.price, known.quantity) if known is not None else None
    if None in terms or (at is not None and None in at):
        return True
    reached = [terms if at is None else at]
    for one in amendments:
        if at is not None and one.begins != at:
            return False
        if one.time_ms <= order.venue_time_ms:
            reached.clear()
        at = one.price, one.quantity
        reached.append(at)
    return terms in reached


def _events(past: PastOrder, fills: list[PastTrade], created_in_window: bool, received_at_ms: int) -> list[OrderUpdate]:
    """Everything that the rows say of an ordinary order, in its order."""
    row = past.order
    events: list[OrderUpdate] = []
    if row.executed_qty is None:  # as in a row that cannot be understood
        return [_lost(row, received_at_ms)]
    if created_in_window and past.has_opening_event:
        placed = row._replace(
            status="NEW", executed_qty=ZERO, avg_price=ZERO, venue_time_ms=past.created_ms, source="rest"
        )
        events.append(OrderUpdate(OrderEvent(event_ids.of_order(placed, "NEW"), "NEW", placed, received_at_ms), True))
    # Of an order that is older than the trades asked for, the row alone says where its sum began.
    is_whole = created_in_window or is_over(row)
    within = fills if is_whole else [trade for trade in fills if trade.time_ms <= row.venue_time_ms]
    filled = ZERO if created_in_window else row.executed_qty - sum((trade.qty for trade in within), ZERO)
    for trade in within:
        filled += trade.qty
        if filled > row.executed_qty:
            break  # It came after the row was read.
        is_last = filled == row.executed_qty
        ends = is_last and is_over(row) and row.status != LOST and ended_by(row) is None
        after = row._replace(
            status=row.status if ends else "PARTIALLY_FILLED",
            executed_qty=filled,
            avg_price=row.avg_price if is_last else None,
            venue_time_ms=trade.time_ms,
            source="rest",
        )
        event = _fill_event(trade, after, past.fill_event, received_at_ms)
        events.append(OrderUpdate(event, open=not ends))
    if row.status == LOST:
        return [*events, _lost(row, received_at_ms)]
    if end := ended_by(row):
        ended = row._replace(source="rest")
        events.append(OrderUpdate(OrderEvent(event_ids.of_order(ended, end), end, ended, received_at_ms), False))
    return events


def _with_amendments(
    events: list[OrderUpdate],
    past: PastOrder,
    amendments: tuple[PastAmendment, ...],
    filled_before: Decimal,
    received_at_ms: int,
    logged: Container[str],
) -> list[OrderUpdate] | None:
    """The events of an order, with its amendments between them, and each with the price and the quantity of its
    time. `filled_before` is what was filled before the first of them. None where the times do not say how they
    follow each other: the venue's clock was set back."""
    if not amendments:
        return events
    if not _are_in_order(events, amendments):
        return None
    merged: list[OrderUpdate] = []
    left = list(events)
    filled, average = filled_before, None
    for amendment in amendments:
        while left and _is_before(left[0], amendment):
            update = left.pop(0)
            merged.append(_at(update, *amendment.begins))
            filled, average = max(filled, filled_of(update.order)), update.order.avg_price
        merged.append(_amended(past.order, amendment, filled, average, received_at_ms))
    last, prices = amendments[-1], {price for one in amendments for price in (one.price_before, one.price)}
    after = [_at(update, last.price, last.quantity) for update in left]
    if any(_is_at_another_price(update.event, prices) for update in (*merged, *after)):
        return None
    kept: list[OrderUpdate] = []
    is_behind_it_logged = False
    for update in reversed([*merged, *left]):
        is_logged = event_ids.is_logged(update.event, logged)
        if is_logged or not is_behind_it_logged or update.event.event_type != "AMENDMENT":
            kept.append(update)
        is_behind_it_logged = is_behind_it_logged or is_logged
    return kept[::-1]


def _amended(
    row: Order, amendment: PastAmendment, filled: Decimal | None, average: Decimal | None, received_at_ms: int
) -> OrderUpdate:
    order = row._replace(
        status="PARTIALLY_FILLED" if filled else "NEW",
        price=amendment.price,
        quantity=amendment.quantity,
        executed_qty=filled,
        avg_price=average if filled else ZERO,
        venue_time_ms=amendment.time_ms,
        source="rest",
    )
    event = OrderEvent(event_ids.of_order(order, "AMENDMENT"), "AMENDMENT", order, received_at_ms)
    return OrderUpdate(event, open=True)


def _is_at_another_price(event: OrderEvent, prices: Container[Decimal]) -> bool:
    """Whether a resting order was filled at a price that it had at another time."""
    return bool(event.maker) and event.last_price in prices and event.last_price != event.order.price


def _are_in_order(events: list[OrderUpdate], amendments: tuple[PastAmendment, ...]) -> bool:
    """Whether the times of both say where the amendments belong. Where the venue's clock was set back they do not; the
    time of an order's end comes from elsewhere, and is not looked at."""
    happened_ms = [update.order.venue_time_ms for update in events if update.event.trade_id or update.open]
    amended_ms = [one.time_ms for one in amendments]
    if happened_ms and events[0].event.event_type == "NEW":
        amended_ms.insert(0, happened_ms[0])
    return happened_ms == sorted(happened_ms) and amended_ms == sorted(amended_ms)


def _filled_before(events: list[OrderUpdate], row: Order) -> Decimal:
    """What was filled of an order before the first of these events, which are all of them."""
    if not events:
        return filled_of(row)
    return filled_of(events[0].order) - (events[0].event.last_qty or ZERO)


def _is_before(update: OrderUpdate, amendment: PastAmendment) -> bool:
    """Of one millisecond, an order is placed before it is amended, and a resting order is filled at the price that it
    has; any other fill follows from the amendment, as of one that reaches the market."""
    event, at_ms = update.event, update.order.venue_time_ms
    if at_ms != amendment.time_ms:
        return at_ms < amendment.time_ms
    is_at_old_price = bool(event.maker) and event.last_price == amendment.price_before != amendment.price
    return event.event_type == "NEW" or is_at_old_price


def _at(update: OrderUpdate, price: Decimal, quantity: Decimal) -> OrderUpdate:
    """The event with the price and the quantity that its order had."""
    return update._replace(event=update.event._replace(order=update.order._replace(price=price, quantity=quantity)))


def _is_behind(
    row: Order,
    fills: list[PastTrade],
    created_in_window: bool,
    logged: Container[str],
    known_filled: Mapping[OrderKey, tuple[Decimal, int]],
) -> bool:
    """Whether the row has more filled than the trades explain, together with what was known before."""
    if row.executed_qty is None:
        return False
    if created_in_window:
        return sum((trade.qty for trade in fills), ZERO) < row.executed_qty
    if row.key not in known_filled:
        return False
    known, at_ms = known_filled[row.key]
    # What is logged and younger than that, another publisher has written.
    beyond = (
        trade.qty
        for trade in fills
        if trade.time_ms > at_ms or event_ids.of_fill(trade.order, trade.fill_id) not in logged
    )
    return known + sum(beyond, ZERO) < row.executed_qty


def _conditional_events(past: PastOrder, created_in_window: bool, received_at_ms: int) -> list[OrderUpdate]:
    """That a conditional order was placed, and the step that it is at now."""
    row = past.order._replace(source="rest")
    events: list[OrderUpdate] = []
    if row.status == LOST:
        return [_lost(row, received_at_ms)]
    if created_in_window:
        placed = row._replace(
            status="NEW", executed_qty=None, avg_price=None, actual_order_id=None, venue_time_ms=past.created_ms
        )
        events.append(_conditional_event(placed, received_at_ms))
    if row.status != "NEW":
        events.append(_conditional_event(row, received_at_ms))
    return events


def _lost(row: Order, received_at_ms: int) -> OrderUpdate:
    return OrderUpdate(gaps.of_order(row, received_at_ms), open=False)


def _conditional_event(order: Order, received_at_ms: int) -> OrderUpdate:
    event_id = event_ids.of_conditional(order.order_id, order.status)
    event = OrderEvent(event_id, f"ALGO_{order.status}", order, received_at_ms)
    return OrderUpdate(event, open=not is_over(order))

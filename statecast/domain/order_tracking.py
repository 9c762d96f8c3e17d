"""What the log has of orders: which events, which ends, and what is still missing.

An event counts once, however often it is received. A connection sends the events of one order in their order: an event
that begins beyond what is known comes after one that is missing, and an event of an order that is over comes late.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import NamedTuple, TypeVar

from statecast.domain import event_ids, gaps
from statecast.domain.changes import Change, OrderUpdate
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.orders import IMMEDIATE_ENDS, INTERMEDIATE_EVENTS, LOST, OPENING_EVENTS, filled_of, is_final
from statecast.domain.snapshot_merge import Ends, reaches
from statecast.domain.table import Table

REMEMBERED_EVENTS = 50_000
"""Ids of order events kept to recognise a repeated one; by estimate 10 MB. Two connections at a time repeat seconds of
them."""

REMEMBERED_FINISHED_ORDERS = 20_000
"""Finished orders kept so that a late event does not reopen them."""

CONDITIONAL_FACTOR = 5
"""So many times the conditional orders that the venue allows at a time are kept as triggered, and as many as over."""

BEFORE_OPENING = Decimal(-1)
"""Less than nothing is filled of an order whose opening event is not logged."""

K = TypeVar("K")
V = TypeVar("V")


class Memory(NamedTuple):
    """How much is kept."""

    events: int
    finished_orders: int
    conditional_orders: int


class IncompleteOrder(NamedTuple):
    """An order that is beyond what its logged events say: as the venue lists it, and what is filled by the events;
    `BEFORE_OPENING` where its opening event is not logged."""

    order: Order
    filled: Decimal


class MissingEvents(NamedTuple):
    """An order as it is after an event that was received, while something before that was not.

    Of one that ended at once, unfilled, it is its opening event alone: that moves no state, and no document says that
    venues always send it.
    """

    incomplete: IncompleteOrder
    only_opening: bool


class OrderTracking:
    """`orders` are the open ones: read here, and changed by the account."""

    def __init__(self, orders: Table[OrderKey, Order], memory: Memory) -> None:
        self._table = orders
        self._memory = memory
        self._logged: OrderedDict[str, bool] = OrderedDict()
        """Ids of events, and whether the stream has sent them to this process."""
        self._logged_ms: dict[OrderKey, int] = {}
        """The venue's time of the last logged event of an order that is not over."""
        self._finished: OrderedDict[OrderKey, int] = OrderedDict()
        """When an order ended, in the venue's time."""
        self._guessed: set[OrderKey] = set()
        """Finished orders of which no document of the venue says that they are over: the venue did not know them."""
        self._logged_ends: OrderedDict[OrderKey, None] = OrderedDict()
        """Orders of which an event says that they are over."""
        self._triggered: OrderedDict[OrderKey, OrderKey | None] = OrderedDict()
        """Conditional orders that were triggered and of which no later event is logged, with the order each created."""
        self._ended_conditional: OrderedDict[OrderKey, None] = OrderedDict()
        self._incomplete: dict[OrderKey, IncompleteOrder] = {}

    # Events

    def is_logged(self, event_id: str) -> bool:
        """Whether an event is among those remembered."""
        return event_id in self._logged

    def remember_only(self, event_ids: Iterable[str]) -> None:
        """Count these events as logged, and no others."""
        self._logged.clear()
        self.remember_events(event_ids)

    def remember_events(self, event_ids: Iterable[str]) -> None:
        """Count these events as logged: they stand in the log already."""
        for event_id in event_ids:
            self._is_new(event_id)

    def log(self, event: OrderEvent) -> bool:
        """An event was received: whether it has to be logged now."""
        is_new = self._is_new(event.event_id, on_stream=event.order.source == "stream")
        if event.event_type == gaps.GAP and not gaps.ends_order(event):
            return is_new  # It says nothing of what became of an order.
        if event.event_type == "CALCULATED" and event.order.source == "rest":
            # The stream may send it late, and without the number that the history has.
            self.remember_events(event_ids.stream_ids(event))
        self._reach(event)
        self._note_trigger(event)
        return is_new

    def log_alone(self, event: OrderEvent, *, ends: bool) -> bool:
        """As `log`, of an event that moves no row; `ends`: it is the last of its order."""
        is_new = not self._has_entry(event) and self.log(event)
        if ends:
            self.log_end(event.order.key)
        return is_new

    def log_end(self, key: OrderKey) -> None:
        """An event says that this order is over."""
        self._logged_ends[key] = None
        _forget_oldest(self._logged_ends, self._memory.finished_orders)
        self.forget_last_event(key)

    def is_end_logged(self, key: OrderKey) -> bool:
        """Whether an event says that the order is over, and not only that the venue did not know it."""
        return key in self._logged_ends and key not in self._guessed

    def forget_last_event(self, key: OrderKey) -> None:
        """No event of this order is late any more: it is over."""
        self._logged_ms.pop(key, None)

    def is_late(self, event: OrderEvent) -> bool:
        """Whether an intermediate event was missed and is received again behind what came after it. No history says
        where it belongs."""
        order, key = event.order, event.order.key
        if event.event_type not in INTERMEDIATE_EVENTS:
            return False
        if self._has_entry(event):
            return True
        if key in self._logged_ends:
            has_gone_on = key in self._ended_conditional and event.event_type not in OPENING_EVENTS
            return order.source == "stream" or has_gone_on
        is_late = order.source == "stream" and order.venue_time_ms < self._logged_ms.get(key, 0)
        return is_late and event.event_type not in OPENING_EVENTS and event.event_id not in self._logged

    def _has_entry(self, event: OrderEvent) -> bool:
        """Whether the log has an entry of type GAP in place of an intermediate event."""
        if event.event_type not in INTERMEDIATE_EVENTS or event.order.source != "stream":
            return False
        return event_ids.of_unlogged_order(event.order, event.order.venue_time_ms) in self._logged

    def is_logged_as_placed(self, event: OrderEvent) -> bool:
        """Whether this is a trailing stop's second NEW, and a history had it as the first: it was active from the
        beginning."""
        placed = event_ids.placing_of(event.event_id)
        if placed is None or self._logged.get(placed, True):
            return False  # Where the stream has sent a first one, this is no other form of it.
        order, known = event.order, self._table.rows.get(event.order.key)
        if known is None or known.source != "rest":
            return False
        return (known.status, known.venue_time_ms) == (order.status, order.venue_time_ms)

    def _is_new(self, event_id: str, *, on_stream: bool = False) -> bool:
        if event_id in self._logged:
            return False
        self._logged[event_id] = on_stream
        _forget_oldest(self._logged, self._memory.events)
        return True

    def _reach(self, event: OrderEvent) -> None:
        """An event says what became of its order."""
        order, key = event.order, event.order.key
        self._logged_ms[key] = max(order.venue_time_ms, self._logged_ms.get(key, 0))
        awaited = self._incomplete.get(key)
        if awaited is None or awaited.order is order:
            return  # Of one that is itself the last thing to happen, something else is missing.
        only_opening = event.event_type in OPENING_EVENTS and key in self._logged_ends
        if only_opening or reaches(order, awaited.order):
            del self._incomplete[key]
        else:
            self._incomplete[key] = awaited._replace(filled=max(awaited.filled, filled_of(order)))

    # Finished orders

    def is_finished(self, key: OrderKey) -> bool:
        """Whether the order is known to be over."""
        return key in self._finished

    @property
    def ends(self) -> Ends:
        """Which orders are over."""
        return Ends(self._finished, self._guessed, self._logged_ends)

    def finished_ms(self, key: OrderKey) -> int:
        """When an order ended that is not open any more, in the venue's time; 0 where no document says so."""
        return 0 if key in self._guessed else self._finished.get(key, 0)

    @property
    def remembers_orders_since_ms(self) -> int:
        """An order that ended before this may be forgotten; so may another one of the oldest one's millisecond."""
        if len(self._finished) < self._memory.finished_orders:
            return 0
        return next(iter(self._finished.values())) + 1

    def finish(self, key: OrderKey, venue_time_ms: int, *, guessed: bool = False) -> None:
        """The order is over; late events of it open it no more. `guessed`: no document of the venue says so.

        Who knows no more than that it is over may name an earlier time: a list of in between would open it again.
        """
        self._logged_ms.pop(key, None)
        self._finished[key] = max(venue_time_ms, self._finished.get(key, 0))
        if guessed:
            self._guessed.add(key)
        else:
            self._guessed.discard(key)
        for forgotten in _forget_oldest(self._finished, self._memory.finished_orders):
            self._guessed.discard(forgotten)

    def reopen(self, key: OrderKey) -> None:
        """The venue lists an order as open that was thought to be over."""
        self._finished.pop(key, None)
        self._guessed.discard(key)
        self._logged_ends.pop(key, None)

    def keep_open(self, keys: Iterable[OrderKey]) -> None:
        """A snapshot lists these orders as open, and no others."""
        self._logged_ms = {key: self._logged_ms[key] for key in keys if key in self._logged_ms}

    # Conditional orders that were triggered

    @property
    def triggered(self) -> Mapping[OrderKey, OrderKey | None]:
        """Conditional orders that were triggered and have still to be finished, with the order that each created, where
        that is known."""
        return self._triggered

    def forget_triggered(self, key: OrderKey) -> None:
        """No event of this conditional order is awaited any more."""
        self._triggered.pop(key, None)

    def _note_trigger(self, event: OrderEvent) -> None:
        order, key = event.order, event.order.key
        if order.algo_id is None:
            return
        if is_final(order):
            self._triggered.pop(key, None)
            self._ended_conditional[key] = None
        elif event.event_type == "ALGO_TRIGGERED" and key not in self._ended_conditional:
            child = order.actual_order_id
            self._triggered[key] = None if child is None else OrderKey(order.symbol, child)
        _forget_oldest(self._triggered, self._memory.conditional_orders)
        _forget_oldest(self._ended_conditional, self._memory.conditional_orders)

    # What is missing

    @property
    def incomplete(self) -> Mapping[OrderKey, IncompleteOrder]:
        """Orders of which the stream has still to send something. Where it does not, the log is incomplete."""
        return self._incomplete

    def expect(self, incomplete: Iterable[IncompleteOrder]) -> None:
        """These orders are incomplete, in addition to those that are."""
        self._incomplete |= {one.order.key: one for one in incomplete}

    def expect_only(self, incomplete: Iterable[IncompleteOrder]) -> None:
        """These orders are incomplete, and no others."""
        self._incomplete.clear()
        self.expect(incomplete)

    def expect_end(self, order: Order) -> None:
        """The venue lists this order no more, which no event has said; it is as it was known."""
        last = order._replace(status=LOST, venue_time_ms=order.venue_time_ms + 1)
        self._incomplete.setdefault(order.key, IncompleteOrder(last, filled_of(order)))

    def expect_listed(self, order: Order) -> None:
        """The venue lists this order, which may be beyond what its logged events say."""
        logged = self._logged_filled(order.key)
        if logged < filled_of(order):
            self._incomplete.setdefault(order.key, IncompleteOrder(order, logged))

    def missing_before(
        self, changes: Iterable[Change], filled: dict[OrderKey, Decimal] | None = None
    ) -> Iterator[MissingEvents]:
        """What must have happened to orders before `changes` and was not received: before a fill that begins beyond
        what is filled, and before any event of an unknown order but its opening. `filled` is what is filled of orders
        as far as is known from elsewhere; what the changes fill is added to it."""
        filled = {} if filled is None else filled
        for change in changes:
            if not isinstance(change, OrderUpdate):
                continue
            order, event = change.order, change.event
            key = order.key
            before = max(filled.get(key, BEFORE_OPENING), self._logged_filled(key))
            now_filled = filled_of(order)
            filled[key] = max(before, now_filled)
            if event.event_id in self._logged or (change.may_be_first and before < 0):
                continue
            if key in self._finished and key not in self._incomplete:
                continue
            if now_filled - (event.last_qty or 0) > before:
                only_opening = before < 0 and not now_filled and event.event_type in IMMEDIATE_ENDS
                yield MissingEvents(IncompleteOrder(order, before), only_opening)

    def _logged_filled(self, key: OrderKey) -> Decimal:
        if key in self._incomplete:
            return self._incomplete[key].filled
        row = self._table.rows.get(key)
        return BEFORE_OPENING if row is None else filled_of(row)


def _forget_oldest(remembered: OrderedDict[K, V], limit: int) -> list[K]:
    """Keep `limit` entries; the keys of those that were forgotten."""
    return [remembered.popitem(last=False)[0] for _ in range(len(remembered) - limit)]

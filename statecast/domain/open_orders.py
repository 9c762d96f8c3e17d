"""The open orders of an account."""

from __future__ import annotations

from statecast.domain import event_ids, gaps
from statecast.domain.changes import AllOrders, OrderUpdate, Snapshot
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.order_tracking import Memory, OrderTracking
from statecast.domain.snapshot_merge import RestTiming, merged_orders, progress
from statecast.domain.table import Table


class OpenOrders:
    """Their rows, and (`tracking`) what is logged of orders."""

    def __init__(self, rest: RestTiming, memory: Memory) -> None:
        self.table: Table[OrderKey, Order] = Table()
        self.tracking = OrderTracking(self.table, memory)
        self._rest = rest

    def apply(self, update: OrderUpdate) -> OrderEvent | None:
        """Upsert an order if it is newer, or remove it. Returns what has to be logged: the event, or the entry that
        stands for it; None where it is logged, or needs no entry."""
        event = update.event
        if self.tracking.is_late(event):
            return self._pass_over(event)
        return event if self._take(update) else None

    def _pass_over(self, late: OrderEvent) -> OrderEvent | None:
        if self.tracking.is_logged(late.event_id):
            return None
        self.table.pass_over(late.order.key, late.order.venue_time_ms)
        entry = gaps.of_late(late) if late.order.source == "stream" else None
        return entry if entry is not None and self.tracking.log(entry) else None

    def _take(self, update: OrderUpdate) -> bool:
        """Whether the event has to be logged."""
        order, key, event = update.order, update.order.key, update.event
        if self.tracking.is_logged_as_placed(event):
            self.tracking.remember_events((event.event_id,))
        is_new = self.tracking.log(event)
        # A repeated event goes on: received again after a snapshot that was behind the stream, it puts the order right.
        if not update.open:
            self.tracking.log_end(key)
        if self.tracking.is_finished(key):
            self.tracking.forget_last_event(key)
            return is_new
        if not update.open:
            self.finish(key, order.venue_time_ms, guessed=event.event_type == event_ids.GAP)
            return is_new
        known = self.table.rows.get(key)
        # Of two events of one moment the later one counts, unless it was received before.
        if known is None or progress(order) > progress(known) or (is_new and progress(order) == progress(known)):
            self.table.renew(key)
            self.table.put(key, order)
        elif is_new:
            self.table.pass_over(key, order.venue_time_ms)
        return is_new

    def trusted_ms(self, order: Order) -> int:
        """As of which venue time an open order is to be compared with an answer."""
        return self.table.trusted_ms(order.key, order.venue_time_ms)

    def apply_all(self, update: AllOrders) -> int:
        """These are all rows: what is not listed is over, unless the stream knows newer. Returns the venue's time of
        what changed; 0 where nothing did."""
        symbols, time_ms = update.symbols, 0
        unlisted = {key: row for key, row in self.table.rows.items() if symbols is None or key.symbol in symbols}
        for order in update.rows:
            key, known = order.key, unlisted.pop(order.key, None)
            is_over = self.tracking.is_finished(key) and order.venue_time_ms <= self.tracking.finished_ms(key)
            if not is_over and (known is None or progress(order) > progress(known)):
                self.tracking.expect_listed(order)
                self.tracking.reopen(key)
                self.table.put(key, order)
                time_ms = max(time_ms, order.venue_time_ms)
        for key, known in unlisted.items():
            if known.venue_time_ms <= update.time_ms:
                self.tracking.expect_end(known)
                self.finish(key, update.time_ms)
                time_ms = max(time_ms, update.time_ms)
        return time_ms

    def merge(self, snapshot: Snapshot) -> None:
        """The whole account by REST; orders of the stream stand where they are newer."""
        merged = merged_orders(self.table.rows, self.tracking.ends, self.table.trusted_ms, snapshot, self._rest)
        for key in merged.reopened:
            self.tracking.reopen(key)
        for order in merged.gone:
            self.tracking.expect_end(order)
        for key, row in self.table.rows.items():
            if key not in merged.rows and key in self.tracking.ends.logged:
                self.tracking.finish(key, row.venue_time_ms)
        self.table.replace_all(merged.rows)
        self.tracking.keep_open(merged.rows)

    def finish(self, key: OrderKey, venue_time_ms: int, *, guessed: bool = False) -> None:
        """The order is over, whatever is received of its past. `guessed`: no document of the venue says so."""
        self.table.remove(key)
        self.tracking.finish(key, venue_time_ms, guessed=guessed)

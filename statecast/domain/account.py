"""An account and the changes that move it: changes in, what to write out.

No I/O, no clock, no chance: the same changes in the same order give the same account, one by one or in one burst.
`Account` keeps its tables in place instead of making new ones, because copying them for every event would make
an event's cost grow with the number of open orders.

The rules, from the venues' documentation:

- A row that is missing from a frame is unchanged; position amount 0 means closed.
- An older row never overwrites a newer one. Closed positions and finished orders leave a stamp behind, so that late
  news cannot bring them back.
- What happened to an order counts once, however often it is told.
- Figures that no event carries come from REST with a time of their own. Profit moves with the mark price.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple, TypeVar

from statecast.domain import event_ids
from statecast.domain.changes import (
    BalanceUpdate,
    Change,
    Check,
    LeverageUpdate,
    LoggedEvent,
    MarkPriceUpdate,
    MultiAssetsUpdate,
    OrderUpdate,
    PositionUpdate,
    Snapshot,
)
from statecast.domain.models import (
    Balance,
    Order,
    OrderEvent,
    OrderKey,
    Position,
    PositionKey,
    Source,
    Stamp,
    SymbolConfig,
    Totals,
)
from statecast.domain.orders import IMMEDIATE_ENDS, INTERMEDIATE_EVENTS, OPENING_EVENTS, filled_of

REMEMBERED_EVENTS = 50_000
"""Ids of order events kept to tell a repeated one; by estimate 10 MB. Overlapping sockets repeat seconds of them."""

REST_LAG_MS = 10_000
"""REST may be behind the stream by this at the most. What the stream told longer before the venue was asked, the answer
knows as well; and what it told for a later time than that is of a venue's clock that was set back since."""

YOUNG_MS = 3_000
"""REST may well not know yet what the stream told so long before it was asked, and the venue's clock is known to within
half a second. On an account that places orders all the time, some are always so young."""

REMEMBERED_TRIGGERED = 1_000
"""Conditional orders that were triggered, and as many that are over. The venue allows an account 200 at a time."""

REMEMBERED_FINISHED_ORDERS = 20_000
"""Finished orders kept so that a late event does not reopen them."""

K = TypeVar("K")
V = TypeVar("V")

BEFORE_OPENING = Decimal(-1)

EIGHT_PLACES = Decimal("0.00000001")
ZERO = Decimal(0)


class IncompleteOrder(NamedTuple):
    """An order that is beyond what events have told of it: as the venue lists it, and what is filled by the events;
    `BEFORE_OPENING` where none has told how it began."""

    order: Order
    filled: Decimal


class MissingEvents(NamedTuple):
    """An order as it is after something that was told, while something before that was not.

    Of one that ended at once, unfilled, it is its beginning alone: that moves no state, and no document says that the
    venue always tells it.
    """

    incomplete: IncompleteOrder
    only_beginning: bool


class Times(NamedTuple):
    """The venue's time of the youngest value, per hash; each only grows."""

    account: int = 0
    balances: int = 0
    positions: int = 0
    orders: int = 0


class Delta(NamedTuple):
    """What one commit has to write. Rows are pairs of (before, after); `after` is None when the row is gone.

    `replaces` says that the rows are the whole account: what Redis holds beyond them goes.
    """

    source: Source
    times: Times
    totals: Totals | None = None
    totals_before: Totals | None = None
    balances: tuple[tuple[Balance | None, Balance | None], ...] = ()
    positions: tuple[tuple[Position | None, Position | None], ...] = ()
    orders: tuple[tuple[Order | None, Order | None], ...] = ()
    events: tuple[OrderEvent, ...] = ()
    balance_count: int = 0
    position_count: int = 0
    order_count: int = 0
    replaces: bool = False

    def __bool__(self) -> bool:
        return bool(
            self.replaces or self.events or self.orders or self.positions or self.balances or self.totals is not None
        )


class Account:
    """One account's known state. Empty, and not publishable, until a first `Snapshot` was applied."""

    def __init__(self) -> None:
        self.totals: Totals | None = None
        self.balances: dict[str, Balance] = {}
        self.positions: dict[PositionKey, Position] = {}
        self.orders: dict[OrderKey, Order] = {}
        self.symbol_configs: dict[str, SymbolConfig] = {}
        self.margin_assets: dict[str, str] = {}
        self.multi_assets = False
        self._totals_asset: str | None = None
        self._derives_totals = False
        self._marks: dict[str, MarkPriceUpdate] = {}
        self._closed: dict[PositionKey, Stamp] = {}
        self._finished: OrderedDict[OrderKey, int] = OrderedDict()
        self.triggered: OrderedDict[OrderKey, OrderKey | None] = OrderedDict()
        """Conditional orders that were triggered, and of which no later event has told; with the ordinary order that
        each has become."""
        self._ended_conditional: OrderedDict[OrderKey, None] = OrderedDict()
        self._logged_ends: set[OrderKey] = set()
        """Finished orders that an event has told to be over."""
        self._logged_ms: dict[OrderKey, int] = {}
        """The venue's time of what was told last of an order that is not over."""
        self.incomplete: dict[OrderKey, IncompleteOrder] = {}
        """Orders of which the stream has still to tell something. Where it does not, the log lacks it."""
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._times = Times()
        self._asked_ms = 0
        self._heard_since_ms = 0
        self._listed_ms = 0
        """A position of before this venue time that the last snapshot did not list is closed."""
        self._begin()

    @property
    def symbols_with_position(self) -> frozenset[str]:
        return frozenset(key.symbol for key in self.positions)

    @property
    def complete(self) -> bool:
        """Whether a snapshot was applied: before that, nothing here may be shown to anyone."""
        return self.totals is not None

    def is_logged(self, event_id: str) -> bool:
        """Whether an order event is among those remembered."""
        return event_id in self._seen

    def closed_ms(self, key: PositionKey) -> int:
        """When the stream has closed a position that is not there, in the venue's time; 0 where it has not."""
        stamp = self._closed.get(key)
        return stamp.venue_time_ms if stamp is not None else 0

    def has_rows(self, symbol: str) -> bool:
        """Whether the stream has told of a position there. Where it has not, the venue changes a margin type without an
        event, and only then: it takes a symbol without position and orders."""
        return any(key.symbol == symbol for table in (self.positions, self._closed) for key in table)

    def finished_ms(self, key: OrderKey) -> int:
        """When an order ended that is not open any more, in the venue's time; 0 where that is not known."""
        return self._finished.get(key, 0)

    @property
    def remembers_orders_since_ms(self) -> int:
        """An order that ended before this may be forgotten."""
        if len(self._finished) < REMEMBERED_FINISHED_ORDERS:
            return 0
        return max(next(iter(self._finished.values())), 1)

    def remember_ended(self, orders: Iterable[Order]) -> None:
        """These orders are over: none of them is open, whatever is told of its past."""
        for order in orders:
            self._finish_order(order.key, order.venue_time_ms)

    def missing_before(
        self, changes: Iterable[Change], known_filled: Mapping[OrderKey, Decimal] | None = None
    ) -> Iterator[MissingEvents]:
        """What must have happened to orders before `changes` and was not told. `known_filled` are orders that are known
        beside the account's, with what is filled of them.

        A connection tells the events of orders in their order. So a fill that begins beyond what is known to be filled
        comes after one that was lost, and so does whatever happens to an unknown order but its beginning.
        """
        filled = dict(known_filled or {})
        for change in changes:
            if not isinstance(change, OrderUpdate):
                continue
            order, event = change.order, change.event
            key = order.key
            before = max(filled.get(key, BEFORE_OPENING), self._logged_filled(key))
            now_filled = filled_of(order)
            filled[key] = max(before, now_filled)
            if event.event_id in self._seen or (change.may_be_first and before < ZERO):
                continue
            if key in self._finished and key not in self.incomplete:
                continue
            if now_filled - (event.last_qty or ZERO) > before:
                only_beginning = before < ZERO and not now_filled and event.event_type in IMMEDIATE_ENDS
                yield MissingEvents(IncompleteOrder(order, before), only_beginning)

    def _logged_filled(self, key: OrderKey) -> Decimal:
        if key in self.incomplete:
            return self.incomplete[key].filled
        return filled_of(self.orders[key]) if key in self.orders else BEFORE_OPENING

    def _tell(self, event: OrderEvent) -> None:
        """An event has told what has become of its order."""
        order, key = event.order, event.order.key
        self._logged_ms[key] = max(order.venue_time_ms, self._logged_ms.get(key, 0))
        awaited = self.incomplete.get(key)
        if awaited is None or awaited.order is order:
            return  # Of one that is itself the last thing to happen, something else is missing.
        only_beginning = event.event_type in OPENING_EVENTS and key in self._logged_ends
        if only_beginning or _reaches(order, awaited.order):
            del self.incomplete[key]
        else:
            self.incomplete[key] = awaited._replace(filled=max(awaited.filled, filled_of(order)))

    def remember_only(self, event_ids: Iterable[str]) -> None:
        """Count `event_ids` as told, and nothing else: whatever is not among them stands in no log."""
        self._seen.clear()
        self.remember_events(event_ids)

    def remember_events(self, event_ids: Iterable[str]) -> None:
        """Count `event_ids` as told: they stand in the log already."""
        for event_id in event_ids:
            self._is_new(event_id)

    def apply(self, changes: Sequence[Change], source: Source) -> Delta:
        """Apply what one frame or one answer says; the result is one commit, and empty when nothing is new."""
        self._begin()
        for change in changes:
            match change:
                case OrderUpdate():
                    self._apply_order(change)
                case LoggedEvent(event, ends):
                    if self._is_new(event.event_id):
                        self._events.append(event)
                    self._tell(event)
                    self._note_trigger(event)
                    if ends:
                        self._logged_ends.add(event.order.key)
                        self._logged_ms.pop(event.order.key, None)
                case PositionUpdate():
                    self._apply_position(change)
                case BalanceUpdate():
                    self._apply_balance(change)
                case MarkPriceUpdate():
                    self._apply_mark(change)
                case LeverageUpdate():
                    self._apply_leverage(change)
                case MultiAssetsUpdate():
                    self.multi_assets = change.enabled
                    self._derives_totals = False  # until REST has said what the totals are now
                case Snapshot():
                    self._apply_snapshot(change)
                case Check():
                    self._apply_check(change)
        self._derive()
        return self._finish(source)

    def events_alone(self, changes: Sequence[Change], source: Source) -> Delta:
        """After an `apply` that failed: what its changes tell of orders, without what they do to the account. The
        account can be read again, and what happened to orders is told once."""
        rest = (change.event for change in changes if isinstance(change, OrderUpdate | LoggedEvent))
        events = (*self._events, *(event for event in rest if self._is_new(event.event_id)))
        return Delta(source, self._times, events=events)

    def whole(self, events: tuple[OrderEvent, ...] = ()) -> Delta:
        """A commit that writes everything, for a Redis whose content cannot be trusted, with `events` to append."""
        assert self.totals is not None, "an account without a snapshot is not written"
        return Delta(
            source="rest",
            times=self._times,
            totals=self.totals,
            balances=tuple((None, row) for row in self.balances.values()),
            positions=tuple((None, row) for row in self.positions.values()),
            orders=tuple((None, row) for row in self.orders.values()),
            events=events,
            balance_count=len(self.balances),
            position_count=len(self.positions),
            order_count=len(self.orders),
            replaces=True,
        )

    # One apply: rows as they were before it, collected as it goes.

    def _begin(self) -> None:
        self._totals_before = self.totals
        self._old_balances: dict[str, Balance | None] = {}
        self._old_positions: dict[PositionKey, Position | None] = {}
        self._old_orders: dict[OrderKey, Order | None] = {}
        self._events: list[OrderEvent] = []
        self._touched_ms = 0
        self._replaces = False

    def _finish(self, source: Source) -> Delta:
        balances = _moved(self._old_balances, self.balances)
        positions = _moved(self._old_positions, self.positions)
        orders = _moved(self._old_orders, self.orders)
        totals = self.totals if self.totals != self._totals_before else None
        if not (balances or positions or orders or totals or self._events or self._replaces):
            return Delta(source, self._times)
        before, touched = self._times, self._touched_ms
        self._times = Times(
            max(before.account, touched) if totals else before.account,
            max(before.balances, touched) if balances else before.balances,
            max(before.positions, touched) if positions else before.positions,
            max(before.orders, touched) if orders else before.orders,
        )
        if self._replaces:
            self._times = Times(*(max(time, touched) for time in before))
            return self.whole(tuple(self._events))._replace(source=source)
        return Delta(
            source=source,
            times=self._times,
            totals=totals,
            totals_before=self._totals_before,
            balances=balances,
            positions=positions,
            orders=orders,
            events=tuple(self._events),
            balance_count=len(self.balances),
            position_count=len(self.positions),
            order_count=len(self.orders),
        )

    def _put_balance(self, row: Balance) -> None:
        self._old_balances.setdefault(row.asset, self.balances.get(row.asset))
        self.balances[row.asset] = row

    def _put_position(self, row: Position) -> None:
        self._old_positions.setdefault(row.key, self.positions.get(row.key))
        self.positions[row.key] = row
        self._closed.pop(row.key, None)

    def _close_position(self, key: PositionKey, stamp: Stamp) -> None:
        self._old_positions.setdefault(key, self.positions.get(key))
        self.positions.pop(key, None)
        self._closed[key] = stamp

    def _put_order(self, row: Order) -> None:
        key = row.key
        self._old_orders.setdefault(key, self.orders.get(key))
        self.orders[key] = row

    def _finish_order(self, key: OrderKey, venue_time_ms: int) -> None:
        self._old_orders.setdefault(key, self.orders.get(key))
        self.orders.pop(key, None)
        self._logged_ms.pop(key, None)
        self._finished[key] = venue_time_ms
        if len(self._finished) > REMEMBERED_FINISHED_ORDERS:
            self._logged_ends.discard(self._finished.popitem(last=False)[0])

    def _touch(self, time_ms: int) -> None:
        self._touched_ms = max(self._touched_ms, time_ms)

    # Orders

    def _is_new(self, event_id: str) -> bool:
        if event_id in self._seen:
            return False
        self._seen[event_id] = None
        if len(self._seen) > REMEMBERED_EVENTS:
            self._seen.popitem(last=False)
        return True

    def _apply_order(self, update: OrderUpdate) -> None:
        order, key = update.order, update.order.key
        if self._is_late(update.event):
            return
        if self._is_logged_as_placed(update.event):
            self.remember_events((update.event.event_id,))
        is_new = self._is_new(update.event.event_id)
        self._tell(update.event)
        self._note_trigger(update.event)
        if is_new:
            self._events.append(update.event)
            self._touch(order.venue_time_ms)
        # A repeated event goes on: told again after a snapshot that was behind the stream, it puts the order right.
        if key in self._finished:
            self._logged_ms.pop(key, None)
            if not update.open:
                self._logged_ends.add(key)
            return
        if not update.open:
            self._logged_ends.add(key)
            self._finish_order(key, order.venue_time_ms)
            return
        known = self.orders.get(key)
        # Of two events of one moment the later told counts, unless it was told before.
        if known is None or _progress(order) > _progress(known) or (is_new and _progress(order) == _progress(known)):
            self._put_order(order)

    def _is_late(self, event: OrderEvent) -> bool:
        """Whether a step was missed and comes again behind what came after it. No history tells its place."""
        order = event.order
        if event.event_type not in INTERMEDIATE_EVENTS:
            return False
        if order.key in self._logged_ends:
            has_gone_on = order.key in self._ended_conditional and event.event_type not in OPENING_EVENTS
            return order.source == "stream" or has_gone_on
        is_late = order.source == "stream" and order.venue_time_ms < self._logged_ms.get(order.key, 0)
        return is_late and event.event_type not in OPENING_EVENTS and event.event_id not in self._seen

    def _note_trigger(self, event: OrderEvent) -> None:
        order, key = event.order, event.order.key
        if order.algo_id is None:
            return
        if event.event_type != "ALGO_TRIGGERED":
            self.triggered.pop(key, None)
            if event.event_type not in INTERMEDIATE_EVENTS:
                self._ended_conditional[key] = None
        elif key not in self._ended_conditional:
            child = order.actual_order_id
            self.triggered[key] = None if child is None else OrderKey(order.symbol, child)
        for remembered in (self.triggered, self._ended_conditional):
            if len(remembered) > REMEMBERED_TRIGGERED:
                remembered.popitem(last=False)

    def _is_logged_as_placed(self, event: OrderEvent) -> bool:
        """Of a trailing stop that is active from the beginning, the stream tells the activation alone; a history tells
        that it was placed."""
        placed = event_ids.placing_of(event.event_id)
        if placed is None or placed not in self._seen:
            return False
        order, known = event.order, self.orders.get(event.order.key)
        if known is None or known.source != "rest":
            return False
        return (known.status, known.venue_time_ms) == (order.status, order.venue_time_ms)

    # Balances and positions

    def _is_repeat(self, stamp: Stamp, known: Balance | Position | None) -> bool:
        """Whether a frame is of before the stream was heard, and of a moment of which REST has told what was last."""
        return (
            known is not None
            and known.source == "rest"
            and stamp.venue_time_ms == known.stamp.venue_time_ms
            and stamp.venue_time_ms < self._heard_since_ms
        )

    def _apply_balance(self, update: BalanceUpdate) -> None:
        known = self.balances.get(update.asset)
        if known is not None and (update.stamp < known.stamp or self._is_repeat(update.stamp, known)):
            return
        self._touch(update.stamp.venue_time_ms)
        if known is None:
            row = Balance(update.asset, update.wallet_balance, update.cross_wallet_balance, update.stamp, "stream")
        else:
            row = replace(
                known,
                wallet_balance=update.wallet_balance,
                cross_wallet_balance=update.cross_wallet_balance,
                stamp=update.stamp,
                source="stream",
            )
        self._put_balance(row)

    def _apply_position(self, update: PositionUpdate) -> None:
        key = PositionKey(update.symbol, update.position_side)
        known = self.positions.get(key)
        last = known.stamp if known is not None else self._closed.get(key)
        if (last is not None and update.stamp < last) or self._is_repeat(update.stamp, known):
            return
        if last is None and update.stamp.venue_time_ms < self._listed_ms:
            return  # It was closed unheard, and what was missed comes again.
        if update.margin_asset is not None:
            self.margin_assets[update.symbol] = update.margin_asset
        config = self.symbol_configs.get(update.symbol, NOTHING_SET)
        if update.margin_type is not None and config.margin_type != update.margin_type:
            config = self.symbol_configs[update.symbol] = replace(config, margin_type=update.margin_type)
        self._touch(update.stamp.venue_time_ms)
        if update.position_amt == 0:
            self._close_position(key, update.stamp)
            return
        mark = self._marks.get(update.symbol)
        profit, profit_ms = update.unrealized_profit, update.stamp.event_time_ms or update.stamp.venue_time_ms
        if mark is not None and (profit is None or mark.time_ms >= profit_ms):
            profit, profit_ms = _profit(update.position_amt, update.entry_price, mark), mark.time_ms
        same_row = known is not None and known.position_amt == update.position_amt
        self._put_position(
            Position(
                symbol=update.symbol,
                position_side=update.position_side,
                position_amt=update.position_amt,
                entry_price=update.entry_price,
                stamp=update.stamp,
                source="stream",
                break_even_price=update.break_even_price,
                mark_price=mark.mark_price if mark else None,
                mark_price_time_ms=mark.time_ms if mark else None,
                unrealized_profit=profit,
                unrealized_profit_time_ms=None if profit is None else profit_ms,
                leverage=config.leverage,
                margin_type=config.margin_type,
                isolated_wallet=update.isolated_wallet,
                # A liquidation price belongs to the size it was calculated for.
                liquidation_price=known.liquidation_price if known and same_row else None,
                liquidation_price_time_ms=known.liquidation_price_time_ms if known and same_row else None,
                notional=_money(update.position_amt * mark.mark_price) if mark else None,
                margin_asset=self.margin_assets.get(update.symbol),
            )
        )

    def _apply_leverage(self, update: LeverageUpdate) -> None:
        config = self.symbol_configs.get(update.symbol, NOTHING_SET)
        self.symbol_configs[update.symbol] = replace(config, leverage=update.leverage)
        for row in self._positions_of(update.symbol):
            self._put_position(replace(row, leverage=update.leverage))

    def _apply_mark(self, update: MarkPriceUpdate) -> None:
        last = self._marks.get(update.symbol)
        if last is not None and update.time_ms < last.time_ms:
            return
        self._marks[update.symbol] = update
        for row in self._positions_of(update.symbol):
            if (row.mark_price_time_ms or 0) < update.time_ms:
                self._touch(update.time_ms)
                self._put_position(_marked(row, update))

    def _positions_of(self, symbol: str) -> list[Position]:
        return [row for key, row in self.positions.items() if key.symbol == symbol]

    # REST

    def _apply_snapshot(self, snapshot: Snapshot) -> None:
        self._replaces = True
        self._asked_ms = snapshot.taken_ms
        self._heard_since_ms = snapshot.heard_since_ms
        # REST may be behind, but it knew of the youngest of its rows. What is younger than both is still to be told.
        stamps = [row.stamp for row in snapshot.balances] + [row.stamp for row in snapshot.positions]
        youngest_ms = max((stamp.venue_time_ms for stamp in stamps), default=0)
        self._listed_ms = max(snapshot.taken_ms - REST_LAG_MS, min(snapshot.heard_since_ms, youngest_ms))
        self._touch(snapshot.taken_ms)
        self.symbol_configs = dict(snapshot.symbol_configs)
        self.margin_assets.update(snapshot.margin_assets)
        self.multi_assets = snapshot.multi_assets

        balances = {row.asset: row for row in snapshot.balances}
        for asset, known in self.balances.items():
            row = balances.get(asset)
            if row is None:
                if stream_is_newer(known.stamp.venue_time_ms, snapshot.taken_ms, snapshot.taken_ms):
                    balances[asset] = known
            elif stream_is_newer(known.stamp.venue_time_ms, row.stamp.venue_time_ms, snapshot.taken_ms):
                balances[asset] = replace(
                    known,
                    available_balance=row.available_balance,
                    available_balance_time_ms=row.available_balance_time_ms,
                )
        self.balances = balances

        positions: dict[PositionKey, Position] = {}
        for position in snapshot.positions:
            closed = self._closed.get(position.key)
            known_position = self.positions.get(position.key)
            told_ms = position.stamp.venue_time_ms
            if closed is not None and stream_is_newer(closed.venue_time_ms, told_ms, snapshot.taken_ms):
                continue
            if known_position is not None and stream_is_newer(
                known_position.stamp.venue_time_ms, told_ms, snapshot.taken_ms
            ):
                positions[position.key] = self._reconfigured(known_position)
            else:
                positions[position.key] = self._configured(position)
        for key, known_position in self.positions.items():
            if key in positions:
                continue
            if stream_is_newer(known_position.stamp.venue_time_ms, snapshot.taken_ms, snapshot.taken_ms):
                positions[key] = self._reconfigured(known_position)
        self.positions = positions
        latest_ms = snapshot.taken_ms + REST_LAG_MS
        self._closed = {key: stamp for key, stamp in self._closed.items() if stamp.venue_time_ms <= latest_ms}

        orders: dict[OrderKey, Order] = {}
        for order in snapshot.orders:
            order_key = order.key
            finished_ms = self._finished.get(order_key)
            known_order = self.orders.get(order_key)
            if finished_ms is not None:
                if finished_ms == order.venue_time_ms or stream_is_newer(
                    finished_ms, order.venue_time_ms, snapshot.taken_ms
                ):
                    continue
                del self._finished[order_key]
                self._logged_ends.discard(order_key)
            orders[order_key] = (
                known_order
                if known_order is not None
                and _progress(known_order) > _progress(order)
                and abs(known_order.venue_time_ms - snapshot.taken_ms) <= REST_LAG_MS
                else order
            )
        for order_key, known_order in self.orders.items():
            if order_key in orders:
                continue
            if stream_is_newer(known_order.venue_time_ms, snapshot.taken_ms, snapshot.taken_ms):
                orders[order_key] = known_order
            else:
                last = known_order._replace(status="", venue_time_ms=known_order.venue_time_ms + 1)
                self.incomplete.setdefault(order_key, IncompleteOrder(last, filled_of(known_order)))
        self.orders = orders
        self._logged_ms = {key: time_ms for key, time_ms in self._logged_ms.items() if key in orders}

        self._totals_asset = snapshot.totals_asset
        self._take_totals(snapshot.totals, snapshot.balances)
        self._take_marks(snapshot.positions)

    def _apply_check(self, refresh: Check) -> None:
        if not self.complete or refresh.taken_ms < self._asked_ms:
            return  # It was overtaken by a snapshot, which says more.
        self._asked_ms = refresh.taken_ms
        self._touch(refresh.taken_ms)
        # Wallets and sizes are the stream's alone: its rows of one moment come together, and REST's do not. What it has
        # lost is found by comparing (publisher/discrepancies.py).
        for row in refresh.balances:
            known = self.balances.get(row.asset)
            if known is not None:
                self._put_balance(
                    replace(
                        known,
                        available_balance=row.available_balance,
                        available_balance_time_ms=row.available_balance_time_ms,
                    )
                )
        for position in refresh.positions:
            if position.margin_asset is not None:
                self.margin_assets[position.symbol] = position.margin_asset
            known_position = self.positions.get(position.key)
            if known_position is not None and known_position.position_amt == position.position_amt:
                self._put_position(_with_rest_figures(known_position, position))
        for symbol, config in (refresh.symbol_configs or {}).items():
            setting = self.symbol_configs.setdefault(symbol, config)  # New ones were listed since the snapshot.
            if setting.margin_type != config.margin_type and not self.has_rows(symbol):
                self.symbol_configs[symbol] = replace(setting, margin_type=config.margin_type)
        self._take_totals(refresh.totals, refresh.balances)
        self._take_marks(refresh.positions)

    def _configured(self, row: Position) -> Position:
        """A row of REST with what no position row carries, at the youngest mark price."""
        config = self.symbol_configs.get(row.symbol, NOTHING_SET)
        row = replace(
            row,
            leverage=config.leverage if row.leverage is None else row.leverage,
            margin_type=row.margin_type or config.margin_type,
            margin_asset=row.margin_asset or self.margin_assets.get(row.symbol),
        )
        mark = self._marks.get(row.symbol)
        return row if mark is None or mark.time_ms <= (row.mark_price_time_ms or 0) else _marked(row, mark)

    def _reconfigured(self, row: Position) -> Position:
        """A row that the stream knows better than a snapshot, with the settings that came with that."""
        config = self.symbol_configs.get(row.symbol)
        if config is None:
            return row
        return replace(row, leverage=config.leverage, margin_type=config.margin_type or row.margin_type)

    def _take_totals(self, totals: Totals, balances: Iterable[Balance]) -> None:
        """Totals by REST, and whether they may be derived between two answers.

        They may where the venue's total is plainly one asset's wallet. In multi-assets mode, or for an account that the
        venue counts in some other way, the totals stay as REST gave them, with their times.
        """
        self.totals = totals
        self._derives_totals = not self.multi_assets and any(
            row.asset == self._totals_asset and row.wallet_balance == totals.total_wallet_balance for row in balances
        )

    def _take_marks(self, positions: Iterable[Position]) -> None:
        for row in positions:
            if row.mark_price is not None and row.mark_price_time_ms is not None:
                self._apply_mark(MarkPriceUpdate(row.symbol, row.mark_price, row.mark_price_time_ms))

    # What follows from the rows

    def _derive(self) -> None:
        """Profit per asset and the totals, from the positions and wallets that this apply has moved."""
        if self.totals is None or not (self._replaces or self._old_positions or self._old_balances):
            return
        profits: dict[str, tuple[Decimal, int]] = {}
        for row in self.positions.values():
            if row.margin_asset is None or row.unrealized_profit is None or row.unrealized_profit_time_ms is None:
                return  # An unknown part: the sums stay what the venue last said, with the time of that.
            profit, time_ms = profits.get(row.margin_asset, (ZERO, row.unrealized_profit_time_ms))
            # A sum is as old as its oldest part.
            profits[row.margin_asset] = (profit + row.unrealized_profit, min(time_ms, row.unrealized_profit_time_ms))
        for balance in list(self.balances.values()):
            derived = profits.get(balance.asset)
            if derived is not None:
                self._put_balance(replace(balance, unrealized_profit=derived[0], unrealized_profit_time_ms=derived[1]))
            elif balance.unrealized_profit != 0:
                time_ms = max(self._touched_ms, balance.unrealized_profit_time_ms or 0)
                self._put_balance(replace(balance, unrealized_profit=ZERO, unrealized_profit_time_ms=time_ms))
        if not self._derives_totals or self._totals_asset not in self.balances:
            return
        known, basis = self.totals, self.balances[self._totals_asset]
        assert basis.unrealized_profit is not None
        assert basis.unrealized_profit_time_ms is not None
        self.totals = replace(
            known,
            total_wallet_balance=basis.wallet_balance,
            total_wallet_balance_time_ms=max(known.total_wallet_balance_time_ms, basis.stamp.venue_time_ms),
            total_unrealized_profit=basis.unrealized_profit,
            total_unrealized_profit_time_ms=basis.unrealized_profit_time_ms,
            total_margin_balance=basis.wallet_balance + basis.unrealized_profit,
            total_margin_balance_time_ms=basis.unrealized_profit_time_ms,
        )


def stream_is_newer(ours_ms: int, theirs_ms: int, asked_ms: int) -> bool:
    """Whether what the stream has told of one time is younger than an answer's row of another, and the answer, asked
    for at a third, may not know it yet. All are the venue's times."""
    return ours_ms > theirs_ms and abs(ours_ms - asked_ms) <= REST_LAG_MS


def _moved(before: dict[K, V | None], after: dict[K, V]) -> tuple[tuple[V | None, V | None], ...]:
    """The touched rows that are not what they were, as (before, after)."""
    if not before:
        return ()
    return tuple((old, new) for key, old in before.items() if (new := after.get(key)) != old)


NOTHING_SET = SymbolConfig(leverage=None, margin_type=None)


def _progress(order: Order) -> tuple[int, Decimal]:
    """Orders the news about one order: by time, and within one millisecond by what is filled."""
    return order.venue_time_ms, order.executed_qty or ZERO


def _reaches(told: Order, listed: Order) -> bool:
    """Whether an event has told all that the venue lists. The two may give one thing times of their own."""
    if told.executed_qty is not None and told.executed_qty < (listed.executed_qty or ZERO):
        return False
    return told.venue_time_ms >= listed.venue_time_ms or told.status == listed.status


def _money(value: Decimal) -> Decimal:
    """A product, rounded to the eight places that venues give money in."""
    return value.quantize(EIGHT_PLACES, ROUND_HALF_EVEN)


def _profit(amount: Decimal, entry_price: Decimal, mark: MarkPriceUpdate) -> Decimal:
    """Of a linear contract: amount x (mark - entry)."""
    return _money(amount * (mark.mark_price - entry_price))


def _marked(row: Position, mark: MarkPriceUpdate) -> Position:
    """The position at a younger mark price; notional is amount x mark. A profit that is younger still stays."""
    profit, profit_ms = row.unrealized_profit, row.unrealized_profit_time_ms
    if profit is None or profit_ms is None or profit_ms <= mark.time_ms:
        profit, profit_ms = _profit(row.position_amt, row.entry_price, mark), mark.time_ms
    return replace(
        row,
        mark_price=mark.mark_price,
        mark_price_time_ms=mark.time_ms,
        unrealized_profit=profit,
        unrealized_profit_time_ms=profit_ms,
        notional=_money(row.position_amt * mark.mark_price),
    )


def _with_rest_figures(known: Position, answer: Position) -> Position:
    """The known row with what an answer of the same size adds: liquidation price; profit and mark price if younger."""
    row = replace(
        known,
        liquidation_price=answer.liquidation_price,
        liquidation_price_time_ms=answer.liquidation_price_time_ms,
        margin_asset=known.margin_asset or answer.margin_asset,
        break_even_price=answer.break_even_price if known.break_even_price is None else known.break_even_price,
    )
    if (known.unrealized_profit_time_ms or 0) < (answer.unrealized_profit_time_ms or 0):
        row = replace(
            row,
            unrealized_profit=answer.unrealized_profit,
            unrealized_profit_time_ms=answer.unrealized_profit_time_ms,
        )
    if (known.mark_price_time_ms or 0) < (answer.mark_price_time_ms or 0):
        row = replace(
            row,
            mark_price=answer.mark_price,
            mark_price_time_ms=answer.mark_price_time_ms,
            notional=answer.notional,
        )
    return row

"""An account and the changes that move it: changes in, what to write out.

No I/O, no clock, no chance: the same changes in the same order give the same account, one by one or in one burst. The
rules, from the venues' documentation:

- A row that is missing from a frame is unchanged; position amount 0 means closed. Where a change says that it has all
  rows of a kind, what is not among them is gone.
- An older row never overwrites a newer one. Closed positions and finished orders are remembered, so that a late frame
  does not bring them back.
- What happened to an order counts once, however often it is received.
- Figures that no event carries come from REST with a time of their own. Profit moves with the mark price.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from statecast.domain.changes import (
    AllBalances,
    AllOrders,
    AllPositions,
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
    WalletCorrection,
)
from statecast.domain.models import (
    Balance,
    Order,
    OrderEvent,
    OrderKey,
    Position,
    PositionKey,
    Source,
    SymbolConfig,
    Totals,
)
from statecast.domain.open_orders import OpenOrders
from statecast.domain.order_tracking import (
    CONDITIONAL_FACTOR,
    REMEMBERED_EVENTS,
    REMEMBERED_FINISHED_ORDERS,
    IncompleteOrder,
    Memory,
    MissingEvents,
)
from statecast.domain.positions import Positions, Setting
from statecast.domain.snapshot_merge import Asked, LastAnswer, RestTiming
from statecast.domain.wallets import Wallets


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
    passed_over: bool = False
    """Whether something was not taken because it is older than what is known. On one connection nothing should be."""

    def with_events_alone(self) -> Delta:
        """The same without its rows."""
        return Delta(self.source, self.times, events=self.events)

    def __bool__(self) -> bool:
        return bool(
            self.replaces or self.events or self.orders or self.positions or self.balances or self.totals is not None
        )


@dataclass(slots=True)
class _Commit:
    """One apply, as it is put together."""

    totals_before: Totals | None
    events: list[OrderEvent] = field(default_factory=list)
    time_ms: int = 0
    """The venue's time of the youngest value in it."""
    replaces: bool = False

    def touch(self, time_ms: int) -> None:
        self.time_ms = max(self.time_ms, time_ms)

    def replace_all(self) -> None:
        """Its rows are the whole account."""
        self.replaces = True


class Account:
    """One account's known state. Empty, and not publishable, until a first `Snapshot` was applied."""

    def __init__(self, rest: RestTiming, *, max_conditional_orders: int, memory: Memory | None = None) -> None:
        """`max_conditional_orders`: open at a time, by the venue's rules. `memory` None: as much as any venue needs."""
        if memory is None:
            memory = Memory(REMEMBERED_EVENTS, REMEMBERED_FINISHED_ORDERS, CONDITIONAL_FACTOR * max_conditional_orders)
        self.rest = rest
        self._wallets = Wallets(rest)
        self._positions = Positions(rest)
        self._orders = OpenOrders(rest, memory)
        self._tracking = self._orders.tracking
        self._tables = self._wallets.table, self._positions.table, self._orders.table
        self._times = Times()
        self._answer = LastAnswer()
        self._commit = _Commit(None)

    # What is known

    @property
    def complete(self) -> bool:
        """Whether a snapshot was applied: before that, nothing here may be shown to anyone."""
        return self.totals is not None

    @property
    def totals(self) -> Totals | None:
        """None before the first snapshot."""
        return self._wallets.totals

    @property
    def balances(self) -> Mapping[str, Balance]:
        """By asset."""
        return self._wallets.table.rows

    @property
    def positions(self) -> Mapping[PositionKey, Position]:
        """The open ones."""
        return self._positions.table.rows

    @property
    def orders(self) -> Mapping[OrderKey, Order]:
        """The open ones."""
        return self._orders.table.rows

    @property
    def symbol_configs(self) -> Mapping[str, SymbolConfig]:
        """What the account has set, by symbol."""
        return self._positions.configs

    def set_ms(self, symbol: str, setting: Setting) -> int:
        """Of which venue time a setting is; 0 where the stream has said nothing of it. The mode has no symbol."""
        return self._positions.set_ms(symbol, setting) if symbol else self._wallets.mode_ms

    @property
    def multi_assets(self) -> bool:
        """The margin mode: whether all collateral counts."""
        return self._wallets.multi_assets

    @property
    def symbols_with_position(self) -> frozenset[str]:
        """Those with an open position."""
        return self._positions.symbols

    def is_doubtful(self, key: str | PositionKey | OrderKey) -> bool:
        """Whether the stream has sent something of a balance, position or order that was passed over as older."""
        if isinstance(key, OrderKey):
            return self._orders.table.is_doubtful(key)
        if isinstance(key, PositionKey):
            return self._positions.table.is_doubtful(key)
        return self._wallets.table.is_doubtful(key)

    def balance_ms(self, balance: Balance) -> int:
        """As of which venue time a balance is to be compared with an answer."""
        return self._wallets.table.trusted_ms(balance.asset, balance.stamp.venue_time_ms)

    def position_ms(self, key: PositionKey) -> int:
        """See `Positions.trusted_ms`."""
        return self._positions.trusted_ms(key)

    def order_ms(self, order: Order) -> int:
        """See `OpenOrders.trusted_ms`."""
        return self._orders.trusted_ms(order)

    def stands_unlisted(self, row: Position, youngest_ms: int, asked: Asked) -> bool:
        """See `Positions.stands_unlisted`."""
        return self._positions.stands_unlisted(row, youngest_ms, asked)

    def has_rows(self, symbol: str) -> bool:
        """See `Positions.has_rows`."""
        return self._positions.has_rows(symbol)

    # What is logged of orders

    def is_logged(self, event_id: str) -> bool:
        """Whether an order event is among those remembered."""
        return self._tracking.is_logged(event_id)

    def is_late(self, event: OrderEvent) -> bool:
        """See `OrderTracking.is_late`."""
        return self._tracking.is_late(event)

    def remember_events(self, event_ids: Iterable[str]) -> None:
        """Count these events as logged: they stand in the log already."""
        self._tracking.remember_events(event_ids)

    def remember_only(self, event_ids: Iterable[str]) -> None:
        """Count these events as logged, and no others."""
        self._tracking.remember_only(event_ids)

    def finished_ms(self, key: OrderKey) -> int:
        """See `OrderTracking.finished_ms`."""
        return self._tracking.finished_ms(key)

    def is_end_logged(self, key: OrderKey) -> bool:
        """See `OrderTracking.is_end_logged`."""
        return self._tracking.is_end_logged(key)

    @property
    def remembers_orders_since_ms(self) -> int:
        """An order that ended before this may be forgotten."""
        return self._tracking.remembers_orders_since_ms

    @property
    def incomplete_orders(self) -> Mapping[OrderKey, IncompleteOrder]:
        """Orders of which the stream has still to send something. Where it does not, the log is incomplete."""
        return self._tracking.incomplete

    def missing_before(
        self, changes: Iterable[Change], filled: dict[OrderKey, Decimal] | None = None
    ) -> Iterator[MissingEvents]:
        """See `OrderTracking.missing_before`."""
        return self._tracking.missing_before(changes, filled)

    def expect(self, incomplete: Iterable[IncompleteOrder]) -> None:
        """These orders are incomplete, in addition to those that are."""
        self._tracking.expect(incomplete)

    def forget_incomplete(self) -> None:
        """Nothing is awaited: somebody else logs it."""
        self._tracking.expect_only(())

    def begin_again(self, ended: Mapping[OrderKey, Order], incomplete: Iterable[IncompleteOrder]) -> None:
        """Before the snapshot that ends a gap: of the histories, these orders are over, whatever is received of their
        past; and these are incomplete, and no others."""
        for order in sorted(ended.values(), key=lambda one: one.venue_time_ms):  # The first are forgotten first.
            self._orders.finish(order.key, order.venue_time_ms)
        self._tracking.expect_only(incomplete)

    @property
    def triggered(self) -> Container[OrderKey]:
        """Conditional orders that were triggered and have still to be finished."""
        return self._tracking.triggered

    def triggered_orders(self) -> tuple[OrderKey, ...]:
        """The same, to go through while some are forgotten."""
        return tuple(self._tracking.triggered)

    def triggered_without_order(self) -> tuple[OrderKey, ...]:
        """Those of them whose ordinary order is not open: they should be finished."""
        return tuple(key for key, child in self._tracking.triggered.items() if child not in self.orders)

    def forget_triggered(self, key: OrderKey) -> None:
        """No event of this conditional order is awaited any more."""
        self._tracking.forget_triggered(key)

    # Commits

    def apply(self, changes: Sequence[Change], source: Source) -> Delta:
        """Apply what one frame or one answer says; the result is one commit, and empty when nothing is new.

        Raises:
            ArithmeticError: an amount is beyond reckoning. The account may be half changed: see `events_alone`.
        """
        self._commit = _Commit(self.totals)
        for table in self._tables:
            table.begin()
        for change in changes:
            self._apply(change)
        if self._commit.replaces or self._positions.table.is_touched or self._wallets.table.is_touched:
            self._wallets.derive(self.positions.values(), self._commit.time_ms)
        return self._finished(source)

    def events_alone(self, changes: Sequence[Change], source: Source) -> Delta:
        """After an `apply` that failed: the order events of its changes, without what they do to the account. The
        account can be read again, and what happened to orders is received once."""
        rest = (change.event for change in changes if isinstance(change, OrderUpdate | LoggedEvent))
        events = [*self._commit.events]
        for event in rest:
            if not self._tracking.is_logged(event.event_id):
                self._tracking.remember_events((event.event_id,))
                events.append(event)
        return Delta(source, self._times, events=tuple(events))

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

    def _finished(self, source: Source) -> Delta:
        commit, before, time_ms = self._commit, self._times, self._commit.time_ms
        events = tuple(commit.events)
        if commit.replaces:
            self._times = Times(*(max(time, time_ms) for time in before))
            return self.whole(events)._replace(source=source)
        balances, positions = self._wallets.table.changed(), self._positions.table.changed()
        orders = self._orders.table.changed()
        totals = self.totals if self.totals != commit.totals_before else None
        passed_over = any(table.has_passed_over for table in self._tables)
        if not (balances or positions or orders or totals or events):
            return Delta(source, before, passed_over=passed_over)
        self._times = Times(
            max(before.account, time_ms) if totals else before.account,
            max(before.balances, time_ms) if balances else before.balances,
            max(before.positions, time_ms) if positions else before.positions,
            max(before.orders, time_ms) if orders else before.orders,
        )
        return Delta(
            source=source,
            times=self._times,
            totals=totals,
            totals_before=commit.totals_before,
            balances=balances,
            positions=positions,
            orders=orders,
            events=events,
            balance_count=len(self.balances),
            position_count=len(self.positions),
            order_count=len(self.orders),
            passed_over=passed_over,
        )

    # One change

    def _apply(self, change: Change) -> None:
        commit, answer = self._commit, self._answer
        match change:
            case OrderUpdate(event):
                if (logged := self._orders.apply(change)) is not None:
                    self._positions.note_event(logged)
                    commit.events.append(logged)
                    commit.touch(event.order.venue_time_ms)
            case LoggedEvent(event, ends):
                if self._tracking.log_alone(event, ends=ends):
                    self._positions.note_event(event)
                    commit.events.append(event)
            case PositionUpdate():
                commit.touch(self._positions.apply(change, answer))
            case BalanceUpdate():
                commit.touch(self._wallets.apply(change, answer))
            case MarkPriceUpdate():
                commit.touch(self._positions.apply_mark(change))
            case LeverageUpdate():
                self._positions.apply_leverage(change)
            case MultiAssetsUpdate():
                self._wallets.apply_mode(change)
            case AllPositions():
                commit.touch(self._positions.apply_all(change, answer))
            case AllBalances():
                commit.touch(self._wallets.apply_all(change, answer))
            case AllOrders():
                commit.touch(self._orders.apply_all(change))
            case Snapshot():
                self._apply_snapshot(change)
            case Check():
                self._apply_check(change)
            case WalletCorrection(balance):
                commit.touch(self._wallets.correct(balance))

    def _apply_snapshot(self, snapshot: Snapshot) -> None:
        self._commit.replace_all()
        self._commit.touch(snapshot.taken_ms)
        self._answer = LastAnswer.of(snapshot, self.rest)
        self._wallets.merge(snapshot)
        self._positions.merge(snapshot)
        self._orders.merge(snapshot)
        self._commit.touch(self._positions.take_marks(snapshot.positions))

    def _apply_check(self, check: Check) -> None:
        if not self.complete or check.taken_ms < self._answer.asked_ms:
            return  # It was overtaken by a snapshot, which says more.
        self._answer = self._answer._replace(asked_ms=check.taken_ms)
        self._commit.touch(check.taken_ms)
        # Wallets and sizes are the stream's: of one moment, its rows come together. See publisher/discrepancies.py.
        self._wallets.take_figures(check.totals, check.balances, check.taken_ms)
        self._positions.take_figures(check.positions, check.taken_ms)
        if check.symbol_configs is not None:
            self._positions.take_configs(check.symbol_configs, Asked.of(check))
        self._commit.touch(self._positions.take_marks(check.positions))


def as_commit(snapshot: Snapshot) -> Delta:
    """A snapshot by itself as the commit that writes it."""
    return Account(RestTiming(0, 0), max_conditional_orders=0).apply((snapshot,), "rest")

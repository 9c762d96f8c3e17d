"""The histories of one gap: what the venue is asked, in which order, and what follows from the answers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Container, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import NamedTuple

from publisher import moved_symbols
from publisher.history_cache import History, HistoryCache
from publisher.logs import Log
from statecast.clock import Clock
from statecast.domain import event_ids, gaps
from statecast.domain.account import Account
from statecast.domain.changes import LoggedEvent, OrderUpdate
from statecast.domain.history import (
    PastAmendment,
    PastOrder,
    PastTrade,
    Reconstructed,
    are_explained,
    events_from_history,
    fill_of_unknown_order,
    may_be_amended,
    missing_amendments,
    settled,
)
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.orders import (
    ENDED_BY,
    FINAL_CONDITIONAL_STATUSES,
    LOST,
    filled_of,
    is_final,
    is_over,
    is_understood,
)
from statecast.domain.snapshot_merge import RestTiming
from statecast.errors import AuthFailed, FrameError, Rejected
from statecast.venues.adapter import HistoryKind, HistoryQuery, VenueAccount, Waiting, WantsSymbol

MAX_ASKED_AMENDMENTS = 100
"""Orders whose amendments are asked for in one gap, each by a call of its own."""


@dataclass(frozen=True, slots=True)
class Gap:
    """One window of the venue's time, what was known of the account before it, and what cannot be said of it.

    `symbols`, `moved` and `filled` grow with what the histories show.
    """

    since_ms: int
    until_ms: int
    placed_since_ms: int
    """Ordinary orders are listed by their creation, from here on."""
    conditional_since_ms: int
    """Conditional ones are listed from here on."""
    known: Mapping[OrderKey, Order]
    """Orders that were open before the window, or of which something was still to come."""
    filled: dict[OrderKey, Decimal]
    """What is filled of an order as far as the log says or the histories do."""
    logged_filled: Mapping[OrderKey, Decimal]
    """What was filled of the orders that were open in the account as the log has it. A standby that takes over knows
    more than that."""
    symbols: set[str]
    """In which something may have happened."""
    moved: set[str]
    """In which something has happened, or nobody can say that it has not."""
    booked_since_ms: int
    """A wallet has moved since then without being known to; 0: none has."""
    is_own: bool
    """Whether the log has all that the account knows."""
    logged: Container[str]
    """Ids of events that the log has, or will have."""
    lost: tuple[LoggedEvent | OrderUpdate, ...]
    triggered: frozenset[OrderKey]
    """Conditional orders whose last event in the log is that they were triggered."""
    listed_ms: int
    """When the venue was asked for the orders that are open now."""
    ended: frozenset[OrderKey] = frozenset()
    """Conditional orders whose end is in the log."""


class GapRead(NamedTuple):
    """What one reading of the histories shows: the events, entries for what is lost, and orders that are over.

    `unsure` are orders that the venue does not know, and which are so young that it may not know them yet. In the
    `unread` symbols conditional orders were not listed. `not_explained` are entries for orders whose amendments do not
    lead to the price and the quantity that they have.
    """

    found: Reconstructed
    lost: list[LoggedEvent | OrderUpdate]
    ended: dict[OrderKey, Order]
    unsure: tuple[OrderKey, ...] = ()
    unread: frozenset[str] = frozenset()
    not_explained: tuple[OrderEvent, ...] = ()


class _Reading(NamedTuple):
    """One attempt: the gap, the orders that are open now, entries for what is lost, orders that the venue may not know
    yet, those that it will not show, symbols that it refuses, and entries for amendments that it may list yet."""

    gap: Gap
    open_now: Mapping[OrderKey, Order]
    lost: list[LoggedEvent | OrderUpdate]
    unsure: set[OrderKey]
    not_shown: set[OrderKey]
    refused: set[str]
    not_explained: list[OrderEvent]


class GapReader:
    """Reads the histories of gaps. Calls may wait for the venue's limits, and raise what the venue's calls raise.

    Where they are listed by symbol, those of more than `few_symbols` are read where something has moved
    (`publisher/moved_symbols.py`).
    """

    def __init__(
        self,
        venue: VenueAccount,
        account: Account,
        clock: Clock,
        log: Log,
        waiting: Waiting,
        progress: Callable[[str], None],
        *,
        slice_size: int,
        few_symbols: int,
        rest: RestTiming,
    ) -> None:
        """`slice_size`: orders whose events are reconstructed in one go."""
        self._venue = venue
        self._account = account
        self._clock = clock
        self._log = log
        self._waiting = waiting
        self._progress = progress
        self._slice_size = slice_size
        self._few_symbols = few_symbols
        self._rest = rest
        self._cache = HistoryCache(venue, waiting, progress)

    def forget(self) -> None:
        """The gap is filled: what was read of it is not needed any more."""
        self._cache.forget()

    def forget_trades(self, symbols: Iterable[str]) -> None:
        """They are in doubt: ask for them again."""
        self._cache.forget_trades(symbols)

    async def read(self, gap: Gap, open_now: Mapping[OrderKey, Order]) -> GapRead:
        """Orders first, trades after them, so that these explain all that the orders have filled."""
        reading = _Reading(gap, open_now, list(gap.lost), set(), set(), set(), [])
        orders: dict[OrderKey, PastOrder] = {}
        lag_ms = self._rest.lag_ms

        def take(found: Iterable[PastOrder]) -> None:
            known = (_as_listed(past, reading, lag_ms) for past in found if not _is_lost_and_over(past, self._account))
            of_gap = (past for past in known if past.order.venue_time_ms >= gap.since_ms or not is_over(past.order))
            orders.update({past.order.key: past for past in of_gap})

        for history in await self._ordinary(reading):
            take(history.orders)
        gap.symbols.update(key.symbol for key in orders)
        conditional = self._conditional_symbols(reading, orders.values())
        for history in await self._read_all("conditional", conditional, reading, gap.conditional_since_ms):
            take(history.orders)
        unread = self._unread("conditional", gap.symbols - conditional)
        orders |= await self._triggered(reading, orders.keys())
        take(known := await self._known_orders(reading, orders))
        trades: list[PastTrade] = []
        traded = await self._traded_symbols(reading, orders.values())
        unreadable: set[OrderKey] = set()
        for history in await self._read_all("trades", traded, reading, gap.since_ms):
            trades += history.trades
            unreadable |= history.unreadable
        not_logged = [row for row in trades if row.time_ms <= gap.until_ms and _fill_id(row) not in gap.logged]
        take(await self._orders_of_fills(reading, not_logged, unreadable, orders))
        amendments = await self._amendments(reading, orders, trades)
        seen = _Seen(orders, trades, amendments, self._unread("trades", gap.symbols - traded), unreadable)
        ended = _ended_orders(gap, orders, known)
        incomplete = self._account.incomplete_orders
        found = await _reconstruct(gap, seen, incomplete, self._clock, self._slice_size)
        found = _without_refused(found, reading, self._clock.now_ms())
        unsure, not_explained = tuple(sorted(reading.unsure)), tuple(reading.not_explained)
        return GapRead(found, reading.lost, ended, unsure, unread, not_explained)

    # Which symbols

    def _conditional_symbols(self, reading: _Reading, listed: Iterable[PastOrder]) -> set[str]:
        if len((gap := reading.gap).symbols) <= self._few_symbols:
            return gap.symbols
        return gap.moved | moved_symbols.of_conditional_orders(gap.known, gap.logged_filled, reading.open_now, listed)

    async def _traded_symbols(self, reading: _Reading, orders: Iterable[PastOrder]) -> set[str]:
        if len((gap := reading.gap).symbols) <= self._few_symbols:
            return gap.symbols
        booked: frozenset[str] | None = frozenset()
        if gap.booked_since_ms:
            booked = await self._venue.symbols_with_fills(gap.booked_since_ms, self._waiting, whatever_it_costs=False)
        if booked is None:
            return gap.symbols
        return (
            gap.moved
            | booked
            | moved_symbols.of_fills(orders, gap.logged_filled, self._account if gap.is_own else None)
        )

    def _unread(self, kind: HistoryKind, left: Collection[str]) -> frozenset[str]:
        """Of the symbols that are `left`, those that are histories of their own."""
        return frozenset(query.symbol for query in self._venue.history_queries(kind, left) if query.symbol)

    # What the venue is asked

    async def _ordinary(self, reading: _Reading) -> list[History]:
        """Ordinary orders of all symbols at once, where the venue lists them so."""
        gap = reading.gap
        try:
            queries = self._venue.history_queries("orders", gap.symbols)
            if any(query.symbol for query in queries):
                queries = await self._queries_by_symbol(reading)
            return await self._read_queries(queries, reading, gap.placed_since_ms)
        except WantsSymbol:
            return await self._read_queries(await self._queries_by_symbol(reading), reading, gap.placed_since_ms)

    async def _queries_by_symbol(self, reading: _Reading) -> tuple[HistoryQuery, ...]:
        """Where orders are listed by symbol alone, bookings name symbols that nobody knew of. They do not name those in
        which orders were placed and ended without a fill."""
        gap, now_ms = reading.gap, self._clock.now_ms()
        named = await self._venue.symbols_with_fills(gap.since_ms, self._waiting, whatever_it_costs=True)
        kind: gaps.Kind = "REFUSED" if named is None else "UNFILLED"
        reading.lost.append(LoggedEvent(gaps.of_time(kind, "", gap.since_ms, gap.until_ms, now_ms)))
        gap.symbols.update(named or ())
        gap.moved.update(named or ())
        return self._venue.history_queries("orders", gap.symbols)

    async def _read_all(
        self, kind: HistoryKind, symbols: Collection[str], reading: _Reading, since_ms: int
    ) -> list[History]:
        """The histories of one kind, of these symbols or of all."""
        try:
            return await self._read_queries(self._venue.history_queries(kind, symbols), reading, since_ms)
        except WantsSymbol:
            return await self._read_queries(self._venue.history_queries(kind, symbols), reading, since_ms)

    async def _read_queries(self, queries: tuple[HistoryQuery, ...], reading: _Reading, since_ms: int) -> list[History]:
        """These histories, as far as the venue answers; what it does not is an entry."""
        gap, found = reading.gap, list[History]()
        for at, query in enumerate(queries, start=1):
            history = await self._unless_refused(query, reading, since_ms)
            if history is None:
                continue
            if (forgotten_ms := history.forgotten_until_ms) > max(since_ms, gap.since_ms):
                entry = gaps.of_time("ALL", query.symbol, gap.since_ms, forgotten_ms, self._clock.now_ms())
                reading.lost.append(LoggedEvent(entry))
            found.append(history)
            self._progress(f"{at} of {len(queries)} histories of {query.kind}")
        return found

    async def _unless_refused(self, query: HistoryQuery, reading: _Reading, since_ms: int) -> History | None:
        """The history; None, and an entry that says so, where the venue refuses a symbol (as one that was delisted)."""
        try:
            return await self._cache.read(query, since_ms, reading.open_now)
        except AuthFailed:
            raise
        except Rejected as error:
            if not query.symbol:
                raise
            self._log.error("history_refused", symbol=query.symbol, reason=str(error))
            reading.refused.add(query.symbol)
            since_ms, until_ms = reading.gap.since_ms, reading.gap.until_ms
            entry = gaps.of_time("REFUSED", query.symbol, since_ms, until_ms, self._clock.now_ms())
            reading.lost.append(LoggedEvent(entry))
            return None

    async def _order(self, reading: _Reading, key: OrderKey, known_ms: int, young_ms: int) -> PastOrder | None:
        """An order by its id, of which the last thing known is of `known_ms`. None where the venue does not show it:
        where that is no more than `young_ms` ago, it may not know it yet and is asked again (`unsure`), else nobody
        knows what became of it (`not_shown`)."""
        try:
            past = await self._venue.fetch_order(key, self._waiting)
        except AuthFailed:
            raise
        except Rejected as error:
            self._log.error("order_refused", order=str(key), reason=str(error))
            reading.not_shown.add(key)
            return None
        if past is None:
            # What is of a later time is of a clock that was set back since.
            is_young = abs(self._venue.clock.now_ms() - known_ms) <= young_ms and key.symbol not in reading.refused
            (reading.unsure if is_young else reading.not_shown).add(key)
        return past

    async def _triggered(self, reading: _Reading, found: Container[OrderKey]) -> dict[OrderKey, PastOrder]:
        """Conditional orders that were triggered and have finished since; however long ago, this process does not know
        it."""
        gap = reading.gap
        for key in self._account.triggered_orders():
            if is_finish_logged(key, gap.logged):
                self._account.forget_triggered(key)
        finished: dict[OrderKey, PastOrder] = {}
        for key in sorted(key for key in {*gap.triggered, *self._account.triggered_orders()} if key not in found):
            known_ms = self._account.finished_ms(key) or gap.until_ms
            past = await self._order(reading, key, known_ms, self._rest.believed_ms)
            if past is None:
                if key in reading.not_shown:
                    reading.lost.append(_lost(gaps.unknown_order(key, known_ms), self._clock.now_ms()))
                continue
            if not is_understood(past.order):  # It has left the open ones long ago.
                past = past._replace(order=past.order._replace(ended=True))
            if is_final(past.order):
                finished[key] = past
        return finished

    async def _known_orders(self, reading: _Reading, found: Container[OrderKey]) -> list[PastOrder]:
        """The orders that were open before the gap and are older than it: those that ended are asked for one by one."""
        gap, known = reading.gap, list[PastOrder]()
        for at, (key, order) in enumerate(gap.known.items(), start=1):
            if key in found:
                continue
            past: PastOrder | None
            if key in reading.open_now:
                past = PastOrder(reading.open_now[key], 0)
            else:
                past = await self._order(reading, key, order.venue_time_ms, self._rest.believed_ms)
            if past is not None:
                known.append(past)
            elif key in reading.not_shown and not is_end_logged(order, gap.logged):
                # It is over: the snapshot is not to wait for its end.
                reading.lost.append(OrderUpdate(gaps.of_order(order, self._clock.now_ms()), open=False))
            self._progress(f"{at} of {len(gap.known)} known orders")
        return known

    async def _orders_of_fills(
        self,
        reading: _Reading,
        not_logged: list[PastTrade],
        unreadable: Iterable[OrderKey],
        found: Container[OrderKey],
    ) -> list[PastOrder]:
        """The orders of fills that were neither placed in the window nor known to be open before it. Of one that the
        venue does not show, the fills are logged as far as they say it themselves. `unreadable` are those of fills
        whose rows cannot be understood."""
        own: defaultdict[OrderKey, list[PastTrade]] = defaultdict(
            list, {key: [] for key in unreadable if key not in found}
        )
        for trade in not_logged:
            if trade.order not in found:
                own[trade.order].append(trade)
        orders: list[PastOrder] = []
        for key, fills in sorted(own.items()):
            past = None
            if key not in reading.unsure and key not in reading.not_shown:
                # The venue shows the fills, so it is less behind than it may be.
                last_ms = max((fill.time_ms for fill in fills), default=reading.gap.until_ms)
                past = await self._order(reading, key, last_ms, self._rest.lag_ms)
            if past is not None:
                orders.append(past)
            elif key in reading.not_shown:
                _log_alone(reading, key, fills, self._clock.now_ms())
        return orders

    async def _amendments(
        self, reading: _Reading, orders: Mapping[OrderKey, PastOrder], trades: Iterable[PastTrade]
    ) -> dict[OrderKey, tuple[PastAmendment, ...]]:
        """Of orders that something has changed which no other history explains. Where they do not explain it either,
        there is an entry: after some tries where REST may be behind, else at once."""
        gap, settled_ms = reading.gap, self._venue.clock.now_ms() - self._rest.lag_ms
        last_fill_ms = _last_fills(trades)
        amended = [key for key, past in orders.items() if may_be_amended(past, gap.known.get(key), last_fill_ms[key])]
        if len(amended) > MAX_ASKED_AMENDMENTS:
            self._log.warning("amendments_not_asked_for", orders=len(amended) - MAX_ASKED_AMENDMENTS)
        found: dict[OrderKey, tuple[PastAmendment, ...]] = {}
        for at, key in enumerate(amended):
            rows = await self._amendments_of(key, gap.since_ms) if at < MAX_ASKED_AMENDMENTS else None
            found[key] = missing_amendments(rows or (), gap.known.get(key), gap.since_ms)
            entry = _not_explained(gap, orders[key], found[key], self._clock.now_ms())
            if entry is None:
                continue
            if rows is None or orders[key].order.venue_time_ms <= settled_ms:
                reading.lost.append(LoggedEvent(entry))
            else:
                reading.not_explained.append(entry)
        return found

    async def _amendments_of(self, key: OrderKey, since_ms: int) -> tuple[PastAmendment, ...] | None:
        """None where the venue has no such history; none are found where it refuses to list them."""
        try:
            return await self._venue.fetch_amendments(key, since_ms, self._waiting)
        except AuthFailed:
            raise
        except (Rejected, FrameError) as error:
            self._log.error("amendments_refused", order=str(key), reason=str(error))
            return ()


class _Seen(NamedTuple):
    """What the histories have, by order; in the `unread` symbols no trades were asked for. Of the `unreadable` orders a
    fill's row cannot be understood."""

    orders: Mapping[OrderKey, PastOrder]
    trades: Iterable[PastTrade]
    amendments: Mapping[OrderKey, tuple[PastAmendment, ...]]
    unread: frozenset[str]
    unreadable: Collection[OrderKey] = ()


async def _reconstruct(
    gap: Gap, seen: _Seen, incomplete: Container[OrderKey], clock: Clock, slice_size: int
) -> Reconstructed:
    """In slices, with turns for others in between: in one piece, the tens of thousands of events of some minutes would
    take longer than the lease lasts, and its loss would make everything begin again, without end."""
    orders = seen.orders
    own: defaultdict[OrderKey, list[PastTrade]] = defaultdict(list)
    for trade in seen.trades:
        own[trade.order].append(trade)
    known_filled = {
        key: (order.executed_qty or Decimal(0), order.venue_time_ms)
        for key, order in gap.known.items()
        if key not in incomplete  # As of when is not known of these.
    }
    # Where no trades were read, nothing is filled but what is logged; or the stream has sent the order to its end.
    logged = (key for key in orders if key.symbol in seen.unread)
    sent_whole = {key for key in logged if filled_of(orders[key].order) > gap.logged_filled.get(key, Decimal(0))}
    keys = sorted(orders.keys() - sent_whole, key=lambda key: (len(key.order_id), key.order_id))
    reached: dict[OrderKey, int] = {}
    timed: list[tuple[int, OrderUpdate]] = []
    behind: list[Order] = []
    unplaced: list[OrderEvent] = []
    for start in range(0, len(keys), slice_size):
        part = keys[start : start + slice_size]
        found = events_from_history(
            [orders[key] for key in part],
            [trade for key in part for trade in own[key]],
            since_ms=gap.since_ms,
            until_ms=gap.until_ms,
            logged=gap.logged,
            known_filled=known_filled,
            received_at_ms=clock.now_ms(),
            amendments=seen.amendments,
            without_trades=seen.unread,
        )
        behind += found.behind
        unplaced += found.unplaced
        for key, filled in found.filled.items():
            gap.filled[key] = max(gap.filled.get(key, filled), filled)
        for update in found.updates:
            key = update.order.key
            reached[key] = max(reached.get(key, 0), update.order.venue_time_ms)
            timed.append((reached[key], update))
        await clock.sleep(0)
    # Of one that was neither placed in the window nor known before it, nothing else shows that a fill is missing.
    older = (orders[key] for key in sorted(seen.unreadable) if key in orders and key not in known_filled)
    behind += (past.order for past in older if past.created_ms < gap.since_ms)
    timed.sort(key=lambda pair: pair[0])
    updates = tuple(update for _, update in timed)
    return Reconstructed(updates, tuple(behind), gap.filled, tuple(unplaced))


def _ended_orders(gap: Gap, orders: Mapping[OrderKey, PastOrder], known: Iterable[PastOrder]) -> dict[OrderKey, Order]:
    """The orders that are over. One that ended before the gap was `known` as open by an answer that was older: it is as
    it ended, and nothing of it is missing."""
    ended = {key: gaps.unknown_order(key, gap.since_ms) for key in gap.ended}
    ended |= {key: past.order for key, past in orders.items() if is_over(past.order)}
    early = (past.order for past in known if past.order.venue_time_ms < gap.since_ms and past.order.status != LOST)
    for order in (order for order in early if is_over(order)):
        ended[order.key] = order
        gap.filled[order.key] = filled_of(order)
    return ended


def _not_explained(gap: Gap, past: PastOrder, amendments: Iterable[PastAmendment], now_ms: int) -> OrderEvent | None:
    """The entry for amendments of an order that must have happened in the gap, and of which these are not all. None
    where they are, where the log has the last one or an entry, or where the row is older than what was known, or so
    young that the stream may send them."""
    order, known = past.order, gap.known.get(past.order.key)
    is_older = known is not None and order.venue_time_ms <= known.venue_time_ms
    if is_older or order.venue_time_ms > gap.until_ms or are_explained(order, known, amendments):
        return None
    since_ms = known.venue_time_ms if known is not None else max(past.created_ms, gap.since_ms)
    rows = order._replace(venue_time_ms=since_ms), order
    first, last = (OrderEvent(event_ids.of_order(row, "AMENDMENT"), "AMENDMENT", row, now_ms) for row in rows)
    entry = gaps.of_unlogged([first, last])
    return None if last.event_id in gap.logged or entry.event_id in gap.logged else entry


def _without_refused(found: Reconstructed, reading: _Reading, now_ms: int) -> Reconstructed:
    """Where the venue refuses a symbol, another question does not explain what its orders miss: there is an entry."""
    for row in (row for row in found.behind if row.symbol in reading.refused):
        reading.gap.filled[row.key] = filled_of(row)
        reading.lost.append(LoggedEvent(gaps.of_order(row, now_ms)))
    return found._replace(behind=tuple(row for row in found.behind if row.symbol not in reading.refused))


def _as_listed(past: PastOrder, reading: _Reading, rest_lag_ms: int) -> PastOrder:
    """An order whose row cannot be understood is as the list of open orders has it, or as it was last known. One whose
    status nobody named is open where the venue lists it as open."""
    row, key = past.order, past.order.key
    if row.status == LOST and key in reading.open_now:
        return past._replace(order=reading.open_now[key])
    if row.status == LOST and key in reading.gap.known:
        last = reading.gap.known[key]._replace(status=LOST, executed_qty=None, venue_time_ms=row.venue_time_ms)
        return past._replace(order=last)
    return settled(past, reading.open_now, reading.gap.listed_ms, rest_lag_ms)


def _log_alone(reading: _Reading, key: OrderKey, fills: Iterable[PastTrade], now_ms: int) -> None:
    """Fills of an order that the venue does not show; what became of it after them nobody knows."""
    known = reading.gap.known.get(key)
    events = [fill_of_unknown_order(fill, known, now_ms) for fill in sorted(fills, key=lambda fill: fill.sequence)]
    entries: list[LoggedEvent | OrderUpdate] = [LoggedEvent(event) for event in events]
    if known is None:
        entries.append(_lost(events[-1].order if events else gaps.unknown_order(key, reading.gap.until_ms), now_ms))
        reading.lost.extend(entries)
        return
    # Its entry is there already, and comes behind what happened before.
    at = next((i for i, one in enumerate(reading.lost) if one.event.order.key == key), len(reading.lost))
    reading.lost[at:at] = entries


def not_listed_yet(
    gap: Gap, open_now: Mapping[OrderKey, Order], unread: Container[str], begun: Container[OrderKey]
) -> list[OrderKey]:
    """Orders of the gap that are open now and that no history lists: it is behind. Of those that the stream has
    `begun`, and of conditional ones in the `unread` symbols, no history has to."""
    return [
        key
        for key, order in open_now.items()
        if gap.since_ms <= order.venue_time_ms <= gap.until_ms
        and key not in gap.filled
        and key not in begun
        and not (order.algo_id is not None and order.symbol in unread)
    ]


def _lost(order: Order, now_ms: int) -> LoggedEvent:
    return LoggedEvent(gaps.of_order(order, now_ms), ends=True)


def _is_lost_and_over(past: PastOrder, account: Account) -> bool:
    """Whether a row that cannot be understood is of an order of which the stream has sent the end."""
    return past.order.status == LOST and bool(account.finished_ms(past.order.key))


def triggered_orders(written: Iterable[tuple[str, str]]) -> frozenset[OrderKey]:
    """Conditional orders that stand among the open orders no more, and whose end is not logged; `written` are event ids
    with their symbols, oldest first."""
    steps: dict[OrderKey, str] = {}
    for event_id, symbol in written:
        parts = event_ids.parse(event_id) if event_id.startswith(event_ids.CONDITIONAL_PREFIX) else None
        if parts is not None and not (parts.step == event_ids.GAP and parts.detail):
            steps[OrderKey(symbol, parts.order_id)] = parts.step
    return frozenset(key for key, step in steps.items() if step == "TRIGGERED")


def ended_orders(written: Iterable[tuple[str, str]]) -> frozenset[OrderKey]:
    """Conditional orders whose end stands in the log; `written` as above."""
    ended: set[OrderKey] = set()
    for event_id, symbol in written:
        parts = event_ids.parse(event_id) if event_id.startswith(event_ids.CONDITIONAL_PREFIX) else None
        if parts is not None and parts.step in FINAL_CONDITIONAL_STATUSES:
            ended.add(OrderKey(symbol, parts.order_id))
    return frozenset(ended)


def is_finish_logged(key: OrderKey, logged: Container[str]) -> bool:
    """Whether the log has the end of a conditional order."""
    return any(event_ids.of_conditional(key.order_id, status) in logged for status in FINAL_CONDITIONAL_STATUSES)


def is_end_logged(order: Order, logged: Container[str]) -> bool:
    """Whether the log has what took an order from the open ones."""
    if order.algo_id is not None:
        triggered = event_ids.of_conditional(order.order_id, "TRIGGERED")
        return triggered in logged or is_finish_logged(order.key, logged)
    return any(event_ids.of_end(order.key, status) in logged for status in ENDED_BY)


def _last_fills(trades: Iterable[PastTrade]) -> Mapping[OrderKey, int]:
    """When an order was filled last; 0 of one that was not."""
    last_ms: defaultdict[OrderKey, int] = defaultdict(int)
    for trade in trades:
        last_ms[trade.order] = max(last_ms[trade.order], trade.time_ms)
    return last_ms


def _fill_id(trade: PastTrade) -> str:
    return event_ids.of_fill(trade.order, trade.fill_id)

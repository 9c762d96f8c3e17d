"""What happened to orders while no stream was received, from the venue's histories, so that the log has it all the
same.

The stream must be connected before a history is asked for: what happens after that the stream sends. What both have
carries the same id, and is taken from the stream (`statecast/domain/catch_up.py` merges them). Which window of time is
asked for says `publisher/log_window.py`. What the venue has forgotten or refuses to list is an entry of type GAP.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from publisher.committer import Committer
from publisher.discrepancies import GRACE_S
from publisher.history_cache import History, HistoryCache
from publisher.lease import Lease
from publisher.log_window import WRITTEN_LATE_MS, LogWindow
from publisher.logs import Log
from publisher.record import EventRecord
from publisher.status import Status
from publisher.tuning import Tuning
from statecast.clock import Clock
from statecast.domain import event_ids, gaps
from statecast.domain.account import Account
from statecast.domain.catch_up import GapFill, merge_with_stream
from statecast.domain.changes import LoggedEvent, OrderUpdate, Snapshot
from statecast.domain.history import PastOrder, PastTrade, Reconstructed, events_from_history
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.order_tracking import REMEMBERED_EVENTS
from statecast.domain.orders import ENDED_BY, FINAL_CONDITIONAL_STATUSES, filled_of, is_final, is_over
from statecast.errors import AuthFailed, Rejected
from statecast.store.writer import PreviousState
from statecast.venues.adapter import HistoryKind, HistoryQuery, Retention, Traits, VenueAccount, WantsSymbol

PROGRESS_S = 5.0
"""A gap fill that takes longer says this often how far it is."""

BEHIND_TRIES = 5
BEHIND_PAUSE_S = 1.0
"""Histories that do not agree yet are asked for again so often, after this pause."""

LogEvents = Callable[[Sequence[LoggedEvent]], bool]
"""Logs events of a gap, unless a new doubt speaks against it; whether it has."""


@dataclass(slots=True)
class _Gap:
    """One window of the venue's time, what was known of the account before it, and what cannot be said of it."""

    since_ms: int
    until_ms: int
    known: dict[OrderKey, Order]
    """Orders that were open before the window, or of which something was still to come."""
    filled: dict[OrderKey, Decimal]
    """What is filled of an order as far as the log says or the histories do."""
    symbols: set[str]
    logged: Container[str]
    """Ids of events that the log has, or will have."""
    lost: list[LoggedEvent] = field(default_factory=list)
    triggered: frozenset[OrderKey] = frozenset()
    """Conditional orders whose last event in the log is that they were triggered."""
    ended: dict[OrderKey, Order] = field(default_factory=dict)


class GapFiller:
    """Asks the venue for what the log lacks, and keeps the mark until when it is complete."""

    def __init__(
        self,
        venue: VenueAccount,
        traits: Traits,
        account: Account,
        record: EventRecord,
        committer: Committer,
        lease: Lease,
        status: Status,
        clock: Clock,
        log: Log,
        tuning: Tuning,
        *,
        log_kept_ms: int,
    ) -> None:
        """Of a log that Redis has lost altogether, what is older than `log_kept_ms` is not fetched again."""
        self._venue = venue
        self._traits = traits
        self._account = account
        self._record = record
        self._committer = committer
        self._lease = lease
        self._status = status
        self._clock = clock
        self._log = log
        self._tuning = tuning
        self._window = LogWindow(
            history_lag_ms=traits.history_lag_ms,
            retention=traits.history,
            margin_ms=2 * traits.clock_error_ms,
            log_kept_ms=log_kept_ms,
        )
        self._cache = HistoryCache(venue, self._waits, self._progress)
        self._progress_mono_s = 0.0

    @property
    def margin_ms(self) -> int:
        """The histories reach this far beyond the moment at which the stream was connected."""
        return self._window.margin_ms

    # The window

    def stream_begins(self) -> int:
        """What happens from now on the stream sends; what it has sent before may have a hole. Returns the venue's time
        from which on nothing is missing."""
        self._window.stream_begins(self._clock.monotonic())
        return self._window.until_ms(self._venue.clock.at_ms)

    def complete(self, until_ms: int) -> None:
        """Every event until this venue time was submitted."""
        self._window.complete(until_ms)
        self._status.log_complete_until(self._window.complete_ms)

    def agreed(self, until_ms: int) -> None:
        """A comparison with the venue agrees: every event until then was received. A standby leaves the mark alone."""
        if not self._lease.is_standby:
            self.complete(until_ms - round(GRACE_S * 1000))

    def filled(self, until_ms: int) -> None:
        """What the histories have until then was submitted. The mark moves when they have been looked at again."""
        self._cache.forget()
        self._window.filled(until_ms)
        self._status.log_complete_until(self._window.complete_ms)

    def reaches_ms(self) -> int | None:
        """How long ago the oldest event was written, at the most, that a gap may hold which is found now; None where it
        is not known until when the log is complete."""
        return self._window.reaches_ms(self._status.published_complete_ms, self._venue.clock.now_ms())

    def reopen(self, since_ms: int) -> None:
        """The stream has ended, and sent nothing since then; 0: there was no stream, only attempts at one."""
        if since_ms:
            self._window.reopen(since_ms, self._venue.clock.now_ms())
            self._status.log_complete_until(min(self._status.events_complete_ms, self._window.complete_ms))

    def begin_again(self, previous: PreviousState, since_ms: int) -> None:
        """The log, as the last writer left it, is complete until `since_ms` only; 0 where that is not known."""
        self._window.begin_again(previous, since_ms)

    def forget_finished(self) -> None:
        """Wait for the ends of those conditional orders alone of which the log says that they were triggered, and
        nothing later: another publisher may have logged what this one has not received."""
        logged = InLog(self._account, frozenset())
        for key in self._account.triggered_orders():
            triggered = event_ids.of_conditional(key.order_id, "TRIGGERED")
            if triggered not in logged or is_finish_logged(key, logged):
                self._account.forget_triggered(key)

    # One gap

    async def fetch(self, snapshot: Snapshot, buffered: Callable[[], Iterable[OrderEvent]]) -> GapFill:
        """What the log lacks of the time before the stream began; `buffered` is what the stream has sent since then.

        An account that was never published has no gap: its log begins now, and nothing of its past is logged. A standby
        leaves gaps to the publisher that writes.

        Raises:
            VenueUnreachable, RateLimited, FrameError, StoreError: ask again. AuthFailed: the operator must act.
        """
        # Computed anew: the venue's clock may have stepped, and was perhaps not known before the snapshot.
        clock = self._venue.clock
        until_ms = self._window.until_ms(clock.at_ms)
        since_ms = self._window.since_ms(clock.at_ms, clock.now_ms(), self._status.events_since_ms)
        if not self._lease.is_standby and self._window.begins_log and self._record.began_ms:
            self._status.log_begins(self._record.began_ms)
        if not since_ms or self._lease.is_standby:
            self._cache.forget()
            return GapFill(until_ms, until_ms)
        gap = await self._gap(since_ms, until_ms, snapshot, buffered())
        # What waits to be logged stands in neither account nor log, and may have gone on while nothing was received.
        gap.symbols.update(event.order.symbol for event in buffered())
        began_mono_s = self._progress_mono_s = self._clock.monotonic()
        found, lost = await self._read_until_agreed(gap, snapshot)
        for one in lost:
            self._log.error("order_events_lost", gap=one.event.event_id, reason="the venue does not have them")
        if found.updates or lost:
            took_s = round(self._clock.monotonic() - began_mono_s, 1)
            self._log.info(
                "gap_filled",
                events=len(found.updates),
                gaps=len(lost),
                since_ms=gap.since_ms,
                until_ms=until_ms,
                took_s=took_s,
            )
        return GapFill(
            until_ms,
            max(gap.since_ms, until_ms - self._traits.history_lag_ms),
            tuple(lost),
            found.updates,
            gap.ended,
            gap.filled,
            frozenset(gap.symbols),
        )

    async def _gap(self, since_ms: int, until_ms: int, snapshot: Snapshot, buffered: Iterable[OrderEvent]) -> _Gap:
        """The window within the venue's retention, and entries for what lies beyond."""
        now_ms, received_at_ms = self._venue.clock.now_ms(), self._clock.now_ms()
        since_ms = max(since_ms, await self._committer.trimmed_until_ms() + 1)
        since_ms, lost = _within_retention(since_ms, now_ms, self._traits.history, received_at_ms)
        previous = self._window.previous
        # What the last writer has left is of the time before the gap, and so is what this one knows of its own.
        incomplete = self._account.incomplete_orders
        known = {**self._account.orders, **{key: one.order for key, one in incomplete.items()}}
        known |= {order.key: order for order in previous.orders}
        filled = {key: filled_of(order) for key, order in known.items()}
        filled |= {key: one.filled for key, one in incomplete.items()}
        symbols = self._account.symbols_with_position | previous.symbols
        if previous.unreadable:
            self._log.error("open_orders_unreadable", orders=previous.unreadable)
        symbols |= {order.symbol for order in (*known.values(), *snapshot.orders)}
        symbols |= {position.symbol for position in snapshot.positions}
        # What has waited here for long, another may have written long ago.
        waited_ms = max((received_at_ms - event.received_at_ms for event in buffered), default=0)
        written = await self._committer.events_of_last(max(now_ms - since_ms, waited_ms) + WRITTEN_LATE_MS)
        # No more of them than leave room for those that wait to be written, and are logged all the same.
        self._account.remember_events(event_id for event_id, _ in written[-REMEMBERED_EVENTS // 2 :])
        symbols |= {symbol for _, symbol in written if symbol}
        logged = InLog(self._account, frozenset(event_id for event_id, _ in written))
        return _Gap(since_ms, until_ms, known, filled, set(symbols), logged, lost, triggered_orders(written))

    # The histories

    async def _read_until_agreed(self, gap: _Gap, snapshot: Snapshot) -> tuple[Reconstructed, list[LoggedEvent]]:
        """The gap's events, and entries for what nobody can say. Histories are computed apart, and one may be
        behind."""
        tries = 1
        while True:
            found = await self._read(gap, snapshot, lost := list(gap.lost))
            if not found.behind or tries == BEHIND_TRIES:
                break
            tries += 1
            self._log.warning("histories_disagree", orders=[row.order_id for row in found.behind])
            self._cache.forget_trades({row.symbol for row in found.behind})
            await self._clock.sleep(BEHIND_PAUSE_S)
        lost += [LoggedEvent(gaps.of_order(row, self._clock.now_ms())) for row in found.behind]
        return found, [one for one in lost if one.event.event_id not in gap.logged]

    async def _read(self, gap: _Gap, snapshot: Snapshot, lost: list[LoggedEvent]) -> Reconstructed:
        """Orders first, trades after them, so that these explain all that the orders have filled."""
        open_now = {order.key: order for order in snapshot.orders}
        # Histories list orders by when they were placed. Which ones were open before the gap is known, as long as Redis
        # or the account has it.
        long_before_ms = gap.since_ms - self._traits.history.unfilled_kept_ms
        placed_ms = long_before_ms if self._window.log_is_gone else gap.since_ms
        orders: dict[OrderKey, PastOrder] = {}

        def take(found: Iterable[PastOrder]) -> None:
            of_gap = (past for past in found if past.order.venue_time_ms >= gap.since_ms or not is_over(past.order))
            orders.update({past.order.key: past for past in of_gap})

        for history in await self._read_all("orders", gap, placed_ms, open_now, lost):
            take(history.orders)
        gap.symbols |= {key.symbol for key in orders}
        # A conditional one that was triggered long before it ended stands among the open orders no more, and what was
        # triggered before this process began it does not know.
        knows_triggered = self._window.was_complete and not self._window.log_is_gone
        conditional_ms = gap.since_ms if knows_triggered else long_before_ms
        for history in await self._read_all("conditional", gap, conditional_ms, open_now, lost):
            take(history.orders)
        orders |= await self._triggered(gap, orders.keys())
        take(await self._known_orders(gap, orders, open_now, lost))
        trades: list[PastTrade] = []
        for history in await self._read_all("trades", gap, gap.since_ms, open_now, lost):
            trades += history.trades
        not_logged = (row for row in trades if row.time_ms <= gap.until_ms and _fill_id(row) not in gap.logged)
        for key in sorted({OrderKey(row.symbol, row.order_id) for row in not_logged} - orders.keys()):
            # It was neither placed in the window nor known to be open before it.
            past = await self._venue.fetch_order(key, self._waits)
            take([past] if past is not None else ())
        gap.ended |= {key: past.order for key, past in orders.items() if is_over(past.order)}
        return await self._reconstruct(gap, orders, trades)

    async def _read_all(
        self,
        kind: HistoryKind,
        gap: _Gap,
        since_ms: int,
        open_now: Mapping[OrderKey, Order],
        lost: list[LoggedEvent],
    ) -> list[History]:
        """The histories of one kind, of all symbols in which something may have happened."""
        try:
            return await self._read_queries(kind, gap, since_ms, open_now, lost)
        except WantsSymbol:
            return await self._read_queries(kind, gap, since_ms, open_now, lost)

    async def _read_queries(
        self,
        kind: HistoryKind,
        gap: _Gap,
        since_ms: int,
        open_now: Mapping[OrderKey, Order],
        lost: list[LoggedEvent],
    ) -> list[History]:
        found: list[History] = []
        queries = self._venue.history_queries(kind, gap.symbols)
        for at, query in enumerate(queries, start=1):
            history = await self._unless_refused(query, gap, since_ms, open_now, lost)
            if history is None:
                continue
            if history.forgotten_until_ms > max(since_ms, gap.since_ms):
                forgotten_ms = history.forgotten_until_ms
                entry = gaps.of_time("ALL", query.symbol, gap.since_ms, forgotten_ms, self._clock.now_ms())
                lost.append(LoggedEvent(entry))
            found.append(history)
            self._progress(f"{at} of {len(queries)} histories of {kind}")
        return found

    async def _unless_refused(
        self,
        query: HistoryQuery,
        gap: _Gap,
        since_ms: int,
        open_now: Mapping[OrderKey, Order],
        lost: list[LoggedEvent],
    ) -> History | None:
        """The history; None, and an entry that says so, where the venue refuses a symbol (as one that was delisted)."""
        try:
            return await self._cache.read(query, since_ms, open_now)
        except AuthFailed:
            raise
        except Rejected as error:
            if not query.symbol:
                raise
            self._log.error("history_refused", symbol=query.symbol, reason=str(error))
            entry = gaps.of_time("REFUSED", query.symbol, gap.since_ms, gap.until_ms, self._clock.now_ms())
            lost.append(LoggedEvent(entry))
            return None

    async def _triggered(self, gap: _Gap, found: Container[OrderKey]) -> dict[OrderKey, PastOrder]:
        """Conditional orders that were triggered and have finished since; however long ago, this process does not know
        it."""
        for key in self._account.triggered_orders():
            if is_finish_logged(key, gap.logged):
                self._account.forget_triggered(key)
        finished: dict[OrderKey, PastOrder] = {}
        for key in sorted(key for key in {*gap.triggered, *self._account.triggered_orders()} if key not in found):
            past = await self._venue.fetch_order(key, self._waits)
            if past is not None and is_final(past.order):
                finished[key] = past
        return finished

    async def _known_orders(
        self,
        gap: _Gap,
        found: Container[OrderKey],
        open_now: Mapping[OrderKey, Order],
        lost: list[LoggedEvent],
    ) -> list[PastOrder]:
        """The orders that were open before the gap and are older than it: those that ended are asked for one by one."""
        known: list[PastOrder] = []
        for at, (key, order) in enumerate(gap.known.items(), start=1):
            if key in found:
                continue
            past: PastOrder | None
            if key in open_now:
                past = PastOrder(open_now[key], 0)
            else:
                past = await self._venue.fetch_order(key, self._waits)
            if past is not None:
                known.append(past)
            elif not is_end_logged(order, gap.logged):
                lost.append(LoggedEvent(gaps.of_order(order, self._clock.now_ms())))
            self._progress(f"{at} of {len(gap.known)} known orders")
        return known

    async def _reconstruct(
        self, gap: _Gap, orders: Mapping[OrderKey, PastOrder], trades: Iterable[PastTrade]
    ) -> Reconstructed:
        """In slices, with turns for others in between: in one piece, the tens of thousands of events of some minutes
        would take longer than the lease lasts, and its loss would make everything begin again, without end."""
        own: defaultdict[OrderKey, list[PastTrade]] = defaultdict(list)
        for trade in trades:
            own[OrderKey(trade.symbol, trade.order_id)].append(trade)
        known_filled = {
            key: (order.executed_qty or Decimal(0), order.venue_time_ms)
            for key, order in gap.known.items()
            if key not in self._account.incomplete_orders  # As of when is not known of these.
        }
        keys = sorted(orders, key=lambda key: (len(key.order_id), key.order_id))
        reached: dict[OrderKey, int] = {}
        timed: list[tuple[int, OrderUpdate]] = []
        behind: list[Order] = []
        for start in range(0, len(keys), self._tuning.history_slice):
            part = keys[start : start + self._tuning.history_slice]
            found = events_from_history(
                [orders[key] for key in part],
                [trade for key in part for trade in own[key]],
                since_ms=gap.since_ms,
                until_ms=gap.until_ms,
                logged=gap.logged,
                known_filled=known_filled,
                received_at_ms=self._clock.now_ms(),
            )
            behind += found.behind
            for key, filled in found.filled.items():
                gap.filled[key] = max(gap.filled.get(key, filled), filled)
            for update in found.updates:
                key = update.order.key
                reached[key] = max(reached.get(key, 0), update.order.venue_time_ms)
                timed.append((reached[key], update))
            await self._clock.sleep(0)
        timed.sort(key=lambda pair: pair[0])
        return Reconstructed(tuple(update for _, update in timed), tuple(behind), gap.filled)

    # How far it is

    def _waits(self, seconds: float) -> None:
        self._log.info("gap_fill_waits", reason="for the venue's limits", wait_s=round(seconds, 1))
        self._status.move("degrade", f"fetching missed order events, waiting {seconds:.0f} s for the venue's limits")

    def _progress(self, done: str) -> None:
        now = self._clock.monotonic()
        if now >= self._progress_mono_s + PROGRESS_S:
            self._progress_mono_s = now
            self._log.info("filling_gap", done=done)
            self._status.move("degrade", f"filling a gap in the order events, {done}")

    async def log_ahead(self, found: GapFill, waiting: Callable[[], Iterable[OrderEvent]], log: LogEvents) -> GapFill:
        """Of a long history, log what comes before all that waits, in slices; returns what is left of it.

        In one piece, tens of thousands of events would take longer than the lease lasts, and its loss would make
        everything begin again, without end. They move no row: until the snapshot is applied, the state stays as it was.
        Events that were logged once stay logged, whatever interrupts the rest.

        What is lost is said at the end: the next attempt may find it. And a log that does not say until when it is
        complete must not end later than that.
        """
        if len(found.updates) <= self._tuning.events_at_once or not self._window.is_marked:
            return found
        first = [
            LoggedEvent(change.event, ends=not change.open)
            for change in merge_with_stream(found._replace(lost=()), waiting()).first
            if isinstance(change, OrderUpdate)
        ]
        logged: set[str] = set()
        for start in range(0, len(first), self._tuning.history_slice):
            self._progress(f"{start} of {len(first)} events written")
            await self._committer.wait_for_capacity()
            part = first[start : start + self._tuning.history_slice]
            if not log(part):
                break
            logged.update(change.event.event_id for change in part)
        left = tuple(update for update in found.updates if update.event.event_id not in logged)
        return found._replace(updates=left)


class InLog:
    """What the log has, or will have: asked for one id at a time."""

    def __init__(self, account: Account, written: frozenset[str]) -> None:
        self._account = account
        self._written = written

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._written or (isinstance(event_id, str) and self._account.is_logged(event_id))


def _within_retention(
    since_ms: int, now_ms: int, retention: Retention, received_at_ms: int
) -> tuple[int, list[LoggedEvent]]:
    """The beginning of what the venue still has, and entries for what lies before it."""
    lost: list[LoggedEvent] = []
    kept_ms, unfilled_ms = now_ms - retention.kept_ms, now_ms - retention.unfilled_kept_ms
    if since_ms < kept_ms:
        lost.append(LoggedEvent(gaps.of_time("ALL", "", since_ms, kept_ms, received_at_ms)))
        since_ms = kept_ms
    if since_ms < unfilled_ms:
        lost.append(LoggedEvent(gaps.of_time("UNFILLED", "", since_ms, unfilled_ms, received_at_ms)))
    return since_ms, lost


def triggered_orders(written: Iterable[tuple[str, str]]) -> frozenset[OrderKey]:
    """Conditional orders that stand among the open orders no more, and whose end is not logged; `written` are event ids
    with their symbols, oldest first."""
    steps: dict[OrderKey, str] = {}
    for event_id, symbol in written:
        parts = event_ids.parse(event_id) if event_id.startswith(event_ids.CONDITIONAL_PREFIX) else None
        if parts is not None:
            steps[OrderKey(symbol, parts.order_id)] = parts.step
    return frozenset(key for key, step in steps.items() if step == "TRIGGERED")


def is_finish_logged(key: OrderKey, logged: Container[str]) -> bool:
    """Whether the log has the end of a conditional order."""
    return any(event_ids.of_conditional(key.order_id, status) in logged for status in FINAL_CONDITIONAL_STATUSES)


def is_end_logged(order: Order, logged: Container[str]) -> bool:
    """Whether the log has what took an order from the open ones."""
    if order.algo_id is not None:
        triggered = event_ids.of_conditional(order.order_id, "TRIGGERED")
        return triggered in logged or is_finish_logged(order.key, logged)
    return any(event_ids.of_end(order.key, status) in logged for status in ENDED_BY)


def _fill_id(trade: PastTrade) -> str:
    return event_ids.of_fill(trade.order, trade.fill_id)

"""What happened to orders while nobody listened, from the venue's histories, so that the log tells it all the same.

The stream must be connected before a history is asked for: what happened after that is the stream's to tell. What both
tell has the same id, and is taken from the stream. Both are merged so that each order's events keep their order.

The window begins where the log is known to be complete, in the venue's time, less `OVERLAP_MS`; event ids sort out
what the log has already. It ends a moment after the stream was connected. What the venue has forgotten is said in
entries of type GAP.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from math import inf
from types import MappingProxyType
from typing import NamedTuple, TypeVar

from publisher.committer import Committer
from publisher.history_cache import LAG_MS, HistoryCache
from publisher.logs import Log
from statecast.clock import Clock
from statecast.domain import event_ids, gaps
from statecast.domain.account import Account
from statecast.domain.changes import Change, LoggedEvent, OrderUpdate, Snapshot
from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.order_tracking import REMEMBERED_EVENTS
from statecast.domain.orders import (
    ENDED_BY,
    FINAL_CONDITIONAL_STATUSES,
    INTERMEDIATE_EVENTS,
    OPENING_EVENTS,
    filled_of,
    is_final,
    is_over,
)
from statecast.errors import AuthFailed, Rejected
from statecast.store.writer import PreviousState
from statecast.venues.binance import wire
from statecast.venues.binance.history import Reconstructed, events_from_history
from statecast.venues.binance.rest import BinanceRest

OVERLAP_MS = 30_000
"""Asked for again before the moment until which the log is complete: frames may be late, and a clean reconciliation
proves positions and wallets, not orders. With the default period of 60 s at 500 events a second, it is within what
the fold remembers."""

CONNECTED_MS = 1_000
"""The histories reach this far beyond the moment of connecting, for the venue's clock is known to within half a second
(`rest.MAX_PROBE_MS`)."""

WRITTEN_LATE_MS = 60_000
"""The log is searched this much further back than the window, for clocks that were set meanwhile."""

VERIFIED_MS = 600_000
"""A log without a mark of its completeness is from an earlier version: it is taken to be complete this long before the
state was last vouched for. A mute stream was not noticed at once by that."""

PROGRESS_S = 5.0
"""A backfill that takes longer says this often how far it is."""

SLICE = 500
"""Orders whose past is retold in one go, and events that are told in one: some tens of milliseconds."""

LOGGED_AT_ONCE = 2_000
"""Events of a history that are one commit with the snapshot behind them."""

BEHIND_TRIES = 5
BEHIND_PAUSE_S = 1.0
"""Histories that do not agree yet are asked for again so often, after this pause."""

T = TypeVar("T")
Tell = Callable[[Sequence[LoggedEvent]], bool]
"""Tells events, unless a new doubt stands against it; whether it has."""


class GapFill(NamedTuple):
    """What the histories tell of a gap: entries for what is `lost` to them, and the events, in the venue's order.

    The log is then complete until `until_ms`, as far as histories can be believed that may lag: orders created from
    `since_ms` on are to be asked for once more. `ended` are the orders that they tell to be over. `filled` is, by
    order, what is filled as far as log and histories tell; None where no history was asked for. `symbols` are
    those in which conditional orders were looked for.
    """

    until_ms: int
    since_ms: int
    lost: tuple[Change, ...] = ()
    updates: tuple[OrderUpdate, ...] = ()
    ended: Mapping[OrderKey, Order] = MappingProxyType({})
    filled: Mapping[OrderKey, Decimal] | None = None
    symbols: frozenset[str] = frozenset()


class MergePlan(NamedTuple):
    """Changes of the gap, to be applied around the frames that were buffered: `first`, then each frame after what
    `before` has for the ids of its order events, then `last`."""

    first: tuple[Change, ...]
    before: dict[str, list[OrderUpdate]]
    last: tuple[OrderUpdate, ...]


@dataclass(slots=True)
class _Gap:
    """One window of the venue's time, what was known of the account before it, and what cannot be told of it."""

    since_ms: int
    until_ms: int
    known: dict[OrderKey, Order]
    filled: dict[OrderKey, Decimal]
    """What is filled of it as far as the log tells or the histories do."""
    symbols: set[str]
    told: Container[str]
    lost: list[Change] = field(default_factory=list)
    triggered: frozenset[OrderKey] = frozenset()
    ended: dict[OrderKey, Order] = field(default_factory=dict)


class GapFiller:
    """Knows until when the log is complete, and asks for what is missing."""

    def __init__(
        self,
        rest: BinanceRest,
        account: Account,
        committer: Committer,
        clock: Clock,
        log: Log,
        *,
        retention_ms: int,
    ) -> None:
        """Of a log that Redis has lost altogether, what is older than `retention_ms` is not fetched again: by now it
        would have been trimmed."""
        self._retention_ms = retention_ms
        self._rest = rest
        self._account = account
        self._committer = committer
        self._clock = clock
        self._log = log
        self._stream_from = 0.0
        self._stream_from_ms = 0
        self._listening_since = inf
        self._complete_ms = 0
        self._lost = False
        """Whether Redis holds nothing of the log any more."""
        self._began = False
        """Whether this process has completed the log once: since then it has heard which conditional orders were
        triggered."""
        self._previous = PreviousState()
        self._history_cache = HistoryCache(rest, self._waits, self._progress)
        self._progress_at = 0.0

    def stream_begins(self) -> int:
        """Whatever happens from now on, the stream tells; what it told before may have a hole. Returns since when."""
        self._stream_from = self._clock.monotonic()
        self._stream_from_ms = self._rest.venue_now_ms() + CONNECTED_MS
        self._listening_since = min(self._listening_since, self._stream_from)
        return self._stream_from_ms

    def complete(self, until_ms: int) -> None:
        """Every event until this venue time was submitted."""
        self._previous = PreviousState()
        self._lost = False
        self._began = True
        self._complete_ms = max(self._complete_ms, until_ms)
        self._committer.events_complete_ms = self._complete_ms

    def filled(self, until_ms: int) -> None:
        """What the histories told until then was submitted. The mark moves when they have been looked at again."""
        self._history_cache.forget()
        self.complete(until_ms if not self._complete_ms else until_ms - LAG_MS)

    def reaches_ms(self) -> int | None:
        """How long ago the oldest event was written, at the most, that a gap which is found now may hold; None where it
        is not known until when the log is complete."""
        marks = (self._committer.health.events_complete_ms, self._complete_ms)
        oldest_ms = min((mark for mark in marks if mark), default=0)
        return self._rest.venue_now_ms() - oldest_ms + OVERLAP_MS + WRITTEN_LATE_MS if oldest_ms else None

    def reopen(self, since_ms: int) -> None:
        """The stream has told nothing since then, and is at an end. What came and went meanwhile, such as an order that
        was placed and cancelled, showed in no answer that agreed."""
        if not since_ms:
            return  # There was no stream, only attempts at one.
        # An account may have been quiet for longer than the venue remembers; then what agreed must do.
        oldest_ms = self._rest.venue_now_ms() - wire.UNFILLED_KEPT_MS + 2 * OVERLAP_MS
        self._complete_ms = min(self._complete_ms, max(since_ms, oldest_ms))
        self._committer.events_complete_ms = min(self._committer.events_complete_ms, self._complete_ms)

    def begin_again(self, previous: PreviousState, since_ms: int) -> None:
        """The log, of which `previous` tells, is complete until `since_ms` only; 0 where that is not known."""
        self._previous = previous
        self._complete_ms = since_ms
        self._lost = not previous.has_log

    async def fetch(self, snapshot: Snapshot, buffered: Callable[[], Iterable[OrderEvent]]) -> GapFill:
        """What the log lacks of the time before the stream began; `buffered` is what the stream has told since then.

        An account that was never published has no gap: its log begins now, and nothing of its past is told. A publisher
        that stands by leaves gaps to the one that writes.

        Raises:
            VenueUnreachable, FrameError, StoreError: ask again. AuthFailed: the operator must act.
        """
        # Anew: the venue's clock may have stepped, and what it is was perhaps not known before the snapshot.
        until_ms = self._stream_from_ms = self._rest.venue_ms_at(self._stream_from) + CONNECTED_MS
        since_ms = self._since_ms()
        if not self._committer.is_standby and self._begins_log():
            self._committer.log_begins(self._committer.record.began_ms)
        if not since_ms or self._committer.is_standby:
            self._history_cache.forget()
            return GapFill(until_ms, until_ms)
        gap = await self._gap(since_ms, until_ms, snapshot, buffered())
        # What waits to be told stands in neither account nor log, and may have gone on where nobody listened.
        gap.symbols.update(event.order.symbol for event in buffered())
        began = self._progress_at = self._clock.monotonic()
        found = await self._read(gap, snapshot, lost := list(gap.lost))
        for _ in range(BEHIND_TRIES - 1):
            if not found.behind:
                break
            self._log.warning("histories_disagree", orders=[row.order_id for row in found.behind])
            self._history_cache.forget_trades({row.symbol for row in found.behind})
            await self._clock.sleep(BEHIND_PAUSE_S)
            found = await self._read(gap, snapshot, lost := list(gap.lost))
        lost += [LoggedEvent(gaps.of_order(row, self._clock.now_ms())) for row in found.behind]
        lost = [change for change in lost if _event(change).event_id not in gap.told]
        for change in lost:
            self._log.error("order_events_lost", gap=_event(change).event_id, reason="the venue does not tell them")
        if found.updates or lost:
            took_s = round(self._clock.monotonic() - began, 1)
            self._log.info(
                "backfilled",
                events=len(found.updates),
                gaps=len(lost),
                since_ms=gap.since_ms,
                until_ms=until_ms,
                took_s=took_s,
            )
        since_ms = max(gap.since_ms, until_ms - LAG_MS)
        return GapFill(until_ms, since_ms, tuple(lost), found.updates, gap.ended, gap.filled, frozenset(gap.symbols))

    # The window, and what is known of it

    def _begins_log(self) -> bool:
        """Whether there is no log yet, as far as is known."""
        return not (self._complete_ms or self._previous.has_log)

    def _since_ms(self) -> int:
        """The beginning of the window, in the venue's time; 0 when there is no log to go on with."""
        if self._complete_ms:
            kept_ms = self._rest.venue_now_ms() - self._retention_ms if self._lost else 0
            # Of what happened before there was a log it has no part.
            begins_ms = self._committer.health.events_since_ms - CONNECTED_MS // 2
            return max(self._complete_ms - OVERLAP_MS, begins_ms, kept_ms)
        previous = self._previous
        if previous.events_complete_ms:
            return previous.events_complete_ms - OVERLAP_MS
        if not previous.last_event_ms:
            # What earlier connections of this process have told, before a snapshot was there, is told nevertheless.
            earlier = self._listening_since < self._stream_from
            return self._rest.venue_ms_at(self._listening_since) + CONNECTED_MS if earlier else 0
        verified_ms = 0
        if previous.verified_at_ms:
            # An age does not depend on whose clock it is taken by.
            verified_ms = self._rest.venue_now_ms() - (previous.now_ms - previous.verified_at_ms) - VERIFIED_MS
        return max(previous.last_event_ms - OVERLAP_MS, verified_ms)

    async def _gap(self, since_ms: int, until_ms: int, snapshot: Snapshot, buffered: Iterable[OrderEvent]) -> _Gap:
        """The window within the venue's retention, and entries for what lies beyond."""
        now_ms, received_at_ms = self._rest.venue_now_ms(), self._clock.now_ms()
        since_ms = max(since_ms, await self._committer.trimmed_until_ms() + 1)
        lost: list[Change] = []
        if since_ms < now_ms - wire.KEPT_MS:
            lost.append(LoggedEvent(gaps.of_time("ALL", "", since_ms, now_ms - wire.KEPT_MS, received_at_ms)))
            since_ms = now_ms - wire.KEPT_MS
        if since_ms < now_ms - wire.UNFILLED_KEPT_MS:
            until = now_ms - wire.UNFILLED_KEPT_MS
            lost.append(LoggedEvent(gaps.of_time("UNFILLED", "", since_ms, until, received_at_ms)))
        previous = self._previous
        # What the last writer has left is of the time before the gap, and so is what this one knows of its own.
        incomplete = self._account.incomplete_orders
        known = {**self._account.orders} | {key: one.order for key, one in incomplete.items()}
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
        # No more of them than leave room for those that wait to be written, and are told all the same.
        self._account.remember_events(event_id for event_id, _ in written[-REMEMBERED_EVENTS // 2 :])
        symbols |= {symbol for _, symbol in written if symbol}
        told = _InLog(self._account, frozenset(event_id for event_id, _ in written))
        return _Gap(since_ms, until_ms, known, filled, set(symbols), told, lost, _triggered(written))

    # The histories

    async def _read(self, gap: _Gap, snapshot: Snapshot, lost: list[Change]) -> Reconstructed:
        """Orders first, trades after them, so that these explain all that the orders have filled."""
        since_ms, open_now = gap.since_ms, {order.key: order for order in snapshot.orders}
        # Histories list orders by when they were placed. Which ones were open before the gap is known, as long as Redis
        # or the account tells it.
        long_before_ms = since_ms - wire.UNFILLED_KEPT_MS
        placed_ms = long_before_ms if self._lost else since_ms
        # A conditional one that was triggered long before it ended stands among the open orders no more, and what was
        # triggered before this process began it does not know.
        conditional_ms = since_ms if self._began and not self._lost else long_before_ms
        symbols = set(gap.symbols)
        orders: dict[OrderKey, PastOrder] = {}

        def take(found: Iterable[PastOrder]) -> None:
            of_gap = (past for past in found if past.order.venue_time_ms >= since_ms or not is_over(past.order))
            orders.update({past.order.key: past for past in of_gap})

        of_all = await self._history_cache.orders_since(placed_ms, None, open_now)
        if of_all is None:
            for symbol in sorted(symbols):
                ordinary = self._history_cache.orders_since(placed_ms, symbol, open_now)
                take(await self._unless_refused(gap, symbol, ordinary, lost) or ())
        take(of_all or ())
        symbols |= {symbol for symbol, _ in orders}
        gap.symbols |= symbols
        for symbol in sorted(symbols):
            conditional = self._history_cache.algo_orders_since(conditional_ms, symbol, open_now)
            take(await self._unless_refused(gap, symbol, conditional, lost) or ())
        for key in self._account.triggered_orders():
            if _is_finish_logged(key, gap.told):
                self._account.forget_triggered(key)
        triggered = gap.triggered | {*self._account.triggered_orders()}
        for key in sorted(triggered - orders.keys()):
            past = await self._rest.fetch_algo_order(event_ids.algo_id(key.order_id), self._waits)
            if past is not None and is_final(past.order):  # However long ago: this process has not heard of it.
                orders[past.order.key] = past
        take(await self._known_orders(gap, orders, open_now, lost))
        trades: list[PastTrade] = []
        for at, symbol in enumerate(sorted(symbols), start=1):
            fills = self._history_cache.trades_since(since_ms, symbol)
            trades += await self._unless_refused(gap, symbol, fills, lost) or ()
            self._progress(f"{at} of {len(symbols)} symbols, {len(orders)} orders, {len(trades)} trades")

        def is_new(trade: PastTrade) -> bool:
            return event_ids.of_fill(trade.order, trade.trade_id) not in gap.told

        incomplete = (trade for trade in trades if trade.time_ms <= gap.until_ms and is_new(trade))
        for symbol, order_id in sorted({trade.order for trade in incomplete} - orders.keys()):
            # It was neither placed in the window nor known to be open before it.
            past = await self._rest.fetch_order(symbol, order_id, self._waits)
            take([past] if past is not None else ())
        gap.ended |= {past.order.key: past.order for past in orders.values() if is_over(past.order)}
        return await self._events_from_history(gap, orders, trades)

    async def _events_from_history(
        self, gap: _Gap, orders: dict[OrderKey, PastOrder], trades: Iterable[PastTrade]
    ) -> Reconstructed:
        """In slices, with turns for others in between: in one piece, the tens of thousands of events of some minutes
        would take longer than the lease lasts, and its loss would make everything begin again, for ever."""
        own: defaultdict[OrderKey, list[PastTrade]] = defaultdict(list)
        for trade in trades:
            own[trade.order].append(trade)
        known_filled = {
            key: (order.executed_qty or Decimal(0), order.venue_time_ms)
            for key, order in gap.known.items()
            if key not in self._account.incomplete_orders  # As of when is not known of these.
        }
        keys = sorted(orders, key=lambda key: (len(key.order_id), key.order_id))
        reached: dict[OrderKey, int] = {}
        timed: list[tuple[int, OrderUpdate]] = []
        behind: list[Order] = []
        for start in range(0, len(keys), SLICE):
            part = keys[start : start + SLICE]
            found = events_from_history(
                [orders[key] for key in part],
                [trade for key in part for trade in own[key]],
                since_ms=gap.since_ms,
                until_ms=gap.until_ms,
                told=gap.told,
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

    async def _known_orders(
        self, gap: _Gap, found: Container[OrderKey], open_now: dict[OrderKey, Order], lost: list[Change]
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
                past = await self._history_cache.fetch(order)
            if past is not None:
                known.append(past)
            elif not _is_end_logged(order, gap.told):
                lost.append(OrderUpdate(gaps.of_order(order, self._clock.now_ms()), open=False))
            self._progress(f"{at} of {len(gap.known)} known orders")
        return known

    async def _unless_refused(
        self, gap: _Gap, symbol: str, asking: Awaitable[T | None], lost: list[Change]
    ) -> T | None:
        """The answer; None, and an entry that says so, where the venue refuses (a symbol that was delisted)."""
        try:
            return await asking
        except AuthFailed:
            raise
        except Rejected as error:
            self._log.error("history_refused", symbol=symbol, reason=str(error))
            entry = gaps.of_time("REFUSED", symbol, gap.since_ms, gap.until_ms, self._clock.now_ms())
            lost.append(LoggedEvent(entry))
            return None

    # How far it is

    def _waits(self, seconds: float) -> None:
        self._log.info("backfill_waits", reason="for request weight", wait_s=round(seconds, 1))
        self._committer.move("doubt", f"fetching missed order events, waiting {seconds:.0f} s for request weight")

    def _progress(self, done: str) -> None:
        now = self._clock.monotonic()
        if now >= self._progress_at + PROGRESS_S:
            self._progress_at = now
            self._log.info("backfilling", done=done)
            self._committer.move("doubt", f"filling a gap in the order events, {done}")

    async def log_ahead(self, found: GapFill, waiting: Callable[[], Iterable[OrderEvent]], tell: Tell) -> GapFill:
        """Of a long history, tell what comes before all that waits, in slices; returns what is left of it.

        In one piece, tens of thousands of events would take longer than the lease lasts, and its loss would make
        everything begin again, for ever. They move no row: until the snapshot is applied, the state stays as it was.
        Events that were told once stay told, whatever interrupts the rest.

        What is lost is said at the end: the next attempt may find it. And a log that does not say until when it is
        complete must not end later than that.
        """
        marked = self._complete_ms or self._previous.events_complete_ms
        if len(found.updates) <= LOGGED_AT_ONCE or not marked:
            return found
        first = [
            LoggedEvent(change.event, ends=not change.open)
            for change in merge_with_stream(found._replace(lost=()), waiting()).first
            if isinstance(change, OrderUpdate)
        ]
        told: set[str] = set()
        for start in range(0, len(first), SLICE):
            self._progress(f"{start} of {len(first)} events written")
            await self._committer.wait_for_capacity()
            part = first[start : start + SLICE]
            if not tell(part):
                break
            told.update(change.event.event_id for change in part)
        left = tuple(update for update in found.updates if update.event.event_id not in told)
        return found._replace(updates=left)


class _InLog:
    """What the log has, or will have: asked for one id at a time."""

    def __init__(self, account: Account, written: frozenset[str]) -> None:
        self._account = account
        self._written = written

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._written or (isinstance(event_id, str) and self._account.is_logged(event_id))


def merge_with_stream(found: GapFill, buffered: Iterable[OrderEvent]) -> MergePlan:
    """Merge the history with what the stream told of the same orders, which counts: where both tell an event, the
    stream has it with all fields. What the history alone has of such an order goes before the first event of the stream
    that is not older, and behind the last one that both tell."""
    heard: defaultdict[OrderKey, list[OrderEvent]] = defaultdict(list)
    for event in buffered:
        own = heard[event.order.key]
        # What was missed and comes again, late, has its place where the history tells it.
        if not own or _place(event) >= _place(own[-1]):
            own.append(event)
    first: list[Change] = list(found.lost)
    before: dict[str, list[OrderUpdate]] = {}
    last: list[OrderUpdate] = []
    reached: dict[OrderKey, int] = {}
    for update in found.updates:
        key = update.order.key
        own, at = heard.get(key, []), reached.get(key, 0)
        same = next(
            (i for i, other in enumerate(own) if event_ids.is_same(update.event.event_id, other.event_id)), None
        )
        if same is not None:
            reached[key] = max(at, same + 1)
            continue
        while at < len(own) and own[at].order.venue_time_ms < update.order.venue_time_ms:
            at += 1
        reached[key] = at
        if at == 0:
            first.append(update)
        elif at < len(own):
            before.setdefault(own[at].event_id, []).append(update)
        else:
            last.append(update)
    return MergePlan(tuple(first), before, tuple(last))


def _place(event: OrderEvent) -> tuple[int, bool, Decimal, bool]:
    """By which the events of one order follow each other."""
    order = event.order
    return order.venue_time_ms, event.event_type not in OPENING_EVENTS, filled_of(order), is_over(order)


def without_repeated_steps(heard: Iterable[OrderEvent]) -> list[OrderEvent]:
    """Without steps of an order that were missed and come again behind what came after them: no history tells their
    place."""
    reached: dict[OrderKey, int] = {}
    kept: list[OrderEvent] = []
    for event in heard:
        key, at_ms = event.order.key, event.order.venue_time_ms
        if (
            event.event_type not in INTERMEDIATE_EVENTS
            or event.event_type in OPENING_EVENTS
            or at_ms >= reached.get(key, 0)
        ):
            kept.append(event)
            reached[key] = max(at_ms, reached.get(key, 0))
    return kept


def _event(change: Change) -> OrderEvent:
    assert isinstance(change, LoggedEvent | OrderUpdate)
    return change.event


def _triggered(written: Iterable[tuple[str, str]]) -> frozenset[OrderKey]:
    """Conditional orders that stand among the open orders no more, and whose end is not logged. `written` are the ids
    and symbols of the log's events."""
    steps: dict[OrderKey, str] = {}
    for event_id, symbol in written:
        if event_id.startswith(event_ids.CONDITIONAL_PREFIX) and (parts := event_ids.parse(event_id)) is not None:
            steps[OrderKey(symbol, parts.order_id)] = parts.step
    return frozenset(key for key, step in steps.items() if step == "TRIGGERED")


def forget_finished(account: Account) -> None:
    """Wait for the ends of those conditional orders alone of which the log tells that they were triggered, and nothing
    later: another publisher may have written what this one has not heard."""
    told = _InLog(account, frozenset())
    for key in account.triggered_orders():
        triggered = event_ids.of_conditional(key.order_id, "TRIGGERED")
        if triggered not in told or _is_finish_logged(key, told):
            account.forget_triggered(key)


def _is_finish_logged(key: OrderKey, told: Container[str]) -> bool:
    return any(event_ids.of_conditional(key.order_id, status) in told for status in FINAL_CONDITIONAL_STATUSES)


def _is_end_logged(order: Order, told: Container[str]) -> bool:
    if order.algo_id is not None:
        triggered = event_ids.of_conditional(order.order_id, "TRIGGERED")
        return triggered in told or _is_finish_logged(order.key, told)
    return any(event_ids.of_end(order.key, status) in told for status in ENDED_BY)

"""What happened to orders while no stream was received, from the venue's histories, so that the log has it all the
same.

The stream must be connected before a history is asked for: what happens after that the stream sends. What both have
carries the same id, and is taken from the stream (`statecast/domain/catch_up.py` merges them). Which window of time is
asked for says `publisher/log_window.py`. What the venue has forgotten or refuses to list is an entry of type GAP.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal

from publisher import moved_symbols
from publisher.committer import Committer
from publisher.discrepancies import describe
from publisher.gap_histories import (
    Gap,
    GapRead,
    GapReader,
    ended_orders,
    is_finish_logged,
    not_listed_yet,
    triggered_orders,
)
from publisher.lease import Lease
from publisher.log_window import LogWindow
from publisher.logs import Log
from publisher.record import EventRecord
from publisher.status import Status
from publisher.tuning import Tuning
from statecast.clock import Clock
from statecast.domain import event_ids, gaps
from statecast.domain.account import Account
from statecast.domain.catch_up import GapFill, merge_with_stream
from statecast.domain.changes import LoggedEvent, OrderUpdate, Snapshot, missing_rows
from statecast.domain.models import Order, OrderEvent, OrderKey
from statecast.domain.order_tracking import REMEMBERED_EVENTS
from statecast.domain.orders import OPENING_EVENTS, filled_of
from statecast.errors import VenueUnreachable
from statecast.store.writer import PreviousState
from statecast.venues.adapter import Retention, Traits, VenueAccount

PROGRESS_S = 5.0
"""A gap fill that takes longer says this often how far it is."""

BEHIND_TRIES = 5
BEHIND_PAUSE_S = 1.0
"""Histories that do not agree yet, and orders that the venue may not know yet, are asked for again so often, after this
pause."""

RETENTION_MARGIN_MS = 600_000
"""Histories are not asked for what the venue is about to forget: within this, they should be read."""

LogEvents = Callable[[Sequence[LoggedEvent]], bool]
"""Logs events of a gap, unless a new doubt speaks against it; whether it has."""


class GapFiller:
    """Asks the venue for the events that are missing in the log, and keeps the time until which it is complete."""

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
            overlap_ms=tuning.overlap_ms,
            written_late_ms=tuning.written_late_ms,
        )
        self._histories = GapReader(
            venue,
            account,
            clock,
            log,
            self._waits,
            self._progress,
            slice_size=tuning.history_slice,
            few_symbols=tuning.few_symbols,
            rest=account.rest,
        )
        self._progress_mono_s = 0.0
        self._doubtful: set[str] = set()
        """Symbols in which a comparison has found orders that the log does not have."""

    @property
    def margin_ms(self) -> int:
        """The histories reach this far beyond the moment at which the stream was connected."""
        return self._window.margin_ms

    @property
    def connected_mono_s(self) -> float:
        """Since when the stream sends everything."""
        return self._window.connected_mono_s

    # The window

    def stream_begins(self) -> int:
        """The stream sends what happens from now on; before this moment, events may be missing. Returns the venue's
        time from which on nothing is missing."""
        self._window.stream_begins(self._clock.monotonic())
        return self._window.until_ms(self._venue.clock.at_ms)

    def complete(self, until_ms: int) -> None:
        """Every event until this venue time was submitted."""
        self._window.complete(until_ms)
        self._status.log_complete_until(self._window.complete_ms)

    def agreed(self, until_ms: int) -> None:
        """A comparison with the venue agrees: every event until then was received. A standby leaves the mark alone."""
        if not self._lease.is_standby:
            self.complete(until_ms - round(self._tuning.grace_s * 1000))

    def look_in(self, symbols: Iterable[str]) -> None:
        """Orders were found in these symbols that the log does not have: the next gap fill reads their histories."""
        self._doubtful.update(symbols)

    def filled(self, until_ms: int, unread_since_ms: int) -> None:
        """What the histories have until then was submitted; some were not read from `unread_since_ms` on (0: all were).
        The mark moves when they have been looked at again."""
        self._histories.forget()
        self._doubtful.clear()
        self._window.filled(until_ms, unread_since_ms)
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
        """The events before the stream's beginning that are missing in the log; `buffered` is what the stream has sent
        since then.

        An account that was never published has no gap: its log begins now, and nothing of its past is logged. A standby
        leaves gaps to the publisher that writes.

        Raises:
            VenueUnreachable, RateLimited, FrameError, StoreError: ask again. AuthFailed: the operator must act.
        """
        # Computed again: the venue's clock may have stepped, and was perhaps not known before the snapshot.
        clock = self._venue.clock
        until_ms = self._window.until_ms(clock.at_ms)
        since_ms = self._window.since_ms(clock.at_ms, clock.now_ms(), self._status.events_since_ms)
        if not self._lease.is_standby and self._window.begins_log and self._record.began_ms:
            self._status.log_begins(self._record.began_ms)
        if not since_ms or self._lease.is_standby:
            self._histories.forget()
            return GapFill(until_ms, until_ms)
        gap = await self._gap(since_ms, until_ms, snapshot, buffered())
        # What waits to be logged stands in neither account nor log, and may have gone on while nothing was received.
        gap.symbols.update(event.order.symbol for event in buffered() if event.order.symbol)
        gap.moved.update(moved_symbols.of_orders_begun_before(buffered(), gap.known))
        began_mono_s = self._progress_mono_s = self._clock.monotonic()
        open_now = {order.key: order for order in snapshot.orders}
        unreadable = missing_rows(snapshot.unreadable)  # They are open, and as they were known.
        open_now |= {key: order for key, order in gap.known.items() if key in unreadable}
        read = await self._read_until_agreed(gap, open_now, buffered)
        received = {event.event_id for event in buffered()}  # with all fields
        found, lost = read.found, [one for one in read.lost if one.event.event_id not in received]
        not_understood = [one for one in found.updates if one.event.event_type == gaps.GAP]
        for one in (one for one in lost if one.event.event_type == gaps.GAP):
            self._log.error("order_events_lost", gap=one.event.event_id, reason="the venue does not have them")
        for one in not_understood:
            self._log.error("order_events_lost", gap=one.event.event_id, reason="the venue's row cannot be understood")
        if found.updates or lost:
            self._log.info(
                "gap_filled",
                events=len(found.updates) - len(not_understood),
                gaps=len(lost) + len(not_understood),
                since_ms=gap.since_ms,
                until_ms=until_ms,
                took_s=round(self._clock.monotonic() - began_mono_s, 1),
            )
        return GapFill(
            until_ms,
            max(gap.since_ms, until_ms - self._traits.history_lag_ms),
            tuple(lost),
            found.updates,
            read.ended,
            gap.filled,
            frozenset(gap.symbols - read.unread),
            read.unread,
            gap.since_ms if read.unread else 0,
        )

    async def _gap(self, since_ms: int, until_ms: int, snapshot: Snapshot, buffered: Iterable[OrderEvent]) -> Gap:
        """The window within the venue's retention, and entries for what lies beyond."""
        now_ms, received_at_ms = self._venue.clock.now_ms(), self._clock.now_ms()
        since_ms = max(since_ms, await self._committer.trimmed_until_ms() + 1)
        since_ms, lost = _within_retention(since_ms, now_ms, self._traits.history, received_at_ms)
        previous = self._window.previous
        known, filled = _known_before(self._account, previous)
        symbols = self._account.symbols_with_position | previous.symbols
        if previous.unreadable:
            self._log.error("open_orders_unreadable", orders=previous.unreadable)
        symbols |= {order.symbol for order in (*known.values(), *snapshot.orders)}
        symbols |= {position.symbol for position in snapshot.positions} | self._doubtful
        moved = self._moved(since_ms, snapshot) | self._doubtful
        moved |= {key.symbol for key in self._account.incomplete_orders}
        # What has waited here for long, another may have written long ago.
        waited_ms = max((received_at_ms - event.received_at_ms for event in buffered), default=0)
        written = await self._committer.events_of_last(max(now_ms - since_ms, waited_ms) + self._tuning.written_late_ms)
        # No more of them than leave room for those that wait to be written, and are logged all the same.
        self._account.remember_events(event_id for event_id, _ in written[-REMEMBERED_EVENTS // 2 :])
        symbols |= {symbol for _, symbol in written if symbol}
        # What waits to be written may be more than the account remembers.
        to_be_written = (event.event_id for event in self._record)
        logged = InLog(self._account, frozenset([*(event_id for event_id, _ in written), *to_be_written]))
        # Histories list orders by when they were placed. Which ones were open before the gap is known, as long as Redis
        # or the account has it. A conditional one that was triggered long before it ended stands among the open orders
        # no more, and what was triggered before this process began it does not know.
        long_before_ms, is_gone = since_ms - self._traits.history.unfilled_kept_ms, self._window.log_is_gone
        long_before_ms = max(long_before_ms, min(since_ms, now_ms - self._traits.history.kept_ms + RETENTION_MARGIN_MS))
        # Of a log that has just begun nothing before it matters.
        knows_before = self._window.is_own or previous.published or not previous.has_log
        return Gap(
            since_ms,
            until_ms,
            long_before_ms if is_gone else since_ms,
            long_before_ms if is_gone or not self._window.was_complete else since_ms,
            known,
            filled,
            dict(filled) if self._window.is_own else {order.key: filled_of(order) for order in previous.orders},
            set(symbols),
            set(moved if knows_before else symbols),
            moved_symbols.booked_since_ms(self._account, since_ms, snapshot, is_followed=self._window.is_own),
            self._window.is_own,
            logged,
            tuple(lost),
            triggered_orders(written),
            listed_ms=snapshot.taken_ms,
            ended=ended_orders(written),
        )

    def _moved(self, since_ms: int, snapshot: Snapshot) -> set[str]:
        """Symbols whose positions are not as they were."""
        if self._window.is_own:
            return moved_symbols.of_followed_positions(self._account, snapshot)
        before = self._window.previous.symbols | self._account.symbols_with_position
        return moved_symbols.of_positions(before, since_ms, snapshot)

    # The histories

    async def _read_until_agreed(
        self, gap: Gap, open_now: Mapping[OrderKey, Order], buffered: Callable[[], Iterable[OrderEvent]]
    ) -> GapRead:
        """Histories are computed apart, and one may be behind another, behind the list of open orders, or behind what
        the stream has sent, or is refused for a moment: then they are asked for again, a few times. That the venue does
        not know a young order proves nothing: VenueUnreachable asks for everything again."""
        tries = 1
        while True:
            read = await self._histories.read(gap, open_now)
            begun = {event.order.key for event in buffered() if event.event_type in OPENING_EVENTS}
            read = read._replace(unsure=(*read.unsure, *not_listed_yet(gap, open_now, read.unread, begun)))
            if not (read.found.behind or read.not_explained or read.unsure) or tries == BEHIND_TRIES:
                break
            tries += 1
            behind = [row.order_id for row in (*read.found.behind, *(entry.order for entry in read.not_explained))]
            self._log.warning("histories_disagree", orders=behind, not_known=[str(key) for key in read.unsure])
            self._histories.forget_trades({row.symbol for row in read.found.behind})
            await self._clock.sleep(BEHIND_PAUSE_S)
        if read.unsure:
            unsure = describe([str(key) for key in read.unsure])
            reason = f"does not know {unsure}, which the stream has sent just before, or the venue lists as open"
            raise VenueUnreachable("the venue", "orders by their ids", reason)
        lost = read.lost + [LoggedEvent(gaps.of_order(row, self._clock.now_ms())) for row in read.found.behind]
        lost += [LoggedEvent(entry) for entry in (*read.found.unplaced, *read.not_explained)]
        # An order whose entry the log has already is over all the same.
        new = [one for one in lost if isinstance(one, OrderUpdate) or one.event.event_id not in gap.logged]
        return read._replace(lost=new)

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


def _known_before(account: Account, previous: PreviousState) -> tuple[dict[OrderKey, Order], dict[OrderKey, Decimal]]:
    """Orders of before a gap, and what is filled of them: as the account knows them, and as the last writer has left
    them."""
    incomplete = account.incomplete_orders
    known = {**account.orders, **{key: one.order for key, one in incomplete.items()}}
    known |= {order.key: order for order in previous.orders}
    filled = {key: filled_of(order) for key, order in known.items()}
    return known, filled | {key: one.filled for key, one in incomplete.items()}


def _within_retention(
    since_ms: int, now_ms: int, retention: Retention, received_at_ms: int
) -> tuple[int, list[LoggedEvent | OrderUpdate]]:
    """The beginning of what the venue still has, and entries for what lies before it."""
    lost: list[LoggedEvent | OrderUpdate] = []
    kept_ms, unfilled_ms = now_ms - retention.kept_ms + RETENTION_MARGIN_MS, now_ms - retention.unfilled_kept_ms
    if since_ms < kept_ms:
        lost.append(LoggedEvent(gaps.of_time("ALL", "", since_ms, kept_ms, received_at_ms)))
        since_ms = kept_ms
    if since_ms < unfilled_ms:
        lost.append(LoggedEvent(gaps.of_time("UNFILLED", "", since_ms, unfilled_ms, received_at_ms)))
    return since_ms, lost

"""The one path to `live`, at the start as after any interruption: a snapshot, the order events that were missed, and
what the stream has sent meanwhile, applied in this order.

The stream is connected first and buffered (`statecast/domain/catch_up.py`). A frame that makes no sense, a lost lease
or an order of which something is missing starts it again; so does a new connection. Doubt that a comparison has raised
ends when one agrees, see `publisher/reconciler.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from publisher.committer import Committer
from publisher.gap_fill import GapFiller
from publisher.lease import Lease, LeaseAcquired
from publisher.logs import Log
from publisher.reconciler import Reconciler
from publisher.record import EventRecord
from publisher.status import Status
from publisher.updater import Updater
from publisher.websocket import BACKOFF_S
from statecast.clock import Clock
from statecast.domain.account import Account
from statecast.domain.catch_up import (
    CatchUp,
    GapFill,
    Merge,
    Missing,
    Resync,
    ends_order,
    with_entries_for_events_behind_ends,
)
from statecast.domain.changes import LoggedEvent, Snapshot
from statecast.errors import AuthFailed, FrameError, RateLimited, StoreError, VenueUnreachable
from statecast.venues.adapter import VenueAccount

SETTLE_S = 0.25
"""After a snapshot, before it is applied: its parts were asked for next to each other, and what the stream has to say
of that moment is perhaps still on its way."""

ONCE_MORE_S = (10.0, 30.0)
"""After a connection, when everything is compared once more: REST may have been further behind than it usually is. What
happened while nothing was connected shows nowhere else."""

MAX_NAMED = 10
"""Orders that one log line names."""


class SyncPace(NamedTuple):
    """How a publisher comes to be live."""

    proof_s: float
    """An answer that was asked for so long after the stream was connected has what happened before that."""
    changes_at_once: int
    """Changes that are applied before other work has a turn."""


class Synchronizer:
    """Brings one account to the venue's state, and says when it has to be done again. `run` while there is a stream."""

    def __init__(
        self,
        venue: VenueAccount,
        account: Account,
        catch_up: CatchUp,
        gap_filler: GapFiller,
        updater: Updater,
        reconciler: Reconciler,
        record: EventRecord,
        committer: Committer,
        lease: Lease,
        status: Status,
        clock: Clock,
        log: Log,
        pace: SyncPace,
    ) -> None:
        self._venue = venue
        self._account = account
        self._catch_up = catch_up
        self._gap_filler = gap_filler
        self._updater = updater
        self._reconciler = reconciler
        self._record = record
        self._committer = committer
        self._lease = lease
        self._status = status
        self._clock = clock
        self._log = log
        self._pace = pace
        self._needed = asyncio.Event()
        """Set while a snapshot is to be asked for."""
        self._connected = asyncio.Event()
        """Set while there is a stream: what is read before that may be old by the time it begins."""

    # What may happen

    def session_begins(self) -> None:
        """A connection is about to be made: nothing is known of it yet."""
        self._needed.clear()

    def stream_connected(self) -> None:
        """There is a gap before this moment. The publisher that writes fills it; a standby knows what comes after
        it."""
        self._catch_up.begin_gap()
        since_ms = self._gap_filler.stream_begins()
        # By half of the margin less: the other half is for how well the venue's clock is known.
        record_since_ms = since_ms - self._gap_filler.margin_ms // 2
        if not self._record.complete_since_ms:
            self._record.begin(record_since_ms)
        elif self._lease.is_standby:
            self._record.missed_until(record_since_ms)
        self._connected.set()
        self._needed.set()

    def stream_ended(self, last_event_ms: int) -> None:
        """The stream is gone; `last_event_ms` is the venue's time of its last event, 0 without one."""
        self._connected.clear()
        self._catch_up.begin_gap()
        self._gap_filler.reopen(last_event_ms)

    def resync(self, reason: str) -> None:
        """Something is wrong with what is known, though the stream lives: readers see it at once, and a snapshot is
        asked for."""
        self._catch_up.resync()
        self.need_snapshot(reason)

    def need_snapshot(self, reason: str) -> None:
        """Buffer what is received from now on, and ask for a snapshot."""
        self._status.move("degrade", reason)
        if self._connected.is_set():
            self._gap_filler.stream_begins()
        self._needed.set()

    def lease_acquired(self, acquired: LeaseAcquired) -> None:
        """This publisher writes from now on. What is missing in the log comes first."""
        self._gap_filler.forget_finished()
        missing = list(acquired.missing)
        if acquired.previous.published:
            over = {event.order.key for event in self._record if ends_order(event)}
            missing = with_entries_for_events_behind_ends(missing, acquired.previous.orders, over)
        if acquired.gap:
            self._catch_up.put_first(missing)
            self._gap_filler.begin_again(acquired.previous, acquired.complete_ms)
            self.resync("taking over: the log of order events is not complete")
            return
        if self._record.complete_since_ms:
            self._gap_filler.complete(acquired.previous.events_complete_ms)
        else:
            self._gap_filler.begin_again(acquired.previous, acquired.complete_ms)
        try:
            self._updater.apply([LoggedEvent(event) for event in missing], "stream")
        except FrameError as error:
            self.resync(str(error))
        if not self._catch_up.is_following:
            self._needed.set()  # What a standby began is finished by the publisher that writes.
        self._reconciler.due()

    def stop(self) -> None:
        """The publisher ends: log what may be logged of what still waits."""
        events = self._catch_up.at_the_end()
        self._updater.apply([LoggedEvent(event) for event in events], "stream")

    # The path to live

    async def run(self) -> None:
        """A snapshot whenever one is needed, until cancelled. Raises AuthFailed and Rejected."""
        failures = missing = 0
        await self._lease.has_asked.wait()
        await self._connected.wait()
        while True:
            await self._needed.wait()
            self._needed.clear()
            asked_mono_s = self._clock.monotonic()
            try:
                await self._venue.clock.sync()  # by which rows are compared with the answer's time
                snapshot = await self._venue.fetch_snapshot()
                gap = await self._gap_filler.fetch(snapshot, self._catch_up.waiting_events)
            except AuthFailed:
                raise
            except (VenueUnreachable, RateLimited, FrameError, StoreError) as error:
                self._status.move("degrade", str(error))
                self._needed.set()
                await self._clock.sleep(self._pause_s(error, failures))
                failures += 1
                continue
            failures = 0
            await self._clock.sleep(SETTLE_S)
            gap = await self._gap_filler.log_ahead(gap, self._catch_up.waiting_events, self._log_gap_events)
            is_whole = True
            if not self._needed.is_set():  # Else a frame made no sense meanwhile: this answer may be older than it.
                is_whole = await self._finish(snapshot, gap, asked_mono_s)
            # A stream of nonsense must not become a stream of snapshots, and histories may be behind for seconds.
            await self._clock.sleep(BACKOFF_S[2 + min(missing, 1)])
            missing = 0 if is_whole else missing + 1

    def _pause_s(self, error: Exception, failures: int) -> float:
        wait_s = BACKOFF_S[min(failures + 1, len(BACKOFF_S) - 1)]
        if isinstance(error, RateLimited):
            wait_s = max(wait_s, 1.0, (error.retry_at_ms - self._venue.clock.now_ms()) / 1000)
        return wait_s

    def _log_gap_events(self, events: Sequence[LoggedEvent]) -> bool:
        if self._needed.is_set():
            return False
        self._updater.apply(events, "rest")
        return True

    async def _finish(self, snapshot: Snapshot, gap: GapFill, asked_mono_s: float) -> bool:
        """Apply it all, unless the stream shows that something is missing; whether it did not."""
        merged = await self._merged(snapshot, gap)
        if merged is None:
            return True  # Something new is doubtful, and everything is asked for again.
        if isinstance(merged, Missing):
            # The stream is not as whole as it seemed: what is missing in what it has sent since is asked for, too.
            self._log.warning("events_missing", orders=[order.order_id for order in merged.orders[:MAX_NAMED]])
            self._gap_filler.stream_begins()
            self._needed.set()
            return False
        if not await self._apply(merged, gap):
            return True
        self._status.count_unreadable(snapshot.unreadable)
        traded = {key.symbol for key in self._account.orders} | self._account.symbols_with_position
        # REST may have been behind what happened before the stream was connected, and no frame has that any more.
        proof_mono_s = self._gap_filler.connected_mono_s + self._pace.proof_s
        self._reconciler.begins(
            snapshot,
            asked_mono_s,
            proof_mono_s,
            gap.since_ms,
            traded | gap.symbols,
            gap.unread,
            gap.unread_since_ms,
            tuple(self._gap_filler.connected_mono_s + after_s for after_s in ONCE_MORE_S),
        )
        return True

    async def _merged(self, snapshot: Snapshot, gap: GapFill) -> Merge | Missing | None:
        """What was put together; None where something new became doubtful meanwhile."""
        connected_ms, at_once = gap.until_ms - self._gap_filler.margin_ms, self._pace.changes_at_once
        for merged in self._catch_up.merge(snapshot, gap, connected_ms=connected_ms, at_once=at_once):
            if merged is not None:
                return merged
            await self._clock.sleep(0)
            if self._needed.is_set():
                break
        return None

    async def _apply(self, merged: Merge, gap: GapFill) -> bool:
        """Apply what was put together; whether nothing new became doubtful meanwhile."""
        if self._lease.is_standby:
            # Nobody here has filled the gap: the record is complete from its end on, and not further back.
            self._record.missed_until(gap.until_ms)
        self._account.begin_again(gap.ended, merged.incomplete)
        replaces = False
        while not self._catch_up.is_following:
            part = self._catch_up.take_part(self._pace.changes_at_once)
            if isinstance(part, Resync):
                self.need_snapshot(part.reason)
                return False
            self._account.expect(part.incomplete)
            replaces = replaces or any(isinstance(change, Snapshot) for change in part.changes)
            self._updater.apply(part.changes, "rest", events_alone=not replaces)
            if not self._catch_up.is_following:
                await self._committer.wait_for_capacity()
                if self._needed.is_set():
                    return False
        if self._lease.is_standby:
            self._account.forget_incomplete()  # What ended in the gap, the writer logs.
        else:
            self._gap_filler.filled(gap.until_ms, gap.unread_since_ms)
            self._committer.fill_gap()
        return True

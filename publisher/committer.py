"""Deltas in order, into Redis, once: queues while a batch is in flight, survives lost replies, lost leases, lost Redis.

While one batch is under way the next one collects, so that a burst costs few round trips and a single event does not
wait. A batch whose outcome is unknown is sent again as it was. When the lease or the content of Redis is lost,
everything is written again from the account in memory, with the order events that had not been written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from publisher.lease import Lease, LeaseAcquired
from publisher.logs import Log
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.status import Status
from publisher.tuning import Tuning
from statecast.clock import Clock
from statecast.domain.account import Account, Delta
from statecast.domain.changes import LoggedEvent
from statecast.errors import LeaseLost, StoreDiverged
from statecast.store.writer import AccountWriter, Batch


class _InFlight(NamedTuple):
    batch: Batch
    events: int


class _Listeners(NamedTuple):
    lease_lost: Callable[[str], None]
    lease_acquired: Callable[[LeaseAcquired], None]


class Committer:
    """Writes one account. `submit` never waits; `run` does the work until it is cancelled.

    While another publisher holds the lease nothing is written, and the events that were submitted stay in the record.
    """

    def __init__(
        self,
        writer: AccountWriter,
        account: Account,
        record: EventRecord,
        status: Status,
        lease: Lease,
        retry: RedisRetry,
        clock: Clock,
        log: Log,
        tuning: Tuning,
    ) -> None:
        self._writer = writer
        self._account = account
        self._record = record
        self._status = status
        self._lease = lease
        self._retry = retry
        self._clock = clock
        self._log = log
        self._tuning = tuning
        self._queue = _Queue(tuning)
        self._in_flight: _InFlight | None = None
        # The heartbeat renews the lease as well, and the next one must come in time when a reply is late.
        self._schedule = _Schedule(clock, min(tuning.heartbeat_s, writer.lease_ttl_ms / 2500))
        self._hashes = _Hashes()
        self._written = asyncio.Event()
        self._listeners = _Listeners(lambda reason: None, self._submit_missing)
        status.bind(self._schedule.status_due, lambda: lease.is_standby)

    def bind(self, lease_lost: Callable[[str], None], lease_acquired: Callable[[LeaseAcquired], None]) -> None:
        """`lease_lost` is called with the reason when a lease that was held is lost. `lease_acquired` is called when
        the lease was taken, before anything is written under it, and submits what is missing. Without it, that is done
        here."""
        self._listeners = _Listeners(lease_lost, lease_acquired)

    # What is to be written

    def submit(self, delta: Delta) -> None:
        """Write `delta` after all that was submitted before it; an empty one is nothing to write."""
        if not delta:
            return
        most, events = self._tuning.events_in_commit, delta.events
        rest = max(0, len(events) - 1) // most * most
        for start in range(0, rest, most):
            self._submit(delta._replace(events=events[start : start + most]).with_events_alone())
        self._submit(delta._replace(events=events[rest:]) if rest else delta)

    def _submit(self, delta: Delta) -> None:
        known = self._record.has_overflowed
        lost = self._record.add(delta.events, self._clock.monotonic(), others_write=self._lease.is_standby)
        if lost is not None and not known:
            reason = f"more than {self._tuning.most_unwritten} order events waited for Redis"
            self._log.error("order_events_lost", gap=lost.event_id, reason=reason)
            self._queue.clear()
        if not self._hashes.may_write or self._record.has_overflowed:
            return
        if self._hashes.must_rewrite:
            # The state will be written as it is by then; an older row after that would be a step back.
            delta = delta.with_events_alone()
        if not self._queue.push(delta) and not self._hashes.must_rewrite:
            self._hashes.rewrite()
            self._log.warning("rewriting", reason=f"more than {self._tuning.queued_deltas} changes waited for Redis")
        self._schedule.wake()

    async def wait_for_capacity(self) -> None:
        """Let other tasks run, and wait until so few events are to be written that more may be submitted."""
        await self._clock.sleep(0)
        while self._hashes.may_write and self._record.unwritten > self._tuning.unwritten_events:
            self._written.clear()
            await self._written.wait()

    def fill_gap(self) -> None:
        """The events that the log missed were submitted: the state may be written behind them."""
        self._hashes.gap_filled()
        self._schedule.wake()

    async def events_of_last(self, age_ms: int) -> list[tuple[str, str]]:
        """Event id and symbol of what was written within `age_ms`, and of some more, as Redis has it; oldest first.

        Raises StoreError.
        """
        return await self._writer.youngest_events(age_ms, self._tuning.log_margin)

    async def trimmed_until_ms(self) -> int:
        """See `AccountWriter.trimmed_until_ms`. Raises StoreError."""
        return await self._writer.trimmed_until_ms()

    # The work

    async def run(self) -> None:
        """Hold the lease and write, until cancelled."""
        checking = asyncio.create_task(self._lease.stalls.run())
        try:
            await self._run()
        finally:
            checking.cancel()

    async def _run(self) -> None:
        while True:
            try:
                acquired = await self._lease.acquire()
                self._hashes.begin(gap=acquired.gap and acquired.previous.published)
                self._schedule.status_due()
                self._listeners.lease_acquired(acquired)
                await self._write()
            except LeaseLost as error:
                self._step_down()
                # Either Redis was away, or this process did not run for a while: then what it knows is old, too.
                self._listeners.lease_lost(f"lease lost: {error.reason}")
            except StoreDiverged as error:
                self._step_down()
                self._log.warning("rewriting", reason=error.reason)

    async def close(self, until_mono_s: float) -> None:
        """After `run` was cancelled: write what is queued and the state `stopped`, and give the lease back. For events
        that cannot be written by then, an entry of type GAP is.

        Tries once and lets errors through: there is no time to wait for a Redis that does not answer.
        """
        try:
            await self._write_rest(until_mono_s)
        except LeaseLost:
            # To decide what of very many events may be logged may have taken longer than the lease lasts.
            self._hashes.end()
        if not self._hashes.may_write and not self._lease.is_standby and self._record.unwritten:
            await self._write_what_is_lost()
        await self._writer.release(self._status.state, self._status.reason)

    async def _write_what_is_lost(self) -> None:
        """The lease is lost at the end: if nobody else has it, the log gets the entry for what is not written."""
        if await self._writer.open(self._status.state, self._status.reason) is not None:
            return
        self._hashes.begin(gap=False)
        self._give_up_unwritten()
        self._in_flight = self._next_batch()
        await self._writer.send(self._in_flight.batch)
        self._note_written(self._in_flight)

    async def _write_rest(self, until_mono_s: float) -> None:
        is_due = self._account.complete and not self._hashes.must_rewrite
        while self._hashes.may_write and (is_due or self._queue or self._in_flight or self._record.has_overflowed):
            is_due = False
            if self._in_flight is None:
                if self._clock.monotonic() > until_mono_s or self._record.has_overflowed:
                    self._give_up_unwritten()
                self._in_flight = self._next_batch()
            await self._writer.send(self._in_flight.batch)
            self._note_written(self._in_flight)

    def _give_up_unwritten(self) -> None:
        """None of what is dropped may be written any more: the next publisher reads it in the histories, and would log
        what is missing before it behind it."""
        self._record.drop_unwritten()
        self._queue.clear()
        lost = self._record.take_overflow()
        if lost is not None:
            self._log.error("order_events_lost", gap=lost.event_id, reason="stopped before they could be written")
            self._queue.push(self._account.apply([LoggedEvent(lost)], "rest"))
            self._status.log_complete_until(min(self._status.events_complete_ms, self._status.published_complete_ms))

    def _note_written(self, sent: _InFlight) -> None:
        if not self._record.has_overflowed:  # Else they are dropped: that they are in the log, the next lease finds.
            self._record.mark_written(sent.events)
        self._in_flight = None
        self._written.set()

    def _step_down(self) -> None:
        """What waits is in the account and in the record; whether the last batch was written, the log will show."""
        self._hashes.end()
        self._in_flight = None
        self._queue.clear()
        self._written.set()

    def _submit_missing(self, acquired: LeaseAcquired) -> None:
        self._hashes.gap_filled()
        self.submit(self._account.apply([LoggedEvent(event) for event in acquired.missing], "stream"))

    async def _write(self) -> None:
        while not self._record.has_overflowed:
            while not (self._queue or self._schedule.is_due or self._can_rewrite):
                await self._schedule.wait()
            self._in_flight = self._next_batch()
            await self._retry.until_answered(self._send)
            self._note_written(self._in_flight)
        self._step_down()

    async def _send(self) -> None:
        assert self._in_flight is not None
        batch = self._in_flight.batch
        # When it is sent again it comes late: by then the state may not be verified any more.
        self._in_flight = self._in_flight._replace(batch=batch.unverified())
        await self._writer.send(batch)

    @property
    def _can_rewrite(self) -> bool:
        # A state that is not live may be older than what another publisher has written and verified.
        return self._hashes.can_rewrite and self._account.complete and self._status.state == "live"

    def _next_batch(self) -> _InFlight:
        # The rows that the last writer left may have to be replaced, but not before the order events that lead there:
        # should this publisher die in between, the next one needs to know which orders were open.
        published = self._hashes.are_own
        deltas = self._queue.take()
        if self._can_rewrite and not self._queue:
            deltas.append(self._account.whole())
            self._hashes.rewritten()
        status: dict[str, str | int] = {}
        verified = False
        if self._schedule.is_due:
            # With a rest in the queue Redis does not hold what is known here: a later batch verifies it.
            all_written = not self._queue
            may_verify = all_written and not self._hashes.must_rewrite
            may_verify = may_verify and self._status.is_verified(self._clock.monotonic())
            verified = may_verify and not self._lease.stalls.has_stalled()
            self._status.publish_completeness(all_written=all_written)
            status = self._status.fields(self._writer.publisher_id, self._writer.epoch)
            if all_written and may_verify and not verified:
                self._schedule.next_at(self._lease.stalls.caught_up_mono_s)
            elif all_written:
                self._schedule.next_beat()
        batch = self._writer.encode(deltas, status, verified=verified, published=published)
        self._hashes.count_published(deltas)
        return _InFlight(batch, sum(len(delta.events) for delta in deltas))


class _Queue:
    """Deltas that wait to be written. Beyond the limit their rows are dropped, and the whole account is to be written
    in their place; order events are kept, and the record limits how many."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._deltas: deque[Delta] = deque()

    def __len__(self) -> int:
        return len(self._deltas)

    def push(self, delta: Delta) -> bool:
        """Whether the rows of what waits are kept."""
        if delta:
            self._deltas.append(delta)
        if len(self._deltas) <= self._tuning.queued_deltas:
            return True
        events, last = [event for one in self._deltas for event in one.events], self._deltas[-1]
        most = self._tuning.events_in_commit
        parts = (tuple(events[start : start + most]) for start in range(0, len(events), most))
        self._deltas = deque(last._replace(events=part).with_events_alone() for part in parts)
        return False

    def take(self) -> list[Delta]:
        """Remove and return the oldest deltas, as many as one batch takes."""
        deltas: list[Delta] = []
        events = 0
        most, most_events = self._tuning.commits_in_batch, self._tuning.events_in_commit
        while self._deltas and len(deltas) < most and events < most_events:
            deltas.append(self._deltas.popleft())
            events += len(deltas[-1].events)
        return deltas

    def clear(self) -> None:
        self._deltas.clear()


class _Schedule:
    """When the next batch is to be made: when something is there to write, and at the next heartbeat at the latest."""

    def __init__(self, clock: Clock, heartbeat_s: float) -> None:
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._due_mono_s = 0.0
        self._wake = asyncio.Event()

    @property
    def is_due(self) -> bool:
        """Whether the status is to be written with the next batch."""
        return self._clock.monotonic() >= self._due_mono_s

    def wake(self) -> None:
        self._wake.set()

    def status_due(self) -> None:
        """Write the status as soon as possible."""
        self._due_mono_s = 0.0
        self._wake.set()

    def next_beat(self) -> None:
        self._due_mono_s = self._clock.monotonic() + self._heartbeat_s

    def next_at(self, mono_s: float) -> None:
        self._due_mono_s = mono_s

    async def wait(self) -> None:
        """Until something wakes it, or the status is due."""
        self._wake.clear()
        try:
            async with asyncio.timeout(max(0.0, self._due_mono_s - self._clock.monotonic())):
                await self._wake.wait()
        except TimeoutError:
            return


class _Hashes:
    """Whether this publisher may write the state hashes, and whether what they hold is its own."""

    def __init__(self) -> None:
        self._may_write = False
        self._must_rewrite = False
        self._waits_for_gap = False
        self._published = False

    @property
    def may_write(self) -> bool:
        """Whether the lease is held, as far as is known."""
        return self._may_write

    @property
    def must_rewrite(self) -> bool:
        """Whether the hashes are those of an earlier writer, and are to be replaced."""
        return self._must_rewrite

    @property
    def can_rewrite(self) -> bool:
        """Whether they may be replaced now: while the log has a gap they are needed to fill it."""
        return self._must_rewrite and not self._waits_for_gap

    @property
    def are_own(self) -> bool:
        """Whether this publisher has written them, so that they must exist."""
        return self._published and not self._must_rewrite

    def begin(self, *, gap: bool) -> None:
        """The lease was taken. With a `gap`, the hashes in Redis are those of before it."""
        self._may_write = self._must_rewrite = True
        self._waits_for_gap = gap

    def end(self) -> None:
        self._may_write = False

    def rewrite(self) -> None:
        """Rows of theirs were not kept: the whole account is to be written once more."""
        self._must_rewrite = True

    def gap_filled(self) -> None:
        self._waits_for_gap = False

    def rewritten(self) -> None:
        self._must_rewrite = False

    def count_published(self, deltas: list[Delta]) -> None:
        self._published = self._published or any(delta.replaces for delta in deltas)

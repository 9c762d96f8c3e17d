"""Deltas in order, into Redis, once: queues while a batch is in flight, survives lost replies, lost leases, lost Redis.

While one batch is under way the next one collects, so that a burst costs few round trips and a single event none of the
waiting. What is in doubt is sent again as it was. Once the lease or the content of Redis is lost, everything is written
anew from the account in memory, with the order events that had not got there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from publisher.lifecycle import Move, State, after
from publisher.logs import Log
from publisher.record import EventRecord
from statecast.clock import Clock
from statecast.domain.account import Account, Delta
from statecast.domain.changes import LoggedEvent
from statecast.domain.models import OrderEvent
from statecast.errors import LeaseLost, StoreDiverged, StoreRefused, StoreUnreachable
from statecast.store.keys import CONTRACT
from statecast.store.writer import AccountWriter, Batch, PreviousState

HEARTBEAT_S = 1.0

MAX_BATCH = 128
"""Commits in one call: some 5 ms of the server's time where it was measured, which readers wait for at the most."""

MAX_EVENTS_IN_COMMIT = 500
"""Order events in one commit, some 6 ms of the server's time; what a backfill has beyond it goes ahead of it.
A batch with as many takes no further commit: tens of thousands in one call outlast the lease, again and again."""

MAX_QUEUED = 20_000
"""Deltas kept while Redis cannot be written, by estimate some 40 MB. Beyond it the account and the record of events
must do, from which everything is written anew."""

MAX_WAITING = 5_000
"""Order events of a long history that may wait to be written: far below `MAX_EVENTS`, for what leaves the record
unwritten is lost with the lease."""

LOG_MARGIN = 5_000
WRITTEN_LATE_MS = 60_000
"""The log is searched this much further back than the record goes, in entries and in time: other publishers may have
written meanwhile, and clocks may have been set."""

WATCH_S = 0.1
"""A publisher that stands by looks so often whether the lease is free."""

REGISTER_S = 1.0
"""And shows itself so often among the publishers of the account."""

TICK_S = 0.1
STALL_S = 0.5
"""A process that ticks so much later than it meant to did not run. What has arrived meanwhile it has not read yet."""

CATCH_UP_S = 0.2
"""Until it has."""

ROOM_S = 0.02
"""How often is looked whether what waits has become less."""

T = TypeVar("T")


@dataclass(slots=True)
class Health:
    """What the status hash tells beside the numbers."""

    state: State = "starting"
    reason: str = "connecting"
    stream_since_ms: int = 0
    reconciled_at_ms: int = 0
    unknown_events: int = 0
    malformed_frames: int = 0
    malformed_market_frames: int = 0
    drifts: int = 0
    """How often the venue's answer differed from the state and the stream did not explain it."""
    events_since_ms: int = 0
    events_complete_ms: int = 0
    """Venue times since and until which the log of order events in Redis holds everything; 0: not yet known."""

    def fields(self, publisher_id: str, epoch: int) -> dict[str, str | int]:
        return {
            "state": self.state,
            "reason": self.reason,
            "publisherId": publisher_id,
            "epoch": epoch,
            "streamSinceMs": self.stream_since_ms,
            "reconciledAtMs": self.reconciled_at_ms,
            "unknownEvents": self.unknown_events,
            "malformedFrames": self.malformed_frames,
            "malformedMarketFrames": self.malformed_market_frames,
            "drifts": self.drifts,
            "eventsSinceMs": self.events_since_ms,
            "eventsCompleteMs": self.events_complete_ms,
            "contract": CONTRACT,
        }


@dataclass(frozen=True, slots=True)
class LeaseAcquired:
    """The lease was taken. `missing` are the events of the record that the log lacks, in their order; submit them.

    The log tells everything until `complete_ms`, in the venue's time (0: see `previous`). Where it lacks more than what
    is `missing`, it is a `gap`: the venue's histories must tell what happened since then before anything younger is
    written.
    """

    previous: PreviousState
    missing: tuple[OrderEvent, ...]
    complete_ms: int
    gap: bool


@dataclass(slots=True)
class _InFlight:
    batch: Batch
    deltas: tuple[Delta, ...]


class Committer:
    """Owns the writing of one account. `submit` and `move` never wait; `run` does the work until it is cancelled.

    While another publisher holds the lease, nothing is written, and what was submitted is kept in `record`.
    """

    def __init__(self, writer: AccountWriter, account: Account, clock: Clock, log: Log) -> None:
        self.health = Health()
        self.record = EventRecord()
        self.asked = asyncio.Event()
        """Set once it is known who holds the lease, this publisher or another."""
        self.opened = asyncio.Event()
        """Set once this publisher has held the lease."""
        self.is_standby = False
        """Whether another publisher holds the lease, as far as is known."""
        self.previous = PreviousState()
        """What stood in Redis when this publisher last took the lease."""
        self.events_complete_ms = 0
        """Venue time until which every order event was submitted. Readers learn it once those events are written."""
        self.verified_until = inf
        """Monotonic time until which there are grounds to believe the state while it is live: set by whoever compares
        it with the venue, to a time gone by as soon as the two differ."""
        self.on_lease_lost: Callable[[str], None] = lambda reason: None
        """Called with the reason when a lease that was held is not any more."""
        self.on_lease_acquired: Callable[[LeaseAcquired], None] = self._submit_missing
        """Called when the lease was taken, before anything is written under it."""
        self._writer = writer
        self._account = account
        self._clock = clock
        self._log = log
        self._queue: deque[Delta] = deque()
        self._in_flight: _InFlight | None = None
        self._wake = asyncio.Event()
        self._heartbeat_s = min(HEARTBEAT_S, writer.lease_ttl_ms / 2500)
        """It renews the lease as well, and the next one must come in time when a reply is late."""
        self._heartbeat_at = 0.0
        self._ticked_at = clock.monotonic()
        self._stalled_until = 0.0
        self._published = False
        self._leading = False
        self._rewrite = False
        self._gap = False
        """Whether the hashes in Redis are those of before a gap that the log has, and needed to fill it."""
        self._overflowed = False
        self._trouble = ""
        self._gone_at: float | None = None
        """When one that stands by found that Redis has lost the account, until somebody writes it again."""
        self._known_event_seq = 0
        """The highest number that this process has seen given to an event."""

    # What the follower calls

    def submit(self, delta: Delta) -> None:
        """Write `delta` after all that was submitted before it; an empty one is nothing to write."""
        if not delta:
            return
        while len(delta.events) > MAX_EVENTS_IN_COMMIT:
            self.submit(_events_only(delta.events[:MAX_EVENTS_IN_COMMIT], delta))
            delta = delta._replace(events=delta.events[MAX_EVENTS_IN_COMMIT:])
        self.record.add(delta.events, self._clock.monotonic())
        if not self._leading or self._overflowed:
            return
        if len(self._queue) >= MAX_QUEUED:
            self._overflowed = True
            self._queue.clear()
            return
        if not self._rewrite:
            self._queue.append(delta)
        elif delta.events:
            # The state will be written as it is by then; an older row after that would be a step back.
            self._queue.append(_events_only(delta.events, delta))
        self._wake.set()

    def move(self, move: Move, reason: str = "") -> None:
        """Change the state that readers see; the change is written at once, and logged after that was asked for."""
        before, self.health.state = self.health.state, after(self.health.state, move)
        if (before, self.health.reason) != (self.health.state, reason):
            self.health.reason = reason
            self._heartbeat_at = 0.0
            self._wake.set()
            level = self._log.warning if self.health.state in ("recovering", "refused") else self._log.info
            standby = {"standby": True} if self.is_standby else {}
            level("state", state=self.health.state, before=before, reason=reason, **standby)

    def log_begins(self, since_ms: int) -> None:
        """The log holds every event since this venue time (0: not known). Whoever is left when Redis has lost it owes
        readers all of that, also what another publisher had written."""
        if since_ms:
            self.record.reach_back(since_ms)
            self.health.events_since_ms = self.record.began_ms

    async def wait_for_capacity(self) -> None:
        """Let others have a turn, and wait until so little is to be written that more may be submitted."""
        await self._clock.sleep(0)
        while self._leading and self.record.unwritten > MAX_WAITING:
            await self._clock.sleep(ROOM_S)

    def fill_gap(self) -> None:
        """What the log lacked was submitted: the state may be written anew behind it."""
        self._gap = False
        self._wake.set()

    async def events_of_last(self, age_ms: int) -> list[tuple[str, str]]:
        """Event id and symbol of what was written within `age_ms`, and of some more, as Redis has it; oldest first.

        Raises StoreError.
        """
        return await self._writer.youngest_events(age_ms, LOG_MARGIN)

    async def trimmed_until_ms(self) -> int:
        """See `AccountWriter.trimmed_until_ms`. Raises StoreError."""
        return await self._writer.trimmed_until_ms()

    # The work

    async def run(self) -> None:
        """Hold the lease and write, until cancelled."""
        ticking = asyncio.create_task(self._tick())
        try:
            await self._lead()
        finally:
            ticking.cancel()

    async def _lead(self) -> None:
        while True:
            try:
                await self._take_lease()
                await self._write()
            except LeaseLost as error:
                self._step_down()
                # Either Redis was away, or this process did not run for a while: then what it knows is old, too.
                self.on_lease_lost(f"lease lost: {error.reason}")
            except StoreDiverged as error:
                self._step_down()
                self._log.warning("rewriting", reason=error.reason)

    async def close(self) -> None:
        """After `run` was cancelled: write what is queued and the state `stopped`, and give the lease back.

        Tries once and lets errors through: there is no time to wait for a Redis that is not there.
        """
        if self._leading and self._account.complete and not self._rewrite and not self._overflowed:
            while True:
                self._in_flight = self._in_flight or self._next_batch()
                await self._writer.send(self._in_flight.batch)
                self._in_flight = None
                if not self._queue:
                    break
        await self._writer.release(self.health.state, self.health.reason)

    def _step_down(self) -> None:
        """What waits is in the account and in the record; whether the last batch was written, the log will tell."""
        self._leading = self._overflowed = False
        self._in_flight = None
        self._queue.clear()

    async def _take_lease(self) -> None:
        """Wait for the lease, take it, and find out what the log lacks."""
        while True:
            while (holder := await self._persistently(self._open)) is not None:
                await self._stand_by(holder)
            previous = await self._persistently(self._writer.previous)
            in_log = await self._persistently(self._log_beside_the_record)
            lost = self.record.lost(in_log)
            # What is written again gets the numbers that it had. Where that is not all, numbers go on, and show a hole.
            compared_ms = self.record.complete_since_ms
            whole = previous.events_complete_ms >= self.record.complete_since_ms or self._remembers_all(previous)
            known = max(self._known_event_seq, self._writer.log_event_seq)
            least = max(0, self._known_event_seq - lost) if whole else known
            if least <= self._writer.event_seq or await self._persistently(partial(self._open, least)) is None:
                break
        # What was heard and has left the record may have been written by nobody.
        self._account.remember_only(in_log)
        missing = self.record.take_missing(frozenset(in_log))
        self.previous = previous
        self.events_complete_ms = self.health.events_complete_ms = previous.events_complete_ms
        self.log_begins(previous.events_since_ms or (0 if previous.has_log else self.record.began_ms))
        self.is_standby, self._leading, self._rewrite = False, True, True
        self._heartbeat_at = 0.0
        self._log.info(
            "writing",
            epoch=self._writer.epoch,
            seq=self._writer.seq,
            event_seq=self._writer.event_seq,
            **({"events_lost_by_redis": lost} if lost else {}),
        )
        gap = bool(self.record.complete_since_ms) and not (whole and self.record.complete_since_ms == compared_ms)
        # Of a log that is gone it is known since when there was one.
        complete_ms = previous.events_complete_ms or (0 if previous.last_event_ms else self.record.began_ms)
        self._gap = gap and previous.published
        self.on_lease_acquired(LeaseAcquired(previous, missing, complete_ms, gap))
        self.asked.set()
        self.opened.set()

    def _remembers_all(self, previous: PreviousState) -> bool:
        """Whether Redis is empty, and everything since the beginning of this process is in the record."""
        return not previous.has_log and self.record.complete_since_ms == self.record.began_ms

    async def _log_beside_the_record(self) -> dict[str, None]:
        """Ids of the log's events from the time of the record, and of the youngest, in their order."""
        oldest_at = self.record.oldest_at
        age_ms = 0 if oldest_at is None else round((self._clock.monotonic() - oldest_at) * 1000)
        found = await self._writer.youngest_events(age_ms + WRITTEN_LATE_MS, len(self.record) + LOG_MARGIN)
        return dict.fromkeys(event_id for event_id, _ in found)

    async def _open(self, least_event_seq: int = 0) -> str | None:
        self._known_event_seq = max(self._known_event_seq, self._writer.event_seq)
        reason = "taking the lease" if self.health.state == "starting" else self.health.reason
        # Who has written remembers what Redis has lost since long before this one began to listen. It comes first.
        now = self._clock.monotonic()
        patient = self.is_standby and (self._gone_at is None or now < self._gone_at + self._writer.lease_ttl_ms / 1000)
        holder = await self._writer.open(self.health.state, reason, least_event_seq, patient=patient)
        if holder != "":
            self._gone_at = None
        elif self._gone_at is None:
            self._gone_at = self._clock.monotonic()
        if holder is not None:
            self.asked.set()
        return holder

    async def _stand_by(self, holder: str) -> None:
        """Until the lease is free, or it is time to show oneself again."""
        if not self.is_standby:
            self.is_standby = True
            self._log.info("standby", holder=holder)
        began = self._clock.monotonic()
        while True:
            await self._clock.sleep(WATCH_S)
            is_free = await self._persistently(self._writer.holder) is None
            self.log_begins(self._writer.log_since_ms)
            if self._has_stalled():
                continue
            if is_free or self._clock.monotonic() - began >= REGISTER_S:
                return

    async def _tick(self) -> None:
        while True:
            self._ticked_at = self._clock.monotonic()
            await self._clock.sleep(TICK_S)
            self._has_stalled()

    def _has_stalled(self) -> bool:
        """Whether this process did not run lately, and has not had the time to read what came meanwhile."""
        now = self._clock.monotonic()
        late_s = now - self._ticked_at - TICK_S
        if late_s > STALL_S and now >= self._stalled_until:
            self._log.warning("stalled", late_s=round(late_s, 1))
            self._stalled_until = now + CATCH_UP_S
        return now < self._stalled_until

    def _submit_missing(self, taken: LeaseAcquired) -> None:
        self._gap = False
        self.submit(self._account.apply([LoggedEvent(event) for event in taken.missing], "stream"))

    async def _write(self) -> None:
        while not self._overflowed:
            await self._something_to_do()
            self._in_flight = self._next_batch()
            await self._persistently(self._send)
            self.record.wrote(sum(len(delta.events) for delta in self._in_flight.deltas))
            self._in_flight = None
        self._log.warning("rewriting", reason=f"more than {MAX_QUEUED} changes waited for Redis")
        self._step_down()

    async def _send(self) -> None:
        assert self._in_flight is not None
        batch = self._in_flight.batch
        # Sent again, it comes late: what is known here may be another by then.
        self._in_flight.batch = batch.unverified()
        await self._writer.send(batch)

    async def _something_to_do(self) -> None:
        while not self._queue and self._clock.monotonic() < self._heartbeat_at and not self._must_rewrite:
            self._wake.clear()
            try:
                async with asyncio.timeout(max(0.0, self._heartbeat_at - self._clock.monotonic())):
                    await self._wake.wait()
            except TimeoutError:
                return

    @property
    def _must_rewrite(self) -> bool:
        # What is in doubt here may be older than what another publisher has written and vouched for.
        return self._rewrite and self._account.complete and not self._gap and self.health.state == "live"

    def _next_batch(self) -> _InFlight:
        deltas: list[Delta] = []
        # What the last writer has left may have to be replaced, but not before the order events that lead there: should
        # this one die in between, the next one needs to know which orders were open.
        anew = self._rewrite
        events = 0
        while self._queue and len(deltas) < MAX_BATCH and events < MAX_EVENTS_IN_COMMIT:
            deltas.append(self._queue.popleft())
            events += len(deltas[-1].events)
        if self._must_rewrite and not self._queue:
            deltas.append(self._account.whole())
            self._rewrite = False
        status: dict[str, str | int] = {}
        verified = False
        now = self._clock.monotonic()
        if now >= self._heartbeat_at:
            # With a rest in the queue, Redis does not hold what is known here: the next batch may vouch for it.
            drained = not self._queue
            believed = self.health.state == "live" and now <= self.verified_until
            ours = drained and not self._rewrite and believed
            verified = ours and not self._has_stalled()
            if drained or self.events_complete_ms < self.health.events_complete_ms:
                self.health.events_complete_ms = self.events_complete_ms
            status = self.health.fields(self._writer.publisher_id, self._writer.epoch)
            if drained:
                self._heartbeat_at = now + self._heartbeat_s if verified or not ours else self._stalled_until
        batch = self._writer.encode(deltas, status, verified=verified, published=self._published and not anew)
        self._published = self._published or any(delta.replaces for delta in deltas)
        return _InFlight(batch, tuple(deltas))

    async def _persistently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Call until Redis has answered; what is called must be harmless to repeat."""

        def complain(attempt: RetryCallState) -> None:
            assert attempt.outcome is not None
            self._note(str(attempt.outcome.exception()))

        result: T = await AsyncRetrying(
            sleep=self._clock.sleep,
            wait=wait_exponential(multiplier=0.05, max=1.0),
            retry=retry_if_exception_type((StoreUnreachable, StoreRefused)),
            before_sleep=complain,
        )(call)
        if self._trouble and not isinstance(result, str):
            self._note("")
        return result

    def _note(self, trouble: str) -> None:
        """One line when something is in the way, another when it is not any more."""
        if trouble == self._trouble:
            return
        if trouble:
            self._log.warning("cannot_write", reason=trouble)
        else:
            self._log.info("can_write_again", after=self._trouble)
        self._trouble = trouble


def _events_only(events: tuple[OrderEvent, ...], delta: Delta) -> Delta:
    return Delta(delta.source, delta.times, events=events)

"""Deltas in order, into Redis, once: queues while a batch is in flight, survives lost replies, lost leases, lost Redis.

While one batch is under way the next one collects, so that a burst costs few round trips and a single event none of the
waiting. What is in doubt is sent again as it was. Once the lease or the content of Redis is lost, everything is written
anew from the account in memory, with the order events that had not got there.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Set
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_exponential

from publisher.lifecycle import Move, State, after
from publisher.logs import Log
from statecast.clock import Clock
from statecast.domain.fold import Account, Delta
from statecast.domain.models import OrderEvent
from statecast.errors import LeaseLost, StoreDiverged, StoreRefused, StoreUnreachable
from statecast.store.keys import CONTRACT, LEASE_TTL_MS
from statecast.store.writer import AccountWriter, Batch, Remains

HEARTBEAT_S = 1.0

MAX_BATCH = 128
"""Commits in one call: some 5 ms of the server's time where it was measured, which readers wait for at the most."""

MAX_EVENTS_IN_COMMIT = 500
"""Order events in one commit, some 6 ms of the server's time; what a backfill has beyond it goes ahead of it."""

MAX_QUEUED = 20_000
"""Deltas kept while Redis cannot be written, by estimate some 40 MB. Beyond it only their order events are
kept, for the state itself is in the account."""

MAX_QUEUED_EVENTS = 100_000
"""Commits of order events kept while Redis cannot be written; older ones are given up, and the log says so."""

LOG_TAIL = 5_000
"""Entries of the log, at the least, that are looked at for what it already holds: the outcome of a write was perhaps
never learnt, or another publisher has written meanwhile what waits here."""

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
    events_complete_ms: int = 0
    """Venue time until which the log of order events in Redis holds everything; 0: not yet known."""

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
            "eventsCompleteMs": self.events_complete_ms,
            "contract": CONTRACT,
        }


@dataclass(slots=True)
class _InFlight:
    batch: Batch
    deltas: tuple[Delta, ...]


class Committer:
    """Owns the writing of one account. `submit` and `move` never wait; `run` does the work until it is cancelled."""

    def __init__(self, writer: AccountWriter, account: Account, clock: Clock, log: Log) -> None:
        self.health = Health()
        self.opened = asyncio.Event()
        """Set once this publisher has held the lease: only then is the venue worth connecting to."""
        self.remains = Remains()
        """What an earlier publisher had left when this one took the lease for the first time."""
        self.events_complete_ms = 0
        """Venue time until which every order event was submitted. Readers learn it once those events are written."""
        self.on_lease_lost: Callable[[str], None] = lambda reason: None
        """Called with the reason when a lease that was held is not any more."""
        self._writer = writer
        self._account = account
        self._clock = clock
        self._log = log
        self._queue: deque[Delta] = deque()
        self._in_flight: _InFlight | None = None
        self._wake = asyncio.Event()
        self._heartbeat_at = 0.0
        self._published = False
        self._rewrite = False
        self._trouble = ""
        self._events_given_up = 0

    # What the follower calls

    def submit(self, delta: Delta) -> None:
        """Write `delta` after all that was submitted before it; an empty one is nothing to write."""
        if not delta:
            return
        while len(delta.events) > MAX_EVENTS_IN_COMMIT:
            self.submit(_events_only(delta.events[:MAX_EVENTS_IN_COMMIT], delta))
            delta = delta._replace(events=delta.events[MAX_EVENTS_IN_COMMIT:])
        if len(self._queue) >= MAX_QUEUED and not self._rewrite:
            self._keep_events_only(self._queue)
        if not self._rewrite:
            self._queue.append(delta)
        elif delta.events:
            # The state will be written as it is by then; an older row after that would be a step back.
            self._queue.append(_events_only(delta.events, delta))
            self._bound_events()
        self._wake.set()

    def move(self, move: Move, reason: str = "") -> None:
        """Change the state that readers see; the change is written at once, and logged after that was asked for."""
        before, self.health.state = self.health.state, after(self.health.state, move)
        if (before, self.health.reason) != (self.health.state, reason):
            self.health.reason = reason
            self._heartbeat_at = 0.0
            self._wake.set()
            level = self._log.warning if self.health.state in ("recovering", "refused") else self._log.info
            level("state", state=self.health.state, before=before, reason=reason)

    async def events_of_last(self, age_ms: int) -> list[tuple[str, str]]:
        """Event id and symbol of what was written within `age_ms`, as Redis has it. Raises StoreError."""
        return await self._writer.events_of_last(age_ms)

    # The work

    async def run(self) -> None:
        """Hold the lease and write, until cancelled."""
        while True:
            try:
                await self._open()
                await self._write()
            except LeaseLost as error:
                # Either Redis was away, or this process did not run for a while: then what it knows is old, too.
                self.on_lease_lost(f"lease lost: {error.reason}")
            except StoreDiverged as error:
                self._log.warning("rewriting", reason=error.reason)

    async def close(self) -> None:
        """After `run` was cancelled: write what is queued and the state `stopped`, and give the lease back.

        Tries once and lets errors through: there is no time to wait for a Redis that is not there.
        """
        if self.opened.is_set() and self._account.complete and not self._rewrite:
            while True:
                self._in_flight = self._in_flight or self._next_batch()
                await self._writer.send(self._in_flight.batch)
                self._in_flight = None
                if not self._queue:
                    break
        await self._writer.release(self.health.state, self.health.reason)

    async def _open(self) -> None:
        last_event_seq = self._writer.event_seq
        while (holder := await self._persistently(self._open_once)) is not None:
            self._note(f"waiting: publisher {holder} holds the lease")
            await self._clock.sleep(LEASE_TTL_MS / 5000)
        waiting = self._in_flight is not None or self._queue
        if not self.opened.is_set():
            self.remains = await self._persistently(self._writer.remains)
            self.health.events_complete_ms = self.remains.events_complete_ms
        count = max(LOG_TAIL, self._writer.event_seq - last_event_seq) if waiting else LOG_TAIL
        stored = await self._persistently(partial(self._writer.last_event_ids, count))
        self._account.remember_events(stored)
        in_log = set(stored)
        unwritten = self._in_flight.deltas if self._in_flight is not None else ()
        self._in_flight = None
        self._keep_events_only((*unwritten, *self._queue), in_log)
        self._log.info("writing", epoch=self._writer.epoch, seq=self._writer.seq, event_seq=self._writer.event_seq)
        self.opened.set()

    async def _open_once(self) -> str | None:
        reason = "taking the lease" if self.health.state == "starting" else self.health.reason
        return await self._writer.open(self.health.state, reason)

    async def _write(self) -> None:
        while True:
            await self._something_to_do()
            self._in_flight = self._next_batch()
            await self._persistently(partial(self._writer.send, self._in_flight.batch))
            self._in_flight = None

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
        return self._rewrite and self._account.complete

    def _next_batch(self) -> _InFlight:
        deltas: list[Delta] = []
        if self._must_rewrite:
            deltas.append(self._account.whole())
            self._rewrite = False
        while self._queue and len(deltas) < MAX_BATCH:
            deltas.append(self._queue.popleft())
        status: dict[str, str | int] = {}
        verified = False
        now = self._clock.monotonic()
        if now >= self._heartbeat_at:
            # With a rest in the queue, Redis does not hold what is known here: the next batch may vouch for it.
            drained = not self._queue
            verified = drained and not self._rewrite and self.health.state == "live"
            if drained:
                self.health.events_complete_ms = max(self.health.events_complete_ms, self.events_complete_ms)
            status = self.health.fields(self._writer.publisher_id, self._writer.epoch)
            if drained:
                self._heartbeat_at = now + HEARTBEAT_S
                self._tell_what_was_given_up()
        batch = self._writer.encode(deltas, status, verified=verified, published=self._published)
        self._published = self._published or any(delta.replaces for delta in deltas)
        return _InFlight(batch, tuple(deltas))

    def _keep_events_only(self, deltas: Iterable[Delta], known: Set[str] = frozenset()) -> None:
        """Make the queue one of order events alone, without those in `known`; the state will be written anew."""
        self._queue = deque(
            _events_only(events, delta)
            for delta in deltas
            if (events := tuple(event for event in delta.events if event.event_id not in known))
        )
        self._rewrite = True
        self._bound_events()

    def _bound_events(self) -> None:
        while len(self._queue) > MAX_QUEUED_EVENTS:
            self._queue.popleft()
            if self._events_given_up == 0:
                self._log.error("order_events_lost", reason=f"Redis was away for more than {MAX_QUEUED_EVENTS} events")
            self._events_given_up += 1

    def _tell_what_was_given_up(self) -> None:
        if self._events_given_up:
            self._log.error("order_events_lost", reason="they stand in no log", count=self._events_given_up)
            self._events_given_up = 0

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

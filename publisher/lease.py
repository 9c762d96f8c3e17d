"""The lease of one account: who may write it, and what a publisher has to know when it begins to.

One publisher holds the lease; the others are standbys and look when it expires. Whoever takes it compares its record of
order events with the log in Redis, for the last writer may have died with events, and Redis may have lost some.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial

from publisher.logs import Log
from publisher.record import EventRecord
from publisher.redis_retry import RedisRetry
from publisher.stalls import StallDetector
from publisher.status import Status
from publisher.tuning import Tuning
from statecast.clock import Clock
from statecast.domain.account import Account
from statecast.domain.models import OrderEvent
from statecast.store.writer import AccountWriter, Holder, PreviousState

LOOK_S = 0.25
"""A standby looks at the lease at least so often. When the lease runs out it knows from Redis; that the writer gave it
back in an orderly way, or how far the writer has numbered its commits, it learns only by looking."""

LOOK_AGAIN_S = 0.01
"""It looks again no sooner than after this pause, also where the lease is about to run out."""

REGISTER_S = 1.0
"""A standby registers among the publishers of the account at least so often."""


@dataclass(frozen=True, slots=True)
class LeaseAcquired:
    """The lease was taken. `missing` are the events of the record that are not in the log, in their order; submit them.

    The log holds every event until `complete_ms`, in the venue's time (0: see `previous`). A `gap` means that it misses
    more than what is in `missing`: first of all the venue's histories must say what happened since then.
    """

    previous: PreviousState
    missing: tuple[OrderEvent, ...]
    complete_ms: int
    gap: bool


@dataclass(frozen=True, slots=True)
class _Comparison:
    """What Redis holds of the account, next to what this process knows of it."""

    previous: PreviousState
    logged: dict[str, None]
    """Ids of the log's events, in their order."""
    lost: int
    """How many events this process has written that are not in the log any more."""
    complete: bool
    """Whether log and record together hold every event."""
    record_since_ms: int
    """Since when the record was complete."""


class Lease:
    """`acquire` it, write until it is lost, `acquire` it again. Everything else may be asked at any time."""

    def __init__(
        self,
        writer: AccountWriter,
        account: Account,
        record: EventRecord,
        status: Status,
        retry: RedisRetry,
        clock: Clock,
        log: Log,
        tuning: Tuning,
    ) -> None:
        self.has_asked = asyncio.Event()
        """Set once it is known who holds the lease, this publisher or another."""
        self.acquired = asyncio.Event()
        """Set once this publisher has held the lease."""
        self.stalls = StallDetector(clock, log, tuning.catch_up_s)
        """A process that did not run must not act on what it knows before it has caught up."""
        self._writer = writer
        self._account = account
        self._record = record
        self._status = status
        self._retry = retry
        self._clock = clock
        self._log = log
        self._tuning = tuning
        self._is_standby = False
        self._wiped_mono_s: float | None = None
        """When this standby found that Redis has lost the account, until somebody writes it again."""
        self._known_event_seq = 0
        """The highest number that this process has seen given to an event."""

    @property
    def is_standby(self) -> bool:
        """Whether another publisher holds the lease, as far as is known."""
        return self._is_standby

    async def acquire(self) -> LeaseAcquired:
        """Wait for the lease, take it, and find out what is missing in the log."""
        while True:
            while (holder := await self._retry.until_answered(self._open)) is not None:
                await self._wait_as_standby(holder)
            found = await self._compare()
            least = self._least_event_seq(found)
            if least <= self._writer.event_seq:
                break
            if await self._retry.until_answered(partial(self._open, least)) is None:
                break
        acquired = self._take_over(found)
        self._is_standby = False
        self._log.info(
            "writing",
            epoch=self._writer.epoch,
            seq=self._writer.seq,
            event_seq=self._writer.event_seq,
            **({"events_lost_by_redis": found.lost} if found.lost else {}),
        )
        self.has_asked.set()
        self.acquired.set()
        return acquired

    # Taking it

    async def _open(self, least_event_seq: int = 0) -> Holder | None:
        self._known_event_seq = max(self._known_event_seq, self._writer.event_seq)
        reason = "taking the lease" if self._status.state == "starting" else self._status.reason
        now = self._clock.monotonic()
        patient = self._is_standby and now < self._leave_to_writer_until(now)
        holder = await self._writer.open(self._status.state, reason, least_event_seq, patient=patient)
        if holder is None or holder.publisher_id:
            self._wiped_mono_s = None
        elif self._wiped_mono_s is None:
            self._wiped_mono_s = self._clock.monotonic()
        if holder is not None:
            self.has_asked.set()
        return holder

    def _leave_to_writer_until(self, now_mono_s: float) -> float:
        """Until when a standby leaves an account alone that Redis has lost: the one who has written it remembers events
        from before this process was connected."""
        wiped_mono_s = now_mono_s if self._wiped_mono_s is None else self._wiped_mono_s
        return wiped_mono_s + self._writer.lease_ttl_ms / 1000

    async def _compare(self) -> _Comparison:
        previous = await self._retry.until_answered(self._writer.read_previous)
        logged = await self._retry.until_answered(self._logged_ids)
        since_ms = self._record.complete_since_ms
        nothing_left = not previous.has_log and since_ms == self._record.began_ms
        return _Comparison(
            previous,
            logged,
            lost=self._record.count_lost(logged),
            complete=previous.events_complete_ms >= since_ms or nothing_left,
            record_since_ms=since_ms,
        )

    async def _logged_ids(self) -> dict[str, None]:
        """Ids of the log's events since the record's oldest one was added, and of the youngest, in their order."""
        oldest = self._record.oldest_mono_s
        age_ms = 0 if oldest is None else round((self._clock.monotonic() - oldest) * 1000)
        least = len(self._record) + self._tuning.log_margin
        found = await self._writer.youngest_events(age_ms + self._tuning.written_late_ms, least, renew=True)
        return dict.fromkeys(event_id for event_id, _ in found)

    def _least_event_seq(self, found: _Comparison) -> int:
        """The number after which events are numbered. Those that are written again get the numbers that they had; where
        not all of them can be, numbers go on, and readers see that some are missing."""
        if found.complete:
            return max(0, self._known_event_seq - found.lost)
        return max(self._known_event_seq, self._writer.log_event_seq)

    def _take_over(self, found: _Comparison) -> LeaseAcquired:
        previous = found.previous
        # An event that was received and has left the record may have been written by nobody.
        self._account.remember_only(found.logged)
        missing = self._record.take_missing(frozenset(found.logged))
        self._status.log_found(previous.events_complete_ms)
        self._log_begins(previous.events_since_ms or (0 if previous.has_log else self._record.began_ms))
        since_ms = self._record.complete_since_ms
        gap = bool(since_ms) and not (found.complete and since_ms == found.record_since_ms)
        # Of a log that is gone it is known since when there was one.
        complete_ms = previous.events_complete_ms or (0 if previous.last_event_ms else self._record.began_ms)
        return LeaseAcquired(previous, missing, complete_ms, gap)

    def _log_begins(self, since_ms: int) -> None:
        """There is a log since this venue time (0: not known). Should Redis lose it, whoever is left owes readers all
        of it, also what another publisher had written."""
        if since_ms:
            self._record.log_began(since_ms)
            self._status.log_begins(self._record.began_ms)

    # Being a standby

    async def _wait_as_standby(self, holder: Holder) -> None:
        """Until the lease is free, or it is time to register again."""
        if not self._is_standby:
            self._is_standby = True
            self._log.info("standby", holder=holder.publisher_id)
        register_mono_s = self._clock.monotonic() + REGISTER_S
        held: Holder | None = holder
        while held is not None:
            await self._sleep_until(min(self._runs_out_mono_s(held), register_mono_s))
            held = await self._retry.until_answered(self._writer.read_holder)
            self._log_begins(self._writer.log_since_ms)
            while self.stalls.has_stalled():
                await self._sleep_until(self.stalls.caught_up_mono_s)
            if self._clock.monotonic() >= register_mono_s:
                return

    def _runs_out_mono_s(self, holder: Holder) -> float:
        """When the lease may be free, as far as is known now."""
        now = self._clock.monotonic()
        if not holder.publisher_id:
            runs_out_mono_s = self._leave_to_writer_until(now)
        elif holder.left_ms < 0:  # somebody else has written a lease that never runs out
            runs_out_mono_s = now + LOOK_S
        else:
            runs_out_mono_s = now + holder.left_ms / 1000
        return min(max(runs_out_mono_s, now + LOOK_AGAIN_S), now + LOOK_S)

    async def _sleep_until(self, mono_s: float) -> None:
        await self._clock.sleep(mono_s - self._clock.monotonic())

"""One partition of a consumer: hands its events out, and settles them in Redis."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, replace

from consumers.order_events.calls import RedisCalls, Signals, Tasks
from consumers.order_events.event import OrderEvent
from consumers.order_events.gaps import PartitionProgress
from consumers.order_events.lease import PartitionLease
from consumers.order_events.options import Options
from consumers.order_events.queue import PartitionQueue, Waiting
from consumers.order_events.reporting import GapReporter
from statecast.clock import Clock
from statecast.errors import LeaseLost, StoreDiverged, StoreError
from statecast.store.groups import ConsumerGroup, Progress

LOG = logging.getLogger("statecast.consumers")

REASON_LENGTH = 500
"""Characters of a reason that a dead letter keeps."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What all partitions of a consumer use."""

    redis: ConsumerGroup
    calls: RedisCalls
    tasks: Tasks
    signals: Signals
    gaps: GapReporter
    options: Options
    clock: Clock

    @property
    def group(self) -> str:
        return self.redis.group


class Partition:
    """The events of one partition, as far as this process has them. Only with a valid `lease` it hands them out."""

    def __init__(self, number: int, shared: Shared) -> None:
        """`number` counts from 1."""
        remembered = shared.options.remembered // shared.options.partitions
        self.number = number
        self.lease = PartitionLease()
        self.progress = PartitionProgress(remembered)
        self.has_room = asyncio.Event()
        """Set when there may be room in the queue."""
        self.queue = PartitionQueue(remembered, on_room=self.has_room.set)
        self._shared = shared
        self._not_before_mono_s = 0.0
        self._counting: dict[str, asyncio.Task[None]] = {}
        """Deliveries that are being counted, by the token of the waiting event."""

    # Handing out

    def ready(self, now_mono_s: float) -> Waiting | None:
        """The event that may be handed out now."""
        may = self.lease.gives_out(now_mono_s) and self._not_before_mono_s <= now_mono_s
        return self.queue.head if may else None

    def pause_s(self, now_mono_s: float) -> float | None:
        """How long the events that wait here are held back; None if they are not."""
        held_back = len(self.queue) and self._not_before_mono_s > now_mono_s
        return self._not_before_mono_s - now_mono_s if held_back else None

    async def hand_out(self) -> OrderEvent | None:
        """The head of the queue; None if it was settled, or had to be counted before. Ask again then.

        May be cancelled at any time: no event gets lost.
        """
        waiting = self.queue.head
        assert waiting is not None, "the partition is ready"
        if self.queue.was_settled(waiting.event.event_id):
            # Redis lost it, or its acknowledgement, and the publisher wrote it again.
            self._shared.tasks.start(self.acknowledge(self.queue.take_head()))
            return None
        if waiting.count_first:
            counting = self._counting.get(waiting.token)
            if counting is None:
                counting = self._counting[waiting.token] = self._shared.tasks.start(self._count(waiting))
                counting.add_done_callback(lambda _: self._counting.pop(waiting.token, None))
            await asyncio.wait({counting})  # a cancellation does not reach the counting
            return None
        return self.queue.hand_out()

    async def _count(self, waiting: Waiting) -> None:
        """Count that an event is handed out once more; give it up if that was too often."""
        term, entry_id, max_attempts = self.lease.term, waiting.event.entry_id, self._shared.options.max_attempts
        if term is None:
            return
        try:
            before = await self._shared.calls.until_answered(
                lambda: self._shared.redis.attempt(self.number, term, entry_id, waiting.token)
            )
            if before == "done":  # acknowledged by a consumer that had it before; or it is delivered again anyway
                self.queue.drop(entry_id)
                return
            if before == "gone":
                before = waiting.event.attempt
            if before >= max(2, max_attempts):
                # The first of them may only have been read ahead by a consumer that was killed: one is not enough.
                reason = "each time its consumer ended, or lost the partition, before it acknowledged"
                await self._give_up(term, waiting.event, before, f"delivered {before} times; {reason}")
            else:
                waiting.counted(before + 1)
        except (LeaseLost, StoreDiverged) as error:
            self.suspend(error)

    # Settling

    async def acknowledge(self, event: OrderEvent) -> None:
        progress = Progress(event.event_seq, event.epoch, event.entry_id)
        redis = self._shared.redis
        await self._shared.calls.until_answered(lambda: redis.ack(self.number, [event.entry_id], progress))
        self.queue.acknowledged(event)

    async def retry(self, event: OrderEvent, reason: str) -> None:
        options = self._shared.options
        if event.attempt >= options.max_attempts:
            await self.reject(event, reason)
        elif self.lease.term is None:
            self._leave_to_the_holder(event)
        else:
            self._not_before_mono_s = self._shared.clock.monotonic() + options.pause_s(event.attempt)
            self._redeliver(event)

    async def reject(self, event: OrderEvent, reason: str) -> None:
        term = self.lease.term
        if term is None:
            self._leave_to_the_holder(event)
            return
        try:
            await self._give_up(term, event, event.attempt, reason)
        except (LeaseLost, StoreDiverged) as error:
            self.suspend(error)
            self._redeliver(event)

    async def dead_letter(self, term: str, entry_id: str, name: str, attempts: int, reason: str) -> None:
        """Move an entry to the dead letters of the group, or report it if the log does not hold it any more."""
        short = reason if len(reason) <= REASON_LENGTH else reason[: REASON_LENGTH - 1] + "…"
        redis = self._shared.redis
        if await self._shared.calls.until_answered(
            lambda: redis.dead_letter(self.number, term, entry_id, attempts, short)
        ):
            line = "%s: gave up %s after %d attempts, see its dead letters: %s"
            LOG.error(line, self._shared.group, name, attempts, short)
        else:
            await self.report_trimmed([entry_id])

    async def report_trimmed(self, ids: list[str]) -> None:
        """Report entries that were delivered and have left the log, and only then acknowledge them."""
        gap, progress = self.progress.trimmed_pending(ids)
        await self._shared.gaps.report(gap, self.number)
        await self._shared.calls.until_answered(lambda: self._shared.redis.ack(self.number, ids, progress))

    def add(self, event: OrderEvent, *, count_first: bool) -> None:
        """Queue an event that was read."""
        self.queue.add(event, secrets.token_hex(4), count_first=count_first)
        self._shared.signals.event_ready()

    def suspend(self, error: StoreError) -> None:
        """A call was refused to whom the lease does not belong, or Redis lost the group: hand nothing out until the
        next renewal, which is due now."""
        if isinstance(error, StoreDiverged):
            self._shared.signals.lost_group()
        self.lease.suspend()
        self._shared.signals.renew_now()

    def _redeliver(self, event: OrderEvent) -> None:
        """Hand it out again, after those before it and before those after it."""
        self.queue.drop(event.entry_id)
        self.add(replace(event, redelivered=True), count_first=True)

    def _leave_to_the_holder(self, event: OrderEvent) -> None:
        """It is settled by the consumer that has the partition now."""
        LOG.info(
            "%s: %s was not settled, and its partition is another consumer's now", self._shared.group, event.event_id
        )
        self.queue.drop(event.entry_id)

    async def _give_up(self, term: str, event: OrderEvent, attempts: int, reason: str) -> None:
        await self.dead_letter(term, event.entry_id, event.event_id, attempts, reason)
        self.queue.drop(event.entry_id)

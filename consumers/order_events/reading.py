"""Reads the entries of a partition while this consumer has its lease: first what is pending, then what is new."""

from __future__ import annotations

import asyncio
import logging

from consumers.models import EventFields
from consumers.order_events.calls import FIRST_PAUSE_S
from consumers.order_events.event import OrderEvent
from consumers.order_events.gaps import GROUP_LOST, Gap, left_out_before, lost_by_redis, progress_of
from consumers.order_events.partition import Partition, Shared
from consumers.tables import values
from statecast.errors import LeaseLost, StoreDiverged, StoreError
from statecast.store.client import Client
from statecast.store.event_log import seq_before
from statecast.store.groups import Entry, Fields, Progress

LOG = logging.getLogger("statecast.consumers")


class PartitionReader:
    """Fills the queue of one partition. `start` it with each new term of the lease, `stop` it when that is lost."""

    def __init__(self, partition: Partition, shared: Shared, client: Client) -> None:
        self._partition = partition
        self._shared = shared
        self._client = client
        self._serving: asyncio.Task[None] | None = None
        self._caught_up = False
        """Everything that was pending when the lease was taken was read: a younger entry that turns up later is new."""
        self._sweep_at_mono_s = 0.0
        self._reported_loss = ""
        """What Redis had lost, reported to the user; the next claim tells Redis so."""
        self._warned = False

    def start(self, term: str) -> None:
        """Read under this term, unless it is being done."""
        if self._serving is None or self._serving.done():
            self._serving = self._shared.tasks.start(self._serve(term))

    def stop(self) -> None:
        if self._serving is not None:
            self._serving.cancel()
        self._serving, self._caught_up = None, False

    async def _serve(self, term: str) -> None:
        partition, redis = self._partition, self._shared.redis
        try:
            await self._sweep(term)
            await self._read_pending(term)
            self._caught_up = True
            while True:
                if self._sweep_at_mono_s <= self._shared.clock.monotonic() and await self._sweep(term):
                    await self._read_pending(term)
                count = await self._wait_for_room()
                entries, youngest = await redis.read(partition.number, term, ">", count)
                await self._queue_entries(term, entries, pending=False)
                if len(entries) < count:  # there was no more: ask again when there is
                    after = entries[-1][0] if entries else youngest
                    await redis.wait(after, round(self._shared.options.block_s * 1000))
        except (LeaseLost, StoreDiverged) as error:
            partition.suspend(error)
        except StoreError as error:
            self._shared.calls.raise_unless_temporary(error)
            await self._shared.clock.sleep(FIRST_PAUSE_S)
            # Entries may have been delivered in a reply that was lost. A call of this term that is still on its way
            # must not take any after they were looked for: the next renewal ends the term.
            partition.lease.require_new_term()
            self._shared.signals.renew_now()

    async def _wait_for_room(self) -> int:
        """Wait until there is room for events; for how many."""
        partition = self._partition
        while not (capacity := partition.queue.capacity):
            if partition.queue.is_overdrawn and not self._warned:
                self._warned = True
                line = "%s: %d events are not acknowledged; no more are delivered until some are"
                LOG.warning(line, self._shared.group, partition.queue.in_hand)
            partition.has_room.clear()
            await partition.has_room.wait()
        return capacity

    async def _sweep(self, term: str) -> int:
        """Take over what consumers that are gone left pending, and what was put back; how many entries."""
        partition, claimed = self._partition, 0
        while True:
            claim = await self._shared.redis.claim(partition.number, term, self._reported_loss)
            self._reported_loss = ""
            known_progress = partition.progress.last is not None
            partition.progress.learn(claim.progress)
            if claim.lost:
                await self._report_loss(claim.lost, known_progress=known_progress)
                self._reported_loss = claim.lost
            if claim.gone:
                await partition.report_trimmed(claim.gone)
            claimed += claim.claimed
            if not claim.more:
                self._sweep_at_mono_s = self._shared.clock.monotonic() + self._shared.options.lease_s / 4
                return claimed

    async def _read_pending(self, term: str) -> None:
        """Read what was delivered to this consumer and is not acknowledged, from the beginning."""
        after = "0-0"
        while True:
            count = await self._wait_for_room()
            entries, _ = await self._shared.redis.read(self._partition.number, term, after, count)
            if not entries:
                return
            await self._queue_entries(term, entries, pending=True)
            after = entries[-1][0]

    async def _queue_entries(self, term: str, entries: list[Entry], *, pending: bool) -> None:
        """Queue what is wanted, acknowledge the rest, and report a gap before what comes after it."""
        partition = self._partition
        unwanted: list[str] = []
        unwanted_progress: Progress | None = None
        gone: list[str] = []
        for entry_id, fields in entries:
            if partition.queue.knows(entry_id):
                continue
            if fields is None:
                gone.append(entry_id)
                continue
            if gone:
                await partition.report_trimmed(gone)
                gone = []
            progress = progress_of(entry_id, fields)
            delivered_before = await self._compare(progress, fields.get("eventId", ""))
            redelivered = delivered_before or (pending and not self._caught_up)
            if not self._shared.options.wants(partition.number, fields):
                unwanted.append(entry_id)
                unwanted_progress = progress or unwanted_progress
                continue
            try:
                event = self._event(entry_id, fields, redelivered=redelivered)
            except ValueError as error:
                reason = f"not an order event of this contract: {error}"
                await partition.dead_letter(term, entry_id, f"entry {entry_id}", 1, reason)
                continue
            if event.gap_info is not None:
                gap = Gap("unrecoverable", None, event.event_seq, f"{event.gap_info} ({event.event_id})")
                await self._shared.gaps.report(gap, partition.number)
            partition.add(event, count_first=pending and redelivered)
        if gone:
            await partition.report_trimmed(gone)
        if unwanted:
            redis = self._shared.redis
            await self._shared.calls.until_answered(lambda: redis.ack(partition.number, unwanted, unwanted_progress))

    def _event(self, entry_id: str, fields: Fields, *, redelivered: bool) -> OrderEvent:
        """ValueError for fields that are not of the contract."""
        return OrderEvent(
            **values(EventFields, fields),
            entry_id=entry_id,
            redelivered=redelivered,
            attempt=1,
            _settler=self._partition,
        )

    # What was missed

    async def _compare(self, found: Progress | None, event_id: str) -> bool:
        """Report what is missing before an entry; whether it was delivered before, or the event in it was."""
        progress = self._partition.progress
        comparison = progress.compare(found, event_id)
        if comparison.gap is not None:
            await self._shared.gaps.report(comparison.gap, self._partition.number)
        if comparison.written_again and found is not None:
            await self._report_left_out(found)
        if comparison.progress is not None:
            progress.advance(comparison.progress)
        return comparison.redelivered

    async def _report_left_out(self, found: Progress) -> None:
        """The log holds from `found` on what it held before: report what is missing between its end and there."""
        shared, account_id = self._shared, self._shared.redis.account_id
        before = await shared.calls.until_answered(lambda: seq_before(self._client, account_id, found.entry_id))
        LOG.info("%s: Redis lost order events; they are written again from %d on", shared.group, found.event_seq)
        gap = left_out_before(found.event_seq, before, self._partition.queue.waiting_seqs())
        if gap is not None:
            await shared.gaps.report(gap, self._partition.number)

    async def _report_loss(self, what: str, *, known_progress: bool) -> None:
        expected = self._partition.progress.expected_event_seq
        gap = lost_by_redis(what, expected, known_progress=known_progress)
        if gap is None:
            LOG.warning("%s: %s, except those that were handled here", self._shared.group, GROUP_LOST)
        else:
            await self._shared.gaps.report(gap, self._partition.number)

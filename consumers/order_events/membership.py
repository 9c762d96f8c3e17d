"""Joins the group, renews the leases of its partitions, gives up what others should have, and leaves."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from consumers.order_events.calls import FIRST_PAUSE_S
from consumers.order_events.gaps import read_ahead_lost
from consumers.order_events.partition import Partition, Shared
from consumers.order_events.reading import PartitionReader
from statecast.errors import StoreDiverged, StoreError
from statecast.store.client import Client
from statecast.store.event_log import first_entry_from_seq
from statecast.store.groups import Held

LOG = logging.getLogger("statecast.consumers")

STANDBY_S = 0.5
"""How often a consumer without work asks for some: as long as that, a partition that was given back has no reader."""


class Membership:
    """One consumer's membership in its group, and the leases that it holds."""

    def __init__(self, shared: Shared, partitions: Sequence[Partition], client: Client) -> None:
        self._shared = shared
        self._client = client
        self._partitions = partitions
        self._readers = {p.number: PartitionReader(p, shared, client) for p in partitions}
        self._rejoined = False
        """The group was lost, and joined again, since the last renewal."""
        self._consumer = shared.redis.consumer
        self._of = f"{shared.options.partitions} on {shared.redis.account_id}"

    async def join(self, *, existed: bool = False) -> bool:
        """Create what is missing of the group; whether the account was ever published.

        `existed`: the group was there before, and Redis has lost it.
        """
        options, redis = self._shared.options, self._shared.redis
        start, least_seq = options.start_after, None if existed else options.start_event_seq
        if least_seq is not None:
            start = await first_entry_from_seq(self._client, redis.account_id, least_seq)
        known = {p.number: p.progress.last for p in self._partitions if p.progress.last is not None}
        return await redis.join(start, least_seq=least_seq, existed=existed, known=known)

    async def leave(self) -> None:
        """Give all partitions back, and the membership."""
        never_handed_out = {p.number: p.queue.never_handed_out() for p in self._partitions}
        await self._shared.redis.leave(never_handed_out, membership=True)

    async def keep(self) -> None:
        """Stay a member, and see that the partitions of this consumer are read; until cancelled."""
        signals, calls, redis = self._shared.signals, self._shared.calls, self._shared.redis
        lease_s, failures = self._shared.options.lease_s, 0
        while True:
            try:
                if signals.group_lost:
                    LOG.warning("%s: Redis lost the group on %s; joining it again", redis.group, redis.account_id)
                    await self.join(existed=True)
                    signals.joined_again()
                    self._rejoined = True
                await self._renew()
                calls.answered()
                self._rejoined = False
                failures = 0
                has_all = len(self._partitions) == 1 and self._partitions[0].lease.term is not None
                pause_s = lease_s / 4 if has_all else min(STANDBY_S, lease_s / 4)
            except StoreDiverged:
                signals.lost_group()
                pause_s = FIRST_PAUSE_S
            except StoreError as error:
                calls.raise_unless_temporary(error)
                pause_s = min(FIRST_PAUSE_S * 2**failures, STANDBY_S)
                failures = min(failures + 1, 10)
            await signals.wait_for_renewal(pause_s)

    async def _renew(self) -> None:
        await self._leave_partitions()
        sent_mono_s = self._shared.clock.monotonic()
        new_terms = [p.number for p in self._partitions if p.lease.needs_new_term]
        leases = await self._shared.redis.renew(new_terms=new_terms)
        until_mono_s = sent_mono_s + self._shared.options.lease_s
        for p in self._partitions:
            held = leases.partitions.get(p.number)
            if held is None:
                await self._not_held(p)
            else:
                self._held(p, held, until_mono_s, has_new_term=p.number in new_terms)
        self._choose_what_to_leave(leases.surplus)
        self._shared.signals.event_ready()

    async def _leave_partitions(self) -> None:
        """Give up the partitions that others should have, once nothing of them is in hand."""
        for p in self._partitions:
            if p.lease.may_leave(self._shared.clock.monotonic(), p.queue.in_hand):
                untouched: Mapping[int, list[str]] = {p.number: p.queue.never_handed_out()}
                await self._shared.redis.leave(untouched, membership=False)
                line = "%s: %s gives partition %d of %s to another consumer"
                LOG.info(line, self._shared.group, self._consumer, p.number, self._of)
                self._end(p)

    async def _not_held(self, p: Partition) -> None:
        head = p.queue.head
        if head is not None and self._rejoined:
            await self._shared.gaps.report(read_ahead_lost(head.event.event_seq, len(p.queue)), p.number)
        self._lost(p)

    def _held(self, p: Partition, held: Held, until_mono_s: float, *, has_new_term: bool) -> None:
        if held.term_before != p.lease.term:
            # What was read ahead is the next holder's, and read again; unless Redis has lost it.
            self._lost(p, keep_queue=self._rejoined)
            LOG.info("%s: %s works on partition %d of %s", self._shared.group, self._consumer, p.number, self._of)
        p.lease.renew(held.term, until_mono_s)
        if p.lease.needs_new_term and not has_new_term:
            return  # its read failed while this was under way: the next renewal, which is due, ends the term
        p.lease.has_new_term()
        self._readers[p.number].start(held.term)

    def _lost(self, p: Partition, *, keep_queue: bool = False) -> None:
        if p.lease.term is not None:
            LOG.warning("%s: %s has lost partition %d of %s", self._shared.group, self._consumer, p.number, self._of)
            self._end(p, keep_queue=keep_queue)

    def _end(self, p: Partition, *, keep_queue: bool = False) -> None:
        self._readers[p.number].stop()
        p.lease.end()
        if not keep_queue:
            p.queue.clear()

    def _choose_what_to_leave(self, surplus: int) -> None:
        """Choose what to give to other consumers: what is leaving already, then where least is in hand."""
        ours = [p for p in self._partitions if p.lease.term is not None]
        ours.sort(key=lambda p: (not p.lease.is_leaving, p.queue.in_hand))
        for rank, p in enumerate(ours):
            if rank < surplus:
                p.lease.leave_at(self._shared.clock.monotonic() + self._shared.options.lease_s)
            else:
                p.lease.stay()

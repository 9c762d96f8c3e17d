"""What a group missed, judged by the numbers of the entries that it read. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from consumers.order_events.queue import REMEMBERED, RecentIds
from statecast.store.groups import Fields, Progress, position


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that this group missed, or may have missed. Compare with the account's orders.

    `trimmed`: events left the log before the group had them; they are `expected_event_seq` up to the one before
    `found_event_seq`, where these are known. `reset`: Redis lost data, and with it the numbers, or the group before
    this consumer knew its progress; what is in the log is delivered again. `progress`: Redis lost the progress of the
    group, so events trimmed in the meantime would go unnoticed. `unrecoverable`: the log itself says that some events
    cannot be recovered; its entry is delivered as an event of type GAP as well.
    """

    kind: Literal["trimmed", "reset", "progress", "unrecoverable"]
    expected_event_seq: int | None
    found_event_seq: int | None
    reason: str


class Comparison(NamedTuple):
    """What the number of an entry says, compared with the entry before it."""

    redelivered: bool
    """It was delivered before, or the event in it was."""
    progress: Progress | None = None
    """How far the partition is read with this entry; None if it adds nothing."""
    gap: Gap | None = None
    written_again: bool = False
    """From here on the log holds again what it held before Redis lost it: look whether something was left out."""


class PartitionProgress:
    """How far a partition was read, and the ids of the last events in it, wanted or not."""

    def __init__(self, remembered: int = REMEMBERED) -> None:
        self._last: Progress | None = None
        self._seen = RecentIds(remembered)

    @property
    def last(self) -> Progress | None:
        """The youngest event seen."""
        return self._last

    @property
    def expected_event_seq(self) -> int | None:
        """The number that comes next; None if nothing was read yet."""
        return None if self._last is None else self._last.event_seq + 1

    def learn(self, progress: Progress | None) -> None:
        """Take over what Redis knows, if it is younger than what this process has seen."""
        if progress and (self._last is None or position(progress.entry_id) > position(self._last.entry_id)):
            self._last = progress

    def advance(self, progress: Progress) -> None:
        """The entry was compared, and its gap reported."""
        self._last = progress

    def compare(self, found: Progress | None, event_id: str) -> Comparison:
        """Compare an entry with the one before it, and remember its event. `advance` when its gap is reported.

        What Redis lost is written again by the publisher under a higher epoch, with ids that were seen here.
        """
        last = self._last
        if found is None:
            return Comparison(redelivered=False)
        seen = event_id in self._seen
        self._seen.add(event_id)
        if last is None:
            return Comparison(seen, found)
        if position(found.entry_id) <= position(last.entry_id) and found.epoch <= last.epoch:
            return Comparison(redelivered=True)
        expected = last.event_seq + 1
        if found.event_seq > expected:
            missing = f"events {expected} to {found.event_seq - 1} are not in the log any more"
            gap = Gap("trimmed", expected, found.event_seq, f"{missing}: trimmed, or lost by Redis")
            return Comparison(seen, found, gap)
        if found.event_seq < expected and seen and found.epoch > last.epoch:
            return Comparison(seen, found, written_again=True)
        if found.event_seq < expected:
            reason = "Redis lost data, and the numbers of events went back"
            return Comparison(seen, found, Gap("reset", expected, found.event_seq, reason))
        return Comparison(seen, found)

    def trimmed_pending(self, ids: Sequence[str]) -> tuple[Gap, Progress | None]:
        """The gap for entries that were delivered and have left the log, and the progress if they are new here."""
        expected, progress, last = None, None, self._last
        if last is not None:
            # Entries are delivered without a gap, so these have the next numbers.
            unseen = [entry_id for entry_id in ids if position(entry_id) > position(last.entry_id)]
            if unseen:
                expected = last.event_seq + 1
                progress = self._last = Progress(last.event_seq + len(unseen), last.epoch, unseen[-1])
        entries = f"entry {ids[0]} was" if len(ids) == 1 else f"{len(ids)} entries from {ids[0]} to {ids[-1]} were"
        return Gap("trimmed", expected, None, f"{entries} trimmed before the acknowledgement"), progress


def progress_of(entry_id: str, fields: Fields) -> Progress | None:
    """The numbers of an entry; None for one that is not an order event."""
    try:
        return Progress(int(fields["eventSeq"]), int(fields["epoch"]), entry_id)
    except (KeyError, ValueError):
        return None


def left_out_before(found_seq: int, seq_before: int | None, waiting: Collection[int]) -> Gap | None:
    """The gap before an entry that was written again, if there is one.

    `seq_before` is the number of the entry before it in the log, None if there is none; events that are `waiting` here
    were read before Redis lost them.
    """
    if seq_before is None:
        return None
    missing = next((number for number in range(seq_before + 1, found_seq) if number not in waiting), None)
    if missing is None:
        return None
    reason = f"events {missing} to {found_seq - 1} were lost by Redis and not written again"
    return Gap("trimmed", missing, found_seq, reason)


GROUP_LOST = "Redis lost the group; it starts again from the oldest entry of the log, and events are delivered again"


def lost_by_redis(what: str, expected_event_seq: int | None, *, known_progress: bool) -> Gap | None:
    """The gap for what Redis had lost when the group was joined: `group <ms>` or `progress <ms>`.

    None for a lost group whose progress this process knew: the numbers of entries then show whether any is missing.
    """
    if not what.startswith("group"):
        reason = "Redis lost the progress of the group; events trimmed in the meantime would go unnoticed"
        return Gap("progress", None, None, reason)
    return None if known_progress else Gap("reset", expected_event_seq, None, GROUP_LOST)


def read_ahead_lost(first_event_seq: int, count: int) -> Gap:
    """The gap for events that were read and not handed out when Redis lost the group and another consumer took over."""
    reason = f"{count} events were read and not handed out when Redis lost the group, and another consumer took over"
    return Gap("reset", first_event_seq, None, reason)

"""Counts and intervals by which a publisher works. Operators do not set them; tests hand in small ones."""

from __future__ import annotations

from dataclasses import dataclass

from publisher.discrepancies import GRACE_S
from publisher.log_window import OVERLAP_MS, WRITTEN_LATE_MS
from statecast.domain.catch_up import MAX_WAITING_EVENTS
from statecast.domain.order_tracking import Memory
from statecast.store.keys import CHANGES_LENGTH
from statecast.store.trimming import MOST_PER_CALL


@dataclass(frozen=True, slots=True)
class Tuning:
    """They decide how much is done at once and how often, never what is written."""

    heartbeat_s: float = 1.0
    """Pause between two heartbeats; shorter where the lease is short."""

    catch_up_s: float = 0.2
    """Time that a process gets, after it did not run, to read the frames that arrived meanwhile."""

    commits_in_batch: int = 128
    """Commits in one call: some 5 ms of the server's time where it was measured. Readers wait so long at the most."""

    events_in_commit: int = 500
    """Order events in one commit, some 6 ms of the server's time; what a gap has beyond it goes into commits of its
    own. A batch with as many takes no further commit: tens of thousands in one call would outlast the lease."""

    grace_s: float = GRACE_S
    """For so long, an event or an answer may be on its way before what differs counts as wrong."""

    proof_s: float | None = None
    """An answer that was asked for so long after the stream was connected has what happened before that; None: as long
    as REST is usually behind at this venue."""

    overlap_ms: int = OVERLAP_MS
    """A gap begins so much earlier than the moment until which the log is complete."""

    few_symbols: int = 20
    """Of so many symbols the histories of a gap are read in any case; of more, where something has moved."""

    history_slice: int = 500
    """Orders whose events are reconstructed in one go, and events that are logged in one: some tens of milliseconds."""

    changes_at_once: int = 2_000
    """Changes that waited for a snapshot and are applied before other work has a turn: some tens of milliseconds. With
    the snapshot, a quiet account's are one commit."""

    events_at_once: int = 2_000
    """Events of a history that are one commit with the snapshot behind them; more of them go ahead of it."""

    queued_deltas: int = 20_000
    """Deltas kept while Redis is slower than the venue, by estimate some 40 MB. With more of them their rows are
    dropped: the whole account is written in their place, behind their order events."""

    unwritten_events: int = 5_000
    """Order events of a long history that may wait to be written: the venue has them still."""

    unlogged_events: int = MAX_WAITING_EVENTS
    """Order events of the stream that may wait, for a snapshot and to be written together. Beyond it they are dropped,
    and an entry of the log says so."""

    recorded_events: int = 20_000
    """Order events that the record keeps when they are written, by estimate 40 MB. What Redis loses of more of them,
    the venue's histories have to say."""

    changes_length: int = CHANGES_LENGTH
    """Entries of `…:changes` that are kept at the most: for each, the writer remembers how large it is."""

    log_margin: int = 5_000
    """The log is searched by so many entries further back than the record goes: other publishers may have written."""

    written_late_ms: int = WRITTEN_LATE_MS
    """The same in time: clocks may have been set."""

    steady_s: float = 5.0
    """A stream that lasted this long was a good one, even where that was too short to read what had been missed before
    it: the pauses between connections start over. How many snapshots fit in a minute is decided by the venue's
    limits."""

    refused_retry_s: float = 60.0
    """How often a refused key is tried again: often enough to see a corrected one, seldom enough not to be banned."""

    memory: Memory | None = None
    """How many events and orders the account remembers; None: as many as `statecast.domain.order_tracking` says."""

    trim_every_s: float = 30.0
    """Pause between two rounds of trimming. Against a retention of days this is at once, and a busy account writes
    some thousands of events meanwhile."""

    trimmed_per_call: int = MOST_PER_CALL
    """Entries of the log that one call of trimming removes at the most."""

    trim_pause_s: float = 0.05
    """Pause between two calls of one round: a log that grew for months is trimmed in pieces, and other calls come in
    between."""

    @property
    def most_unwritten(self) -> int:
        """Order events that may wait to be written: those of the stream, and what is one commit with a snapshot."""
        return self.unlogged_events + self.events_at_once

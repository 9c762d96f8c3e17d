"""Until when the log of order events is known to be complete, and which window of time a gap has. Pure.

The window begins where the log is complete, less `OVERLAP_MS`: frames may be late, and event ids sort out what the log
has already. It ends a moment after the stream was connected. Times are the venue's milliseconds (`_ms`); moments of the
monotonic clock are turned into them when they are needed, for the venue's clock may have been set in between.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from statecast.store.writer import PreviousState
from statecast.venues.adapter import Retention

OVERLAP_MS = 30_000
"""Asked for again before the moment until which the log is complete: frames may be late, and a comparison that agrees
proves positions and wallets, not orders. With the default period of 60 s at 500 events a second, it is within the event
ids that the account remembers."""

WRITTEN_LATE_MS = 60_000
"""The log is searched this much further back than the window, for clocks that were set meanwhile."""

VERIFIED_MS = 600_000
"""A log that does not say until when it is complete is from an earlier version: it is taken to be complete this long
before the state was last verified. That version noticed a silent stream late."""


class LogWindow:
    """What is known of the log's completeness.

    `margin_ms`: the histories reach this far beyond the moment of connecting, twice the error of the venue's clock. Of
    a log that Redis has lost altogether, what is older than `log_kept_ms` is not fetched again: by now it would have
    been trimmed.
    """

    def __init__(
        self,
        *,
        history_lag_ms: int,
        retention: Retention,
        margin_ms: int,
        log_kept_ms: int,
        overlap_ms: int = OVERLAP_MS,
        written_late_ms: int = WRITTEN_LATE_MS,
    ) -> None:
        self.margin_ms = margin_ms
        self._overlap_ms = overlap_ms
        self._written_late_ms = written_late_ms
        self._history_lag_ms = history_lag_ms
        self._retention = retention
        self._log_kept_ms = log_kept_ms
        self._connected_mono_s = 0.0
        self._first_connected_mono_s = inf
        self._complete_ms = 0
        self._log_is_gone = False
        self._was_complete = False
        self._is_own = False
        self._previous = PreviousState()

    @property
    def connected_mono_s(self) -> float:
        """Since when the stream sends everything."""
        return self._connected_mono_s

    @property
    def complete_ms(self) -> int:
        """Every event until then was submitted; 0: not known."""
        return self._complete_ms

    @property
    def previous(self) -> PreviousState:
        """What the last writer left, while the log is not yet complete behind it."""
        return self._previous

    @property
    def log_is_gone(self) -> bool:
        """Whether Redis holds nothing of the log any more."""
        return self._log_is_gone

    @property
    def was_complete(self) -> bool:
        """Whether this process has completed the log once: since then it has received which conditional orders were
        triggered."""
        return self._was_complete

    @property
    def is_own(self) -> bool:
        """Whether this process has completed the log, and nobody has written it since: what it knows of the account, up
        to that, it has logged, or it waits to be logged."""
        return self._is_own

    def stream_begins(self, mono_s: float) -> None:
        """What happens from this moment on the stream sends; before it there may be a gap."""
        self._connected_mono_s = mono_s
        self._first_connected_mono_s = min(self._first_connected_mono_s, mono_s)

    def complete(self, until_ms: int) -> None:
        """Every event until then was submitted."""
        self._previous = PreviousState()
        self._log_is_gone = False
        self._was_complete = self._is_own = True
        self._complete_ms = max(self._complete_ms, until_ms)

    def filled(self, until_ms: int, unread_since_ms: int = 0) -> None:
        """What the histories have until then was submitted. They may be behind: the mark stays back by that, until they
        have been asked once more. So it does where some were not read from `unread_since_ms` on; 0: all were."""
        covered_ms = until_ms if not self._complete_ms else until_ms - self._history_lag_ms
        self.complete(min(covered_ms, unread_since_ms) if unread_since_ms else covered_ms)

    def reopen(self, since_ms: int, now_ms: int) -> None:
        """The stream has ended and sent nothing since then. What came and went meanwhile, such as an order that was
        placed and cancelled, showed in no answer that agreed."""
        # An account may have been quiet for longer than the venue remembers; then what agreed must do.
        oldest_ms = now_ms - self._retention.unfilled_kept_ms + 2 * self._overlap_ms
        self._complete_ms = min(self._complete_ms, max(since_ms, oldest_ms))

    def begin_again(self, previous: PreviousState, since_ms: int) -> None:
        """The log, as the last writer left it, is complete until `since_ms` only; 0 where that is not known."""
        self._previous = previous
        self._is_own = False
        self._complete_ms = since_ms
        self._log_is_gone = not previous.has_log

    @property
    def begins_log(self) -> bool:
        """Whether there is no log yet, as far as is known."""
        return not (self._complete_ms or self._previous.has_log)

    @property
    def is_marked(self) -> bool:
        """Whether it is known until when the log is complete."""
        return bool(self._complete_ms or self._previous.events_complete_ms)

    def until_ms(self, at_ms: Callable[[float], int]) -> int:
        """The end of the window. `at_ms` turns a moment of the monotonic clock into the venue's time."""
        return at_ms(self._connected_mono_s) + self.margin_ms

    def since_ms(self, at_ms: Callable[[float], int], now_ms: int, log_since_ms: int) -> int:
        """The beginning of the window; 0 when there is no log to go on with. `log_since_ms`: since when there is
        one."""
        if self._complete_ms:
            kept_ms = now_ms - self._log_kept_ms if self._log_is_gone else 0
            # Of what happened before there was a log it has no part.
            return max(self._complete_ms - self._overlap_ms, log_since_ms - self.margin_ms // 2, kept_ms)
        previous = self._previous
        if previous.events_complete_ms:
            return previous.events_complete_ms - self._overlap_ms
        if not previous.last_event_ms:
            # What earlier connections of this process have sent, before a snapshot was there, is logged nevertheless.
            earlier = self._first_connected_mono_s < self._connected_mono_s
            return at_ms(self._first_connected_mono_s) + self.margin_ms if earlier else 0
        verified_ms = 0
        if previous.verified_at_ms:
            # An age does not depend on whose clock it is taken by.
            verified_ms = now_ms - (previous.now_ms - previous.verified_at_ms) - VERIFIED_MS
        return max(previous.last_event_ms - self._overlap_ms, verified_ms)

    def reaches_ms(self, published_complete_ms: int, now_ms: int) -> int | None:
        """How long ago the oldest event was written, at the most, that a gap may hold which is found now; None where it
        is not known until when the log is complete. `published_complete_ms`: as readers see it."""
        oldest_ms = min((mark for mark in (published_complete_ms, self._complete_ms) if mark), default=0)
        return now_ms - oldest_ms + self._overlap_ms + self._written_late_ms if oldest_ms else None

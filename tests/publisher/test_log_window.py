"""Which window of time a gap has, by what is known of the log. The venue's clock is 1,000 s ahead of the monotonic
one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from publisher.log_window import OVERLAP_MS, VERIFIED_MS, WRITTEN_LATE_MS, LogWindow
from statecast.store.writer import PreviousState
from statecast.venues.adapter import Retention

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
MARGIN_MS = 1_000
LAG_MS = 60_000


def at_ms(mono_s: float) -> int:
    return round((mono_s + 1_000_000) * 1000)


NOW_MONO_S = 100_000.0
NOW_MS = at_ms(NOW_MONO_S)


def window() -> LogWindow:
    made = LogWindow(
        history_lag_ms=LAG_MS,
        retention=Retention(kept_ms=90 * DAY_MS, unfilled_kept_ms=3 * DAY_MS),
        margin_ms=MARGIN_MS,
        log_kept_ms=7 * DAY_MS,
    )
    made.stream_begins(NOW_MONO_S)
    return made


@dataclass(frozen=True)
class Case:
    known: Callable[[LogWindow], None]
    since_ms: int
    log_since_ms: int = 0


def nothing(_: LogWindow) -> None:
    pass


CASES = {
    "an account that was never published has no gap": Case(nothing, 0),
    "what this process completed, less the overlap": Case(
        lambda one: one.complete(NOW_MS - 5_000), NOW_MS - 5_000 - OVERLAP_MS
    ),
    "of what happened before there was a log it has no part": Case(
        lambda one: one.complete(NOW_MS - 5_000), NOW_MS - 2_000 - MARGIN_MS // 2, log_since_ms=NOW_MS - 2_000
    ),
    "what the last writer completed, less the overlap": Case(
        lambda one: one.begin_again(PreviousState(events_complete_ms=NOW_MS - HOUR_MS), 0),
        NOW_MS - HOUR_MS - OVERLAP_MS,
    ),
    "a log without a mark goes back to its last event": Case(
        lambda one: one.begin_again(PreviousState(last_event_ms=NOW_MS - HOUR_MS), 0),
        NOW_MS - HOUR_MS - OVERLAP_MS,
    ),
    "a log without a mark goes back no further than before it was last verified": Case(
        lambda one: one.begin_again(
            PreviousState(last_event_ms=NOW_MS - DAY_MS, now_ms=5_000_000, verified_at_ms=5_000_000 - HOUR_MS),
            0,
        ),
        NOW_MS - HOUR_MS - VERIFIED_MS,
    ),
    "a log that Redis has lost is filled as far back as it would have been kept": Case(
        lambda one: one.begin_again(PreviousState(), NOW_MS - 30 * DAY_MS), NOW_MS - 7 * DAY_MS
    ),
    "what an earlier connection of this process has sent before any snapshot": Case(
        lambda one: one.stream_begins(NOW_MONO_S + 60), NOW_MS + MARGIN_MS
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_gap_begins_where_the_log_is_known_to_be_complete(name: str) -> None:
    one, case = window(), CASES[name]
    case.known(one)
    assert one.since_ms(at_ms, NOW_MS, case.log_since_ms) == case.since_ms


def test_a_gap_ends_a_moment_after_the_stream_was_connected() -> None:
    assert window().until_ms(at_ms) == NOW_MS + MARGIN_MS


def test_a_filled_gap_leaves_the_mark_back_by_what_histories_may_be_behind() -> None:
    one = window()
    one.filled(NOW_MS)
    assert one.complete_ms == NOW_MS, "the log begins here"
    one.filled(NOW_MS + 120_000)
    assert one.complete_ms == NOW_MS + 120_000 - LAG_MS


def test_the_end_of_a_stream_takes_the_mark_back_to_its_last_event() -> None:
    one = window()
    one.complete(NOW_MS)
    one.reopen(NOW_MS - 10_000, NOW_MS)
    assert one.complete_ms == NOW_MS - 10_000


def test_the_mark_of_a_quiet_account_goes_back_no_further_than_the_venue_remembers() -> None:
    one = window()
    one.complete(NOW_MS)
    one.reopen(NOW_MS - 30 * DAY_MS, NOW_MS)
    assert one.complete_ms == NOW_MS - 3 * DAY_MS + 2 * OVERLAP_MS


def test_how_far_a_gap_may_reach_is_unknown_without_a_mark() -> None:
    one = window()
    assert one.reaches_ms(0, NOW_MS) is None
    one.complete(NOW_MS - 5_000)
    assert one.reaches_ms(NOW_MS - 9_000, NOW_MS) == 9_000 + OVERLAP_MS + WRITTEN_LATE_MS


def test_a_log_begins_where_nothing_is_known_of_one() -> None:
    one = window()
    assert (one.begins_log, one.is_marked, one.was_complete) == (True, False, False)
    one.begin_again(PreviousState(events_complete_ms=NOW_MS), 0)
    assert (one.begins_log, one.is_marked) == (False, True)
    one.complete(NOW_MS)
    assert (one.begins_log, one.is_marked, one.was_complete) == (False, True, True)


def test_what_was_not_read_keeps_the_mark_back() -> None:
    one = window()
    one.complete(NOW_MS)
    one.filled(NOW_MS + 600_000, unread_since_ms=NOW_MS - OVERLAP_MS)
    assert one.complete_ms == NOW_MS
    one.filled(NOW_MS + 600_000, unread_since_ms=0)
    assert one.complete_ms == NOW_MS + 600_000 - LAG_MS


def test_the_log_is_this_process_own_until_somebody_else_has_written_it() -> None:
    one = window()
    assert not one.is_own
    one.complete(NOW_MS)
    assert one.is_own
    one.begin_again(PreviousState(events_complete_ms=NOW_MS), NOW_MS)
    assert not one.is_own
    one.filled(NOW_MS)
    assert one.is_own

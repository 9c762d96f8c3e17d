"""When an account is compared with the venue, and with what. Moments are seconds after it was read whole."""

from __future__ import annotations

from random import Random

import pytest

from publisher.check_schedule import LATER_S, LATEST, LONGEST_RETRY_S, RECHECK_S, RETRY_S, SETTLE_S, CheckSchedule, Due
from statecast.venues.adapter import CheckPace

PACE = CheckPace(
    figures_pause_s=2.0,
    all_pause_s=5.0,
    standby_pause_s=60.0,
    seconds_per_symbol=5.0,
    least_symbols=2,
    orders_by_symbol=20,
    conditional_by_symbol=True,
    orders_by_id=20,
)
PERIOD_S = 40.0


def schedule(period_s: float = PERIOD_S) -> CheckSchedule:
    made = CheckSchedule(PACE, period_s, Random(1).uniform)
    made.begins(0.0, 0.0)
    made.agreed(0.0, is_standby=False)
    return made


def due(
    one: CheckSchedule, at: float, *, again_s: float | None = None, by_symbol: bool = True, is_standby: bool = False
) -> Due:
    return one.next(at, again_s=again_s, by_symbol=by_symbol, is_standby=is_standby)


def test_nothing_is_due_at_once_and_the_next_deadline_is_known() -> None:
    wake_mono_s = due(schedule(), 0.1).wake_mono_s
    assert due(schedule(), 0.1).kind is None
    assert 0.75 * PERIOD_S <= wake_mono_s <= LATEST * PERIOD_S
    assert due(schedule(), wake_mono_s).kind == "everything"


@pytest.mark.parametrize("seed", range(20))
def test_everything_is_compared_in_every_period_and_never_later(seed: int) -> None:
    one = CheckSchedule(PACE, PERIOD_S, Random(seed).uniform)
    one.begins(0.0, 0.0)
    one.agreed(0.0, is_standby=False)
    assert due(one, LATEST * PERIOD_S).kind == "everything"


def test_a_short_period_compares_everything_no_oftener_than_the_pace_allows() -> None:
    one = schedule(period_s=1.0)
    one.due(0.0)
    assert due(one, 4.9).kind != "everything"
    assert due(one, 5.0).kind == "everything"


def test_a_burst_of_changes_costs_one_question_and_then_a_pause() -> None:
    one = schedule()
    assert one.moved(10.0)
    assert not one.moved(10.1), "the deadline is known already"
    assert due(one, 10.1) == Due(None, 10.0 + SETTLE_S)
    assert due(one, 10.0 + SETTLE_S).kind == "figures"
    one.asked("figures", 10.3)
    one.moved(10.4)
    assert due(one, 10.5) == Due(None, 10.4 + LATER_S[0])


def test_what_no_event_carries_is_asked_for_twice_more_after_the_last_change() -> None:
    """REST may have been behind the change."""
    one = schedule()
    asked: list[float] = []
    one.moved(10.0)
    at = 10.0
    while at < 30.0:
        if due(one, at).kind is None:
            at = due(one, at).wake_mono_s
            continue
        asked.append(at)
        one.asked("figures", at)
    assert asked == [10.0 + SETTLE_S, 10.0 + SETTLE_S + PACE.figures_pause_s, 10.0 + LATER_S[1]]


def test_figures_that_come_with_a_comparison_are_not_asked_for_apart() -> None:
    one = schedule(period_s=5.0)
    one.moved(3.1)
    assert due(one, 3.5).kind is None
    assert due(one, 5.0).kind == "everything"
    one.moved(5.1)
    one.asked("everything", 5.0)
    assert due(one, 7.3).kind == "figures", "what moved while the venue was asked may not be in its answer"


def test_the_first_answer_that_proves_the_snapshot_is_asked_for_whatever_the_pace() -> None:
    one = CheckSchedule(PACE, PERIOD_S, Random(1).uniform)
    one.begins(0.2, 3.0)
    one.agreed(0.2, is_standby=False)
    assert one.awaits_proof
    assert due(one, 1.0) == Due(None, 3.0)
    assert due(one, 3.0, is_standby=True).kind == due(one, 3.0).kind == "everything"
    one.asked("everything", 3.0)
    assert due(one, 4.0).kind is None, "once"
    one.agreed(3.0, is_standby=False)
    assert not one.awaits_proof


def test_after_a_connection_everything_is_compared_once_more_for_rest_that_is_far_behind() -> None:
    one, standby = (CheckSchedule(PACE, PERIOD_S, Random(1).uniform) for _ in range(2))
    for schedule_, is_standby in ((one, False), (standby, True)):
        schedule_.begins(0.0, 3.0, (10.0, 30.0))
        schedule_.asked("everything", 3.0)
        schedule_.agreed(3.0, is_standby=is_standby)
    assert due(one, 9.9).kind is None
    for at in (10.0, 30.0):
        assert due(one, at).kind == "everything"
        assert due(standby, at, is_standby=True).kind is None, "nobody reads what it knows"
        one.asked("everything", at)
        one.agreed(at, is_standby=False)
    assert due(one, 40.0).kind is None


def test_what_is_doubtful_is_compared_at_once() -> None:
    one = schedule()
    one.asked("everything", 0.0)
    one.due(9.0)
    assert due(one, 6.0).kind == "everything"


def test_a_doubt_lasts_until_an_answer_agrees_that_was_asked_for_late_enough() -> None:
    one = schedule()
    one.due(9.0)
    for at, has_doubt in ((6.0, True), (8.9, True), (9.0, False)):
        one.asked("everything", at)
        one.agreed(at, is_standby=False)
        assert one.has_doubt is has_doubt
    one.due(19.0)
    one.asked("everything", 16.0)
    one.agreed(16.0, is_standby=False)
    assert due(one, 20.9).kind != "everything"
    assert due(one, 21.0).kind == "everything", "once more, when the pace allows it"


def test_a_difference_is_asked_for_again_after_a_second_and_figures_wait() -> None:
    one = schedule()
    one.asked("figures", 10.0)
    one.moved(10.0)
    assert due(one, 10.5, again_s=RECHECK_S) == Due(None, 10.0 + RECHECK_S)
    assert due(one, 11.0, again_s=RECHECK_S).kind == "again"


def test_differences_in_many_symbols_are_asked_for_at_once_at_the_pace_of_everything() -> None:
    one = schedule()
    one.asked("everything", 10.0)
    assert due(one, 12.0, again_s=RECHECK_S, by_symbol=False) == Due(None, 15.0)
    assert due(one, 15.0, again_s=RECHECK_S, by_symbol=False).kind == "everything"


def test_a_standby_asks_for_no_figures_and_seldom_for_everything() -> None:
    one = schedule()
    one.agreed(0.0, is_standby=True)
    one.moved(1.0)
    assert due(one, 44.0, is_standby=True).kind is None
    assert due(one, 57.0, is_standby=True).kind == "everything"


def test_after_a_failure_nothing_is_asked_for_a_while_and_each_further_one_waits_longer() -> None:
    one = schedule()
    one.asked("everything", 10.0)
    one.failed(10.0, None)
    assert due(one, 14.9, again_s=RECHECK_S) == Due(None, 10.0 + RETRY_S)
    assert due(one, 15.0).kind == "everything"
    for at in (15.0, 30.0, 60.0):
        one.failed(at, None)
    assert due(one, 79.0) == Due(None, 60.0 + LONGEST_RETRY_S)
    one.answered()
    one.failed(100.0, None)
    assert due(one, 100.0) == Due(None, 100.0 + RETRY_S)


def test_a_pause_that_the_venue_wants_is_kept() -> None:
    one = schedule()
    one.failed(10.0, 33.0)
    assert due(one, 42.0) == Due(None, 43.0)
    assert due(one, 43.0).kind == "everything"

"""Which orders a check lists, and until when all of them are known to be logged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.changes import NOW, refresh

from publisher.order_coverage import OVERLAP_MS, SETTLED_MS, OrderCoverage
from statecast.domain.models import OrderKey
from statecast.venues.adapter import CheckPace, CheckScope

PACE = CheckPace(
    figures_pause_s=2.0,
    all_pause_s=5.0,
    standby_pause_s=60.0,
    seconds_per_symbol=5.0,
    least_symbols=2,
    orders_by_symbol=20,
    orders_by_id=3,
    conditional_by_symbol=True,
)
SYMBOLS = ("A", "B", "C", "D", "E")


def coverage() -> OrderCoverage:
    made = OrderCoverage(PACE)
    made.begins(NOW, SYMBOLS)
    return made


def triggered(*ids: int) -> list[OrderKey]:
    return [OrderKey("A", f"algo-{number}") for number in ids]


def symbols_of(scope: CheckScope) -> list[str]:
    return [symbol for symbol, _ in scope.conditional_since_ms]


def test_symbols_are_listed_by_turns_and_the_log_is_complete_until_the_longest_wait() -> None:
    one = coverage()
    first = one.scope(15.0, [], is_standby=False)
    assert (first.created_since_ms, symbols_of(first)) == (NOW, ["A", "B", "C"])
    asked_ms = NOW + 15_000
    answer = replace(
        refresh(15_000), created_until_ms=asked_ms, conditional_until_ms=dict.fromkeys(symbols_of(first), asked_ms)
    )
    assert one.agreed(answer) == NOW + OVERLAP_MS, "D and E were not listed since the beginning"
    second = one.scope(15.0, [], is_standby=False)
    assert symbols_of(second) == ["D", "E", "A"]


@pytest.mark.parametrize(("asked", "since"), [(SETTLED_MS, 0), (SETTLED_MS + 1, SETTLED_MS + 1 - OVERLAP_MS)])
def test_the_orders_of_a_gap_are_listed_again_for_as_long_as_rest_may_be_behind(asked: int, since: int) -> None:
    one = coverage()
    answer = replace(refresh(asked), created_until_ms=NOW + asked)
    one.agreed(replace(answer, conditional_until_ms=dict.fromkeys(SYMBOLS, NOW + asked)))
    scope = one.scope(60.0, [], is_standby=False)
    assert scope.created_since_ms == NOW + since
    assert dict(scope.conditional_since_ms) == dict.fromkeys(SYMBOLS, NOW + since)
    one.begins(NOW + asked, ())
    assert one.scope(15.0, [], is_standby=False).created_since_ms == NOW + asked, "another gap"


def test_of_a_symbol_whose_conditional_orders_do_not_fit_into_an_answer_the_newer_ones_do_not_wait() -> None:
    one = coverage()
    answer = replace(refresh(60_000), created_until_ms=NOW + 60_000)
    one.agreed(replace(answer, conditional_until_ms={"A": NOW + 20_000, "B": NOW + 60_000}))
    scope = one.scope(60.0, [], is_standby=False)
    since_ms = dict(scope.conditional_since_ms)
    assert (since_ms["A"], since_ms["B"], scope.created_since_ms) == (NOW + 20_000 - OVERLAP_MS, NOW, NOW)


def test_a_symbol_that_the_venue_refuses_to_list_keeps_neither_the_others_nor_the_mark_waiting() -> None:
    one = coverage()
    until_ms = NOW + 60_000
    answer = replace(refresh(60_000), created_until_ms=until_ms)
    assert symbols_of(one.scope(10.0, [], is_standby=False)) == ["A", "B"]
    one.agreed(replace(answer, conditional_until_ms={"B": until_ms}))
    assert symbols_of(one.scope(60.0, [], is_standby=False)) == ["C", "D", "E", "A", "B"]
    listed = dict.fromkeys(("B", "C", "D", "E"), until_ms)
    assert one.agreed(replace(answer, conditional_until_ms=listed)) == until_ms, "A is not waited for"
    one.scope(60.0, [], is_standby=False)
    one.agreed(replace(answer, conditional_until_ms={"A": NOW + 10_000}))
    assert one.agreed(answer) == NOW + 10_000, "it is listed again"


@pytest.mark.parametrize("is_standby", [True, False])
def test_a_question_that_was_not_answered_refuses_nothing(is_standby: bool) -> None:
    """The lease was lost meanwhile, or the account was read again: the next answer is not to that question."""
    one = coverage()
    one.scope(60.0, [], is_standby=False)
    if is_standby:
        one.scope(60.0, [], is_standby=True)
    else:
        one.begins(NOW, SYMBOLS)
    assert one.agreed(replace(refresh(60_000), created_until_ms=NOW + 60_000)) == NOW + OVERLAP_MS


def test_at_least_so_many_symbols_are_listed_however_short_the_period() -> None:
    assert len(coverage().scope(1.0, [], is_standby=False).conditional_since_ms) == 2


def test_a_standby_lists_no_conditional_orders() -> None:
    scope = coverage().scope(60.0, triggered(1), is_standby=True)
    assert scope == CheckScope(None, True, NOW)


def test_of_many_triggered_orders_all_have_their_turn() -> None:
    one, keys = coverage(), triggered(1, 2, 3, 4, 5)
    asked = [one.scope(60.0, keys, is_standby=False).by_id for _ in range(3)]
    assert [tuple(key.order_id for key in turn) for turn in asked] == [
        ("algo-1", "algo-2", "algo-3"),
        ("algo-4", "algo-5", "algo-1"),
        ("algo-2", "algo-3", "algo-4"),
    ]


def test_a_symbol_is_listed_once_the_account_trades_in_it() -> None:
    one = OrderCoverage(PACE)
    one.begins(NOW, ())
    one.trades_in("Z")
    assert one.scope(60.0, [], is_standby=False).conditional_since_ms == (("Z", NOW),)


def test_what_did_not_fit_into_an_answer_is_asked_for_again() -> None:
    one = OrderCoverage(PACE)
    one.begins(NOW, ())
    answer = replace(refresh(60_000), created_until_ms=NOW + 20_000)
    assert one.agreed(answer) == NOW + 20_000
    assert one.scope(60.0, [], is_standby=False).created_since_ms == NOW + 20_000 - OVERLAP_MS


def test_where_conditional_orders_are_listed_for_the_whole_account_no_symbol_keeps_the_log_back() -> None:
    one = OrderCoverage(replace(PACE, conditional_by_symbol=False))
    one.begins(NOW, SYMBOLS)
    one.trades_in("Z")
    scope = one.scope(60.0, triggered(1), is_standby=False)
    assert scope == CheckScope(None, True, NOW, by_id=tuple(triggered(1)))
    assert one.agreed(replace(refresh(60_000), created_until_ms=NOW + 60_000)) == NOW + 60_000


def test_symbols_that_were_not_read_in_the_gap_have_their_turn_first_and_since_its_beginning() -> None:
    one = OrderCoverage(PACE)
    one.begins(NOW, ["A", "B"], ["E", "D", "C"], NOW - 500_000)
    asked_ms = NOW + 15_000
    answer = replace(refresh(15_000), created_until_ms=asked_ms)
    for asked, agreed_ms in (("C", "D"), NOW - 500_000), (("E", "A"), NOW):
        scope = one.scope(10.0, [], is_standby=False)
        since_ms = {symbol: NOW if symbol == "A" else NOW - 500_000 for symbol in asked}
        assert dict(scope.conditional_since_ms) == since_ms
        listed = replace(answer, conditional_until_ms=dict.fromkeys(asked, asked_ms))
        assert one.agreed(listed) == agreed_ms + OVERLAP_MS, "until all of them were"
    whole = OrderCoverage(replace(PACE, conditional_by_symbol=False))
    whole.begins(NOW, ["A"], ["D"], NOW - 500_000)
    assert whole.scope(15.0, [], is_standby=False).conditional_since_ms == ()

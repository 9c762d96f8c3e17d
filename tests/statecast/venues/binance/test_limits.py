"""The budget of request weight, on the venue's minutes."""

from __future__ import annotations

import pytest

from statecast.venues.binance.limits import MAX_BAN_MS, WeightBudget, silence_until_ms

MINUTE = 60_000
NOON = 1_793_000_040_000 - 1_793_000_040_000 % MINUTE


def test_calls_within_the_allowance_go_at_once() -> None:
    budget = WeightBudget(limit=100, reserve=20)
    budget.spend(75, NOON)
    assert budget.delay_ms(5, NOON, 0.0) == 0


def test_reserve_is_left_to_others_until_the_next_minute() -> None:
    budget = WeightBudget(limit=100, reserve=20)
    budget.spend(75, NOON + 10_000)
    assert budget.delay_ms(6, NOON + 10_000, 0.0) == 50_000
    assert budget.delay_ms(6, NOON + MINUTE, 0.0) == 0
    assert budget.used(NOON + MINUTE) == 0


def test_what_others_spent_counts() -> None:
    budget = WeightBudget(limit=100, reserve=20)
    budget.spend(5, NOON)
    budget.observe("80", sent_ms=NOON, now_ms=NOON + 1)
    assert budget.used(NOON + 1) == 80
    assert budget.delay_ms(1, NOON + 1, 0.0) == MINUTE - 1


def test_lower_header_does_not_forget_calls_in_flight() -> None:
    budget = WeightBudget(limit=100, reserve=20)
    budget.spend(50, NOON)
    budget.observe("10", sent_ms=NOON, now_ms=NOON + 1)
    assert budget.used(NOON + 1) == 50


@pytest.mark.parametrize("header", [None, "-1", "", "many", "1e9", "٣", "9" * 30])
def test_header_that_says_nothing(header: str | None) -> None:
    budget = WeightBudget()
    budget.spend(5, NOON)
    budget.observe(header, sent_ms=NOON, now_ms=NOON)
    assert budget.used(NOON) == 5


def test_header_of_a_call_sent_last_minute_is_not_this_minute() -> None:
    budget = WeightBudget()
    budget.observe("2300", sent_ms=NOON - 1, now_ms=NOON)
    assert budget.used(NOON) == 0


def test_what_is_spent_is_text_for_other_programs() -> None:
    budget, other = WeightBudget(limit=100, reserve=20), WeightBudget(limit=100, reserve=20)
    budget.spend(75, NOON)
    other.learn(budget.spent(NOON), NOON, NOON + 1)
    assert other.used(NOON + 1) == 75
    assert other.delay_ms(6, NOON + 1, 0.0) == MINUTE - 1
    other.learn("nonsense", NOON, NOON + 1)
    other.learn("", NOON, NOON + 1)
    other.learn("99", NOON - 1, NOON + 1)
    assert other.spent(NOON + 1) == "75", "what makes no sense, or is of another minute, says nothing"


def test_call_dearer_than_the_allowance_gets_a_fresh_minute() -> None:
    budget = WeightBudget(limit=100, reserve=20)
    assert budget.delay_ms(90, NOON + 5, 0.0) == 0
    budget.spend(1, NOON + 5)
    assert budget.delay_ms(90, NOON + 5, 0.0) == MINUTE - 5


def test_silence_holds_for_every_call_and_is_never_shortened() -> None:
    budget = WeightBudget()
    budget.block(1120.0)
    budget.block(1005.0)
    assert budget.delay_ms(0, NOON, 1000.0) == 120_000
    assert budget.delay_ms(1, NOON, 1119.999) == 1
    assert budget.delay_ms(1, NOON, 1120.0) == 0


def test_silence_lasts_as_long_when_the_venues_clock_is_set() -> None:
    budget = WeightBudget()
    budget.block(1010.0)
    for step_ms in (-7_200_000, 0, 7_200_000):
        assert budget.delay_ms(1, NOON + step_ms, 1009.0) == 1000
        assert budget.delay_ms(1, NOON + step_ms, 1010.0) == 0


@pytest.mark.parametrize("retry_after", [None, "soon"])
def test_a_ban_of_unsaid_length_is_the_shortest_documented(retry_after: str | None) -> None:
    assert silence_until_ms(retry_after, "", NOON, banned=True) == NOON + 2 * MINUTE
    assert silence_until_ms("5", "", NOON, banned=True) == NOON + 5_000


@pytest.mark.parametrize(
    ("retry_after", "message", "expected"),
    [
        ("7", "", NOON + 7_000),
        ("0", "", NOON + 1_000),
        ("99999999", "", NOON + MAX_BAN_MS),
        (None, f"Way too many requests; IP(1.2.3.4) banned until {NOON + 90_000}. Please use", NOON + 90_000),
        ("Wed, 21 Oct 2026 07:28:00 GMT", f"IP banned until {NOON + 90_000}", NOON + 90_000),
        (None, f"IP banned until {NOON - 1}", NOON + MINUTE),
        (None, f"IP banned until {'9' * 16}", NOON + MAX_BAN_MS),
        (None, "IP banned until further notice", NOON + MINUTE),
        (None, "Too many requests", NOON + MINUTE),
    ],
)
def test_how_long_to_be_silent(retry_after: str | None, message: str, expected: int) -> None:
    assert silence_until_ms(retry_after, message, NOON) == expected

"""The budget of request weight, on the venue's minutes."""

from __future__ import annotations

from random import Random

import pytest

from statecast.venues.binance.limits import MAX_BAN_MS, WeightBudget, silence_until_ms

MINUTE = 60_000
NOON = 1_793_000_040_000 - 1_793_000_040_000 % MINUTE


def others_spent(weight: int) -> WeightBudget:
    """A budget that knows what others have spent of the minute before NOON."""
    budget = WeightBudget(limit=2400, reserve=600)
    budget.observe(str(weight), sent_ms=NOON - 1, now_ms=NOON - 1)
    return budget


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


def test_what_others_spent_leaves_this_address_its_share() -> None:
    budget = others_spent(1500)
    budget.spend(5, NOON + 50_000)
    budget.observe("1800", sent_ms=NOON + 50_000, now_ms=NOON + 50_001)
    assert (budget.used(NOON + 50_001), budget.own(NOON + 50_001)) == (1800, 5)
    now_ms = NOON + 50_001
    assert budget.delay_ms(295, now_ms, 0.0) == 0, "an eighth is always there"
    assert budget.delay_ms(296, now_ms, 0.0) == 9_999
    assert budget.delay_ms(449, now_ms, 0.0, urgent=True) == 0
    assert budget.delay_ms(451, now_ms, 0.0, urgent=True) == 9_999, "and nothing takes the address over its limit"


def test_what_is_urgent_has_a_larger_share_and_not_the_whole_minute() -> None:
    budget = others_spent(500)
    budget.spend(900, NOON)
    budget.observe("1400", sent_ms=NOON, now_ms=NOON + 1)
    assert budget.delay_ms(100, NOON + 1, 0.0, urgent=True) == 0
    assert budget.delay_ms(100, NOON + 1, 0.0, urgent=True, spare=250) == 0, "the reserve is untouched"
    budget.observe("1750", sent_ms=NOON, now_ms=NOON + 1)
    assert budget.delay_ms(101, NOON + 1, 0.0, urgent=True) == MINUTE - 1
    assert budget.delay_ms(100, NOON + 1, 0.0, urgent=True) == 0
    assert budget.delay_ms(100, NOON + 1, 0.0, urgent=True, spare=1) == MINUTE - 1
    assert budget.delay_ms(10, NOON + 1, 0.0) == MINUTE - 1


def test_what_is_not_urgent_leaves_others_what_they_will_want() -> None:
    budget = others_spent(1000)
    budget.spend(700, NOON + 6_000)
    budget.observe("800", sent_ms=NOON + 6_000, now_ms=NOON + 6_000)
    assert budget.delay_ms(100, NOON + 6_000, 0.0) == 0
    assert budget.delay_ms(101, NOON + 6_000, 0.0) == 54_000
    assert budget.delay_ms(101, NOON + 6_000, 0.0, urgent=True) == 0
    budget.observe("1300", sent_ms=NOON + 20_000, now_ms=NOON + 20_000)
    assert budget.delay_ms(1, NOON + 20_000, 0.0) == 40_000, "600 in 20 s: they are faster than before"


def test_others_are_taken_to_go_on_as_they_did() -> None:
    budget = WeightBudget(limit=2400, reserve=600)
    budget.observe("1700", sent_ms=NOON + 59_999, now_ms=NOON + 59_999)
    budget.spend(1, NOON + MINUTE)
    for into_ms in (1_000, 30_000):
        now_ms = NOON + MINUTE + into_ms
        assert budget.delay_ms(699, now_ms, 0.0, urgent=True) == 0
        assert budget.delay_ms(700, now_ms, 0.0, urgent=True) == MINUTE - into_ms, "they will want the rest"
    assert budget.delay_ms(600, NOON + MINUTE + 59_000, 0.0, urgent=True) == 1000, "unseen, they have spent as much"
    budget.observe("1200", sent_ms=NOON + MINUTE + 20_000, now_ms=NOON + MINUTE + 20_001)
    assert budget.delay_ms(150, NOON + MINUTE + 34_000, 0.0, urgent=True) == 0
    assert budget.delay_ms(150, NOON + MINUTE + 37_000, 0.0, urgent=True) == 23_000, "faster than before"


def test_a_snapshot_is_possible_where_others_spend_nearly_all() -> None:
    budget = WeightBudget(limit=2400, reserve=600)
    budget.observe("2390", sent_ms=NOON + 59_000, now_ms=NOON + 59_001)
    assert budget.delay_ms(101, NOON + 59_002, 0.0, urgent=True) == 998
    budget.spend(1, NOON + MINUTE)
    assert budget.delay_ms(101, NOON + MINUTE + 1, 0.0, urgent=True) == 0
    assert budget.delay_ms(10, NOON + MINUTE + 1, 0.0) == MINUTE - 1


@pytest.mark.parametrize("others", [0, 500, 1000, 1600, 1700, 2000, 2200])
@pytest.mark.parametrize("burst", [1, 5])
@pytest.mark.parametrize("seed", range(3))
def test_no_address_is_taken_over_its_limit(others: int, burst: int, seed: int) -> None:
    """Others spend all the time, or in bursts of some seconds' worth; here as much as is allowed of what is not urgent,
    and a snapshot with its histories now and then. What comes in one moment of a minute nobody can foresee."""
    budget, rng = WeightBudget(), Random(others + seed)
    total = waited = 0
    for tick in range(60 * 10 * 10):
        now_ms = NOON + tick * 100
        if now_ms % MINUTE == 0:
            total = 0
        if tick % (10 * burst) == 0:
            total += others * burst // 60
        for cost, urgent, often in (
            (1, True, 0.01),
            (101, True, 0.003),
            (10, False, 0.05),
            (185, False, 0.05),
            (5, True, 0.02),
        ):
            if rng.random() < often:
                if budget.delay_ms(cost, now_ms, 0.0, urgent=urgent):
                    waited += 1
                    continue
                budget.spend(cost, now_ms)
                total += cost
                budget.observe(str(total), now_ms, now_ms)
                assert total <= 2400
    assert waited, "more was wanted than there is"


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
    assert other.delay_ms(20, NOON + 1, 0.0) == MINUTE - 1
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

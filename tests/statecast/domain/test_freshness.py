"""Every sentence that a reader may get; and the one number that decides."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from statecast.domain.freshness import Verdict, age_ms, judge, publisher_says

NOW = 1_793_000_000_000
TABLES = ("account", "balances", "positions", "orders")
LIVE = {"state": "live", "reason": "", "contract": "1", "verifiedAtMs": str(NOW - 300)}


def judged(
    status: dict[str, str], *, missing: Sequence[str] = (), asked: Sequence[str] = TABLES, max_age_ms: float = 10_000
) -> Verdict:
    return judge(status, NOW, max_age_ms, contract="1", asked=asked, missing=missing)


def aged(milliseconds: int, state: str = "live", reason: str = "") -> dict[str, str]:
    return LIVE | {"state": state, "reason": reason, "verifiedAtMs": str(NOW - milliseconds)}


NOT_FRESH = {
    "nothing is there": (
        judged({}, missing=TABLES),
        "NEVER PUBLISHED: no publisher has written this account; it is unknown, not flat",
    ),
    "one hash was asked for and is not there, nor the status": (
        judged({}, asked=("positions",), missing=("positions",)),
        "NEVER PUBLISHED: no publisher has written this account; it is unknown, not flat",
    ),
    "the status alone is not there": (
        judged({}),
        "UNKNOWN: the status is missing, so nothing else is verified",
    ),
    "the status and a hash are not there": (
        judged({}, missing=("positions",)),
        "UNKNOWN: the status is missing, so nothing else is verified",
    ),
    "a publisher has only begun": (
        judged({"state": "starting", "reason": "connecting", "contract": "1"}, missing=TABLES),
        "UNKNOWN: no complete state (account, balances, positions, orders missing), not flat; "
        "the publisher is starting (connecting)",
    ),
    "a hash is missing": (
        judged(LIVE, missing=("positions",)),
        "UNKNOWN: no complete state (positions missing), not flat; the publisher is live",
    ),
    "another contract": (
        judged(LIVE | {"contract": "2"}),
        "UNKNOWN: written in contract version 2; this program reads 1",
    ),
    "never verified": (
        judged({"state": "recovering", "reason": "stream lost", "contract": "1"}),
        "STALE: never verified; the publisher is recovering (stream lost)",
    ),
    "verified in the future": (
        judged(aged(-4_200)),
        "STALE: verified 4.2 s in the future: Redis's clock was set back",
    ),
    "a publisher that is gone": (
        judged(aged(10_001)),
        "STALE: last verified 10.0 s ago; the publisher said live and is gone or cut off since",
    ),
    "stopped for long": (
        judged(aged(60_000, "stopped", "SIGTERM")),
        "STALE: last verified 60.0 s ago; the publisher is stopped (SIGTERM)",
    ),
}


@pytest.mark.parametrize(("verdict", "sentence"), NOT_FRESH.values(), ids=NOT_FRESH)
def test_what_may_not_be_acted_on_says_why(verdict: Verdict, sentence: str) -> None:
    assert not verdict.fresh
    assert str(verdict) == sentence
    assert verdict.mark == verdict.word
    assert verdict.never_published == sentence.startswith("NEVER")
    assert verdict.other_contract == ("contract" in sentence)


def test_live_and_young_is_fresh_and_needs_no_mark() -> None:
    verdict = judged(aged(300))
    assert verdict == Verdict(True, "live", "verified 0.3 s ago")
    assert verdict.mark == ""
    assert str(Verdict(True, "live", "")) == "live"


@pytest.mark.parametrize("state", ["recovering", "stopped", "refused", "starting"])
def test_another_state_is_fresh_as_long_as_it_is_young_and_marked(state: str) -> None:
    verdict = judged(aged(9_999, state, "why"))
    assert verdict.fresh
    assert verdict.mark == state.upper()
    assert str(verdict) == f"{state.upper()}: last verified 10.0 s ago; the publisher is {state} (why)"


def test_a_status_from_before_contracts_had_numbers_is_ours() -> None:
    assert judged({name: text for name, text in LIVE.items() if name != "contract"}).fresh


def test_the_age_is_by_the_status_alone() -> None:
    assert age_ms({}, NOW) is None
    assert age_ms({"verifiedAtMs": ""}, NOW) is None
    assert age_ms(LIVE, NOW) == 300
    assert age_ms(LIVE, NOW - 301) == -1


def test_the_publishers_word_is_repeated() -> None:
    assert publisher_says({"state": "live"}) == "the publisher is live"
    assert publisher_says({"state": "refused", "reason": "bad key"}) == "the publisher is refused (bad key)"


@given(
    age=st.integers(-100_000, 100_000),
    limit=st.floats(50, 60_000),
    state=st.sampled_from(["live", "recovering", "stopped", "refused", "starting"]),
)
def test_no_age_beyond_the_limit_and_none_of_the_future_is_ever_fresh(age: int, limit: float, state: str) -> None:
    assert judged(aged(age, state), max_age_ms=limit).fresh == (0 <= age <= limit)

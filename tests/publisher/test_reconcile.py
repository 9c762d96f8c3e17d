"""The venue's answer against what the stream has built: news on its way is no difference, and everything else is."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from support.changes import position, refresh, rest_balance, rest_position, snapshot, wallet

from publisher.reconcile import GRACE_MS, differences
from statecast.domain.changes import Change, Refresh
from statecast.domain.fold import Account

LATE = GRACE_MS + 1_000
"""An answer taken this long after the story's beginning is beyond the grace for what happened there."""


def account(*changes: Change) -> Account:
    known = Account()
    known.apply((snapshot(),), "rest")
    for change in changes:
        known.apply((change,), "stream")
    return known


LONG = position(10, "0.5")

CASES: dict[str, tuple[Iterable[Change], Refresh, list[str]]] = {
    "the same of both": (
        (wallet(20, "900"), LONG),
        refresh(LATE, balances=[rest_balance(20, "900")], positions=[rest_position(10, "0.5")]),
        [],
    ),
    "another wallet at the same moment": (
        (wallet(20, "900"),),
        refresh(LATE, balances=[rest_balance(20, "899")]),
        ["USDT wallet balance 900, venue 899"],
    ),
    "zeros at the end are no difference": (
        (wallet(20, "900"), LONG),
        refresh(LATE, balances=[rest_balance(20, "900.000")], positions=[rest_position(10, "0.500")]),
        [],
    ),
    "a wallet that one side knows better": (
        (wallet(20, "900"),),
        refresh(LATE, balances=[rest_balance(30, "880")]),
        [],
    ),
    "an asset that only the venue lists": ((), refresh(LATE, balances=[rest_balance(20, "5", "BNB")]), []),
    "another amount at the same moment": (
        (LONG,),
        refresh(LATE, positions=[rest_position(10, "0.7")]),
        ["BTCUSDT BOTH 0.5, venue 0.7"],
    ),
    "the other direction at the same moment": (
        (LONG,),
        refresh(LATE, positions=[rest_position(10, "-0.5")]),
        ["BTCUSDT BOTH 0.5, venue -0.5"],
    ),
    "an amount that one side knows better": ((LONG,), refresh(LATE, positions=[rest_position(40, "0.7")]), []),
    "a position that the venue has no more": ((LONG,), refresh(LATE), ["BTCUSDT BOTH 0.5, venue none"]),
    "a position too young for the answer": ((LONG,), refresh(20), []),
    "a position that only the venue has": (
        (),
        refresh(LATE, positions=[rest_position(10, "0.5")]),
        ["BTCUSDT BOTH none, venue 0.5"],
    ),
    "a position that the stream may still tell": ((), refresh(20, positions=[rest_position(10, "0.5")]), []),
    "one side of a hedge": (
        (position(10, "0.5", position_side="LONG"), position(10, "-0.2", position_side="SHORT")),
        refresh(LATE, positions=[rest_position(10, "0.5", position_side="LONG")]),
        ["BTCUSDT SHORT -0.2, venue none"],
    ),
    "several at once": (
        (wallet(20, "900"), LONG),
        refresh(
            LATE,
            balances=[rest_balance(20, "1")],
            positions=[rest_position(10, "1", symbol="ETHUSDT")],
        ),
        ["USDT wallet balance 900, venue 1", "BTCUSDT BOTH 0.5, venue none", "ETHUSDT BOTH none, venue 1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_differences_are_told_in_words(case: str) -> None:
    changes, answer, told = CASES[case]
    assert differences(account(*changes), answer) == told


def test_an_answer_that_was_applied_differs_only_where_the_stream_is_wrong() -> None:
    known = account(LONG)
    answer = refresh(LATE, positions=[rest_position(10, "0.5"), rest_position(30, "2", symbol="ETHUSDT")])
    known.apply((answer,), "rest")
    assert differences(known, answer) == []

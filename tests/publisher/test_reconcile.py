"""The venue's answer against what the stream has built: news on its way is no difference, and everything else is."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from support.changes import position, refresh, rest_balance, rest_position, snapshot, wallet

from publisher.reconcile import differences
from statecast.domain.changes import Change, Refresh
from statecast.domain.fold import Account

ASKED = 6_000
"""When the venue was asked, after the story's beginning."""


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
        refresh(ASKED, balances=[rest_balance(20, "900")], positions=[rest_position(10, "0.5")]),
        [],
    ),
    "another wallet at the same moment": (
        (wallet(20, "900"),),
        refresh(ASKED, balances=[rest_balance(20, "899")]),
        ["USDT wallet balance 900, venue 899"],
    ),
    "zeros at the end are no difference": (
        (wallet(20, "900"), LONG),
        refresh(ASKED, balances=[rest_balance(20, "900.000")], positions=[rest_position(10, "0.500")]),
        [],
    ),
    "a wallet that the stream knows better": (
        (wallet(40, "900"),),
        refresh(ASKED, balances=[rest_balance(30, "880")]),
        [],
    ),
    "a wallet that the venue knows better": (
        (wallet(20, "900"),),
        refresh(ASKED, balances=[rest_balance(30, "880")]),
        ["USDT wallet balance 900, venue 880"],
    ),
    "an asset that only the venue has": (
        (),
        refresh(ASKED, balances=[rest_balance(20, "5", "BNB")]),
        ["BNB wallet balance unknown, venue 5"],
    ),
    "an asset that is listed without an amount": ((), refresh(ASKED, balances=[rest_balance(20, "0", "BNB")]), []),
    "another amount at the same moment": (
        (LONG,),
        refresh(ASKED, positions=[rest_position(10, "0.7")]),
        ["BTCUSDT BOTH 0.5, venue 0.7"],
    ),
    "the other direction at the same moment": (
        (LONG,),
        refresh(ASKED, positions=[rest_position(10, "-0.5")]),
        ["BTCUSDT BOTH 0.5, venue -0.5"],
    ),
    "an amount that the stream knows better": ((LONG,), refresh(ASKED, positions=[rest_position(5, "0.7")]), []),
    "an amount that the venue knows better": (
        (LONG,),
        refresh(ASKED, positions=[rest_position(40, "0.7")]),
        ["BTCUSDT BOTH 0.5, venue 0.7"],
    ),
    "a position that the venue has no more": ((LONG,), refresh(ASKED), ["BTCUSDT BOTH 0.5, venue none"]),
    "a position that only the venue has": (
        (),
        refresh(ASKED, positions=[rest_position(10, "0.5")]),
        ["BTCUSDT BOTH none, venue 0.5"],
    ),
    "one side of a hedge": (
        (position(10, "0.5", position_side="LONG"), position(10, "-0.2", position_side="SHORT")),
        refresh(ASKED, positions=[rest_position(10, "0.5", position_side="LONG")]),
        ["BTCUSDT SHORT -0.2, venue none"],
    ),
    "several at once": (
        (wallet(20, "900"), LONG),
        refresh(
            ASKED,
            balances=[rest_balance(20, "1")],
            positions=[rest_position(10, "1", symbol="ETHUSDT")],
        ),
        ["USDT wallet balance 900, venue 1", "BTCUSDT BOTH 0.5, venue none", "ETHUSDT BOTH none, venue 1"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_differences_are_told_in_words(case: str) -> None:
    changes, answer, told = CASES[case]
    assert [one.told for one in differences(account(*changes), answer).values()] == told


def test_an_answer_that_was_applied_still_tells_what_the_stream_has_lost() -> None:
    known = account(LONG)
    answer = refresh(ASKED, positions=[rest_position(10, "0.5"), rest_position(30, "2", symbol="ETHUSDT")])
    known.apply((answer,), "rest")
    assert [one.told for one in differences(known, answer).values()] == ["ETHUSDT BOTH none, venue 2"]


def test_a_stream_that_is_silent_is_told_by_what_it_leaves_as_it_was() -> None:
    """The venue trades on, so that it says something else each time; the account says the same."""
    silent = account(LONG)
    first = differences(silent, refresh(ASKED, positions=[rest_position(40, "0.7")]))
    second = differences(silent, refresh(ASKED, positions=[rest_position(80, "0.9")]))
    assert first.keys() == second.keys()


def test_a_stream_that_follows_is_not_suspected_twice_of_the_same() -> None:
    following = account(LONG)
    first = differences(following, refresh(ASKED, positions=[rest_position(40, "0.7")]))
    following.apply((position(60, "0.5"),), "stream")
    second = differences(following, refresh(ASKED, positions=[rest_position(80, "0.9")]))
    assert not first.keys() & second.keys()

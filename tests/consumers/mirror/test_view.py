from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest

from consumers.mirror.view import Copy, View, what_is_missing
from statecast.store.feed import Change
from statecast.store.keys import AccountId
from statecast.store.reader import StoredAccount

ACCOUNT = AccountId("binance", "main")
STATUS = {"seq": "1", "epoch": "7", "contract": "1", "state": "live", "verifiedAtMs": "9000"}
WALLET = {"asset": "USDT", "walletBalance": "1000", "crossWalletBalance": "1000", "venueTimeMs": "5", "source": "rest"}


def stored(status: dict[str, str] | None = None, *, wallet: str = "1000", now_ms: int = 9_500) -> StoredAccount:
    """An account with one asset, as it stands in Redis; the other hashes are not there."""
    provenance = {"balances": {"_seq": "1", "_source": "rest", "_complete": "1"}}
    balances = {"USDT": WALLET | {"walletBalance": wallet}}
    given = STATUS if status is None else status
    return StoredAccount(ACCOUNT, now_ms, given, None, balances, None, None, provenance=provenance)


def joined(**given: Any) -> Copy:
    return Copy().joined(ACCOUNT, stored(**given))


def commit(seq: int = 2, epoch: int = 7, *, replaces: bool = False, **parts: dict[str, Any]) -> Change:
    return Change(f"1000-{seq}", seq, epoch, "stream", parts, replaces)


def test_a_commit_changes_the_rows_that_it_names_and_leaves_the_copy_before_as_it_was() -> None:
    before = joined()
    after, names = before.applied(commit(balances={"set": {"USDT.walletBalance": "5"}, "count": 1}))
    assert {table: set(changed) for table, changed in names.items()} == {"balances": {"USDT"}}
    assert after.view.seq == 2
    assert after.view.balances.rows["USDT"].wallet_balance == Decimal(5)
    assert (after.view.balances.seq, after.view.balances.source) == (2, "stream")
    assert before.view.balances.rows["USDT"].wallet_balance == Decimal(1000)


def test_a_commit_removes_rows_and_ignores_hashes_of_later_versions() -> None:
    change = commit(balances={"set": {}, "removed": ["USDT"], "count": 0}, loans={"set": {"x": "1"}})
    after, names = joined().applied(change)
    assert after.view.balances.rows == {}
    assert set(names) == {"balances"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (commit(epoch=8), "the epoch is 8, the copy's 7: a publisher has started, or Redis was replaced"),
        (commit(3), "commit 3 came after 1"),
        (commit(1), "commit 1 came after 1"),
        (commit(balances={"set": {}, "count": 7}), "commit 2 does not fit: 1 rows where the commit counts 7"),
        (commit(balances={"set": {"USDT.walletBalance": "x"}, "count": 1}), "commit 2 does not fit: walletBalance is"),
        (commit(balances={"set": {"BNB.asset": "BNB"}, "count": 2}), "commit 2 does not fit: walletBalance is missing"),
    ],
    ids=["another epoch", "a later commit", "the same commit", "another number of rows", "no number", "half a row"],
)
def test_a_commit_that_is_not_of_this_copy_is_refused(change: Change, reason: str) -> None:
    with pytest.raises(ValueError) as refused:
        joined().applied(change)
    assert str(refused.value).startswith(reason)


@pytest.mark.parametrize(
    ("status", "missing"),
    [
        (STATUS, ""),
        ({}, "the status is gone"),
        (STATUS | {"contract": "2"}, "the contract is 2 now"),
        (STATUS | {"epoch": "8"}, "the epoch is 8, the copy's 7: a publisher has started, or Redis was replaced"),
        (STATUS | {"seq": "0"}, "Redis went back from commit 1 to 0"),
        (STATUS | {"seq": "2"}, "the entries from commit 2 to 2 are not there (any more)"),
        (STATUS | {"seq": "3"}, "the entries from commit 2 to 3 are not there (any more)"),
    ],
)
def test_the_status_shows_whether_the_copy_is_complete(status: dict[str, str], missing: str) -> None:
    assert what_is_missing(joined().view, status) == missing


def test_a_view_ages_from_the_moment_before_the_question() -> None:
    view = joined().view.verified(STATUS, now_ms=9_500, asked_mono_s=100.0)
    assert view.age_s == 0.5
    assert view.age_at(102.0) == 2.5
    assert view.verified_at_ms == 9_000


@pytest.mark.parametrize(
    ("view", "status", "good"),
    [
        (View(missing=()), STATUS, True),
        (View(), STATUS, False),
        (View(missing=()), STATUS | {"verifiedAtMs": "9501"}, False),
        (View(missing=()), {"state": "starting"}, False),
        (View(missing=()).as_incomplete("commit 3 came after 1"), STATUS, False),
        (View(missing=(), mismatch="not of the contract"), STATUS, False),
    ],
    ids=["whole", "hashes are missing", "from the future", "never verified", "incomplete", "unreadable"],
)
def test_which_views_may_be_read(view: View, status: dict[str, str], good: bool) -> None:
    assert view.verified(status, now_ms=9_500, asked_mono_s=0.0).good is good


def test_a_view_that_was_never_verified_is_of_infinite_age() -> None:
    assert math.isinf(View().verified({}, 9_500, 0.0).age_s)


def test_text_that_is_not_of_the_contract_makes_the_copy_unreadable_and_leaves_what_was_known() -> None:
    known = joined()
    after = known.joined(ACCOUNT, stored(wallet="much"))
    assert after.view.mismatch == "binance:main balances is not as contract 1 has it: walletBalance is 'much'"
    assert not after.view.followable
    assert after.view.balances == known.view.balances


def test_an_account_without_a_status_cannot_be_followed_and_keeps_what_was_known() -> None:
    after = joined().joined(ACCOUNT, stored({}))
    assert not after.view.followable
    assert set(after.view.balances.rows) == {"USDT"}


def test_joining_again_names_what_differs_alone_and_clears_what_hindered() -> None:
    before = Copy(joined().view.as_incomplete("commit 3 came after 1"), joined().texts)
    same, other = before.joined(ACCOUNT, stored()), before.joined(ACCOUNT, stored(wallet="5"))
    assert (same.view.incomplete, same.view.refusal) == ("", "")
    assert before.differing(same)["balances"] == []
    assert before.differing(other)["balances"] == ["USDT"]
    assert same.view.balances.rows["USDT"] is before.view.balances.rows["USDT"], "what is the same is not decoded again"


def test_a_commit_that_replaces_all_brings_missing_hashes_back() -> None:
    before = joined()
    assert before.view.missing == ("account", "positions", "orders")
    after, _ = before.applied(commit(replaces=True, positions={"set": {}, "count": 0}))
    assert after.view.missing == ()

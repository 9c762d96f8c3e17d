from __future__ import annotations

import pytest
from support.changes import NOW, D, mark, position, refresh, rest_balance, snapshot, stamp, totals, wallet
from support.story import Story, expect_nothing_to_write, expect_totals, expect_wallets, three_ways

from statecast.domain.changes import AllBalances, Change, MultiAssetsUpdate

# Wallets


@pytest.mark.parametrize("late", [wallet(10, "1"), wallet(20, "1", pushed=22)], ids=["by T", "by E"])
def test_an_older_balance_never_overwrites_a_newer_one(late: Change) -> None:
    story = three_ways([wallet(20, "990", pushed=24)], [late])
    expect_wallets(story, USDT="990")
    expect_nothing_to_write(story.deltas[-1])


def test_an_asset_that_was_never_seen_appears() -> None:
    story = three_ways([wallet(10, "2.5", "BNB", cross="2")])
    expect_wallets(story, USDT="1000", BNB="2.5")
    row = story.balance("BNB")
    assert (row.cross_wallet_balance, row.available_balance, row.source) == (D(2), None, "stream")


def test_a_negative_wallet_is_a_wallet() -> None:
    expect_wallets(three_ways([wallet(10, "-3.5")]), USDT="-3.5")


# Totals


def test_the_totals_follow_the_wallet_where_they_are_its_own() -> None:
    story = three_ways([wallet(10, "900"), wallet(10, "7", "BNB")])
    expect_totals(story, "900", "0", "900")
    told = story.account.totals
    assert told is not None
    assert told.total_wallet_balance_time_ms == NOW + 10
    assert (told.available_balance, told.available_balance_time_ms, told.margin_time_ms) == (D(1000), NOW, NOW)


def test_in_multi_assets_mode_the_totals_come_from_rest_alone() -> None:
    given = snapshot(
        balances=[rest_balance(-50, "1000"), rest_balance(-50, "5", "BNB")],
        total=totals(0, "4000", "12", totals_asset="USD"),
        multi_assets=True,
        totals_asset="USD",
    )
    story = three_ways([wallet(10, "900")], [position(20, "1")], [mark(30, "110")], given=given)
    assert story.account.totals == given.totals
    assert story.balance().unrealized_profit == D(10)  # of the asset, which is exact in either mode


def test_in_multi_assets_mode_a_total_that_happens_to_equal_a_wallet_is_not_derived() -> None:
    given = snapshot(total=totals(0, "1000", totals_asset="USDT"), multi_assets=True)
    assert three_ways([wallet(10, "900")], given=given).account.totals == given.totals


def test_an_account_whose_totals_are_not_the_usdt_wallet_is_not_derived() -> None:
    """EU accounts count in BNFCR; USDT may be absent."""
    unknown = {"totals_asset": None}
    given = snapshot(balances=[rest_balance(-50, "1000", "BNFCR")], total=totals(0, "1000", "3"), **unknown)
    story = three_ways([wallet(10, "900", "BNFCR")], [position(20, "1")], [mark(30, "110")], given=given)
    assert story.account.totals == given.totals
    given = snapshot(
        balances=[rest_balance(-50, "5"), rest_balance(-50, "1000", "BNFCR")], total=totals(0, "1005"), **unknown
    )
    assert three_ways([wallet(10, "6")], given=given).account.totals == given.totals


def test_another_asset_can_be_the_one_that_the_totals_count() -> None:
    given = snapshot(
        balances=[rest_balance(-50, "800", "USDC")], total=totals(0, "800"), totals_asset="USDC", positions=[]
    )
    story = three_ways([position(10, "2", symbol="BTCUSDC")], [mark(20, "103", "BTCUSDC")], given=given)
    expect_totals(story, "800", "6", "806")


def test_a_change_of_the_margin_mode_stops_deriving_until_rest_has_spoken() -> None:
    story = Story([snapshot()], [MultiAssetsUpdate(True)], [wallet(10, "900")])
    expect_totals(story, "1000", "0", "1000")
    story.apply(refresh(20, balances=[rest_balance(10, "900", taken=20)], total=totals(20, "2500")))
    story.apply(wallet(30, "800"))
    expect_totals(story, "2500", "0", "2500")
    story.apply(MultiAssetsUpdate(False))
    story.apply(wallet(40, "700"))
    expect_totals(story, "2500", "0", "2500")
    story.apply(refresh(50, balances=[rest_balance(40, "700", taken=50)], total=totals(50, "700")))
    story.apply(wallet(60, "600"))
    expect_totals(story, "600", "0", "600")


def test_a_margin_mode_of_the_stream_stands_against_a_snapshot_that_may_be_older() -> None:
    told = MultiAssetsUpdate(True, "USD", NOW + 1_000)
    story = Story([snapshot()], [told], [snapshot(3_000, balances=[rest_balance(-100, "900")])])
    assert story.account.multi_assets
    expect_totals(story, "1000", "0", "1000")
    story.apply(snapshot(70_000, balances=[rest_balance(-100, "900")]))
    assert not story.account.multi_assets
    expect_totals(story, "900", "0", "900")


def test_a_wallet_that_moves_and_moves_back_is_as_young_as_its_last_move() -> None:
    story = three_ways([wallet(10, "900")], [wallet(20, "1000")])
    told = story.account.totals
    assert told is not None
    assert told.total_wallet_balance_time_ms == NOW + 20


# All rows of a kind


def test_an_asset_that_is_not_among_all_of_them_is_empty() -> None:
    given = snapshot(balances=[rest_balance(-50, "1000"), rest_balance(-50, "5", "BNB")])
    story = three_ways([AllBalances((wallet(10, "900"),), stamp(10))], given=given)
    expect_wallets(story, USDT="900", BNB="0")
    assert story.deltas[1].times.balances == NOW + 10
    assert story.apply(AllBalances((wallet(20, "800"), wallet(30, "1", "BNB")), stamp(30))).times.balances == NOW + 30
    story.apply(AllBalances((wallet(40, "900"),), stamp(40)))
    expect_totals(story, "900", "0", "900")


def test_a_wallet_that_the_stream_knows_newer_stands_against_all_of_them() -> None:
    story = Story([snapshot()], [wallet(30, "7", "BNB")], [AllBalances((wallet(20, "900"),), stamp(20))])
    expect_wallets(story, USDT="900", BNB="7")
    expect_nothing_to_write(story.apply(AllBalances((), stamp(10))))


# What the totals count


def test_the_totals_say_what_they_count() -> None:
    story = Story([snapshot()])
    assert story.account.totals is not None
    assert story.account.totals.totals_asset == "USDT"
    story.apply(MultiAssetsUpdate(True, "USD"))
    assert story.account.totals.totals_asset == "USDT", "these figures are still of before"
    story.apply(refresh(20, balances=[rest_balance(-100, "1000")], total=totals(20, "2500")))
    assert story.account.totals.totals_asset == "USD"


@pytest.mark.parametrize(
    ("assets", "total", "multi_assets", "counted"),
    [
        ({"USDT": "1000", "USDC": "5"}, "1000", False, "USDT"),
        ({}, "0", False, "USDT"),
        ({"USDC": "5"}, "0", False, "USDT"),
        ({"BNFCR": "1000"}, "1000", False, None),
        ({"USDT": "1000"}, "4000", True, "USD"),
    ],
    ids=["the USDT wallet", "never used", "without USDT", "counted in another asset", "multi-assets mode"],
)
@pytest.mark.parametrize("by", ["snapshot", "check"])
def test_what_totals_count_that_are_a_wallet(
    assets: dict[str, str], total: str, multi_assets: bool, counted: str | None, by: str
) -> None:
    mode: dict[str, object] = {
        "multi_assets": multi_assets,
        "totals_asset": "USD" if multi_assets else "USDT",
        "totals_are_wallet": not multi_assets,
    }
    rows = [rest_balance(-50, amount, asset) for asset, amount in assets.items()]
    of_snapshot = by == "snapshot"
    first = snapshot(balances=rows if of_snapshot else (), total=totals(0, total if of_snapshot else "0"), **mode)
    story = Story([first])
    if not of_snapshot:
        story.apply(refresh(60_000, balances=rows, total=totals(60_000, total)))
    assert story.account.totals is not None
    assert story.account.totals.totals_asset == counted


def test_while_the_margin_mode_is_not_known_the_totals_are_rests_and_count_nothing_known() -> None:
    unknown = {"multi_assets": None, "totals_asset": None, "balances": [rest_balance(-50, "1000")]}
    story = Story([snapshot()], [snapshot(10, **unknown, total=totals(10, "1000"))], [wallet(20, "990")])
    assert story.account.totals is not None
    assert (story.account.totals.total_wallet_balance, story.account.totals.totals_asset) == (D(1000), None)
    assert not story.account.multi_assets, "as it was"


@pytest.mark.parametrize("asset", ["USDT", "BNFCR"])
def test_after_a_change_of_the_mode_a_total_that_is_no_wallet_counts_nothing_known(asset: str) -> None:
    """The answer of a check that was under way, or the totals of an account that does not count USDT."""
    story = Story([snapshot(multi_assets=True, totals_asset="USD", total=totals(0, "4000"))])
    story.apply(MultiAssetsUpdate(False, "USDT"))
    story.apply(refresh(20, balances=[rest_balance(-100, "1000", asset)], total=totals(20, "4000")))
    assert story.account.totals is not None
    assert story.account.totals.totals_asset is None


def test_totals_that_the_venue_does_not_give_are_none_and_the_others_stay() -> None:
    left_out = {"total_wallet_balance": None, "total_wallet_balance_time_ms": None}
    story = Story([snapshot(total=totals(0, "1000", **left_out))])
    found = story.account.totals
    assert found is not None
    assert (found.total_wallet_balance, found.totals_asset, found.available_balance) == (None, "USDT", D(1000))
    story.apply(wallet(10, "900"))
    assert story.account.totals == found, "they are not known to be the wallet"


def test_totals_that_nobody_has_said_do_not_follow_a_wallet_that_comes_later() -> None:
    left_out = {"total_wallet_balance": None, "total_wallet_balance_time_ms": None}
    story = Story([snapshot(balances=[], total=totals(0, "0", **left_out))])
    story.apply(wallet(10, "900"))
    assert story.account.totals is not None
    assert story.account.totals.total_wallet_balance is None


@pytest.mark.parametrize(("at", "is_there"), [(14_999, False), (15_000, True)])
def test_a_frame_of_before_a_snapshot_brings_back_no_wallet_that_it_did_not_list(at: int, is_there: bool) -> None:
    """It waited while the venue could not be asked. No answer is a minute behind; until then nobody knows."""
    story = Story([snapshot(75_000)], [wallet(at, "7", "BNB")])
    assert ("BNB" in story.account.balances) is is_there


@pytest.mark.parametrize(("amount", "asked", "is_there"), [("0", 1_000, False), ("0", 50, True), ("1", 1_000, True)])
def test_an_empty_wallet_that_an_answer_lists_no_more_is_not_there(amount: str, asked: int, is_there: bool) -> None:
    story = Story([snapshot(balances=[rest_balance(0, "7", "BNB")])], [wallet(100, amount, "BNB")], [refresh(asked)])
    assert ("BNB" in story.account.balances) is is_there

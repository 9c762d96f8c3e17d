from __future__ import annotations

import pytest
from support.changes import (
    NOW,
    REST,
    D,
    event,
    fill,
    mark,
    new_account,
    position,
    rest_balance,
    rest_order,
    rest_position,
    snapshot,
    wallet,
)
from support.story import BOTH, Frame, Story, btc, expect_amounts, expect_totals, expect_wallets, known

from statecast.domain.models import SymbolConfig

# Frames of before a snapshot


def test_a_position_that_was_closed_unheard_is_not_opened_by_a_frame_that_comes_again() -> None:
    opened = position(10, "0.5")
    heard, unheard = Story([snapshot()], [opened], [snapshot(20_000)]), Story([snapshot(20_000)])
    for story in (heard, unheard):
        story.apply(opened)
        assert story.account.positions == {}
        story.apply(position(18_000, "0.5"))  # REST may not have known it yet.
        expect_amounts(story, BTCUSDT_BOTH="0.5")


def test_what_was_closed_before_the_stream_was_heard_is_not_opened_by_a_frame_that_comes_again() -> None:
    rows = [rest_balance(40, "990", taken=100)]
    story = Story([snapshot(100, balances=rows, stream_since_ms=NOW + 50)])
    story.apply(position(39, "0.5"))
    assert story.account.positions == {}, "REST has told what was later, and did not list it"
    story.apply(position(41, "0.5"))
    expect_amounts(story, BTCUSDT_BOTH="0.5")


def test_what_the_stream_was_heard_to_open_stands_against_an_answer_that_may_be_behind() -> None:
    story = Story([snapshot(20_000, balances=[rest_balance(40, "990", taken=20_000)], stream_since_ms=NOW + 5_000)])
    story.apply(position(11_000, "0.5"))
    expect_amounts(story, BTCUSDT_BOTH="0.5")


@pytest.mark.parametrize(("heard_since", "counts"), [(50, False), (30, True)])
def test_a_frame_of_the_moment_of_a_row_by_rest_counts_if_it_is_no_repetition(heard_since: int, counts: bool) -> None:
    rows = {
        "balances": [rest_balance(40, "990", taken=100)],
        "positions": [rest_position(40, "0.3", taken=100)],
    }
    story = Story([snapshot(100, **rows, stream_since_ms=NOW + heard_since)])
    story.apply(wallet(40, "995"))
    story.apply(position(40, "0.5"))
    expect_wallets(story, USDT="995" if counts else "990")
    expect_amounts(story, BTCUSDT_BOTH="0.5" if counts else "0.3")


# A snapshot as well as the stream


def test_a_snapshot_takes_the_newer_of_two_rows() -> None:
    story = Story(
        [snapshot()],
        [wallet(30, "990"), wallet(10, "7", "BNB"), position(30, "0.5"), position(10, "3", symbol="ETHUSDT")],
        [fill(30, "0.03"), event(10, "NEW", order_id="1002")],
        [
            snapshot(
                40,
                balances=[rest_balance(20, "1", taken=40), rest_balance(20, "8", "BNB", taken=40)],
                positions=[rest_position(20, "0.1", taken=40), rest_position(20, "4", symbol="ETHUSDT", taken=40)],
                orders=[rest_order(20, executed_qty=D("0.01")), rest_order(20, order_id="1002", price=D("5"))],
            )
        ],
    )
    expect_wallets(story, USDT="990", BNB="8")
    expect_amounts(story, BTCUSDT_BOTH="0.5", ETHUSDT_BOTH="4")
    assert story.order().executed_qty == D("0.03")
    assert story.order("1002").price == D("5")
    assert (story.balance().source, story.balance("BNB").source) == ("stream", "rest")


def test_a_wallet_that_the_stream_knows_better_still_takes_what_only_rest_knows() -> None:
    story = Story([snapshot()], [wallet(30, "990")])
    story.apply(snapshot(40, balances=[rest_balance(20, "1000", taken=40, available_balance=D("700"))]))
    row = story.balance()
    assert (row.wallet_balance, row.available_balance, row.available_balance_time_ms) == (D(990), D(700), NOW + 40)


def test_rows_that_a_snapshot_does_not_list_are_gone_unless_younger_than_the_question() -> None:
    story = Story(
        [snapshot()],
        [wallet(30, "1", "BNB"), position(30, "0.5"), event(30, "NEW")],
        [wallet(50, "2", "BTC"), position(50, "3", symbol="ETHUSDT"), event(50, "NEW", order_id="1002")],
        [snapshot(40)],
    )
    expect_wallets(story, USDT="1000", BTC="2")
    expect_amounts(story, ETHUSDT_BOTH="3")
    assert list(story.account.orders) == btc("1002")
    delta = story.deltas[-1]
    assert delta.replaces
    assert (delta.balance_count, delta.position_count, delta.order_count) == (2, 1, 1)


def test_a_snapshot_behind_the_stream_does_not_bring_closed_and_finished_rows_back() -> None:
    behind = snapshot(25, positions=[rest_position(10, "0.5", taken=25)], orders=[rest_order(10)])
    story = Story(
        [snapshot()],
        [position(10, "0.5"), event(10, "NEW")],
        [position(20, "0"), event(20, "CANCELED", "CANCELED")],
        [behind],
    )
    expect_amounts(story)
    assert story.account.orders == {}


def test_frames_told_again_after_a_snapshot_that_was_behind_them_put_the_account_right() -> None:
    frames: list[Frame] = [
        [event(10, "NEW"), event(10, "NEW", order_id="1002")],
        [position(20, "0.5"), wallet(20, "990"), fill(20, "0.025")],
        [event(22, "CANCELED", "CANCELED", order_id="1002")],
    ]
    story = Story([snapshot()], *frames)
    before = known(story.account)
    story.apply(snapshot(23, balances=[rest_balance(-100, "1000", taken=23)]))  # asked after them, answered from before
    for frame in frames:
        story.apply(*frame)
    after = known(story.account)
    assert after["orders"] == before["orders"]
    assert {key: row.position_amt for key, row in after["positions"].items()} == {BOTH: D("0.5")}
    expect_wallets(story, USDT="990")
    assert len(story.event_ids) == len(set(story.event_ids)) == 4


def test_frames_older_than_the_snapshot_change_nothing_when_told_again() -> None:
    """The start-up path: connect, buffer, ask, apply the answer, then what was buffered."""
    story = Story(
        [
            snapshot(
                50,
                balances=[rest_balance(20, "990", taken=50)],
                positions=[rest_position(20, "0.5", taken=50)],
                orders=[rest_order(30, executed_qty=D("0.04"), status="PARTIALLY_FILLED")],
            )
        ]
    )
    delta = story.apply(position(10, "0.1"), wallet(10, "1"), fill(20, "0.02"))
    assert (delta.balances, delta.positions, delta.orders) == ((), (), ())
    assert len(delta.events) == 1  # what happened to an order counts, though the snapshot knew its result


def test_the_frame_of_the_snapshots_own_moment_keeps_the_younger_figures_of_rest() -> None:
    story = Story([snapshot(50, positions=[rest_position(20, "0.5", taken=50, mark_price="110")])])
    story.apply(position(20, "0.5", unrealized_profit=D(1)))
    row = story.position()
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(5), NOW + 50)
    assert (row.liquidation_price, row.liquidation_price_time_ms) == (D(50), NOW + 50)


def test_an_order_that_the_venue_lists_after_we_thought_it_finished_is_followed_again() -> None:
    story = Story([snapshot()], [event(10, "EXPIRED", "EXPIRED")], [snapshot(40, orders=[rest_order(30)])])
    assert list(story.account.orders) == btc("1001")
    story.apply(event(50, "CANCELED", "CANCELED"))
    assert story.account.orders == {}


def test_a_snapshot_brings_the_present_leverage_to_a_row_that_the_stream_knows_better() -> None:
    story = Story([snapshot()], [position(30, "0.5")])
    story.apply(
        snapshot(40, positions=[rest_position(20, "0.4", taken=40)], configs={"BTCUSDT": SymbolConfig(5, "isolated")})
    )
    assert (story.position().position_amt, story.position().leverage) == (D("0.5"), 5)
    assert story.position().margin_type == "isolated"


def test_a_snapshot_does_not_turn_the_mark_price_back() -> None:
    """It was asked for at 40 and came at 60; prices went on meanwhile."""
    story = Story([snapshot(positions=[rest_position(-10, "2")])], [mark(55, "120")])
    story.apply(snapshot(40, positions=[rest_position(-10, "2", taken=40, mark_price="115")]))
    row = story.position()
    assert (row.mark_price, row.mark_price_time_ms) == (D(120), NOW + 55)
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(40), NOW + 55)
    expect_totals(story, "1000", "40", "1040")


# How far REST may be behind


@pytest.mark.parametrize(
    ("ours", "theirs", "asked", "news"),
    [
        (50, 40, 60, True),
        (40, 40, 60, False),
        (30, 40, 60, False),
        (50, 40, 50 + REST.lag_ms, True),
        (50, 40, 51 + REST.lag_ms, False),
        (60 + REST.lag_ms, 40, 60, True),
        (61 + REST.lag_ms, 40, 60, False),
    ],
    ids=[
        "younger",
        "of the same time",
        "older",
        "told as long ago as REST may be behind",
        "told before that",
        "told for a little later",
        "told before the venue's clock was set back",
    ],
)
def test_the_stream_knows_better_where_rest_may_be_behind(ours: int, theirs: int, asked: int, news: bool) -> None:
    assert REST.stream_is_newer(ours, theirs, asked) is news


@pytest.mark.parametrize(
    ("since", "recent"),
    [(100, True), (100 - REST.recent_ms, True), (99 - REST.recent_ms, False), (101, False)],
    ids=["just now", "as long ago as counts as recent", "before that", "after the venue was asked"],
)
def test_what_was_said_right_before_rest_was_asked_is_recent(since: int, recent: bool) -> None:
    assert REST.is_recent(since, 100) is recent


def test_a_snapshot_puts_right_what_a_clock_that_was_set_back_has_frozen() -> None:
    account = new_account()
    hour = 3_600_000
    account.apply((snapshot(),), "rest")
    account.apply((wallet(hour, "900"), position(hour, "0.5"), position(hour, "1", symbol="ETHUSDT")), "stream")
    account.apply((position(hour + 1, "0", symbol="ETHUSDT"),), "stream")
    taken = 1_000
    account.apply(
        (snapshot(taken, balances=[rest_balance(500, "800")], positions=[rest_position(500, "0.7")]),), "rest"
    )
    assert account.balances["USDT"].wallet_balance == D("800")
    assert [row.position_amt for row in account.positions.values()] == [D("0.7")]
    account.apply((position(1_500, "2", symbol="ETHUSDT"),), "stream")
    assert len(account.positions) == 2, "a later frame counts again"

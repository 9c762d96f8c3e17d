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

from statecast.domain import gaps
from statecast.domain.changes import LoggedEvent, OrderUpdate, Unreadable
from statecast.domain.models import OrderKey, SymbolConfig
from statecast.domain.snapshot_merge import AHEAD_MS, Asked

# Frames of before a snapshot


def test_a_position_that_was_closed_unheard_is_not_opened_by_a_frame_that_comes_again() -> None:
    opened = position(10, "0.5")
    received, not_received = Story([snapshot()], [opened], [snapshot(80_000)]), Story([snapshot(80_000)])
    closed_before = Story([snapshot()], [position(5, "0.1")], [position(8, "0")], [snapshot(80_000)])
    for story in (received, not_received, closed_before):
        story.apply(opened)
        assert story.account.positions == {}
        story.apply(position(78_000, "0.5"))  # REST may not have known it yet.
        expect_amounts(story, BTCUSDT_BOTH="0.5")


def test_what_opened_again_in_the_moment_in_which_it_was_closed_is_open_when_both_frames_come_again() -> None:
    listed = {"balances": [rest_balance(78_000, "990", taken=80_000)]}
    story = Story([snapshot()], [snapshot(80_000, **listed, positions=[rest_position(20, "-0.1", taken=80_000)])])
    story.apply(position(20, "0", pushed=21))
    story.apply(position(20, "-0.1", pushed=22))
    expect_amounts(story, BTCUSDT_BOTH="-0.1")


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


def test_what_a_snapshot_does_not_list_is_gone_where_it_lists_something_younger() -> None:
    story = Story(
        [snapshot()],
        [wallet(30, "1", "BNB"), position(30, "0.5")],
        [wallet(50, "2", "BTC"), position(50, "3", symbol="ETHUSDT")],
        [
            snapshot(
                60,
                balances=[rest_balance(40, "1000", taken=60)],
                positions=[rest_position(40, "1", symbol="XRPUSDT", taken=60)],
            )
        ],
    )
    expect_wallets(story, USDT="1000", BTC="2")
    expect_amounts(story, ETHUSDT_BOTH="3", XRPUSDT_BOTH="1")
    delta = story.deltas[-1]
    assert delta.replaces
    assert (delta.balance_count, delta.position_count) == (2, 2)


@pytest.mark.parametrize(("asked", "stands"), [(500, True), (59_000, True), (61_000, False)])
def test_a_position_that_a_snapshot_of_nothing_does_not_list_stands_for_a_minute(asked: int, stands: bool) -> None:
    """REST may be behind, and nothing in the answer says how far."""
    story = Story([snapshot()], [position(30, "0.5")], [snapshot(asked)])
    assert bool(story.account.positions) is stands


@pytest.mark.parametrize(
    ("filled", "source", "sold", "stands"),
    [
        (1_100, "stream", "0.5", False),
        (1_000, "stream", "0.5", True),
        (140, "rest", "0.5", False),
        (120, "rest", "0.5", True),
        (1_100, "stream", "0.4", True),
    ],
)
def test_a_position_that_fills_have_closed_since_does_not_stand_against_a_snapshot_of_nothing(
    filled: int, source: str, sold: str, stands: bool
) -> None:
    """A fill that the stream has not sent was another one than that of the row, if it is later at all."""
    fields = {"side": "SELL", "last_qty": D(sold), "source": source}
    sent = [LoggedEvent(fill(filled, sold, **fields).event)]
    story = Story([snapshot()], [position(30, "0.5")], [*sent, *sent], [snapshot(1_500)])
    assert bool(story.account.positions) is stands


@pytest.mark.parametrize("asked", [500, 15_000, 100_000])
def test_an_order_that_a_snapshot_does_not_list_is_open_until_a_document_says_that_it_is_over(asked: int) -> None:
    story = Story([snapshot()], [event(30, "NEW")], [snapshot(asked, knows_ends=True)])
    assert list(story.account.orders) == btc("1001")


@pytest.mark.parametrize(("asked", "stands"), [(500, True), (10_000, True), (10_100, False)])
def test_where_nobody_asks_for_them_orders_that_a_snapshot_does_not_list_are_gone(asked: int, stands: bool) -> None:
    """Those of a standby."""
    story = Story([snapshot()], [event(30, "NEW")], [snapshot(asked)])
    assert bool(story.account.orders) is stands


@pytest.mark.parametrize("listed_ms", [10, 30])
def test_a_listed_order_is_open_though_its_end_was_guessed(listed_ms: int) -> None:
    """The venue did not know it when it was asked for by its id."""
    guess = OrderUpdate(gaps.of_order(event(30, "NEW").event.order, NOW), open=False)
    story = Story([snapshot()], [event(30, "NEW")], [guess])
    assert story.account.orders == {}
    story.apply(snapshot(500, orders=[rest_order(listed_ms)]))
    assert list(story.account.orders) == btc("1001")
    ended = Story([snapshot()], [event(30, "NEW")], [event(30, "CANCELED", "CANCELED")])
    ended.apply(snapshot(500, orders=[rest_order(listed_ms)]))
    assert ended.account.orders == {}, "an event said so"


@pytest.mark.parametrize("behind_ms", [800, 7_000, 30_000])
def test_an_answer_that_is_behind_turns_no_row_back(behind_ms: int) -> None:
    story = Story(
        [snapshot()], [wallet(30_030, "990"), position(30_030, "0.5"), event(30_030, "NEW"), fill(30_030, "0.025")]
    )
    answer = snapshot(
        30_030 + behind_ms,
        balances=[rest_balance(10, "1000")],
        positions=[rest_position(10, "0.1")],
        orders=[rest_order(10)],
        knows_ends=True,
    )
    story.apply(answer)
    expect_wallets(story, USDT="990")
    expect_amounts(story, BTCUSDT_BOTH="0.5")
    assert story.order().executed_qty == D("0.025")


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


@pytest.mark.parametrize(("asked", "amount"), [(9_000, "0.01"), (12_000, "0.02")])
def test_a_frame_that_was_passed_over_counts_once_rest_has_it_and_cannot_be_behind(asked: int, amount: str) -> None:
    """The venue's clock may have been set back; or the frame came late, and REST is behind."""
    story = Story(
        [snapshot()], [position(900, "0.01"), wallet(900, "990")], [position(500, "0.02"), wallet(500, "980")]
    )
    expect_amounts(story, BTCUSDT_BOTH="0.01")
    story.apply(
        snapshot(asked, positions=[rest_position(500, "0.02")], balances=[rest_balance(500, "980", taken=asked)])
    )
    expect_amounts(story, BTCUSDT_BOTH=amount)
    expect_wallets(story, USDT="990" if amount == "0.01" else "980")
    story.apply(snapshot(30_000, positions=[rest_position(500, "0.02")]))
    expect_amounts(story, BTCUSDT_BOTH="0.02")


# How far REST may be behind


@pytest.mark.parametrize(
    ("ours", "theirs", "asked", "stands"),
    [
        (50, 40, 60, True),
        (40, 40, 60, False),
        (30, 40, 60, False),
        (50, 40, 50 + REST.believed_ms, True),
        (50, 40, 51 + REST.believed_ms, False),
        (60 + REST.lag_ms + AHEAD_MS, 40, 60, True),
        (61 + REST.lag_ms + AHEAD_MS, 40, 60, False),
    ],
    ids=[
        "younger",
        "of the same time",
        "older",
        "as long ago as any answer may be behind",
        "before that",
        "of a little later than the answer",
        "of before the venue's clock was set back",
    ],
)
def test_the_later_of_two_times_stands(ours: int, theirs: int, asked: int, stands: bool) -> None:
    assert REST.stands(ours, theirs, Asked(asked, asked + REST.lag_ms)) is stands


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


# Rows of an answer that cannot be understood


def test_what_an_answer_has_and_cannot_be_understood_stays_as_it_was_known() -> None:
    story = Story([snapshot()], [wallet(10, "990"), wallet(10, "5", "BNB"), position(10, "0.5"), event(10, "NEW")])
    keys = ("BNB", BOTH, OrderKey("BTCUSDT", "1001"))
    story.apply(snapshot(80_000, unreadable=tuple(Unreadable("a row", key) for key in keys)))
    assert (list(story.account.orders), set(story.account.balances)) == (btc("1001"), {"USDT", "BNB"})
    assert story.balance("BNB").wallet_balance == D(5)
    expect_amounts(story, BTCUSDT_BOTH="0.5")
    story.apply(snapshot(150_000))
    assert (story.account.orders, story.account.positions, set(story.account.balances)) == ({}, {}, {"USDT"})


def test_a_figure_that_was_left_out_keeps_nothing() -> None:
    story = Story([snapshot()], [position(10, "0.5")])
    story.apply(snapshot(80_000, unreadable=(Unreadable("a figure"),)))
    expect_amounts(story)

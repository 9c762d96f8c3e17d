from __future__ import annotations

from dataclasses import replace

import pytest
from support.changes import (
    NOW,
    D,
    mark,
    new_account,
    position,
    refresh,
    rest_balance,
    rest_position,
    snapshot,
    stamp,
    totals,
    wallet,
)
from support.story import (
    LONG,
    SHORT,
    Story,
    expect_amounts,
    expect_nothing_to_write,
    expect_totals,
    expect_wallets,
    three_ways,
)

from statecast.domain.changes import AllPositions, Change, LeverageUpdate
from statecast.domain.models import PositionKey, SymbolConfig

# Rows that are closed or late


def test_amount_zero_closes_a_position() -> None:
    story = three_ways([position(10, "0.5")], [position(20, "0")])
    expect_amounts(story)
    closing = story.deltas[-1]
    assert [(before is not None, after) for before, after in closing.positions] == [(True, None)]
    assert closing.position_count == 0


def test_a_flat_row_of_a_position_that_was_never_open_is_nothing_to_write() -> None:
    story = Story([snapshot()])
    expect_nothing_to_write(story.apply(position(10, "0", position_side="LONG")))


@pytest.mark.parametrize(
    ("late", "why"),
    [
        (position(10, "0.1"), "older transaction"),
        (position(20, "0.1", pushed=22), "same transaction time, pushed earlier"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_older_position_never_overwrites_a_newer_one(late: Change, why: str) -> None:
    story = three_ways([position(20, "0.5", pushed=24)], [late])
    expect_amounts(story, BTCUSDT_BOTH="0.5")
    expect_nothing_to_write(story.deltas[-1])


def test_late_news_does_not_bring_a_closed_position_back() -> None:
    story = three_ways([position(10, "0.5")], [position(20, "0")], [position(15, "0.2")])
    expect_amounts(story)


def test_a_closed_position_can_be_opened_again_later() -> None:
    story = three_ways([position(10, "0.5")], [position(20, "0")], [position(30, "-0.2")])
    expect_amounts(story, BTCUSDT_BOTH="-0.2")
    assert story.position().side == "short"


def test_a_position_turns_from_long_to_short_in_one_frame() -> None:
    story = three_ways([position(10, "0.5")], [position(20, "-0.3")])
    assert (story.position().side, story.position().position_amt) == ("short", D("-0.3"))


def test_several_frames_of_one_transaction_time_count_in_the_order_they_were_pushed() -> None:
    """One market order that sweeps the book: many fills in a millisecond."""
    frames = [[position(10, f"0.{n}", pushed=20 + n), wallet(10, f"99{n}", pushed=20 + n)] for n in range(1, 6)]
    story = three_ways(*frames)
    expect_amounts(story, BTCUSDT_BOTH="0.5")
    expect_wallets(story, USDT="995")


def test_frames_of_one_transaction_and_push_time_count_in_the_order_they_came() -> None:
    story = three_ways([position(10, "0.1", pushed=11)], [position(10, "0.2", pushed=11)])
    expect_amounts(story, BTCUSDT_BOTH="0.2")


def test_hedge_mode_keeps_long_and_short_of_one_symbol_apart() -> None:
    story = three_ways(
        [position(10, "0.5", position_side="LONG"), position(10, "-0.2", position_side="SHORT")],
        [position(20, "0", position_side="LONG")],
    )
    expect_amounts(story, BTCUSDT_SHORT="-0.2")
    assert story.account.symbols_with_position == {"BTCUSDT"}


def test_rows_of_the_other_position_mode_are_flat() -> None:
    story = three_ways(
        [position(10, "0.5", position_side="LONG"), position(10, "0"), position(10, "0", position_side="SHORT")]
    )
    expect_amounts(story, BTCUSDT_LONG="0.5")


# Mark prices and profit


def test_profit_notional_and_totals_move_with_the_mark_price() -> None:
    story = three_ways([position(10, "-0.5", "100")], [mark(30, "90.5")])
    row = story.position()
    assert (row.mark_price, row.unrealized_profit, row.notional) == (D("90.5"), D("4.75"), D("-45.25"))
    assert (row.mark_price_time_ms, row.unrealized_profit_time_ms) == (NOW + 30, NOW + 30)
    assert (story.balance().unrealized_profit, story.balance().unrealized_profit_time_ms) == (D("4.75"), NOW + 30)
    expect_totals(story, "1000", "4.75", "1004.75")
    assert story.deltas[-1].source == "derived"


def test_profit_is_rounded_to_the_eight_places_of_money() -> None:
    story = three_ways([position(10, "0.123", "91250.44444444")], [mark(30, "91251.12345678")])
    profit = story.position().unrealized_profit
    assert profit is not None
    assert profit == D("0.08351852")
    assert profit.as_tuple().exponent == -8


def test_an_older_mark_price_changes_nothing() -> None:
    story = three_ways([position(10, "1")], [mark(30, "110")], [mark(20, "90")])
    assert story.position().mark_price == D(110)


def test_a_mark_price_of_a_symbol_without_position_is_nothing_to_write() -> None:
    story = Story([snapshot()])
    expect_nothing_to_write(story.apply(mark(10, "5", "XRPUSDT")))


def test_a_position_that_opens_takes_the_last_mark_price_with_its_time() -> None:
    story = three_ways([mark(10, "110")], [position(20, "2", unrealized_profit=D(21))])
    row = story.position()
    assert (row.mark_price, row.mark_price_time_ms, row.notional) == (D(110), NOW + 10, D(220))
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(21), NOW + 24)  # the frame is younger


def test_a_frame_that_comes_after_a_younger_mark_price_takes_its_profit_from_that() -> None:
    story = three_ways([position(10, "1")], [mark(90, "110")], [position(20, "2", unrealized_profit=D(1))])
    row = story.position()
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(20), NOW + 90)
    assert row.mark_price_time_ms == NOW + 90


def test_a_mark_price_older_than_the_frames_profit_does_not_turn_that_back() -> None:
    story = three_ways([position(20, "2", unrealized_profit=D(21), pushed=40)], [mark(30, "110")])
    row = story.position()
    assert (row.mark_price, row.mark_price_time_ms, row.notional) == (D(110), NOW + 30, D(220))
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(21), NOW + 40)


def test_a_position_repeated_after_a_mark_price_keeps_the_profit_of_that() -> None:
    frame = position(20, "2", unrealized_profit=D(1))
    story = Story([snapshot()], [frame], [mark(90, "110")])
    expect_nothing_to_write(story.apply(frame))
    assert story.position().unrealized_profit == D(20)


def test_hedge_mode_marks_both_sides_of_a_symbol() -> None:
    story = three_ways(
        [position(10, "0.5", position_side="LONG"), position(10, "-0.2", position_side="SHORT")], [mark(20, "110")]
    )
    assert story.position(LONG).unrealized_profit == D(5)
    assert story.position(SHORT).unrealized_profit == D(-2)
    assert story.balance().unrealized_profit == D(3)


def test_profit_goes_to_the_margin_asset_of_each_position() -> None:
    story = three_ways(
        [position(10, "1"), position(10, "2", symbol="BTCUSDC"), position(10, "1", symbol="ETHUSDC")],
        [mark(20, "110"), mark(20, "103", "BTCUSDC"), mark(20, "99", "ETHUSDC")],
        given=snapshot(balances=[rest_balance(-50, "1000"), rest_balance(-50, "300", "USDC")]),
    )
    assert story.balance("USDT").unrealized_profit == D(10)
    assert story.balance("USDC").unrealized_profit == D(5)
    expect_totals(story, "1000", "10", "1010")  # the totals of single-asset mode are those of USDT


def test_a_sum_is_as_old_as_its_oldest_part() -> None:
    story = three_ways([position(10, "1"), position(10, "1", symbol="ETHUSDT")], [mark(20, "110")], [mark(60, "105")])
    assert story.position().unrealized_profit_time_ms == NOW + 60
    assert story.balance().unrealized_profit_time_ms == NOW + 14  # ETHUSDT, as of its frame
    told = story.account.totals
    assert told is not None
    assert told.total_unrealized_profit_time_ms == told.total_margin_balance_time_ms == NOW + 14


def test_the_profit_of_an_asset_without_positions_is_zero() -> None:
    story = three_ways([position(10, "1")], [mark(20, "110")], [position(30, "0"), wallet(30, "1009.5")])
    assert (story.balance().unrealized_profit, story.balance().unrealized_profit_time_ms) == (D(0), NOW + 30)
    expect_totals(story, "1009.5", "0", "1009.5")


def test_closing_a_position_after_a_younger_mark_price_does_not_turn_the_time_of_the_profit_back() -> None:
    story = Story([snapshot()], [position(10, "1")], [mark(90, "110")], [position(30, "0")])
    assert (story.balance().unrealized_profit, story.balance().unrealized_profit_time_ms) == (D(0), NOW + 90)


def test_a_position_of_an_unknown_margin_asset_stops_the_sums_where_they_were() -> None:
    story = Story([snapshot()], [position(10, "1")], [mark(20, "110")])
    totals_before, balance_before = story.account.totals, story.balance()
    story.apply(position(30, "5", symbol="NEWUSDX", unrealized_profit=D(3)))
    story.apply(mark(40, "120"))
    assert story.position().unrealized_profit == D(20)  # the row itself goes on
    assert (story.account.totals, story.balance()) == (totals_before, balance_before)


def test_a_margin_asset_that_a_frame_names_is_known_from_then_on() -> None:
    story = three_ways(
        [position(10, "1", symbol="NEWUSDX", margin_asset="USDT", unrealized_profit=D(3))],
        [position(20, "2", symbol="NEWUSDX", unrealized_profit=D(7))],
    )
    assert story.balance().unrealized_profit == D(7)


def test_a_margin_asset_that_rest_names_is_known_from_then_on() -> None:
    story = Story([snapshot()], [position(10, "1", symbol="NEWUSDX", unrealized_profit=D(3))])
    story.apply(
        refresh(
            30, balances=[rest_balance(-100, "1000")], positions=[rest_position(10, "1", symbol="NEWUSDX", taken=30)]
        )
    )
    story.apply(position(40, "2", symbol="NEWUSDX", unrealized_profit=D(7)))
    assert story.position(PositionKey("NEWUSDX", "BOTH")).margin_asset == "USDT"
    assert story.balance().unrealized_profit == D(7)


def test_a_frame_without_profit_and_without_mark_price_invents_none() -> None:
    story = Story([snapshot()], [position(10, "1", unrealized_profit=None)])
    row = story.position()
    assert (row.unrealized_profit, row.unrealized_profit_time_ms, row.mark_price, row.notional) == (None,) * 4


# Leverage, margin type, liquidation price


def test_a_new_leverage_reaches_all_positions_of_the_symbol() -> None:
    story = three_ways(
        [position(10, "0.5", position_side="LONG"), position(10, "-0.2", position_side="SHORT")],
        [position(10, "1", symbol="ETHUSDT")],
        [LeverageUpdate("BTCUSDT", 7)],
    )
    assert (story.position(LONG).leverage, story.position(SHORT).leverage) == (7, 7)
    assert story.position(PositionKey("ETHUSDT", "BOTH")).leverage is None


@pytest.mark.parametrize(("asked", "expected"), [(3_000, (7, "isolated")), (70_000, (20, "cross"))])
def test_a_setting_of_the_stream_stands_against_a_snapshot_that_may_be_older(
    asked: int, expected: tuple[int, str]
) -> None:
    """No answer gives it a time. Rows of the answer come with the settings that count, too."""
    held = [position(10, "1", margin_type="isolated"), position(10, "2", symbol="ETHUSDT")]
    configs = {"BTCUSDT": SymbolConfig(20, "cross"), "ETHUSDT": SymbolConfig(5, "cross")}
    rows = [
        rest_position(2_000, "1", leverage=20, margin_type="cross"),
        rest_position(2_000, "2", symbol="ETHUSDT", leverage=5, margin_type="cross"),
    ]
    answer = snapshot(asked, configs=configs, positions=rows)
    story = Story([snapshot()], held, [LeverageUpdate("BTCUSDT", 7, NOW + 1_000)], [answer])
    row = story.position()
    assert (row.leverage, row.margin_type) == expected
    assert story.account.symbol_configs["BTCUSDT"] == SymbolConfig(*expected)
    other = story.position(PositionKey("ETHUSDT", "BOTH"))
    assert (other.leverage, other.margin_type) == (5, "cross")


@pytest.mark.parametrize(("asked", "stands"), [(3_000, True), (5_000, False)])
def test_a_setting_of_before_an_interruption_stands_for_as_long_as_rest_usually_is_behind(
    asked: int, stands: bool
) -> None:
    """It may have been changed since. A later answer says so, and nothing is interrupted for that."""
    configs = {"BTCUSDT": SymbolConfig(20, "cross")}
    again = snapshot(asked, configs=configs, positions=[rest_position(10, "1")], stream_since_ms=NOW + 2_500)
    story = Story([snapshot()], [position(10, "1")], [LeverageUpdate("BTCUSDT", 7, NOW + 1_000)], [again])
    assert story.position().leverage == (7 if stands else 20)
    story.apply(replace(refresh(6_000, positions=[rest_position(10, "1")]), symbol_configs=configs))
    assert story.position().leverage == 20
    assert story.account.symbol_configs["BTCUSDT"] == SymbolConfig(20, "cross")


def test_a_leverage_set_without_a_position_is_that_of_the_next_one() -> None:
    story = three_ways([LeverageUpdate("ETHUSDT", 3)], [position(10, "1", symbol="ETHUSDT")])
    assert story.position(PositionKey("ETHUSDT", "BOTH")).leverage == 3
    expect_nothing_to_write(story.deltas[1])


def test_a_frame_brings_the_margin_type_and_the_leverage_stays() -> None:
    story = three_ways([position(10, "1")], [position(20, "1", margin_type="isolated", isolated_wallet=D("12.5"))])
    row = story.position()
    assert (row.margin_type, row.leverage, row.isolated_wallet) == ("isolated", 20, D("12.5"))
    assert story.account.symbol_configs["BTCUSDT"] == SymbolConfig(20, "isolated")


def test_a_frame_without_margin_type_keeps_the_known_one() -> None:
    story = three_ways([position(10, "1", margin_type="isolated")], [position(20, "2")])
    assert story.position().margin_type == "isolated"


def test_an_outdated_frame_does_not_change_the_margin_type() -> None:
    story = three_ways([position(20, "1", margin_type="isolated")], [position(10, "1", margin_type="cross")])
    assert story.position().margin_type == "isolated"
    assert story.account.symbol_configs["BTCUSDT"].margin_type == "isolated"


def test_a_liquidation_price_is_dropped_when_the_size_changes() -> None:
    story = three_ways([position(10, "0.6")], given=snapshot(positions=[rest_position(-10, "0.5")]))
    assert (story.position().liquidation_price, story.position().liquidation_price_time_ms) == (None, None)


def test_a_liquidation_price_stays_while_the_size_does() -> None:
    story = three_ways([position(10, "0.5")], given=snapshot(positions=[rest_position(-10, "0.5", taken=0)]))
    assert (story.position().liquidation_price, story.position().liquidation_price_time_ms) == (D(50), NOW)


def test_a_margin_type_that_no_event_tells_is_learnt_from_rest() -> None:
    account = new_account()
    account.apply((snapshot(),), "rest")
    told = {"BTCUSDT": SymbolConfig(20, "isolated"), "NEWUSDT": SymbolConfig(5, "cross")}
    account.apply((replace(refresh(100), symbol_configs=told),), "rest")
    assert account.symbol_configs == told
    account.apply((position(200, "1"), position(210, "0")), "stream")
    told = {"BTCUSDT": SymbolConfig(7, "cross")}
    account.apply((replace(refresh(300), symbol_configs=told),), "rest")
    assert account.symbol_configs["BTCUSDT"] == SymbolConfig(20, "isolated"), "an event tells it from then on"


@pytest.mark.parametrize("size", ["0.5", "0.7"], ids=["of the answer's size", "of another size"])
def test_a_figure_that_an_answer_shows_to_be_of_the_future_goes(size: str) -> None:
    """As of a venue whose clock was ahead when the mark was taken, and is not any more."""
    held = snapshot(positions=[rest_position(-10, "0.5")])
    story = Story([held], [mark(3_600_000, "50")], [position(20, size, pushed=3_600_000, unrealized_profit=D(7))])
    story.apply(refresh(30, positions=[rest_position(-10, "0.5", taken=30, mark_price="110")]))
    row = story.position()
    assert (row.mark_price, row.unrealized_profit) == (D(110), D(size) * 10)
    story.apply(mark(40, "120"))
    row = story.position()
    assert (row.mark_price, row.unrealized_profit) == (D(120), D(size) * 20)


def test_a_figure_of_the_future_goes_with_a_snapshot_of_which_the_row_is_older() -> None:
    story = Story([snapshot()], [position(20, "0.5")], [mark(3_600_000, "50")])
    story.apply(snapshot(30, positions=[rest_position(-10, "0.4", taken=30, mark_price="110")]))
    row = story.position()
    assert (row.position_amt, row.mark_price, row.unrealized_profit) == (D("0.5"), D(110), D(5))


# All rows of a kind: a venue that sends pages, or its whole state in every frame

BTC_ETH = snapshot(positions=[rest_position(-10, "0.5"), rest_position(-10, "2", symbol="ETHUSDT")])


def test_a_position_that_is_not_among_all_of_them_is_closed() -> None:
    story = three_ways([AllPositions((position(10, "0.7"),), stamp(10))], given=BTC_ETH)
    expect_amounts(story, BTCUSDT_BOTH="0.7")
    assert story.deltas[-1].position_count == 1


def test_a_frame_without_positions_closes_all() -> None:
    expect_amounts(three_ways([AllPositions((), stamp(10))], given=BTC_ETH))


def test_a_position_that_the_stream_knows_newer_stands_against_all_of_them() -> None:
    story = Story([BTC_ETH], [position(30, "3", symbol="ETHUSDT")], [AllPositions((position(20, "0.7"),), stamp(20))])
    expect_amounts(story, BTCUSDT_BOTH="0.7", ETHUSDT_BOTH="3")


def test_all_positions_of_some_symbols_say_nothing_of_others() -> None:
    story = three_ways([AllPositions((), stamp(10), frozenset({"BTCUSDT"}))], given=BTC_ETH)
    expect_amounts(story, ETHUSDT_BOTH="2")


def test_what_was_closed_that_way_is_not_opened_by_a_late_frame_and_is_by_a_newer_one() -> None:
    story = three_ways([AllPositions((), stamp(20))], [position(15, "0.5")], given=BTC_ETH)
    expect_amounts(story)
    story.apply(AllPositions((position(30, "0.1"),), stamp(30)))
    expect_amounts(story, BTCUSDT_BOTH="0.1")


def test_an_older_frame_of_all_positions_changes_nothing() -> None:
    story = three_ways([position(20, "0.9"), position(20, "1", symbol="ETHUSDT")], given=BTC_ETH)
    expect_nothing_to_write(story.apply(AllPositions((position(10, "0.1"),), stamp(10))))


# Contracts


def test_an_inverse_position_is_worth_coins_and_says_what_it_counts() -> None:
    fields = {
        "symbol": "BTC-USD-SWAP",
        "margin_asset": "BTC",
        "quantity_asset": "USD",
        "contracts": D(10),
        "contract_size": D(100),
        "inverse": True,
        "unrealized_profit": None,
    }
    given = snapshot(balances=[rest_balance(-50, "1", "BTC")], total=totals(0, "1"), totals_asset="BTC")
    story = three_ways(
        [mark(5, "50000", "BTC-USD-SWAP")],
        [position(10, "1000", "50000", **fields)],
        [mark(30, "62500", "BTC-USD-SWAP")],
        given=given,
    )
    row = story.position(PositionKey("BTC-USD-SWAP", "BOTH"))
    assert (row.unrealized_profit, row.notional) == (D("0.004"), D("0.016"))
    assert (row.quantity_asset, row.contracts, row.contract_size) == ("USD", D(10), D(100))
    expect_totals(story, "1", "0.004", "1.004")


def test_settings_that_an_answer_leaves_out_stay() -> None:
    story = Story([snapshot(configs={"BTCUSDT": SymbolConfig(20, "cross")})])
    story.apply(replace(refresh(10), symbol_configs={"BTCUSDT": SymbolConfig(None, None)}))
    assert story.account.symbol_configs["BTCUSDT"] == SymbolConfig(20, "cross")

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.changes import (
    NOW,
    REST,
    D,
    event,
    fill,
    mark,
    new_account,
    position,
    refresh,
    rest_balance,
    rest_order,
    rest_position,
    snapshot,
    stamp,
    totals,
    wallet,
)

from statecast.domain.account import Account, Delta, Times
from statecast.domain.changes import Change, LeverageUpdate, LoggedEvent, MultiAssetsUpdate, OrderUpdate, Snapshot
from statecast.domain.models import Balance, Order, OrderKey, Position, PositionKey, Source, Stamp, SymbolConfig
from statecast.domain.order_tracking import IncompleteOrder

Frame = Sequence[Change]
BOTH = PositionKey("BTCUSDT", "BOTH")
LONG = PositionKey("BTCUSDT", "LONG")
SHORT = PositionKey("BTCUSDT", "SHORT")


def btc(*order_ids: str) -> list[OrderKey]:
    """Orders of BTCUSDT, as these stories have them."""
    return [OrderKey("BTCUSDT", order_id) for order_id in order_ids]


def source_of(change: Change) -> Source:
    match type(change).__name__:
        case "Snapshot" | "Check":
            return "rest"
        case "MarkPriceUpdate":
            return "derived"
        case _:
            return "stream"


class Story:
    """An account, and what every commit of it was."""

    def __init__(self, *frames: Frame, account: Account | None = None) -> None:
        self.account = account or new_account()
        self.deltas: list[Delta] = []
        for frame in frames:
            self.tell(*frame)

    def tell(self, *changes: Change) -> Delta:
        delta = self.account.apply(changes, source_of(changes[0]))
        self.deltas.append(delta)
        return delta

    @property
    def event_ids(self) -> list[str]:
        return [told.event_id for delta in self.deltas for told in delta.events]

    def balance(self, asset: str = "USDT") -> Balance:
        return self.account.balances[asset]

    def position(self, key: PositionKey = BOTH) -> Position:
        return self.account.positions[key]

    def order(self, order_id: str = "1001", symbol: str = "BTCUSDT") -> Order:
        return self.account.orders[OrderKey(symbol, order_id)]


def known(account: Account) -> dict[str, Any]:
    """Everything that an account says."""
    return {
        "totals": account.totals,
        "balances": account.balances,
        "positions": account.positions,
        "orders": account.orders,
        "configs": account.symbol_configs,
        "multi_assets": account.multi_assets,
    }


def settled(account: Account) -> dict[str, Any]:
    """`known`, but for the time of a profit of zero: whoever saw it come and go knows it better than who did not."""
    everything = known(account)
    told = account.totals
    if told is not None and told.total_unrealized_profit == 0:
        everything["totals"] = replace(told, total_unrealized_profit_time_ms=0, total_margin_balance_time_ms=0)
    everything["balances"] = {
        asset: replace(row, unrealized_profit_time_ms=0) if row.unrealized_profit == 0 else row
        for asset, row in account.balances.items()
    }
    return everything


def three_ways(*frames: Frame, given: Snapshot | None = None) -> Story:
    """The story of `frames` after a snapshot; told one by one, in one burst, and each frame twice, it ends the same."""
    first = (given or snapshot(),)
    one_by_one = Story(first, *frames)
    burst = Story(first, [change for frame in frames for change in frame])
    twice = Story(first, *(frame for frame in frames for _ in range(2)))
    for other in (burst, twice):
        assert settled(other.account) == settled(one_by_one.account)
        assert other.event_ids == one_by_one.event_ids
    return one_by_one


def expect_amounts(story: Story, **amounts: str) -> None:
    """`BTCUSDT_BOTH="0.5"`: the open positions are these and no others."""
    found = {f"{key.symbol}_{key.position_side}": row.position_amt for key, row in story.account.positions.items()}
    assert found == {name: D(amount) for name, amount in amounts.items()}


def expect_wallets(story: Story, **wallets: str) -> None:
    """`USDT="1000"`: the assets are these and no others."""
    found = {asset: row.wallet_balance for asset, row in story.account.balances.items()}
    assert found == {asset: D(amount) for asset, amount in wallets.items()}


def expect_totals(story: Story, wallet_balance: str, profit: str, margin: str) -> None:
    told = story.account.totals
    assert told is not None
    assert (told.total_wallet_balance, told.total_unrealized_profit, told.total_margin_balance) == (
        D(wallet_balance),
        D(profit),
        D(margin),
    )


def expect_nothing_to_write(delta: Delta) -> None:
    assert not delta
    assert (delta.balances, delta.positions, delta.orders, delta.events, delta.totals) == ((), (), (), (), None)


# Before and at the first snapshot


def test_an_account_without_a_snapshot_is_not_publishable() -> None:
    account = new_account()
    assert not account.complete
    with pytest.raises(AssertionError, match="without a snapshot"):
        account.whole()


def test_a_snapshot_makes_the_account_complete_and_writes_all_of_it() -> None:
    story = Story()
    delta = story.tell(
        snapshot(
            balances=[rest_balance(-50, "1000"), rest_balance(-60, "5", "BNB")],
            positions=[rest_position(-40, "0.5")],
            orders=[rest_order(-30)],
        )
    )
    assert story.account.complete
    assert delta.replaces
    assert delta.source == "rest"
    assert (delta.balance_count, delta.position_count, delta.order_count) == (2, 1, 1)
    assert [len(rows) for rows in (delta.balances, delta.positions, delta.orders)] == [2, 1, 1]
    assert delta.totals == story.account.totals
    assert delta.times == Times(NOW, NOW, NOW, NOW)


def test_an_empty_account_is_written_as_empty() -> None:
    delta = Story().tell(snapshot(balances=[]))
    assert delta
    assert delta.replaces
    assert (delta.balance_count, delta.position_count, delta.order_count) == (0, 0, 0)


def test_a_refresh_does_not_stand_in_for_the_first_snapshot() -> None:
    """It has no orders: an account made of it would say that there are none."""
    story = Story()
    expect_nothing_to_write(story.tell(refresh(5, balances=[rest_balance(0, "1000")])))
    assert not story.account.complete


# Rows that are missing, closed, late


def test_a_row_that_is_missing_is_unchanged() -> None:
    story = three_ways(
        [wallet(10, "990")],
        [position(20, "2", symbol="ETHUSDT")],
        given=snapshot(
            balances=[rest_balance(-50, "1000"), rest_balance(-60, "5", "BNB")], positions=[rest_position(-40, "0.5")]
        ),
    )
    expect_wallets(story, USDT="990", BNB="5")
    expect_amounts(story, BTCUSDT_BOTH="0.5", ETHUSDT_BOTH="2")


def test_amount_zero_closes_a_position() -> None:
    story = three_ways([position(10, "0.5")], [position(20, "0")])
    expect_amounts(story)
    closing = story.deltas[-1]
    assert [(before is not None, after) for before, after in closing.positions] == [(True, None)]
    assert closing.position_count == 0


def test_a_flat_row_of_a_position_that_was_never_open_is_nothing_to_write() -> None:
    story = Story([snapshot()])
    expect_nothing_to_write(story.tell(position(10, "0", position_side="LONG")))


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


@pytest.mark.parametrize("late", [wallet(10, "1"), wallet(20, "1", pushed=22)], ids=["by T", "by E"])
def test_an_older_balance_never_overwrites_a_newer_one(late: Change) -> None:
    story = three_ways([wallet(20, "990", pushed=24)], [late])
    expect_wallets(story, USDT="990")
    expect_nothing_to_write(story.deltas[-1])


def test_an_older_order_never_overwrites_a_newer_one() -> None:
    story = three_ways([fill(20, "0.025")], [event(10, "NEW")])
    assert story.order().status == "PARTIALLY_FILLED"
    assert story.event_ids == ["BTCUSDT:1001:t20-0.025", "BTCUSDT:1001:NEW:NEW:10"]  # yet it did happen


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


def test_an_asset_that_was_never_seen_appears() -> None:
    story = three_ways([wallet(10, "2.5", "BNB", cross="2")])
    expect_wallets(story, USDT="1000", BNB="2.5")
    row = story.balance("BNB")
    assert (row.cross_wallet_balance, row.available_balance, row.source) == (D(2), None, "stream")


def test_a_negative_wallet_is_a_wallet() -> None:
    expect_wallets(three_ways([wallet(10, "-3.5")]), USDT="-3.5")


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


# Orders


def test_an_order_is_opened_filled_in_parts_and_gone() -> None:
    story = three_ways([event(10, "NEW")], [fill(20, "0.025")], [fill(30, "0.050")])
    assert story.account.orders == {}
    assert story.event_ids == ["BTCUSDT:1001:NEW:NEW:10", "BTCUSDT:1001:t20-0.025", "BTCUSDT:1001:t30-0.050"]
    assert [delta.order_count for delta in story.deltas] == [0, 1, 1, 0]


def test_fills_of_one_millisecond_all_count_and_the_fullest_stands() -> None:
    story = three_ways([event(10, "NEW")], [fill(20, "0.01")], [fill(20, "0.03")], [fill(20, "0.02")])
    assert story.order().executed_qty == D("0.03")
    assert len(story.event_ids) == 4


def test_an_amendment_in_the_millisecond_of_the_order_stands() -> None:
    story = three_ways([event(10, "NEW")], [event(10, "AMENDMENT", price=D("91000"))])
    assert story.order().price == D("91000")


def test_a_repeated_event_does_not_undo_another_of_the_same_millisecond() -> None:
    story = Story([snapshot()], [event(10, "NEW")], [event(10, "AMENDMENT", price=D("91000"))])
    expect_nothing_to_write(story.tell(event(10, "NEW")))
    assert story.order().price == D("91000")


@pytest.mark.parametrize("status", ["FILLED", "CANCELED", "EXPIRED", "EXPIRED_IN_MATCH", "REJECTED"])
def test_late_news_does_not_reopen_a_finished_order(status: str) -> None:
    story = three_ways([event(20, "X", status)], [event(10, "NEW")], [event(30, "NEW")])
    assert story.account.orders == {}
    assert len(story.event_ids) == 3


def test_two_open_orders_with_one_id_on_two_symbols_both_stand() -> None:
    """Venues number orders per symbol."""
    ether = {"symbol": "ETHUSDT"}
    story = three_ways(
        [event(10, "NEW")],
        [event(20, "NEW", **ether)],
        [fill(30, "0.02", **ether)],
        [event(40, "CANCELED", "CANCELED")],
        [event(45, "AMENDMENT", "PARTIALLY_FILLED", executed_qty=D("0.02"), price=D(3000), **ether)],
    )
    assert list(story.account.orders) == [OrderKey("ETHUSDT", "1001")]
    assert (story.order(symbol="ETHUSDT").executed_qty, story.order(symbol="ETHUSDT").price) == (D("0.02"), D(3000))
    assert len(story.event_ids) == 5
    story.tell(snapshot(50, orders=[rest_order(46, executed_qty=D("0.03"), **ether), rest_order(47)]))
    assert set(story.account.orders) == {OrderKey("BTCUSDT", "1001"), OrderKey("ETHUSDT", "1001")}
    assert lacks(story.account, fill(60, "0.05", last_qty=D("0.02"), **ether)) == []
    story.tell(snapshot(20_000, orders=[rest_order(46, **ether)]))
    assert [*story.account.incomplete_orders] == btc("1001"), "the other one is listed"


def test_a_late_fill_after_a_cancel_is_kept_once_and_reopens_nothing() -> None:
    story = three_ways([event(10, "NEW")], [event(30, "CANCELED", "CANCELED")], [fill(20, "0.025")])
    assert story.account.orders == {}
    assert story.event_ids[-1] == "BTCUSDT:1001:t20-0.025"
    assert story.event_ids.count("BTCUSDT:1001:t20-0.025") == 1
    late = story.deltas[-1]
    assert (len(late.events), late.orders) == (1, ())


def test_the_first_that_is_heard_of_an_order_may_be_its_fill() -> None:
    """Liquidations and auto-deleveraging come without a NEW."""
    story = three_ways([fill(10, "0.025", order_id="77", client_order_id="autoclose-1")])
    assert story.order("77").executed_qty == D("0.025")


def test_an_order_that_ends_with_its_first_event_leaves_an_event_and_no_order() -> None:
    story = Story([snapshot()])
    delta = story.tell(fill(10, "0.050"))
    assert (len(delta.events), delta.orders, delta.order_count) == (1, (), 0)


def test_a_conditional_order_lives_beside_the_order_that_it_triggers() -> None:
    algo = {"order_id": "algo-7", "algo_id": "7", "type": "STOP_MARKET", "executed_qty": None}
    story = three_ways(
        [event(10, "ALGO_NEW", **algo)],
        [event(20, "NEW", order_id="88")],  # the child may be heard of first
        [event(20, "ALGO_TRIGGERED", "TRIGGERED", actual_order_id="88", **algo)],
    )
    assert list(story.account.orders) == btc("88")
    assert len(story.event_ids) == 3


def test_events_that_the_log_holds_already_are_not_told_again() -> None:
    account = new_account()
    account.apply([snapshot()], "rest")
    account.remember_events(["BTCUSDT:1001:NEW:NEW:10"])
    delta = account.apply([event(10, "NEW")], "stream")
    assert delta.events == ()
    assert list(account.orders) == btc("1001")


def test_a_gap_is_told_once_and_is_no_order() -> None:
    account = new_account()
    account.apply([snapshot()], "rest")
    gap = LoggedEvent(event(10, "GAP", event_id="GAP:5:ALL", order_id="").event)
    delta = account.apply([gap], "rest")
    assert [told.event_id for told in delta.events] == ["GAP:5:ALL"]
    assert (delta.orders, account.orders) == ((), {})
    assert account.is_logged("GAP:5:ALL")
    assert not account.is_logged("GAP:6:ALL")
    assert not account.apply([gap], "rest")


def test_the_memory_of_events_and_finished_orders_is_bounded() -> None:
    story = Story([snapshot()], account=new_account(events=3, finished_orders=2))
    for number in range(5):
        story.tell(event(number, "CANCELED", "CANCELED", order_id=str(number)))
    assert story.tell(event(4, "CANCELED", "CANCELED", order_id="4")).events == ()
    assert story.tell(event(3, "CANCELED", "CANCELED", order_id="3")).events == ()
    assert len(story.tell(event(0, "CANCELED", "CANCELED", order_id="0")).events) == 1  # forgotten: the oldest goes


# What was not told


def lacks(
    account: Account, *changes: Change, filled: dict[OrderKey, Decimal] | None = None
) -> list[tuple[str, str, bool]]:
    """Order, what is known to be filled of it, and whether only its beginning is missing."""
    found = account.missing_before(changes, filled)
    return [(lack.incomplete.order.order_id, str(lack.incomplete.filled), lack.only_opening) for lack in found]


LACKS: dict[str, tuple[list[Frame], list[Change], list[tuple[str, str, bool]]]] = {
    "a beginning": ([], [event(10, "NEW")], []),
    "the first fill of a known order": ([[event(10, "NEW")]], [fill(20, "0.02")], []),
    "a fill that begins where the last one ended": (
        [[event(10, "NEW")], [fill(20, "0.02")]],
        [fill(30, "0.05", last_qty=D("0.03"))],
        [],
    ),
    "a fill that begins beyond it": (
        [[event(10, "NEW")], [fill(20, "0.02")]],
        [fill(30, "0.05", last_qty=D("0.01"))],
        [("1001", "0.02", False)],
    ),
    "an end with more filled than was told": (
        [[event(10, "NEW")]],
        [event(30, "CANCELED", "CANCELED", executed_qty=D("0.01"))],
        [("1001", "0", False)],
    ),
    "a fill of an unknown order": ([], [fill(20, "0.02")], [("1001", "-1", False)]),
    "a step of an unknown order": ([], [event(20, "AMENDMENT")], [("1001", "-1", False)]),
    "the end of an unknown order": ([], [event(20, "CANCELED", "CANCELED")], [("1001", "-1", False)]),
    "an unknown order that ends at once": ([], [event(20, "EXPIRED", "EXPIRED")], [("1001", "-1", True)]),
    "an unknown order that was filled in part before it expired": (
        [],
        [event(20, "EXPIRED", "EXPIRED", executed_qty=D("0.01"))],
        [("1001", "-1", False)],
    ),
    "what was told before": ([[event(10, "NEW")], [fill(20, "0.05")]], [fill(20, "0.05")], []),
    "news of an order that is over": ([[event(10, "NEW")], [fill(20, "0.05")]], [fill(19, "0.03")], []),
    "two frames, of which the first explains the second": (
        [[event(10, "NEW")]],
        [fill(20, "0.02"), fill(30, "0.05", last_qty=D("0.03"))],
        [],
    ),
}


@pytest.mark.parametrize("case", LACKS)
def test_what_must_have_happened_before_is_noticed(case: str) -> None:
    frames, changes, expected = LACKS[case]
    assert lacks(Story([snapshot()], *frames).account, *changes) == expected


def test_a_liquidation_begins_with_its_fill() -> None:
    first, second = (change._replace(may_be_first=True) for change in (fill(20, "0.02"), fill(30, "0.05")))
    story = Story([snapshot()])
    assert lacks(story.account, first) == []
    story.tell(first)
    half = second._replace(event=second.event._replace(last_qty=D("0.01")))
    assert lacks(story.account, half) == [("1001", "0.02", False)], "and goes on like every other"


def test_what_a_conditional_order_says_of_its_childs_fills_is_not_its_own() -> None:
    def step(at: int, status: str, filled: str) -> OrderUpdate:
        return event(at, f"ALGO_{status}", status, order_id="algo-7", algo_id="7", executed_qty=D(filled))

    story = Story([snapshot()], [step(10, "NEW", "0")], [step(20, "TRIGGERING", "0")], [step(20, "TRIGGERED", "0")])
    assert list(story.account.triggered_orders()) == btc("algo-7")
    end = step(30, "FINISHED", "0.05")
    assert lacks(story.account, end) == []
    assert lacks(new_account(), end) == [], "it was triggered before this process began"
    story.tell(end)
    assert not story.account.triggered_orders()


def test_what_is_told_of_an_awaited_order_counts_for_what_comes_next() -> None:
    story = Story([snapshot()])
    story.account.expect([IncompleteOrder(rest_order(40, "PARTIALLY_FILLED", executed_qty=D("0.03")), D(-1))])
    story.tell(event(10, "NEW"))
    assert lacks(story.account, fill(30, "0.02")) == []
    story.tell(fill(30, "0.02"))
    assert lacks(story.account, fill(40, "0.03", last_qty=D("0.01"))) == []
    story.tell(fill(40, "0.03", last_qty=D("0.01")))
    assert story.account.incomplete_orders == {}


def test_what_is_known_beside_the_account_explains_a_fill() -> None:
    account = Story([snapshot()]).account
    half = fill(30, "0.05", last_qty=D("0.03"))
    assert lacks(account, half, filled={btc("1001")[0]: D("0.02")}) == []
    assert lacks(account, half, filled={btc("1001")[0]: D("0.01")}) == [("1001", "0.01", False)]


def test_an_order_that_a_snapshot_does_not_list_any_more_is_untold_until_its_end_is_told() -> None:
    story = Story([snapshot()], [event(10, "NEW"), event(10, "NEW", order_id="1002")], [snapshot(20_000)])
    assert [*story.account.incomplete_orders] == btc("1001", "1002")
    story.tell(event(11, "CANCELED", "CANCELED"))
    assert [*story.account.incomplete_orders] == btc("1002")
    story.tell(LoggedEvent(event(11, "CANCELED", "CANCELED", order_id="1002").event))
    assert story.account.incomplete_orders == {}


def test_a_listed_order_is_untold_until_an_event_reaches_it() -> None:
    story = Story([snapshot()], [event(10, "NEW")])
    listed = rest_order(30, "PARTIALLY_FILLED", executed_qty=D("0.02"))
    story.account.expect([IncompleteOrder(listed, D(0))])
    story.tell(event(29, "AMENDMENT"))
    assert [*story.account.incomplete_orders] == btc("1001"), "an amendment before the fill"
    assert lacks(story.account, fill(40, "0.05", last_qty=D("0.03"))) == [("1001", "0", False)], "its row is not news"
    story.tell(fill(31, "0.02"))
    assert story.account.incomplete_orders == {}, "the stream's time of it may be another"


def test_what_lacks_its_beginning_is_not_told_whole_by_its_end() -> None:
    story = Story([snapshot()])
    end = event(20, "EXPIRED", "EXPIRED")
    story.account.expect(lack.incomplete for lack in story.account.missing_before([end]))
    story.tell(end)
    assert [*story.account.incomplete_orders] == btc("1001")
    assert [told.event_type for told in story.tell(event(19, "NEW")).events] == ["NEW"]
    assert story.account.incomplete_orders == {}, "its beginning was told after all"


def test_a_step_that_comes_again_after_the_end_is_not_told() -> None:
    story = Story([snapshot()], [event(10, "NEW")], [fill(30, "0.05")])
    assert story.tell(event(20, "AMENDMENT")).events == ()
    assert [told.event_type for told in story.tell(fill(25, "0.01")).events] == ["TRADE"], "a fill always counts"


def test_a_step_that_comes_again_behind_what_came_after_it_is_not_told() -> None:
    story = Story([snapshot()], [event(10, "NEW")], [fill(30, "0.01")])
    assert story.tell(event(20, "AMENDMENT", "PARTIALLY_FILLED")).events == ()
    assert [len(story.tell(event(at, "AMENDMENT", "PARTIALLY_FILLED")).events) for at in (30, 40)] == [1, 1]
    by_history = Story(
        [snapshot()], [event(10, "NEW")], [LoggedEvent(fill(30, "0.01").event)], [snapshot(orders=[rest_order(30)])]
    )
    assert by_history.tell(event(20, "AMENDMENT", "PARTIALLY_FILLED")).events == ()


def test_a_conditional_order_whose_end_was_told_is_not_waited_for_again() -> None:
    row = {"order_id": "algo-7", "algo_id": "7", "actual_order_id": "99"}
    triggered, finished = (
        event(10, "ALGO_TRIGGERED", "TRIGGERED", **row),
        event(20, "ALGO_FINISHED", "FINISHED", **row),
    )
    story = Story([snapshot()], [triggered])
    assert story.account.triggered_orders() == story.account.triggered_without_order() == (*btc("algo-7"),)
    story.tell(finished)
    assert story.account.triggered_orders() == ()
    for late in (triggered, event(10, "ALGO_TRIGGERED", "TRIGGERED", source="rest", event_id="other", **row)):
        assert story.tell(late).events == ()
        story.tell(LoggedEvent(late.event))
        assert story.account.triggered_orders() == ()


def test_what_was_told_last_is_remembered_of_open_orders_alone() -> None:
    story = Story([snapshot()], [event(10, "NEW")], [event(10, "NEW", order_id="1002")], [fill(30, "0.05")])
    story.tell(fill(30, "0.05"))
    assert [*story.account._tracking._logged_ms] == btc("1002")
    story.tell(snapshot(20_000))
    assert story.account._tracking._logged_ms == {}


def test_a_step_that_comes_again_after_an_end_that_was_told_alone_is_not_told() -> None:
    story = Story([snapshot()], [event(10, "NEW")])
    told = story.tell(LoggedEvent(event(30, "CANCELED", "CANCELED").event, ends=True))
    assert [one.event_type for one in told.events] == ["CANCELED"]
    assert told.orders == (), "the next snapshot takes the row away"
    assert story.tell(event(20, "AMENDMENT")).events == ()


def test_an_activation_that_a_history_told_as_the_placing_is_not_told_again() -> None:
    def placed(event_id: str, at: int, **fields: Any) -> OrderUpdate:
        return event(at, "ALGO_NEW", order_id="algo-7", algo_id="7", event_id=event_id, **fields)

    story = Story([snapshot()], [placed("algo-7:NEW", 10, source="rest")])
    assert story.tell(placed("algo-7:NEW:ACTIVATED", 10)).events == ()
    assert len(story.tell(placed("algo-7:NEW:ACTIVATED", 25)).events) == 0, "its id is known by now"
    other = Story([snapshot()], [placed("algo-7:NEW", 10, source="rest")])
    assert len(other.tell(placed("algo-7:NEW:ACTIVATED", 25)).events) == 1, "placed first, activated later"


def test_a_position_that_was_closed_unheard_is_not_opened_by_a_frame_that_comes_again() -> None:
    opened = position(10, "0.5")
    heard, unheard = Story([snapshot()], [opened], [snapshot(20_000)]), Story([snapshot(20_000)])
    for story in (heard, unheard):
        story.tell(opened)
        assert story.account.positions == {}
        story.tell(position(18_000, "0.5"))  # REST may not have known it yet.
        expect_amounts(story, BTCUSDT_BOTH="0.5")


def test_what_was_closed_before_the_stream_was_heard_is_not_opened_by_a_frame_that_comes_again() -> None:
    rows = [rest_balance(40, "990", taken=100)]
    story = Story([snapshot(100, balances=rows, heard_since_ms=NOW + 50)])
    story.tell(position(39, "0.5"))
    assert story.account.positions == {}, "REST has told what was later, and did not list it"
    story.tell(position(41, "0.5"))
    expect_amounts(story, BTCUSDT_BOTH="0.5")


def test_what_the_stream_was_heard_to_open_stands_against_an_answer_that_may_be_behind() -> None:
    story = Story([snapshot(20_000, balances=[rest_balance(40, "990", taken=20_000)], heard_since_ms=NOW + 5_000)])
    story.tell(position(11_000, "0.5"))
    expect_amounts(story, BTCUSDT_BOTH="0.5")


@pytest.mark.parametrize(("heard_since", "counts"), [(50, False), (30, True)])
def test_a_frame_of_the_moment_of_a_row_by_rest_counts_if_it_is_no_repetition(heard_since: int, counts: bool) -> None:
    rows = {
        "balances": [rest_balance(40, "990", taken=100)],
        "positions": [rest_position(40, "0.3", taken=100)],
    }
    story = Story([snapshot(100, **rows, heard_since_ms=NOW + heard_since)])
    story.tell(wallet(40, "995"))
    story.tell(position(40, "0.5"))
    expect_wallets(story, USDT="995" if counts else "990")
    expect_amounts(story, BTCUSDT_BOTH="0.5" if counts else "0.3")


# Snapshots beside the stream


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
    story.tell(snapshot(40, balances=[rest_balance(20, "1000", taken=40, available_balance=D("700"))]))
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
    story.tell(snapshot(23, balances=[rest_balance(-100, "1000", taken=23)]))  # asked after them, answered from before
    for frame in frames:
        story.tell(*frame)
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
    delta = story.tell(position(10, "0.1"), wallet(10, "1"), fill(20, "0.02"))
    assert (delta.balances, delta.positions, delta.orders) == ((), (), ())
    assert len(delta.events) == 1  # what happened to an order counts, though the snapshot knew its result


def test_the_frame_of_the_snapshots_own_moment_keeps_the_younger_figures_of_rest() -> None:
    story = Story([snapshot(50, positions=[rest_position(20, "0.5", taken=50, mark_price="110")])])
    story.tell(position(20, "0.5", unrealized_profit=D(1)))
    row = story.position()
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(5), NOW + 50)
    assert (row.liquidation_price, row.liquidation_price_time_ms) == (D(50), NOW + 50)


def test_an_order_that_the_venue_lists_after_we_thought_it_finished_is_followed_again() -> None:
    story = Story([snapshot()], [event(10, "EXPIRED", "EXPIRED")], [snapshot(40, orders=[rest_order(30)])])
    assert list(story.account.orders) == btc("1001")
    story.tell(event(50, "CANCELED", "CANCELED"))
    assert story.account.orders == {}


def test_a_snapshot_brings_the_present_leverage_to_a_row_that_the_stream_knows_better() -> None:
    story = Story([snapshot()], [position(30, "0.5")])
    story.tell(
        snapshot(40, positions=[rest_position(20, "0.4", taken=40)], configs={"BTCUSDT": SymbolConfig(5, "isolated")})
    )
    assert (story.position().position_amt, story.position().leverage) == (D("0.5"), 5)
    assert story.position().margin_type == "isolated"


def test_a_snapshot_does_not_turn_the_mark_price_back() -> None:
    """It was asked for at 40 and came at 60; prices went on meanwhile."""
    story = Story([snapshot(positions=[rest_position(-10, "2")])], [mark(55, "120")])
    story.tell(snapshot(40, positions=[rest_position(-10, "2", taken=40, mark_price="115")]))
    row = story.position()
    assert (row.mark_price, row.mark_price_time_ms) == (D(120), NOW + 55)
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(40), NOW + 55)
    expect_totals(story, "1000", "40", "1040")


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
    expect_nothing_to_write(story.tell(mark(10, "5", "XRPUSDT")))


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
    expect_nothing_to_write(story.tell(frame))
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
    story.tell(position(30, "5", symbol="NEWUSDX", unrealized_profit=D(3)))
    story.tell(mark(40, "120"))
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
    story.tell(
        refresh(
            30, balances=[rest_balance(-100, "1000")], positions=[rest_position(10, "1", symbol="NEWUSDX", taken=30)]
        )
    )
    story.tell(position(40, "2", symbol="NEWUSDX", unrealized_profit=D(7)))
    assert story.position(PositionKey("NEWUSDX", "BOTH")).margin_asset == "USDT"
    assert story.balance().unrealized_profit == D(7)


def test_a_frame_without_profit_and_without_mark_price_invents_none() -> None:
    story = Story([snapshot()], [position(10, "1", unrealized_profit=None)])
    row = story.position()
    assert (row.unrealized_profit, row.unrealized_profit_time_ms, row.mark_price, row.notional) == (None,) * 4


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
    story.tell(refresh(20, balances=[rest_balance(10, "900", taken=20)], total=totals(20, "2500")))
    story.tell(wallet(30, "800"))
    expect_totals(story, "2500", "0", "2500")
    story.tell(MultiAssetsUpdate(False))
    story.tell(wallet(40, "700"))
    expect_totals(story, "2500", "0", "2500")
    story.tell(refresh(50, balances=[rest_balance(40, "700", taken=50)], total=totals(50, "700")))
    story.tell(wallet(60, "600"))
    expect_totals(story, "600", "0", "600")


def test_a_wallet_that_moves_and_moves_back_is_as_young_as_its_last_move() -> None:
    story = three_ways([wallet(10, "900")], [wallet(20, "1000")])
    told = story.account.totals
    assert told is not None
    assert told.total_wallet_balance_time_ms == NOW + 20


# Leverage, margin type, liquidation price


def test_a_new_leverage_reaches_all_positions_of_the_symbol() -> None:
    story = three_ways(
        [position(10, "0.5", position_side="LONG"), position(10, "-0.2", position_side="SHORT")],
        [position(10, "1", symbol="ETHUSDT")],
        [LeverageUpdate("BTCUSDT", 7)],
    )
    assert (story.position(LONG).leverage, story.position(SHORT).leverage) == (7, 7)
    assert story.position(PositionKey("ETHUSDT", "BOTH")).leverage is None


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


# Refresh


def test_a_refresh_brings_what_no_event_carries() -> None:
    story = Story([snapshot()], [position(10, "0.5"), wallet(10, "990")])
    delta = story.tell(
        refresh(
            30,
            balances=[rest_balance(10, "990", taken=30, available_balance=D("640"))],
            positions=[rest_position(10, "0.5", taken=30, mark_price="104", liquidation_price=D("61"))],
            total=totals(30, "990", "2", total_initial_margin=D("13"), total_maint_margin=D("4")),
        )
    )
    row = story.position()
    assert (row.liquidation_price, row.mark_price, row.unrealized_profit) == (D(61), D(104), D(2))
    assert (row.source, row.stamp) == ("stream", stamp(10))
    assert (story.balance().available_balance, story.balance().available_balance_time_ms) == (D(640), NOW + 30)
    told = story.account.totals
    assert told is not None
    assert (told.total_initial_margin, told.total_maint_margin, told.margin_time_ms) == (D(13), D(4), NOW + 30)
    assert not delta.replaces
    assert delta.times == Times(NOW + 30, NOW + 30, NOW + 30, NOW)


def test_a_refresh_behind_the_stream_overwrites_nothing_newer() -> None:
    story = Story([snapshot()], [position(20, "0.6"), wallet(20, "980")], [mark(28, "110")])
    story.tell(
        refresh(
            25,
            balances=[rest_balance(10, "990", taken=25)],
            positions=[rest_position(10, "0.5", taken=25, mark_price="104")],
            total=totals(25, "990", "2"),
        )
    )
    expect_wallets(story, USDT="980")
    expect_amounts(story, BTCUSDT_BOTH="0.6")
    assert (story.position().liquidation_price, story.position().mark_price) == (None, D(110))
    expect_totals(story, "980", "6", "986")


def test_a_refresh_ahead_of_the_stream_moves_no_wallet_and_no_size() -> None:
    """The stream is about to tell them all at once; REST's parts were asked for one beside the other."""
    story = Story([snapshot()], [position(10, "0.5")])
    story.tell(
        refresh(
            30,
            balances=[rest_balance(20, "990", taken=30), rest_balance(20, "3", "BNB", taken=30)],
            positions=[rest_position(20, "0.8", taken=30), rest_position(20, "1", symbol="ETHUSDT", taken=30)],
            total=totals(30, "990"),
        )
    )
    expect_wallets(story, USDT="1000")
    expect_amounts(story, BTCUSDT_BOTH="0.5")
    assert story.balance().available_balance_time_ms == NOW + 30
    assert story.position().liquidation_price_time_ms is None


def test_a_refresh_does_not_bring_a_closed_position_back() -> None:
    story = Story([snapshot()], [position(10, "0.5")], [position(20, "0")])
    story.tell(refresh(25, balances=[rest_balance(10, "1000")], positions=[rest_position(10, "0.5", taken=25)]))
    expect_amounts(story)


def test_a_refresh_removes_nothing() -> None:
    """It may be behind the stream; what it no longer lists is a matter for a snapshot."""
    story = Story([snapshot()], [position(10, "0.5")], [refresh(30)])
    expect_amounts(story, BTCUSDT_BOTH="0.5")
    expect_wallets(story, USDT="1000")


def test_a_refresh_that_was_asked_for_before_the_last_answer_changes_nothing() -> None:
    story = Story([snapshot()], [snapshot(50, total=totals(50, "1000", total_initial_margin=D(5)))])
    expect_nothing_to_write(story.tell(refresh(40, balances=[rest_balance(-100, "1000", taken=40)])))
    assert story.balance().available_balance_time_ms == NOW + 50


def test_a_refresh_of_the_mark_price_does_not_turn_a_younger_profit_back() -> None:
    story = Story([snapshot()], [position(10, "0.5", unrealized_profit=D(4), pushed=40)])
    story.tell(
        refresh(
            30, balances=[rest_balance(10, "1000")], positions=[rest_position(10, "0.5", taken=30, mark_price="104")]
        )
    )
    row = story.position()
    assert (row.mark_price, row.mark_price_time_ms) == (D(104), NOW + 30)
    assert (row.unrealized_profit, row.unrealized_profit_time_ms) == (D(4), NOW + 40)


# What is to be written


def test_news_that_is_none_is_nothing_to_write() -> None:
    story = Story([snapshot()], [wallet(10, "990")])
    expect_nothing_to_write(story.tell(wallet(10, "990")))
    expect_nothing_to_write(new_account().apply([], "stream"))


def test_a_commit_holds_the_rows_that_moved_and_what_they_were() -> None:
    story = Story([snapshot()], [position(10, "0.5"), wallet(10, "990")])
    before = story.balance()
    delta = story.tell(wallet(20, "980"))
    assert delta.balances == ((before, story.balance()),)
    assert (delta.positions, delta.orders, delta.events) == ((), (), ())
    assert delta.totals is not None
    assert delta.totals_before is not None
    assert delta.totals_before.total_wallet_balance == D(990)
    assert not delta.replaces


def test_each_hash_is_as_young_as_its_own_youngest_value() -> None:
    story = Story([snapshot()], [wallet(10, "990")])
    assert story.deltas[-1].times == Times(NOW + 10, NOW + 10, NOW, NOW)
    assert story.tell(event(20, "NEW")).times == Times(NOW + 10, NOW + 10, NOW, NOW + 20)
    assert story.tell(wallet(5, "1", "BNB")).times == Times(NOW + 10, NOW + 10, NOW, NOW + 20)  # late, and no step back


def test_the_whole_account_can_be_written_at_any_time() -> None:
    story = Story([snapshot()], [position(10, "0.5"), wallet(10, "990")], [event(20, "NEW")])
    pending = event(30, "CANCELED", "CANCELED").event
    whole = story.account.whole((pending,))
    assert whole.replaces
    assert [after for _, after in whole.balances] == list(story.account.balances.values())
    assert [after for _, after in whole.positions] == list(story.account.positions.values())
    assert [after for _, after in whole.orders] == list(story.account.orders.values())
    assert (whole.totals, whole.totals_before, whole.events) == (story.account.totals, None, (pending,))
    assert whole.times == story.deltas[-1].times


# Properties: any script


TimesOf = Callable[[Any], Iterator[tuple[str, int]]]
ASSETS = ("USDT", "USDC")
SYMBOLS = ("BTCUSDT", "BTCUSDC")
ORDER_IDS = ("1", "2", "3")
amounts = st.sampled_from(["0", "0.5", "1", "-2", "3"])
moments = st.integers(0, 12).map(lambda n: n * 10)


@st.composite
def scripts(draw: st.DrawFn) -> list[Change]:
    """Frames of a stream, in any order: each pushed at a time of its own, since nothing tells apart what is not."""
    script: list[Change] = []
    for number in range(draw(st.integers(1, 14))):
        at, amount = draw(moments), draw(amounts)
        pushed = at + number % 9
        kind = draw(st.sampled_from(["wallet", "position", "mark", "order", "leverage"]))
        symbol = draw(st.sampled_from(SYMBOLS))
        match kind:
            case "wallet":
                script.append(wallet(at, amount, draw(st.sampled_from(ASSETS)), pushed=pushed * 1000 + number))
            case "position":
                side = draw(st.sampled_from(["BOTH", "LONG"]))
                fields = {"symbol": symbol, "position_side": side, "unrealized_profit": D(number)}
                script.append(position(at, amount, pushed=pushed, **fields))
            case "mark":
                script.append(mark(at, str(100 + number), symbol))
            case "leverage":
                script.append(LeverageUpdate(symbol, number + 1))
            case "order":
                status = draw(st.sampled_from(["NEW", "PARTIALLY_FILLED", "FILLED", "CANCELED"]))
                script.append(
                    event(
                        at,
                        "X",
                        status,
                        order_id=draw(st.sampled_from(ORDER_IDS)),
                        price=D(number),
                        event_id=f"e{number}",
                    )
                )
    return script


GIVEN = snapshot(
    balances=[rest_balance(-50, "1000"), rest_balance(-50, "500", "USDC")],
    positions=[rest_position(-50, "1"), rest_position(-50, "2", symbol="BTCUSDC", margin_asset="USDC")],
)


@given(scripts(), st.data())
@settings(derandomize=True, deadline=None, max_examples=100)
def test_any_script_ends_the_same_one_by_one_and_in_bursts(script: list[Change], data: st.DataObject) -> None:
    one_by_one = Story([GIVEN], *([change] for change in script))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(script)), max_size=4)))
    bursts = [script[a:b] for a, b in zip([0, *cuts], [*cuts, len(script)], strict=True) if a < b]
    burst = Story([GIVEN], *bursts)
    assert settled(burst.account) == settled(one_by_one.account)
    assert burst.event_ids == one_by_one.event_ids


@given(scripts(), st.data())
@settings(derandomize=True, deadline=None, max_examples=100)
def test_repeating_what_was_said_changes_nothing(script: list[Change], data: st.DataObject) -> None:
    script = [change for change in script if not isinstance(change, LeverageUpdate)]  # a setting has no time
    once = Story([GIVEN], *([change] for change in script))
    repeated: list[Change] = []
    for change in script:
        repeated.append(change)
        again = data.draw(st.sampled_from(repeated))
        repeated.append(again)
    twice = Story([GIVEN], *([change] for change in repeated))
    assert known(twice.account) == known(once.account)
    assert twice.event_ids == once.event_ids


@given(scripts())
@settings(derandomize=True, deadline=None, max_examples=100)
def test_the_commits_of_any_script_lead_from_the_snapshot_to_the_account(script: list[Change]) -> None:
    """Written and read back row by row: nothing that moved is missing from a commit, and each says what it replaces."""
    story = Story([GIVEN], *([change] for change in script))
    tables: dict[str, dict[Any, Any]] = {"balances": {}, "positions": {}, "orders": {}}
    keys: dict[str, Callable[[Any], Any]] = {
        "balances": lambda row: row.asset,
        "positions": lambda row: row.key,
        "orders": lambda row: row.key,
    }
    written_totals = None
    for delta in story.deltas:
        for name, table in tables.items():
            for before, after in getattr(delta, name):
                key = keys[name](after if after is not None else before)
                assert table.get(key) == before or delta.replaces
                assert before != after
                if after is None:
                    del table[key]
                else:
                    table[key] = after
        if delta.totals is not None:
            assert delta.totals_before == written_totals or delta.replaces
            written_totals = delta.totals
        if delta:
            counts = (delta.balance_count, delta.position_count, delta.order_count)
            assert counts == tuple(len(table) for table in tables.values())
    assert tables == {
        "balances": story.account.balances,
        "positions": story.account.positions,
        "orders": story.account.orders,
    }
    assert written_totals == story.account.totals


def row_times(account: Account) -> dict[tuple[object, ...], int]:
    """Every time that must not go back, by what it belongs to. A sum's is left out: it is that of its oldest part."""
    told = account.totals
    assert told is not None
    times: dict[tuple[object, ...], int | None] = {
        ("totals", "wallet"): told.total_wallet_balance_time_ms,
        ("totals", "available"): told.available_balance_time_ms,
        ("totals", "margin"): told.margin_time_ms,
    }
    for asset, balance in account.balances.items():
        times["balance", asset] = balance.stamp.venue_time_ms
        times["balance", asset, "available"] = balance.available_balance_time_ms
    for key, row in account.positions.items():
        times["position", key] = row.stamp.venue_time_ms
        times["position", key, "mark"] = row.mark_price_time_ms
        times["position", key, "profit"] = row.unrealized_profit_time_ms
    for order_id, order in account.orders.items():
        times["order", order_id] = order.venue_time_ms
    return {what: time for what, time in times.items() if time is not None}


@st.composite
def scripts_with_answers(draw: st.DrawFn) -> list[Change]:
    """A script with snapshots and refreshes in it, which come in the order they were asked for."""
    script = draw(scripts())
    for taken in sorted(draw(st.sets(st.integers(0, 12), max_size=3)), reverse=True):
        row_at = draw(st.integers(0, taken)) * 10
        asked = taken * 10 + 9
        balances = [rest_balance(row_at, draw(amounts), asset, taken=asked) for asset in ASSETS]
        positions = [
            rest_position(row_at, amount, symbol=symbol, taken=asked, mark_price="101")
            for symbol in draw(st.sets(st.sampled_from(SYMBOLS)))
            if (amount := draw(amounts)) != "0"
        ]
        orders = [rest_order(row_at, order_id=order_id) for order_id in draw(st.sets(st.sampled_from(ORDER_IDS)))]
        place = draw(st.integers(0, len(script)))
        answer = (
            refresh(asked, balances=balances, positions=positions, total=totals(asked, str(balances[0].wallet_balance)))
            if draw(st.booleans())
            else snapshot(asked, balances=balances, positions=positions, orders=orders)
        )
        script = [*script[:place], answer, *script[place:]] if place else [answer, *script]
    answers = sorted((change for change in script if hasattr(change, "taken_ms")), key=lambda answer: answer.taken_ms)
    return [answers.pop(0) if hasattr(change, "taken_ms") else change for change in script]


@given(scripts_with_answers())
@settings(derandomize=True, deadline=None, max_examples=150)
def test_no_time_ever_goes_back(script: list[Change]) -> None:
    story = Story([GIVEN])
    for change in script:
        before, times_before = row_times(story.account), story.deltas[-1].times
        delta = story.tell(change)
        after = row_times(story.account)
        assert {what: time for what, time in before.items() if after.get(what, time) < time} == {}
        assert all(new >= old for new, old in zip(delta.times, times_before, strict=True))


@given(scripts_with_answers())
@settings(derandomize=True, deadline=None, max_examples=100)
def test_sums_are_the_sums_of_their_parts_after_any_script(script: list[Change]) -> None:
    account = Story([GIVEN], *([change] for change in script)).account
    for asset, row in account.balances.items():
        parts = [position for position in account.positions.values() if position.margin_asset == asset]
        assert row.unrealized_profit == sum((part.unrealized_profit or D(0) for part in parts), Decimal(0))
        if parts:
            assert row.unrealized_profit_time_ms == min(part.unrealized_profit_time_ms or 0 for part in parts)
    assert all(row.position_amt != 0 for row in account.positions.values())
    assert not any(isinstance(value, float) for row in account.positions.values() for value in astuple(row))


@given(scripts())
@settings(derandomize=True, deadline=None, max_examples=100)
def test_every_event_of_any_script_is_told_once_and_in_order(script: list[Change]) -> None:
    story = Story([GIVEN], *([change] for change in script + script))
    assert story.event_ids == [change.event.event_id for change in script if isinstance(change, OrderUpdate)]


def test_a_stamp_of_rest_is_a_moment_without_a_push() -> None:
    story = Story([snapshot(balances=[rest_balance(-50, "1000")])])
    assert story.balance().stamp == Stamp(NOW - 50, 0)


# What the stream knows better than an answer, and for how long


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

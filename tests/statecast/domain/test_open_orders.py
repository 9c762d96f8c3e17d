from __future__ import annotations

import pytest
from support.changes import NOW, D, event, fill, order, rest_order, snapshot
from support.story import Story, btc, expect_nothing_to_write, missing, three_ways

from statecast.domain.changes import AllOrders
from statecast.domain.models import Order, OrderKey


def test_an_older_order_never_overwrites_a_newer_one() -> None:
    story = three_ways([fill(20, "0.025")], [event(10, "NEW")])
    assert story.order().status == "PARTIALLY_FILLED"
    assert story.event_ids == ["BTCUSDT:1001:t20-0.025", "BTCUSDT:1001:NEW:NEW:10"]  # yet it did happen


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
    expect_nothing_to_write(story.apply(event(10, "NEW")))
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
    story.apply(snapshot(50, orders=[rest_order(46, executed_qty=D("0.03"), **ether), rest_order(47)]))
    assert set(story.account.orders) == {OrderKey("BTCUSDT", "1001"), OrderKey("ETHUSDT", "1001")}
    assert missing(story.account, fill(60, "0.05", last_qty=D("0.02"), **ether)) == []
    story.apply(snapshot(20_000, orders=[rest_order(46, **ether)]))
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
    delta = story.apply(fill(10, "0.050"))
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


# All rows of a kind

ETHER = {"symbol": "ETHUSDT"}
TWO = snapshot(orders=[rest_order(-10), rest_order(-10, **ETHER)])


def listed(at: int, *rows: Order, symbols: frozenset[str] | None = None) -> AllOrders:
    return AllOrders(rows, NOW + at, symbols)


def test_an_order_that_is_not_among_all_of_them_is_over_and_its_end_is_awaited() -> None:
    story = Story([TWO], [listed(10, order(5, **ETHER))])
    assert list(story.account.orders) == [OrderKey("ETHUSDT", "1001")]
    assert [*story.account.incomplete_orders] == btc("1001")
    assert story.event_ids == [], "no event says how it ended"
    story.apply(event(9, "CANCELED", "CANCELED"))
    assert story.event_ids == ["BTCUSDT:1001:CANCELED:CANCELED:9"]
    assert story.account.incomplete_orders == {}


def test_all_orders_of_some_symbols_say_nothing_of_others() -> None:
    story = Story([TWO], [listed(10, symbols=frozenset({"ETHUSDT"}))])
    assert list(story.account.orders) == btc("1001")


def test_an_order_that_the_stream_knows_newer_stands_against_all_of_them() -> None:
    story = Story([snapshot()], [event(30, "NEW")], [listed(20)])
    assert list(story.account.orders) == btc("1001")
    assert story.account.incomplete_orders == {}


def test_an_order_that_was_not_known_is_open_and_its_opening_event_is_awaited() -> None:
    story = Story([snapshot()], [listed(10, order(5))])
    assert list(story.account.orders) == btc("1001")
    assert [one.filled < 0 for one in story.account.incomplete_orders.values()] == [True]
    story.apply(event(5, "NEW"))
    assert story.account.incomplete_orders == {}
    assert len(story.event_ids) == 1


def test_a_listed_order_that_is_filled_further_waits_for_its_fill() -> None:
    story = Story([snapshot()], [event(5, "NEW")])
    story.apply(listed(20, order(15, "PARTIALLY_FILLED", executed_qty=D("0.02"))))
    assert story.order().executed_qty == D("0.02")
    assert missing(story.account, fill(15, "0.02")) == [], "that is the fill"
    story.apply(fill(15, "0.02"))
    assert story.account.incomplete_orders == {}


def test_an_older_listing_brings_no_finished_order_back_and_a_newer_one_does() -> None:
    story = Story([snapshot()], [event(5, "NEW")], [event(10, "CANCELED", "CANCELED")])
    expect_nothing_to_write(story.apply(listed(20, order(5))))
    story.apply(listed(30, order(25)))
    assert list(story.account.orders) == btc("1001")


def test_an_end_that_is_told_again_without_its_time_lets_no_older_list_bring_the_order_back() -> None:
    story = Story([snapshot()], [event(100, "NEW")], [event(300, "CANCELED", "CANCELED")])
    ended = order(50)  # known from the log alone: of before the gap
    story.account.begin_again({ended.key: ended}, ())
    story.apply(snapshot(20_000, orders=[rest_order(100)]))
    assert story.account.orders == {}


def test_all_orders_again_are_nothing_new() -> None:
    story = Story([TWO], [listed(10, order(5), order(5, **ETHER))])
    expect_nothing_to_write(story.apply(listed(10, order(5), order(5, **ETHER))))
    assert story.account.incomplete_orders == {}

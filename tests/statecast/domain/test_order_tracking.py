from __future__ import annotations

from typing import Any

import pytest
from support.changes import (
    NOW,
    D,
    event,
    fill,
    new_account,
    rest_order,
    snapshot,
)
from support.story import Frame, Story, btc, missing

from statecast.domain import gaps
from statecast.domain.changes import Change, LoggedEvent, OrderUpdate
from statecast.domain.order_tracking import IncompleteOrder

# What is logged


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


def test_a_liquidations_fill_that_a_history_had_is_not_logged_when_the_stream_sends_it_late_without_a_number() -> None:
    fields = {"executed_qty": D("0.05"), "source": "rest"}
    of_history = event(10, "CALCULATED", "FILLED", event_id="BTCUSDT:1001:FILL:7", **fields)
    late = event(
        10, "CALCULATED", "FILLED", event_id=f"BTCUSDT:1001:CALCULATED:{NOW + 10}:0.05", executed_qty=D("0.05")
    )
    account = new_account()
    account.apply([snapshot()], "rest")
    assert len(account.apply([of_history], "rest").events) == 1
    assert account.apply([late], "stream").events == ()


def test_the_memory_of_events_and_finished_orders_is_bounded() -> None:
    story = Story([snapshot()], account=new_account(events=3, finished_orders=2))
    for number in range(5):
        story.apply(event(number, "CANCELED", "CANCELED", order_id=str(number)))
    assert story.apply(event(4, "CANCELED", "CANCELED", order_id="4")).events == ()
    assert story.apply(event(3, "CANCELED", "CANCELED", order_id="3")).events == ()
    assert len(story.apply(event(0, "CANCELED", "CANCELED", order_id="0")).events) == 1  # forgotten: the oldest goes


def test_of_finished_orders_the_latest_are_remembered() -> None:
    story = Story([snapshot()], account=new_account(finished_orders=2))
    for at in (10, 20, 30):
        story.apply(event(at, "CANCELED", "CANCELED", order_id=str(at)))
    assert [story.account.finished_ms(key) for key in btc("10", "20", "30")] == [0, NOW + 20, NOW + 30]
    assert story.account.remembers_orders_since_ms == NOW + 21, "of its millisecond, others may be forgotten"


def test_of_the_orders_whose_ends_were_logged_alone_the_latest_are_remembered() -> None:
    story = Story([snapshot()], account=new_account(finished_orders=2))
    for at in (10, 20, 30):
        story.apply(LoggedEvent(event(at, "CANCELED", "CANCELED", order_id=str(at)).event, ends=True))
    assert [story.account.is_end_logged(key) for key in btc("10", "20", "30")] == [False, True, True]


def test_of_the_orders_that_a_history_shows_to_be_over_the_latest_are_remembered() -> None:
    story = Story([snapshot()], account=new_account(finished_orders=2))
    listed = {row.key: row for at in (30, 20, 10) for row in [rest_order(at, "CANCELED", order_id=str(at))]}
    story.account.begin_again(listed, ())
    assert [story.account.finished_ms(key) for key in btc("10", "20", "30")] == [0, NOW + 20, NOW + 30]
    assert story.account.remembers_orders_since_ms == NOW + 21


# What is missing, and what is late


MISSING: dict[str, tuple[list[Frame], list[Change], list[tuple[str, str, bool]]]] = {
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


@pytest.mark.parametrize("case", MISSING)
def test_what_must_have_happened_before_is_noticed(case: str) -> None:
    frames, changes, expected = MISSING[case]
    assert missing(Story([snapshot()], *frames).account, *changes) == expected


def test_a_liquidation_begins_with_its_fill() -> None:
    first, second = (change._replace(may_be_first=True) for change in (fill(20, "0.02"), fill(30, "0.05")))
    story = Story([snapshot()])
    assert missing(story.account, first) == []
    story.apply(first)
    half = second._replace(event=second.event._replace(last_qty=D("0.01")))
    assert missing(story.account, half) == [("1001", "0.02", False)], "and goes on like every other"


def test_what_a_conditional_order_says_of_its_childs_fills_is_not_its_own() -> None:
    def step(at: int, status: str, filled: str) -> OrderUpdate:
        return event(at, f"ALGO_{status}", status, order_id="algo-7", algo_id="7", executed_qty=D(filled))

    story = Story([snapshot()], [step(10, "NEW", "0")], [step(20, "TRIGGERING", "0")], [step(20, "TRIGGERED", "0")])
    assert list(story.account.triggered_orders()) == btc("algo-7")
    end = step(30, "FINISHED", "0.05")
    assert missing(story.account, end) == []
    assert missing(new_account(), end) == [], "it was triggered before this process began"
    story.apply(end)
    assert not story.account.triggered_orders()


def test_what_is_told_of_an_awaited_order_counts_for_what_comes_next() -> None:
    story = Story([snapshot()])
    story.account.expect([IncompleteOrder(rest_order(40, "PARTIALLY_FILLED", executed_qty=D("0.03")), D(-1))])
    story.apply(event(10, "NEW"))
    assert missing(story.account, fill(30, "0.02")) == []
    story.apply(fill(30, "0.02"))
    assert missing(story.account, fill(40, "0.03", last_qty=D("0.01"))) == []
    story.apply(fill(40, "0.03", last_qty=D("0.01")))
    assert story.account.incomplete_orders == {}


def test_what_is_known_beside_the_account_explains_a_fill() -> None:
    account = Story([snapshot()]).account
    half = fill(30, "0.05", last_qty=D("0.03"))
    assert missing(account, half, filled={btc("1001")[0]: D("0.02")}) == []
    assert missing(account, half, filled={btc("1001")[0]: D("0.01")}) == [("1001", "0.01", False)]


def test_an_order_that_a_snapshot_does_not_list_any_more_is_untold_until_its_end_is_told() -> None:
    story = Story([snapshot()], [event(10, "NEW"), event(10, "NEW", order_id="1002")], [snapshot(20_000)])
    assert [*story.account.incomplete_orders] == btc("1001", "1002")
    story.apply(event(11, "CANCELED", "CANCELED"))
    assert [*story.account.incomplete_orders] == btc("1002")
    story.apply(LoggedEvent(event(11, "CANCELED", "CANCELED", order_id="1002").event))
    assert story.account.incomplete_orders == {}


def test_a_listed_order_is_untold_until_an_event_reaches_it() -> None:
    story = Story([snapshot()], [event(10, "NEW")])
    listed = rest_order(30, "PARTIALLY_FILLED", executed_qty=D("0.02"))
    story.account.expect([IncompleteOrder(listed, D(0))])
    story.apply(event(29, "AMENDMENT"))
    assert [*story.account.incomplete_orders] == btc("1001"), "an amendment before the fill"
    assert missing(story.account, fill(40, "0.05", last_qty=D("0.03"))) == [("1001", "0", False)], "its row is not news"
    story.apply(fill(31, "0.02"))
    assert story.account.incomplete_orders == {}, "the stream's time of it may be another"


def test_what_lacks_its_beginning_is_not_told_whole_by_its_end() -> None:
    story = Story([snapshot()])
    end = event(20, "EXPIRED", "EXPIRED")
    story.account.expect(one.incomplete for one in story.account.missing_before([end]))
    story.apply(end)
    assert [*story.account.incomplete_orders] == btc("1001")
    assert [told.event_type for told in story.apply(event(19, "NEW")).events] == ["NEW"]
    assert story.account.incomplete_orders == {}, "its beginning was told after all"


def test_for_a_step_that_comes_after_the_end_there_is_an_entry_of_type_gap() -> None:
    story = Story([snapshot()], [event(10, "NEW")], [fill(30, "0.05")])
    late = event(20, "AMENDMENT")
    assert story.apply(late).events == (gaps.of_unlogged([late.event]),)
    assert story.apply(late).events == (), "once"
    assert [told.event_type for told in story.apply(fill(25, "0.01")).events] == ["TRADE"], "a fill always counts"


def test_for_a_step_that_comes_behind_what_came_after_it_there_is_an_entry_of_type_gap() -> None:
    """It was missed and is received again, or the venue's clock was set back: nobody knows which."""
    late = event(20, "AMENDMENT", "PARTIALLY_FILLED")
    story = Story([snapshot()], [event(10, "NEW")], [fill(30, "0.01")])
    delta = story.apply(late)
    assert (delta.events, delta.passed_over) == ((gaps.of_unlogged([late.event]),), True)
    assert [len(story.apply(event(at, "AMENDMENT", "PARTIALLY_FILLED")).events) for at in (30, 40)] == [1, 1]
    by_history = Story(
        [snapshot()], [event(10, "NEW")], [LoggedEvent(fill(30, "0.01").event)], [snapshot(orders=[rest_order(30)])]
    )
    assert by_history.apply(late).events == (gaps.of_unlogged([late.event]),)


@pytest.mark.parametrize("alone", [False, True])
def test_what_an_entry_in_the_log_stands_for_is_not_logged_when_another_process_receives_it_again(alone: bool) -> None:
    late = event(20, "AMENDMENT", "PARTIALLY_FILLED")
    story = Story([snapshot()], [event(10, "NEW")])
    story.account.remember_events([gaps.of_unlogged([late.event]).event_id])
    assert story.apply(LoggedEvent(late.event) if alone else late).events == ()


def test_an_entry_of_type_gap_for_a_late_step_ends_no_order_and_explains_nothing() -> None:
    story = Story([snapshot()], [event(10, "NEW")], [fill(30, "0.01")])
    story.account.expect([IncompleteOrder(rest_order(40, "PARTIALLY_FILLED", executed_qty=D("0.02")), D("0.01"))])
    story.apply(event(20, "AMENDMENT", "PARTIALLY_FILLED"))
    assert [*story.account.incomplete_orders] == [*story.account.orders] == btc("1001")
    assert [told.event_type for told in story.apply(event(50, "AMENDMENT", "PARTIALLY_FILLED")).events] == ["AMENDMENT"]


def test_a_conditional_order_whose_end_was_told_is_not_waited_for_again() -> None:
    row = {"order_id": "algo-7", "algo_id": "7", "actual_order_id": "99"}
    triggered, finished = (
        event(10, "ALGO_TRIGGERED", "TRIGGERED", **row),
        event(20, "ALGO_FINISHED", "FINISHED", **row),
    )
    story = Story([snapshot()], [triggered])
    assert story.account.triggered_orders() == story.account.triggered_without_order() == (*btc("algo-7"),)
    story.apply(finished)
    assert story.account.triggered_orders() == ()
    for late in (triggered, event(10, "ALGO_TRIGGERED", "TRIGGERED", source="rest", event_id="other", **row)):
        assert story.apply(late).events == ()
        story.apply(LoggedEvent(late.event))
        assert story.account.triggered_orders() == ()


def test_what_was_told_last_is_remembered_of_open_orders_alone() -> None:
    story = Story([snapshot()], [event(10, "NEW")], [event(10, "NEW", order_id="1002")], [fill(30, "0.05")])
    story.apply(fill(30, "0.05"))
    assert [*story.account._tracking._logged_ms] == btc("1002")
    story.apply(snapshot(20_000))
    assert story.account._tracking._logged_ms == {}


def test_the_same_after_an_end_that_was_logged_alone() -> None:
    story = Story([snapshot()], [event(10, "NEW")])
    told = story.apply(LoggedEvent(event(30, "CANCELED", "CANCELED").event, ends=True))
    assert [one.event_type for one in told.events] == ["CANCELED"]
    assert told.orders == (), "the next snapshot takes the row away"
    late = event(20, "AMENDMENT")
    assert story.apply(late).events == (gaps.of_unlogged([late.event]),)


def test_an_activation_that_a_history_told_as_the_placing_is_not_told_again() -> None:
    def placed(event_id: str, at: int, **fields: Any) -> OrderUpdate:
        return event(at, "ALGO_NEW", order_id="algo-7", algo_id="7", event_id=event_id, **fields)

    story = Story([snapshot()], [placed("algo-7:NEW", 10, source="rest")])
    assert story.apply(placed("algo-7:NEW:ACTIVATED", 10)).events == ()
    assert len(story.apply(placed("algo-7:NEW:ACTIVATED", 25)).events) == 0, "its id is known by now"
    other = Story([snapshot()], [placed("algo-7:NEW", 10, source="rest")])
    assert len(other.apply(placed("algo-7:NEW:ACTIVATED", 25)).events) == 1, "placed first, activated later"


def test_an_activation_in_the_millisecond_of_the_placing_is_logged_where_the_stream_has_sent_both() -> None:
    row: dict[str, Any] = {"order_id": "algo-7", "algo_id": "7"}
    story = Story([snapshot()], [event(10, "ALGO_NEW", event_id="algo-7:NEW", **row)])
    story.apply(snapshot(20, orders=[rest_order(10, **row)]))
    activated = event(10, "ALGO_NEW", event_id="algo-7:NEW:ACTIVATED", **row)
    assert len(story.apply(activated).events) == 1
    assert story.apply(activated).events == ()

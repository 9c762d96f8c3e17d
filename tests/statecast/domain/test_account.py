from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import astuple
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.changes import (
    NOW,
    D,
    event,
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
from support.story import (
    Story,
    expect_amounts,
    expect_nothing_to_write,
    expect_totals,
    expect_wallets,
    known,
    settled,
    three_ways,
)

from statecast.domain.account import Account, Times
from statecast.domain.changes import Change, LeverageUpdate, OrderUpdate
from statecast.domain.models import Stamp


def test_an_account_without_a_snapshot_is_not_publishable() -> None:
    account = new_account()
    assert not account.complete
    with pytest.raises(AssertionError, match="without a snapshot"):
        account.whole()


def test_a_snapshot_makes_the_account_complete_and_writes_all_of_it() -> None:
    story = Story()
    delta = story.apply(
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
    delta = Story().apply(snapshot(balances=[]))
    assert delta
    assert delta.replaces
    assert (delta.balance_count, delta.position_count, delta.order_count) == (0, 0, 0)


def test_a_refresh_does_not_stand_in_for_the_first_snapshot() -> None:
    """It has no orders: an account made of it would say that there are none."""
    story = Story()
    expect_nothing_to_write(story.apply(refresh(5, balances=[rest_balance(0, "1000")])))
    assert not story.account.complete


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


# Checks


def test_a_refresh_brings_what_no_event_carries() -> None:
    story = Story([snapshot()], [position(10, "0.5"), wallet(10, "990")])
    delta = story.apply(
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
    story.apply(
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
    story.apply(
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
    story.apply(refresh(25, balances=[rest_balance(10, "1000")], positions=[rest_position(10, "0.5", taken=25)]))
    expect_amounts(story)


def test_a_refresh_removes_nothing() -> None:
    """It may be behind the stream; what it no longer lists is a matter for a snapshot."""
    story = Story([snapshot()], [position(10, "0.5")], [refresh(30)])
    expect_amounts(story, BTCUSDT_BOTH="0.5")
    expect_wallets(story, USDT="1000")


def test_a_refresh_that_was_asked_for_before_the_last_answer_changes_nothing() -> None:
    story = Story([snapshot()], [snapshot(50, total=totals(50, "1000", total_initial_margin=D(5)))])
    expect_nothing_to_write(story.apply(refresh(40, balances=[rest_balance(-100, "1000", taken=40)])))
    assert story.balance().available_balance_time_ms == NOW + 50


def test_a_refresh_of_the_mark_price_does_not_turn_a_younger_profit_back() -> None:
    story = Story([snapshot()], [position(10, "0.5", unrealized_profit=D(4), pushed=40)])
    story.apply(
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
    expect_nothing_to_write(story.apply(wallet(10, "990")))
    expect_nothing_to_write(new_account().apply([], "stream"))


def test_a_commit_holds_the_rows_that_moved_and_what_they_were() -> None:
    story = Story([snapshot()], [position(10, "0.5"), wallet(10, "990")])
    before = story.balance()
    delta = story.apply(wallet(20, "980"))
    assert delta.balances == ((before, story.balance()),)
    assert (delta.positions, delta.orders, delta.events) == ((), (), ())
    assert delta.totals is not None
    assert delta.totals_before is not None
    assert delta.totals_before.total_wallet_balance == D(990)
    assert not delta.replaces


def test_each_hash_is_as_young_as_its_own_youngest_value() -> None:
    story = Story([snapshot()], [wallet(10, "990")])
    assert story.deltas[-1].times == Times(NOW + 10, NOW + 10, NOW, NOW)
    assert story.apply(event(20, "NEW")).times == Times(NOW + 10, NOW + 10, NOW, NOW + 20)
    assert story.apply(wallet(5, "1", "BNB")).times == Times(  # late: no step back
        NOW + 10, NOW + 10, NOW, NOW + 20
    )  # late, and no step back


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
        delta = story.apply(change)
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

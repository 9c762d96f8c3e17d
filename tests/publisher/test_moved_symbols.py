"""In which symbols something has happened, by what is known before and after."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from support.changes import (
    NOW,
    D,
    event,
    new_account,
    order,
    position,
    rest_balance,
    rest_order,
    rest_position,
    snapshot,
)

from publisher import moved_symbols
from statecast.domain.account import Account
from statecast.domain.changes import OrderUpdate
from statecast.domain.history import PastOrder


def followed(*frames: object) -> Account:
    """An account with a position in BTCUSDT, and what the stream has sent since."""
    account = new_account()
    account.apply(
        (snapshot(0, positions=[rest_position(-50, "0.5"), rest_position(-60, "2", symbol="ETHUSDT")]),), "rest"
    )
    account.apply(frames, "stream")  # type: ignore[arg-type]
    return account


@pytest.mark.parametrize(
    ("now", "moved"),
    [
        ([("BTCUSDT", -50, "0.5"), ("ETHUSDT", -60, "2")], set()),
        ([("BTCUSDT", 900, "0.7"), ("ETHUSDT", -60, "2")], {"BTCUSDT"}),
        ([("BTCUSDT", 900, "0.5"), ("ETHUSDT", -60, "2")], {"BTCUSDT"}),  # closed and opened again
        ([("ETHUSDT", -60, "2")], {"BTCUSDT"}),
        ([("BTCUSDT", -50, "0.5"), ("ETHUSDT", -60, "2"), ("XRPUSDT", 900, "1")], {"XRPUSDT"}),
    ],
)
def test_a_position_that_is_not_as_it_was_has_moved(now: list[tuple[str, int, str]], moved: set[str]) -> None:
    answer = snapshot(1_000, positions=[rest_position(at, amount, symbol=symbol) for symbol, at, amount in now])
    assert moved_symbols.of_followed_positions(followed(), answer) == moved
    assert moved_symbols.of_positions(["BTCUSDT", "ETHUSDT"], NOW, answer) == moved


def test_what_the_stream_has_sent_of_a_position_has_not_moved_for_those_who_have_logged_it() -> None:
    answer = snapshot(1_000, positions=[rest_position(500, "0.7"), rest_position(-60, "2", symbol="ETHUSDT")])
    assert moved_symbols.of_followed_positions(followed(position(500, "0.7")), answer) == set()
    assert moved_symbols.of_positions(["BTCUSDT", "ETHUSDT"], NOW, answer) == {"BTCUSDT"}


@pytest.mark.parametrize(
    ("at", "amount", "is_followed", "since"),
    [
        (-100, "1000", True, 0),
        (700, "990", True, NOW - 30_000),
        (-100, "990", True, NOW - 30_000),
        (-100, "1000", False, NOW - 30_000),
        (-40_000, "1000", False, 0),
    ],
)
def test_a_wallet_that_has_moved_says_since_when_bookings_are_to_be_looked_at(
    at: int, amount: str, is_followed: bool, since: int
) -> None:
    account = new_account()
    account.apply((snapshot(0, balances=[rest_balance(-100, "1000")]),), "rest")
    answer = snapshot(1_000, balances=[rest_balance(at, amount)])
    found = moved_symbols.booked_since_ms(account, NOW - 30_000, answer, is_followed=is_followed)
    assert found == (NOW - 100 if since and is_followed else since), "since it was known, where it was"


@pytest.mark.parametrize(
    ("buffered", "symbols"),
    [
        ([event(1, "NEW"), event(2, "TRADE", "PARTIALLY_FILLED")], set()),
        ([event(2, "TRADE", "PARTIALLY_FILLED")], {"BTCUSDT"}),
        ([event(2, "TRADE", "PARTIALLY_FILLED", order_id="5")], set()),  # which was known
    ],
)
def test_an_order_whose_beginning_nobody_has_makes_its_symbol_one_to_look_at(
    buffered: Iterable[OrderUpdate], symbols: set[str]
) -> None:
    known = {order(0, order_id="5").key}
    assert moved_symbols.of_orders_begun_before([one.event for one in buffered], known) == symbols


def test_conditional_orders_that_are_gone_placed_or_triggered_have_moved() -> None:
    rows = {
        "gone": order(-50, order_id="algo-1", algo_id="1", symbol="S1USDT"),
        "open": order(-50, order_id="algo-2", algo_id="2", symbol="S2USDT"),
        "child gone": order(-50, order_id="3", symbol="S3USDT", type="LIMIT", orig_type="STOP"),
        "ordinary": order(-50, order_id="4", symbol="S4USDT"),
    }
    known = {row.key: row for row in rows.values()}
    child = PastOrder(rest_order(100, symbol="S5USDT", type="MARKET", orig_type="STOP_MARKET"), NOW)
    placed = order(80, order_id="algo-6", algo_id="6", symbol="S6USDT")
    open_now = {row.key: row for row in (rows["open"], placed)}
    found = moved_symbols.of_conditional_orders(known, known.keys(), open_now, [child])
    assert found == {"S1USDT", "S3USDT", "S5USDT", "S6USDT"}


def test_orders_of_which_more_is_filled_than_is_logged_have_moved() -> None:
    rows = [rest_order(0, symbol=f"S{n}USDT", executed_qty=D(filled)) for n, filled in enumerate(("0", "1", "2", "3"))]
    filled = {rows[1].key: D(1), rows[2].key: D(1)}
    orders = [PastOrder(row, NOW) for row in rows]
    assert moved_symbols.of_fills(orders, filled, None) == {"S2USDT", "S3USDT"}


@pytest.mark.parametrize(("at", "status", "has_moved"), [(20, "FILLED", False), (21, "FILLED", True)])
def test_an_order_that_the_stream_has_sent_to_its_end_has_not_moved(at: int, status: str, has_moved: bool) -> None:
    account = new_account()
    account.apply((snapshot(-100_000),), "rest")
    account.apply((event(10, "NEW"), event(20, "TRADE", "FILLED", trade_id="t", executed_qty=D("0.05"))), "stream")
    orders = [PastOrder(rest_order(at, status, executed_qty=D("0.05")), NOW + 10)]
    assert moved_symbols.of_fills(orders, {}, account) == ({"BTCUSDT"} if has_moved else set())
    assert moved_symbols.of_fills(orders, {}, None) == {"BTCUSDT"}

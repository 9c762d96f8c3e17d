"""The venue's answer against what the stream has built: an event on its way is no difference, all else is one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest
from support.changes import (
    NOW,
    D,
    event,
    fill,
    new_account,
    position,
    refresh,
    rest_balance,
    rest_order,
    rest_position,
    snapshot,
    wallet,
)

from publisher.discrepancies import GRACE_S, Discrepancies, differences
from statecast.domain.account import Account
from statecast.domain.changes import Change, Check, LeverageUpdate, LoggedEvent, MultiAssetsUpdate, Unreadable
from statecast.domain.models import OrderKey, PositionKey, SymbolConfig
from statecast.domain.orders import LOST
from statecast.venues import registry

PACE = registry.venue("binance").traits.checks

ASKED = 6_000
"""When the venue was asked, after the story's beginning."""


def account(*changes: Change, finished_orders: int = 20_000) -> Account:
    known = new_account(finished_orders=finished_orders)
    known.apply((snapshot(),), "rest")
    for change in changes:
        known.apply((change,), "stream")
    return known


LONG = position(10, "0.5")
USDT = rest_balance(-100, "1000")
LATE = 20_000
"""Later than REST is behind when nothing is wrong with the venue."""

CASES: dict[str, tuple[Iterable[Change], Check, list[str]]] = {
    "the same of both": (
        (wallet(20, "900"), LONG),
        refresh(ASKED, balances=[rest_balance(20, "900")], positions=[rest_position(10, "0.5")]),
        [],
    ),
    "another wallet at the same moment": (
        (wallet(20, "900"),),
        refresh(ASKED, balances=[rest_balance(20, "899")]),
        ["USDT wallet balance 900, venue 899"],
    ),
    "zeros at the end are no difference": (
        (wallet(20, "900"), LONG),
        refresh(ASKED, balances=[rest_balance(20, "900.000")], positions=[rest_position(10, "0.500")]),
        [],
    ),
    "a wallet that the stream has newer": (
        (wallet(40, "900"),),
        refresh(ASKED, balances=[rest_balance(30, "880")]),
        [],
    ),
    "a wallet that the venue knows better": (
        (wallet(20, "900"),),
        refresh(ASKED, balances=[rest_balance(30, "880")]),
        ["USDT wallet balance 900, venue 880"],
    ),
    "an asset that only the venue has": (
        (),
        refresh(ASKED, balances=[USDT, rest_balance(20, "5", "BNB")]),
        ["BNB wallet balance unknown, venue 5"],
    ),
    "an asset that is listed without an amount": (
        (),
        refresh(ASKED, balances=[USDT, rest_balance(20, "0", "BNB")]),
        [],
    ),
    "an asset that the venue lists no more": (
        (wallet(10, "3.5", "BNB"), wallet(20, "900")),
        refresh(ASKED, balances=[rest_balance(20, "900")]),
        ["BNB wallet balance 3.5, venue none"],
    ),
    "an asset that is empty and that the venue lists no more": ((wallet(10, "0", "BNB"),), refresh(ASKED), []),
    "another amount at the same moment": (
        (LONG,),
        refresh(ASKED, positions=[rest_position(10, "0.7")]),
        ["BTCUSDT BOTH 0.5, venue 0.7"],
    ),
    "the other direction at the same moment": (
        (LONG,),
        refresh(ASKED, positions=[rest_position(10, "-0.5")]),
        ["BTCUSDT BOTH 0.5, venue -0.5"],
    ),
    "an amount that the stream has newer": ((LONG,), refresh(ASKED, positions=[rest_position(5, "0.7")]), []),
    "an amount that the venue knows better": (
        (LONG,),
        refresh(ASKED, positions=[rest_position(40, "0.7")]),
        ["BTCUSDT BOTH 0.5, venue 0.7"],
    ),
    "a position that the venue has no more": ((LONG,), refresh(ASKED), ["BTCUSDT BOTH 0.5, venue none"]),
    "a row of REST that is older, and REST is later than it should be": (
        (LONG,),
        refresh(LATE, positions=[rest_position(5, "0.7")]),
        ["BTCUSDT BOTH 0.5, venue 0.7"],
    ),
    "a closed position that an old answer lists": (
        (LONG, position(50, "0")),
        refresh(LATE, positions=[rest_position(10, "0.5")]),
        ["BTCUSDT BOTH none, venue 0.5"],
    ),
    "a row behind which the stream has sent an older one, which REST has": (
        (position(900, "0.01"), position(500, "0.02")),
        refresh(ASKED, positions=[rest_position(500, "0.02")]),
        ["BTCUSDT BOTH 0.01, venue 0.02"],
    ),
    "a row behind which the stream has sent an older one, and REST is behind both": (
        (position(900, "0.01"), position(500, "0.02")),
        refresh(ASKED, positions=[rest_position(400, "0.03")]),
        ["BTCUSDT BOTH 0.01, venue 0.03"],
    ),
    "a position that only the venue has": (
        (),
        refresh(ASKED, positions=[rest_position(10, "0.5")]),
        ["BTCUSDT BOTH none, venue 0.5"],
    ),
    "one side of a hedge": (
        (position(10, "0.5", position_side="LONG"), position(10, "-0.2", position_side="SHORT")),
        refresh(ASKED, positions=[rest_position(10, "0.5", position_side="LONG")]),
        ["BTCUSDT SHORT -0.2, venue none"],
    ),
    "a position that the stream has closed since": (
        (LONG, position(50, "0")),
        refresh(ASKED, positions=[rest_position(10, "0.5")]),
        [],
    ),
    "a position that was opened again after the stream has sent its end": (
        (LONG, position(50, "0")),
        refresh(ASKED, positions=[rest_position(70, "0.5")]),
        ["BTCUSDT BOTH none, venue 0.5"],
    ),
    "a position that was opened after the venue was asked": ((position(ASKED + 5, "0.5"),), refresh(ASKED), []),
    "the same size at another price": (
        (LONG,),
        refresh(ASKED, positions=[rest_position(30, "0.5", "101")]),
        ["BTCUSDT BOTH entry price 100, venue 101"],
    ),
    "a younger time and nothing else": ((LONG,), refresh(ASKED, positions=[rest_position(30, "0.5")]), []),
    "several at once": (
        (wallet(20, "900"), LONG),
        refresh(
            ASKED,
            balances=[rest_balance(20, "1")],
            positions=[rest_position(10, "1", symbol="ETHUSDT")],
        ),
        ["USDT wallet balance 900, venue 1", "BTCUSDT BOTH 0.5, venue none", "ETHUSDT BOTH none, venue 1"],
    ),
}


BTC, ALL = frozenset({"BTCUSDT"}), None

ORDERS: dict[str, tuple[Iterable[Change], dict[str, Any], list[str]]] = {
    "the same orders": ((event(10, "NEW"),), {"orders": (rest_order(10),)}, []),
    "amounts padded and left out": (
        (event(10, "NEW", order_id="algo-7", executed_qty=None, price=None),),
        {"orders": (rest_order(10, order_id="algo-7", executed_qty=D("0.00"), price=D("0.0"), quantity=D("0.05")),)},
        [],
    ),
    "an order that only the venue has": ((), {"orders": (rest_order(10),)}, ["order BTCUSDT:1001 none, venue NEW"]),
    "an order that the venue has no more": ((event(10, "NEW"),), {}, ["order BTCUSDT:1001 NEW, venue none"]),
    "an order that was placed after the venue was asked": ((event(ASKED + 5, "NEW"),), {}, []),
    "an order that the stream has ended since": (
        (event(10, "NEW"), event(50, "CANCELED", "CANCELED")),
        {"orders": (rest_order(10),)},
        [],
    ),
    "an order that is filled further than was logged": (
        (event(10, "NEW"),),
        {"orders": (rest_order(30, "PARTIALLY_FILLED", executed_qty=D("0.02")),)},
        ["order BTCUSDT:1001 NEW 0 of 0.050 at 91250.4, venue PARTIALLY_FILLED 0.02 of 0.050 at 91250.4"],
    ),
    "an order whose fill the stream has sent first": (
        (event(10, "NEW"), fill(30, "0.02")),
        {"orders": (rest_order(10),)},
        [],
    ),
    "an order that was amended": (
        (event(10, "NEW"),),
        {"orders": (rest_order(30, price=D("91000")),)},
        ["order BTCUSDT:1001 NEW 0 of 0.050 at 91250.4, venue NEW 0 of 0.050 at 91000"],
    ),
    "orders of symbols that were not asked for": (
        (event(10, "NEW"), event(10, "NEW", order_id="2", symbol="ETHUSDT")),
        {"order_symbols": BTC, "orders": (rest_order(10),)},
        [],
    ),
    "an order of a symbol that was asked for": (
        (event(10, "NEW"), event(10, "NEW", order_id="2", symbol="ETHUSDT")),
        {"order_symbols": BTC},
        ["order BTCUSDT:1001 NEW, venue none"],
    ),
    "an order that came and went unheard": (
        (),
        {"created": (rest_order(20, "CANCELED"),)},
        ["order BTCUSDT:1001 unknown, venue CANCELED"],
    ),
    "an order that came and went and was logged": (
        (event(10, "NEW"), event(20, "CANCELED", "CANCELED")),
        {"created": (rest_order(20, "CANCELED"),)},
        [],
    ),
    "the same settings": ((), {"symbol_configs": {"BTCUSDT": SymbolConfig(20, "cross")}, "multi_assets": False}, []),
    "another leverage": (
        (),
        {"symbol_configs": {"BTCUSDT": SymbolConfig(7, "cross")}, "multi_assets": False},
        ["BTCUSDT leverage 20, venue 7"],
    ),
    "another margin type where there was a position": (
        (LONG, position(50, "0")),
        {"symbol_configs": {"BTCUSDT": SymbolConfig(20, "isolated")}, "multi_assets": False},
        ["BTCUSDT margin type cross, venue isolated"],
    ),
    "another margin type where there never was one, which no event tells": (
        (),
        {"symbol_configs": {"BTCUSDT": SymbolConfig(20, "isolated")}, "multi_assets": False},
        [],
    ),
    "a symbol that is new": (
        (),
        {"symbol_configs": {"NEWUSDT": SymbolConfig(5, "cross")}, "multi_assets": False},
        [],
    ),
    "another margin mode": ((), {"multi_assets": True}, ["multi-assets mode False, venue True"]),
}


@pytest.mark.parametrize("case", ORDERS)
def test_orders_and_settings_are_compared_where_they_were_asked_for(case: str) -> None:
    changes, fields, texts = ORDERS[case]
    known = account(*changes)
    held = [rest_position(row.stamp.venue_time_ms - NOW, str(row.position_amt)) for row in known.positions.values()]
    answer = replace(refresh(ASKED, positions=held), **({"order_symbols": ALL} | fields))
    assert [one.text for one in differences(known, answer).values()] == texts


def test_an_ordinary_refresh_says_nothing_of_orders() -> None:
    assert not differences(account(event(10, "NEW")), refresh(ASKED))


def test_an_order_that_is_forgotten_is_not_unknown() -> None:
    known = account(*(event(at, "CANCELED", "CANCELED", order_id=str(at)) for at in (10, 20, 30)), finished_orders=2)
    created = tuple(rest_order(at, "CANCELED", order_id=str(at)) for at in (10, 20, 30, 40))
    found = differences(known, replace(refresh(ASKED), created=created))
    assert [one.text for one in found.values()] == ["order BTCUSDT:40 unknown, venue CANCELED"]


def test_an_order_whose_events_were_logged_by_themselves_is_known() -> None:
    """It was placed and ended in a gap: no row ever had it."""
    algo = {"order_id": "algo-7", "algo_id": "7"}
    placed, ended = event(10, "ALGO_NEW", **algo), event(20, "ALGO_CANCELED", "CANCELED", **algo)
    known = account()
    known.apply([LoggedEvent(placed.event), LoggedEvent(ended.event, ends=True)], "stream")
    created = (rest_order(20, "CANCELED", **algo), rest_order(20, "CANCELED", order_id="8"))
    found = differences(known, replace(refresh(ASKED), created=created))
    assert [one.text for one in found.values()] == ["order BTCUSDT:8 unknown, venue CANCELED"]


def test_an_order_that_the_venue_did_not_know_and_lists_as_ended_is_a_difference() -> None:
    known = account(event(10, "NEW"), event(20, "GAP", LOST))
    assert not known.orders
    found = differences(known, replace(refresh(ASKED), created=(rest_order(20, "CANCELED"),)))
    assert [one.text for one in found.values()] == ["order BTCUSDT:1001 unknown, venue CANCELED"]


@pytest.mark.parametrize(
    ("status", "texts"), [("TRIGGERED", []), ("FINISHED", ["order BTCUSDT:algo-7 TRIGGERED, venue FINISHED"])]
)
def test_a_triggered_order_that_is_forgotten_among_the_finished_is_not_unknown(status: str, texts: list[str]) -> None:
    algo = {"order_id": "algo-7", "algo_id": "7"}
    known = account(
        event(5, "ALGO_TRIGGERED", "TRIGGERED", **algo),
        *(event(at, "CANCELED", "CANCELED", order_id=str(at)) for at in (10, 20, 30)),
        finished_orders=2,
    )
    found = differences(known, replace(refresh(ASKED), created=(rest_order(40, status, **algo),)))
    assert [one.text for one in found.values()] == texts
    assert all(one.meaning == "recent" for one in found.values())


# Suspicions


def test_a_difference_is_suspicion_until_the_grace_is_over() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    for at_s in (0.0, 1.0, 4.9):
        found_so_far.take(known, refresh(ASKED, positions=[rest_position(40, "0.7")]), at_s)
        assert found_so_far
        assert not found_so_far.unexplained(at_s)
    assert str(found_so_far) == "BTCUSDT BOTH 0.5, venue 0.7"
    assert found_so_far.unexplained(GRACE_S) == ["BTCUSDT BOTH 0.5, venue 0.7"]


def test_the_stream_explains_a_difference() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    found_so_far.take(known, refresh(ASKED, positions=[rest_position(40, "0.7")]), 0.0)
    found_so_far.explain(known)
    assert found_so_far
    known.apply((position(40, "0.7"),), "stream")
    found_so_far.explain(known)
    assert not found_so_far


@pytest.mark.parametrize(
    ("answer", "meaning"),
    [
        (refresh(2_000), "recent"),
        (refresh(ASKED), "old answer"),
        (refresh(ASKED, positions=[rest_position(5, "7", symbol="ETHUSDT")]), "old answer"),
        (refresh(ASKED, positions=[rest_position(50, "7", symbol="ETHUSDT")]), "plain"),
        (refresh(70_000), "plain"),
        (refresh(LATE, positions=[rest_position(5, "0.7")]), "old answer"),
        (refresh(ASKED, positions=[rest_position(10, "0.7")]), "plain"),
        (refresh(70_000, positions=[rest_position(5, "0.7")]), "plain"),
    ],
    ids=[
        "not listed, and so young that REST usually does not have it",
        "not listed, by an answer that lists nothing",
        "not listed, by an answer without anything younger",
        "not listed, by an answer that has something younger",
        "not listed a minute later",
        "listed as of an earlier time",
        "listed as of the same time",
        "listed as of an earlier time, a minute later",
    ],
)
def test_what_a_difference_means_follows_from_the_times_of_both(answer: Check, meaning: str) -> None:
    found = differences(account(LONG), answer)
    assert found[f"BTCUSDT BOTH 0.5 since {NOW + 10}"].meaning == meaning


def test_an_old_answer_is_a_doubt_and_never_a_reason_to_end_the_stream() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    for at_s in range(0, 50, 10):
        found_so_far.take(known, refresh(LATE, positions=[rest_position(5, "0.7")]), float(at_s))
        assert found_so_far.doubtful
        assert not found_so_far.unexplained(float(at_s))


def test_a_position_that_fills_have_closed_since_is_old_though_no_answer_lists_anything_younger() -> None:
    known = account(LONG, fill(3_000, "0.5", side="SELL", last_qty=D("0.5")))
    (found,) = differences(known, refresh(ASKED)).values()
    assert found.meaning == "plain"


def test_another_answer_explains_a_difference() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    found_so_far.take(known, refresh(ASKED), 0.0)  # REST is behind
    assert (bool(found_so_far), found_so_far.repeated) == (True, False)
    found_so_far.take(known, refresh(ASKED, positions=[rest_position(10, "0.5")]), 1.0)
    assert not found_so_far


def test_a_difference_that_a_second_answer_repeats_is_known_as_such() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    for repeated in (False, True):
        found_so_far.take(known, refresh(ASKED), 0.0)
        assert found_so_far.repeated is repeated


def test_an_answer_about_something_else_explains_nothing() -> None:
    known, found_so_far = account(event(10, "NEW")), Discrepancies(PACE)
    settings = {"symbol_configs": {"BTCUSDT": SymbolConfig(7, "cross")}, "multi_assets": False}
    created = (rest_order(20, "FILLED", order_id="77"),)
    found_so_far.take(known, replace(refresh(ASKED), order_symbols=ALL, created=created, **settings), 0.0)
    texts = "order BTCUSDT:1001 NEW, venue none; order BTCUSDT:77 unknown, venue FILLED; BTCUSDT leverage 20, venue 7"
    assert str(found_so_far) == texts
    assert (found_so_far.order_symbols, found_so_far.settings) == (BTC, True)
    found_so_far.take(known, refresh(ASKED), 1.0)
    assert str(found_so_far) == texts
    found_so_far.take(known, replace(refresh(ASKED), order_symbols=BTC, orders=(rest_order(10),)), 2.0)
    assert str(found_so_far) == "order BTCUSDT:77 unknown, venue FILLED; BTCUSDT leverage 20, venue 7"
    known.apply((fill(20, "0.050", order_id="77"),), "stream")
    found_so_far.explain(known)
    assert str(found_so_far) == "BTCUSDT leverage 20, venue 7"
    assert (found_so_far.order_symbols, found_so_far.settings) == (frozenset(), True)


LONG_AGO = 70_000
"""When the venue was asked, later than any answer is behind."""


@pytest.mark.parametrize(
    ("status", "texts"),
    [
        ("NEW", ""),
        ("PARTIALLY_FILLED", ""),
        ("CANCELED", "order BTCUSDT:1001 NEW, venue none; order BTCUSDT:1001 NEW, venue CANCELED"),
        ("A_NEW_WORD", "order BTCUSDT:1001 NEW, venue none"),
    ],
)
def test_an_order_that_is_not_listed_is_open_where_its_own_document_says_so(status: str, texts: str) -> None:
    known, found_so_far = account(event(10, "NEW")), Discrepancies(PACE)
    created = (rest_order(10, status), rest_order(20, "NEW", order_id="1002"))
    known.apply((event(20, "NEW", order_id="1002"),), "stream")
    orders = (rest_order(20, order_id="1002"),)
    found_so_far.take(known, replace(refresh(LONG_AGO), order_symbols=ALL, orders=orders, created=created), 0.0)
    found_so_far.explain(known)
    assert str(found_so_far) == texts


@pytest.mark.parametrize(
    ("fields", "texts"),
    [
        ({"orders": (rest_order(10),)}, ""),
        ({"order_symbols": BTC, "orders": ()}, "order BTCUSDT:1001 NEW, venue none"),
        ({"orders": (rest_order(10), rest_order(20, order_id="77"))}, "order BTCUSDT:77 none, venue NEW"),
        ({"orders": (rest_order(10),), "unreadable": (Unreadable("row", OrderKey("BTCUSDT", "77")),)}, "row"),
    ],
    ids=[
        "an open one",
        "an open one that is not listed",
        "one that is listed alone",
        "one whose open row is no better",
    ],
)
def test_a_created_orders_row_that_cannot_be_understood_says_nothing_of_an_open_order(
    fields: dict[str, Any], texts: str
) -> None:
    known, found_so_far = account(event(10, "NEW")), Discrepancies(PACE)
    key = "77" if "77" in texts or "unreadable" in fields else "1001"
    answer = replace(refresh(LONG_AGO), order_symbols=ALL, created=(rest_order(30, LOST, order_id=key),))
    found_so_far.take(known, replace(answer, **fields), 0.0)
    assert str(found_so_far) == texts
    found_so_far.take(known, replace(refresh(LONG_AGO), order_symbols=ALL, orders=(rest_order(10),)), 5.0)
    assert not found_so_far.of_history


def test_a_created_orders_row_that_cannot_be_understood_is_a_difference_where_nothing_is_known_of_the_order() -> None:
    found = differences(account(), replace(refresh(ASKED), created=(rest_order(30, LOST),)))
    assert [one.text for one in found.values()] == ["order BTCUSDT:1001 unknown, venue "]


def test_open_orders_of_many_symbols_are_asked_for_at_once() -> None:
    orders = tuple(rest_order(10, order_id=str(at), symbol=f"S{at}USDT") for at in range(PACE.orders_by_symbol + 1))
    found_so_far = Discrepancies(PACE)
    found_so_far.take(account(), replace(refresh(ASKED), order_symbols=ALL, orders=orders), 0.0)
    assert found_so_far.order_symbols is None


def test_a_row_that_cannot_be_understood_is_a_doubt_that_no_new_connection_ends() -> None:
    known, found_so_far = account(LONG, event(10, "NEW")), Discrepancies(PACE)
    keys = (PositionKey("BTCUSDT", "BOTH"), OrderKey("BTCUSDT", "1001"))
    answer = replace(refresh(ASKED), order_symbols=ALL)
    torn = replace(answer, unreadable=(Unreadable("the position"), *map(Unreadable, ("row 1", "row 2"), keys)))
    for at_s in (0.0, 1.0, 2 * GRACE_S):
        found_so_far.take(known, torn, at_s)
        found_so_far.explain(known)
        assert str(found_so_far) == "row 1; row 2", "and nothing of what is missing for that reason"
        assert (found_so_far.doubtful, found_so_far.repeated) == (True, True), "at once"
        assert not found_so_far, "neither the stream nor another answer at once explains it"
        assert found_so_far.unexplained(at_s) == []
    found_so_far.take(known, replace(refresh(ASKED, positions=[rest_position(10, "0.5")])), 3 * GRACE_S)
    assert str(found_so_far) == "row 2", "it was not asked about orders"
    whole = replace(refresh(ASKED, positions=[rest_position(10, "0.5")]), order_symbols=ALL, orders=(rest_order(10),))
    found_so_far.take(known, whole, 4 * GRACE_S)
    assert not found_so_far.doubtful


def test_a_doubt_that_lasts_hides_no_drift_and_no_missing_opening() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    torn = replace(refresh(ASKED, positions=[rest_position(40, "0.7")]), unreadable=(Unreadable("row", "BNB"),))
    for at_s in (0.0, GRACE_S):
        found_so_far.take(known, torn, at_s)
    assert found_so_far
    assert found_so_far.unexplained(GRACE_S) == ["BTCUSDT BOTH 0.5, venue 0.7"]


# An answer that is older than the one that showed a difference

WALLET_900 = {"balances": [rest_balance(49_000, "900")]}
SIZE_07 = {"positions": [rest_position(49_000, "0.7")]}
ETH = rest_position(49_000, "1", symbol="ETHUSDT")
MODE = {"symbol_configs": {}, "multi_assets": False}
LEVERAGE = {"symbol_configs": {"BTCUSDT": SymbolConfig(7, "cross")}, "multi_assets": False}


def check(at: int, **fields: Any) -> Check:
    """An answer that agrees, asked for at a time, with these fields instead of its own."""
    agreeing: dict[str, Any] = {"balances": [USDT], "positions": [rest_position(10, "0.5"), ETH]}
    agreeing |= {"orders": (rest_order(10),), "order_symbols": ALL, **MODE}
    return replace(
        refresh(at),
        **{key: tuple(rows) if isinstance(rows, list) else rows for key, rows in (agreeing | fields).items()},
    )


OLDER: dict[str, tuple[dict[str, Any], list[tuple[int, dict[str, Any], bool]]]] = {
    "a wallet, by its row": (
        WALLET_900,
        [
            (75_000, {}, False),
            (76_000, {"balances": [rest_balance(49_000, "1000")]}, True),
        ],
    ),
    "a size, by its row": (
        SIZE_07,
        [
            (75_000, {}, False),
            (75_500, {"positions": [rest_position(48_000, "0.6"), ETH]}, False),
            (75_900, {"positions": [rest_position(48_500, "0.5"), ETH]}, False),
            (76_000, {"positions": [rest_position(49_000, "0.5"), ETH]}, True),
        ],
    ),
    "an answer that was asked for before": (
        SIZE_07,
        [(70_900, {"positions": [rest_position(50_000, "0.5"), ETH]}, False)],
    ),
    "a position that is not listed, by the youngest row": (
        {"positions": [ETH]},
        [
            (73_900, {}, False),
            (75_000, {"positions": [rest_position(10, "0.5")]}, False),
            (75_000, {}, True),
        ],
    ),
    "an order that is not listed, by the time": ({"orders": ()}, [(72_000, {}, False), (74_000, {}, True)]),
    "the same by its own document": (
        {"orders": ()},
        [
            (72_000, {"orders": (), "created": (rest_order(10),)}, False),
            (74_000, {"orders": (), "created": (rest_order(10),)}, True),
        ],
    ),
    "an order, by its row": (
        {"orders": (rest_order(49_000, price=D("91000")),)},
        [(75_000, {}, False), (75_000, {"orders": (rest_order(49_000),)}, True)],
    ),
    "a setting, by the time": (LEVERAGE, [(73_900, {}, False), (74_000, {}, True)]),
    "a row that cannot be understood": (
        SIZE_07,
        [(75_000, {"positions": [ETH], "unreadable": (Unreadable("row", PositionKey("BTCUSDT", "BOTH")),)}, False)],
    ),
}


@pytest.mark.parametrize("case", OLDER)
def test_an_older_answer_ends_no_difference(case: str) -> None:
    shown, answers = OLDER[case]
    eth = position(49_000, "1", symbol="ETHUSDT")
    known, found_so_far = account(LONG, eth, event(10, "NEW")), Discrepancies(PACE)
    rows = {"positions": [*shown["positions"], ETH]} if shown is SIZE_07 else {}
    found_so_far.take(known, check(71_000, **(shown | rows)), 0.0)
    (text,) = str(found_so_far).split("; ")
    for at_s, (asked, fields, is_proof) in enumerate(answers, start=1):
        found_so_far.take(known, check(asked, **fields), float(at_s))
        assert (text in str(found_so_far), found_so_far.doubtful) == (not is_proof, not is_proof), asked
        assert is_proof or found_so_far.repeated


def test_no_older_answer_makes_a_difference_less_than_drift() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    found_so_far.take(known, refresh(LATE, positions=[rest_position(40, "0.7")]), 0.0)
    for at_s in (1.0, GRACE_S):
        found_so_far.take(known, refresh(LATE + 1_000, positions=[rest_position(5, "0.6")]), at_s)
    assert found_so_far.unexplained(GRACE_S) == ["BTCUSDT BOTH 0.5, venue 0.7"]


def test_a_minute_later_each_answer_counts_whatever_times_it_has() -> None:
    """The venue's clock was set back."""
    known, found_so_far = account(LONG), Discrepancies(PACE)
    found_so_far.take(known, refresh(LATE, positions=[rest_position(40, "0.7")]), 0.0)
    for at_s, differs in ((59.0, True), (60.0, False)):
        found_so_far.take(known, refresh(ASKED, positions=[rest_position(10, "0.5")]), at_s)
        assert bool(found_so_far) is differs


def test_a_wallet_that_recurs_is_taken_from_the_answer_that_showed_it() -> None:
    known, found_so_far = account(LONG), Discrepancies(PACE)
    theirs = rest_balance(40, "1000.5")
    found_so_far.take(known, refresh(ASKED, balances=[theirs], positions=[rest_position(10, "0.5")]), 0.0)
    found_so_far.note_wallets_alone(0.0)
    found_so_far.take(known, refresh(ASKED + 1_000, positions=[rest_position(10, "0.5")]), 1.0)
    assert found_so_far.wallets_that_recur(1.0) == [theirs]


@pytest.mark.parametrize(
    ("asked", "meaning"), [(9_000, None), (12_000, "recent"), (14_000, "old answer"), (71_000, "plain")]
)
@pytest.mark.parametrize("what", ["BTCUSDT leverage", "BTCUSDT margin type", "multi-assets mode"])
def test_a_setting_of_the_stream_stands_for_as_long_as_rest_may_be_behind(
    what: str, asked: int, meaning: str | None
) -> None:
    """No answer gives it a time."""
    told: dict[str, Change] = {
        "BTCUSDT leverage": LeverageUpdate("BTCUSDT", 7, NOW + 10_000),
        "BTCUSDT margin type": position(10_000, "0.5", margin_type="isolated"),
        "multi-assets mode": MultiAssetsUpdate(True, "USD", NOW + 10_000),
    }
    known = account(told[what])
    before = {"symbol_configs": {"BTCUSDT": SymbolConfig(20, "cross")}, "multi_assets": False}
    rows = [rest_position(10_000, "0.5")] if known.positions else []
    found = differences(known, replace(refresh(asked, positions=rows), **before))
    assert {one.text.startswith(what): one.meaning for one in found.values()} == ({True: meaning} if meaning else {})


def test_settings_that_the_venue_does_not_give_are_no_difference() -> None:
    settings = {"symbol_configs": {"BTCUSDT": SymbolConfig(None, None)}, "multi_assets": False}
    known = account(position(10, "0.5", margin_type="cross"))
    answer = replace(refresh(ASKED, positions=[rest_position(10, "0.5")]), **settings)
    assert differences(known, answer) == {}


@pytest.mark.parametrize("case", CASES)
def test_differences_are_described(case: str) -> None:
    changes, answer, texts = CASES[case]
    assert [one.text for one in differences(account(*changes), answer).values()] == texts


def test_an_answer_that_was_applied_still_tells_what_the_stream_has_lost() -> None:
    known = account(LONG)
    answer = refresh(ASKED, positions=[rest_position(10, "0.5"), rest_position(30, "2", symbol="ETHUSDT")])
    known.apply((answer,), "rest")
    assert [one.text for one in differences(known, answer).values()] == ["ETHUSDT BOTH none, venue 2"]


def test_a_stream_that_is_silent_is_found_by_what_it_leaves_as_it_was() -> None:
    """The venue trades on, so that it says something else each time; the account says the same."""
    silent = account(LONG)
    first = differences(silent, refresh(ASKED, positions=[rest_position(40, "0.7")]))
    second = differences(silent, refresh(ASKED, positions=[rest_position(80, "0.9")]))
    assert first.keys() == second.keys()


def test_a_stream_that_follows_is_not_suspected_twice_of_the_same() -> None:
    following = account(LONG)
    first = differences(following, refresh(ASKED, positions=[rest_position(40, "0.7")]))
    following.apply((position(60, "0.5"),), "stream")
    second = differences(following, refresh(ASKED, positions=[rest_position(80, "0.9")]))
    assert not first.keys() & second.keys()


@pytest.mark.parametrize(("theirs", "differs"), [("900.02", False), ("899.98", False), ("900.03", True)])
def test_a_wallet_that_is_computed_is_the_same_within_its_error(theirs: str, differs: bool) -> None:
    known, answer = account(wallet(20, "900")), refresh(ASKED, balances=[rest_balance(20, theirs)])
    assert differences(known, answer), "said by the venue, it is exact"
    assert bool(differences(known, answer, D("0.02"))) is differs
    found_so_far = Discrepancies(PACE, D("0.02"))
    found_so_far.take(known, answer, 0.0)
    assert bool(found_so_far) is differs
    found_so_far.explain(known)
    assert bool(found_so_far) is differs


def test_of_a_computed_wallet_the_cross_part_and_an_unknown_one_have_the_same_error() -> None:
    cross = replace(rest_balance(20, "900"), cross_wallet_balance=D("899.99"))
    rest = refresh(ASKED, balances=[cross, rest_balance(20, "0.01", "BNB")])
    known = account(wallet(20, "900"))
    assert len(differences(known, rest)) == 2
    assert not differences(known, rest, D("0.01"))

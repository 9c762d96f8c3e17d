"""REST bodies → values: the documented answers, what is left out, and that malformed ones are FrameErrors."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from statecast.domain.changes import Unreadable
from statecast.domain.models import Balance, OrderKey, PositionKey, Stamp, SymbolConfig
from statecast.errors import FrameError
from statecast.venues.binance import snapshot, wire
from statecast.venues.binance.snapshot import Asking, KeyPermissions

FRAMES = next(p for p in Path(__file__).parents if p.name == "tests") / "frames" / "binance"
REST = {
    row["name"]: row["payload"]
    for row in map(json.loads, (FRAMES / "rest.jsonl").read_text(encoding="utf-8").splitlines())
}

TAKEN = 1793000009000
PROVEN = TAKEN - wire.REST_RECENT_MS
"""Its youngest row is older."""
ASKING = Asking(TAKEN, TAKEN + 200)


def body(name: str) -> Any:
    return copy.deepcopy(REST[name])


def test_account() -> None:
    told, balances = snapshot.account(body("account"), ASKING, [])
    assert balances == (
        Balance(
            asset="USDT",
            wallet_balance=Decimal("10250.11873421"),
            cross_wallet_balance=Decimal("10250.11873421"),
            stamp=Stamp(1793000001046),
            source="rest",
            available_balance=Decimal("10140.17"),
            available_balance_time_ms=PROVEN,
            unrealized_profit=Decimal("4.11"),
            unrealized_profit_time_ms=PROVEN,
        ),
    )
    assert (told.total_wallet_balance, told.available_balance) == (Decimal("10250.11873421"), Decimal("10140.17"))
    assert (told.total_margin_balance, told.total_unrealized_profit) == (Decimal("10254.23"), Decimal("4.11"))
    assert (told.total_initial_margin, told.total_maint_margin) == (Decimal("114.06"), Decimal("9.13"))
    assert (told.margin_time_ms, told.available_balance_time_ms) == (PROVEN, PROVEN)


@pytest.mark.parametrize(
    ("moved", "proven"),
    [
        (0, PROVEN),
        (PROVEN - 1, PROVEN),
        (TAKEN - 5, TAKEN - 5),
        (TAKEN + 201, TAKEN + 200),
        (TAKEN + 3_600_000, PROVEN),
        (TAKEN * 1000, PROVEN),
        (f"{TAKEN}", PROVEN),
    ],
    ids=[
        "never touched",
        "old",
        "young",
        "as clocks differ",
        "of a clock that was an hour ahead",
        "in microseconds",
        "a text",
    ],
)
def test_figures_are_of_no_later_time_than_the_answer_proves(moved: object, proven: int) -> None:
    """REST may be behind the question, but not behind the youngest of its rows."""
    account, risk = body("account"), body("positionRisk")
    account["assets"][0]["updateTime"] = risk[0]["updateTime"] = moved
    totals, (balance,) = snapshot.account(account, ASKING, [])
    (position,) = snapshot.positions(risk, ASKING, {}, [])
    assert totals.available_balance_time_ms == balance.available_balance_time_ms == proven
    assert position.mark_price_time_ms == position.liquidation_price_time_ms == proven


@pytest.mark.parametrize(
    ("changes", "kept"),
    [
        ({}, False),
        ({"updateTime": 1793000000000}, True),
        ({"walletBalance": "-0.01"}, True),
        ({"crossWalletBalance": "1"}, True),
        ({"unrealizedProfit": "-0.5"}, True),
        ({"availableBalance": "0.5"}, False),
        ({"walletBalance": "", "crossWalletBalance": "", "availableBalance": ""}, False),
        ({"walletBalance": "", "crossWalletBalance": "", "updateTime": 1793000000000}, False),
    ],
    ids=[
        "never touched",
        "moved, now 0",
        "negative",
        "cross alone",
        "a position's profit alone",
        "what is free of other assets, in multi-assets mode",
        "empty texts",
        "empty texts, moved",
    ],
)
def test_assets_that_a_reader_sees(changes: dict[str, object], kept: bool) -> None:
    account = body("account")
    zero = {
        "asset": "BNFCR",
        "walletBalance": "0.0",
        "crossWalletBalance": "0",
        "availableBalance": "0",
        "updateTime": 0,
    }
    account["assets"].append({**zero, **changes})
    _, balances = snapshot.account(account, ASKING, [])
    assert ("BNFCR" in {balance.asset for balance in balances}) is kept


def test_account_that_was_never_used() -> None:
    account = {key: "" for key in body("account") if key.startswith(("total", "available"))}
    totals, balances = snapshot.account({**account, "assets": [], "positions": []}, ASKING, [])
    assert (totals.total_wallet_balance, balances) == (Decimal(0), ())


@pytest.mark.parametrize("given", ["", None, "dear", ...])
def test_a_total_that_is_not_given_is_left_out_and_the_others_stay(given: object) -> None:
    account = body("account") | {"totalWalletBalance": given, "totalMaintMargin": given}
    if given is ...:
        del account["totalWalletBalance"], account["totalMaintMargin"]
    unreadable: list[Unreadable] = []
    totals, balances = snapshot.account(account, ASKING, unreadable)
    assert (totals.total_wallet_balance, totals.total_wallet_balance_time_ms, totals.total_maint_margin) == (None,) * 3
    assert (totals.total_margin_balance, totals.total_initial_margin, totals.margin_time_ms) == (
        Decimal("10254.23"),
        Decimal("114.06"),
        PROVEN,
    )
    assert len(balances) == 1
    assert [one.key for one in unreadable] == ([] if given == "" else [None, None])


def test_totals_are_zero_where_all_that_was_ever_touched_is_empty() -> None:
    account = {key: "" for key in body("account") if key.startswith(("total", "available"))}
    touched = {"asset": "BNB", "walletBalance": "0", "crossWalletBalance": "0", "updateTime": 1793000000000}
    totals, balances = snapshot.account({**account, "assets": [touched], "positions": []}, ASKING, [])
    assert (totals.total_wallet_balance, totals.available_balance) == (Decimal(0), Decimal(0))
    assert [row.asset for row in balances] == ["BNB"]
    touched["walletBalance"] = "1"
    totals, _ = snapshot.account({**account, "assets": [touched], "positions": []}, ASKING, [])
    assert (totals.total_wallet_balance, totals.available_balance) == (None, None)


def test_an_asset_that_cannot_be_understood_is_missing_and_named() -> None:
    account = body("account")
    account["assets"].append({"asset": "BNB", "walletBalance": "dear", "crossWalletBalance": "0", "updateTime": 0})
    unreadable: list[Unreadable] = []
    totals, balances = snapshot.account(account, ASKING, unreadable)
    assert ([row.asset for row in balances], totals.total_wallet_balance) == (["USDT"], Decimal("10250.11873421"))
    text = "asset BNB: the venue's answer cannot be understood: walletBalance is 'dear', expected a decimal number"
    assert unreadable == [Unreadable(text, "BNB")]


@pytest.mark.parametrize("value", [None, "x", {}, -1, 0.5])
@pytest.mark.parametrize(
    ("name", "key", "attribute", "without"),
    [
        ("account", "updateTime", "stamp", Stamp(0)),
        ("account", "availableBalance", "available_balance", None),
        ("account", "unrealizedProfit", "unrealized_profit", None),
        ("positionRisk", "updateTime", "stamp", Stamp(0)),
        ("positionRisk", "markPrice", "mark_price_time_ms", None),
        ("positionRisk", "liquidationPrice", "liquidation_price", None),
        ("positionRisk", "marginAsset", "margin_asset", None),
        ("openOrders", "avgPrice", "avg_price", None),
        ("openOrders", "reduceOnly", "reduce_only", None),
        ("openAlgoOrders", "closePosition", "close_position", None),
    ],
)
def test_a_figure_that_makes_no_sense_is_left_out_and_its_row_stays(
    name: str, key: str, attribute: str, without: object, value: object
) -> None:
    if (value is not None and key == "marginAsset") or (value == -1 and key not in ("updateTime", "reduceOnly")):
        value = [5]
    answer, unreadable = body(name), list[Unreadable]()
    (row,) = answer["assets"] if name == "account" else answer
    row[key] = value
    found: Any
    match name:
        case "account":
            (found,) = snapshot.account(answer, ASKING, unreadable)[1]
        case "positionRisk":
            (found,) = snapshot.positions(answer, ASKING, {}, unreadable)
        case "openOrders":
            (found,) = snapshot.open_orders(answer, unreadable)
        case _:
            (found,) = snapshot.open_algo_orders(answer, unreadable)
    assert getattr(found, attribute) == without
    is_absent = value is None and "Time" not in key and key not in ("reduceOnly", "closePosition")
    assert [one.key for one in unreadable] == ([] if is_absent else [None])


@pytest.mark.parametrize("key", ["positionAmt", "entryPrice"])
def test_a_position_that_cannot_be_understood_is_missing_and_named(key: str) -> None:
    rows, unreadable = body("positionRisk"), list[Unreadable]()
    rows.append({**rows[0], "symbol": "ETHUSDT", key: None})
    (position,) = snapshot.positions(rows, ASKING, {}, unreadable)
    assert position.symbol == "BTCUSDT"
    reason = f"position ETHUSDT BOTH: the venue's answer cannot be understood: {key} is None, expected a decimal number"
    assert unreadable == [Unreadable(reason, PositionKey("ETHUSDT", "BOTH"))]


def test_a_position_of_an_unknown_side_is_missing_and_named() -> None:
    rows, unreadable = [{**body("positionRisk")[0], "positionSide": "UP"}], list[Unreadable]()
    assert snapshot.positions(rows, ASKING, {}, unreadable) == ()
    assert [one.key for one in unreadable] == [PositionKey("BTCUSDT", "UP")]


def test_an_order_that_cannot_be_understood_is_missing_and_named() -> None:
    rows, unreadable = body("openOrders"), list[Unreadable]()
    rows.append({**rows[0], "orderId": 5, "side": "HOLD"})
    assert len(snapshot.open_orders(rows, unreadable)) == 1
    conditional = {**body("openAlgoOrders")[0], "quantity": []}
    assert snapshot.open_algo_orders([conditional], unreadable) == ()
    assert [one.key for one in unreadable] == [OrderKey("BTCUSDT", "5"), OrderKey("BTCUSDT", "algo-2148719")]


@pytest.mark.parametrize("name", ["positionRisk", "openOrders", "openAlgoOrders", "account"])
def test_a_row_that_cannot_be_named_is_an_error(name: str) -> None:
    answer = body(name)
    (row,) = answer["assets"] if name == "account" else answer
    for key in ("asset", "symbol"):
        row[key] = None
    with pytest.raises(FrameError):
        next(read for reader, read in READERS if reader == name)(answer)


def test_settings_that_make_no_sense_are_left_out_symbol_by_symbol() -> None:
    (row,), unreadable = body("symbolConfig"), list[Unreadable]()
    rows = [
        {**row, "symbol": "AUSDT", "leverage": None},
        {**row, "symbol": "BUSDT", "leverage": "twenty"},
        {**row, "symbol": "CUSDT", "marginType": 5},
        {**row, "symbol": None},
        row,
    ]
    assert snapshot.symbol_configs(rows, unreadable) == {
        "AUSDT": SymbolConfig(None, "cross"),
        "BUSDT": SymbolConfig(None, "cross"),
        "CUSDT": SymbolConfig(20, None),
        "BTCUSDT": SymbolConfig(20, "cross"),
    }
    assert [one.key for one in unreadable] == [None] * 4


def test_open_position_with_what_is_set_for_its_symbol() -> None:
    (position,) = snapshot.positions(body("positionRisk"), ASKING, {"BTCUSDT": SymbolConfig(20, "cross")}, [])
    assert (position.key, position.side) == (("BTCUSDT", "BOTH"), "long")
    assert (position.position_amt, position.entry_price) == (Decimal("0.025"), Decimal("91250.4"))
    assert (position.mark_price, position.mark_price_time_ms) == (Decimal("91414.9"), PROVEN)
    assert (position.unrealized_profit, position.notional) == (Decimal("4.11250000"), Decimal("2285.37"))
    assert (position.liquidation_price, position.liquidation_price_time_ms) == (Decimal(0), PROVEN)
    assert (position.leverage, position.margin_type, position.margin_asset) == (20, "cross", "USDT")
    assert position.stamp == Stamp(1793000001046)


def test_position_of_a_symbol_without_settings_has_none() -> None:
    (position,) = snapshot.positions(body("positionRisk"), ASKING, {}, [])
    assert (position.leverage, position.margin_type) == (None, None)


def test_flat_rows_are_dropped() -> None:
    rows = [*body("positionRisk"), {**body("positionRisk")[0], "positionSide": "LONG", "positionAmt": "0.000"}]
    assert len(snapshot.positions(rows, ASKING, {}, [])) == 1


def test_open_order() -> None:
    (order,) = snapshot.open_orders(body("openOrders"), [])
    assert (order.order_id, order.client_order_id, order.status) == ("8886774001", "my-0001", "PARTIALLY_FILLED")
    assert (order.quantity, order.executed_qty) == (Decimal("0.050"), Decimal("0.025"))
    assert (order.venue_time_ms, order.source, order.algo_id) == (1793000001046, "rest", None)


def test_order_that_ended_meanwhile_is_not_open() -> None:
    assert snapshot.open_orders([{**body("openOrders")[0], "status": "FILLED"}], []) == ()


def test_a_listed_order_with_a_status_that_nobody_named_is_open() -> None:
    (order,) = snapshot.open_orders([{**body("openOrders")[0], "status": "WORKING"}], [])
    (conditional,) = snapshot.open_algo_orders([{**body("openAlgoOrders")[0], "algoStatus": "PAUSED"}], [])
    assert (order.status, conditional.status) == ("WORKING", "PAUSED")


def test_open_conditional_order() -> None:
    (order,) = snapshot.open_algo_orders(body("openAlgoOrders"), [])
    assert (order.order_id, order.algo_id, order.actual_order_id) == ("algo-2148719", "2148719", None)
    assert (order.stop_price, order.quantity, order.status) == (Decimal("88000.0"), Decimal("0.025"), "NEW")
    assert (order.avg_price, order.executed_qty) == (None, None)


def test_open_trailing_stop_and_closing_order() -> None:
    row = body("openAlgoOrders")[0]
    trailing = {"orderType": "TRAILING_STOP_MARKET", "triggerPrice": "91000", "activatePrice": "93000.5"}
    rows = [{**row, **trailing, "callbackRate": "1.5"}, {**row, "algoId": 5, "closePosition": True, "quantity": "0"}]
    order, closing = snapshot.open_algo_orders(rows, [])
    assert (order.activate_price, order.callback_rate, order.stop_price) == (Decimal("93000.5"), Decimal("1.5"), None)
    assert (closing.close_position, closing.quantity, closing.stop_price) == (True, Decimal(0), Decimal("88000.0"))
    old = {**body("openOrders")[0], "type": "TRAILING_STOP_MARKET", "activatePrice": "93000.5", "priceRate": "1.5"}
    (ordinary,) = snapshot.open_orders([old], [])
    assert (ordinary.activate_price, ordinary.callback_rate) == (Decimal("93000.5"), Decimal("1.5"))
    (limit,) = snapshot.open_orders([{**body("openOrders")[0], "activatePrice": "0", "priceRate": "0"}], [])
    assert (limit.activate_price, limit.callback_rate) == (None, None), "zeros of what is no trailing stop"


def test_triggered_conditional_order_stands_among_the_ordinary_ones() -> None:
    assert snapshot.open_algo_orders([{**body("openAlgoOrders")[0], "algoStatus": "TRIGGERED"}], []) == ()


def test_settings_modes_and_margin_assets() -> None:
    assert snapshot.symbol_configs(body("symbolConfig"), []) == {"BTCUSDT": SymbolConfig(20, "cross")}
    assert snapshot.multi_assets(body("accountConfig"), []) is False
    assert snapshot.margin_assets(body("exchangeInfo")) == {"BTCUSDT": "USDT", "ETHUSDC": "USDC"}
    assert snapshot.server_time_ms(body("time")) == 1793000000000


@pytest.mark.parametrize("mode", [{}, *({"multiAssetsMargin": value} for value in (None, "false", 0, {}))])
def test_a_margin_mode_that_makes_no_sense_is_left_out_and_named(mode: dict[str, object]) -> None:
    unreadable: list[Unreadable] = []
    assert snapshot.multi_assets({"dualSidePosition": False, **mode}, unreadable) is None
    ((text, key),) = unreadable
    assert text.startswith("the margin mode: the venue's answer cannot be understood: multiAssetsMargin ")
    assert key is None, "all else is known"
    with pytest.raises(FrameError):
        snapshot.multi_assets([mode], [])
    assert [snapshot.totals_asset(one) for one in (None, False, True)] == [None, "USDT", "USD"]


def test_listen_key_is_not_repeated_by_an_error() -> None:
    assert snapshot.listen_key(body("listenKey")).startswith("pqia91ma")
    with pytest.raises(FrameError) as caught:
        snapshot.listen_key({"listenKey": ["pqia91ma"]})
    assert "pqia" not in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, KeyPermissions(can_trade=False, can_withdraw=False, extra=(), portfolio_margin=False)),
        ({"enableFixReadOnly": True}, KeyPermissions(False, False, (), False)),
        ({"enableFutures": True}, KeyPermissions(True, False, (), False)),
        ({"permitsUniversalTransfer": True}, KeyPermissions(False, True, (), False)),
        (
            {"enableTelepathy": True, "permitsMore": True},
            KeyPermissions(False, False, ("enableTelepathy", "permitsMore"), False),
        ),
        ({"enablePortfolioMarginTrading": True}, KeyPermissions(True, False, (), True)),
    ],
)
def test_key_permissions(flags: dict[str, bool], expected: KeyPermissions) -> None:
    permissions = snapshot.key_permissions({**body("apiRestrictions"), **flags})
    assert permissions == expected
    assert permissions.read_only is (not (expected.can_trade or expected.can_withdraw or expected.extra))


def test_account_and_position_risk_tell_the_same_holdings_of_the_same_moment() -> None:
    holdings = {("BTCUSDT", "BOTH"): (Decimal("0.025"), 1793000001046)}
    assert snapshot.account_holdings(body("account")) == snapshot.risk_holdings(body("positionRisk")) == holdings
    assert snapshot.amounts(holdings) == {("BTCUSDT", "BOTH"): Decimal("0.025")}


def test_a_flat_row_is_held_by_nobody() -> None:
    flat = [{**row, "positionAmt": "0.000"} for row in body("positionRisk")]
    assert snapshot.risk_holdings(flat) == {}


READERS: list[tuple[str, Callable[[Any], object]]] = [
    ("account", lambda b: snapshot.account(b, ASKING, [])),
    ("positionRisk", lambda b: snapshot.positions(b, ASKING, {}, [])),
    ("account", snapshot.account_holdings),
    ("positionRisk", snapshot.risk_holdings),
    ("openOrders", lambda b: snapshot.open_orders(b, [])),
    ("openAlgoOrders", lambda b: snapshot.open_algo_orders(b, [])),
    ("symbolConfig", lambda b: snapshot.symbol_configs(b, [])),
    ("exchangeInfo", snapshot.margin_assets),
    ("apiRestrictions", snapshot.key_permissions),
    ("time", snapshot.server_time_ms),
    ("listenKey", snapshot.listen_key),
]


@pytest.mark.parametrize("wrong", [None, 5, "x", [5], {}, [[]], {"assets": {}}])
@pytest.mark.parametrize(("name", "read"), READERS, ids=[name for name, _ in READERS])
def test_malformed_bodies_are_frame_errors(name: str, read: Callable[[Any], object], wrong: object) -> None:
    with pytest.raises(FrameError, match=r"frame (GET|POST) /"):
        read(wrong)


STRANGE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(min_value=-(2**200), max_value=2**200),
    st.floats(),
    st.sampled_from(["", "0", "NaN", "1e999999999", "NEW", "LONG", "9" * 500]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@given(reader=st.sampled_from(READERS), data=st.data())
@settings(derandomize=True, max_examples=800, deadline=None, database=None)
def test_mutated_bodies_are_read_or_frame_errors(
    reader: tuple[str, Callable[[Any], object]], data: st.DataObject
) -> None:
    name, read = reader
    mutated = body(name)
    row = mutated
    while isinstance(row, list) or (isinstance(row, dict) and data.draw(st.booleans())):
        inner = row if isinstance(row, list) else [value for value in row.values() if isinstance(value, list)]
        if not inner:
            break
        row = data.draw(st.sampled_from(inner))
    if isinstance(row, dict):
        row[data.draw(st.sampled_from(sorted(row)))] = data.draw(STRANGE)
    try:
        read(mutated)
    except FrameError as error:
        str(error)

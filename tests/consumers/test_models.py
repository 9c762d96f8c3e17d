"""What a trader holds in hand: frozen, comparable by value, with the names of the contract."""

from __future__ import annotations

import dataclasses
from decimal import Decimal
from typing import Any

import pytest

from consumers.models import (
    AccountSnapshot,
    Answer,
    Balance,
    EventFields,
    Freshness,
    Order,
    OrderRows,
    Position,
    Rows,
    Totals,
)
from consumers.tables import balance, order, position, snake_case, values
from statecast.errors import ConfigError
from statecast.store.keys import ACCOUNT_FIELDS, BALANCE_FIELDS, EVENT_FIELDS, ORDER_FIELDS, POSITION_FIELDS

D = Decimal
YOUNG = Freshness(0.3, 7, "stream", "publisher", 1_793_000_000_123, "live", 1_793_000_000_000)
OLD = YOUNG._replace(age_s=9.0, seq=6, source="rest")
TOTALS = Totals(**values(Totals, dict.fromkeys(ACCOUNT_FIELDS, "5")), freshness=YOUNG)
USDT = balance("USDT", dict.fromkeys(BALANCE_FIELDS, "5") | {"source": "rest"}, YOUNG)
TEXT = dict.fromkeys(POSITION_FIELDS, "5") | {
    "symbol": "BTCUSDT",
    "positionSide": "BOTH",
    "side": "short",
    "positionAmt": "-0.50",
    "unRealizedProfit": "1.5",
    "marginType": "cross",
    "source": "stream",
}
SHORT = position("BTCUSDT:BOTH", TEXT, YOUNG)
LONG = position("ETHUSDT:BOTH", TEXT | {"symbol": "ETHUSDT", "side": "long", "positionAmt": "2"}, YOUNG)
ORDER = order(
    "5:1001",
    dict.fromkeys(ORDER_FIELDS, "5") | {"orderId": "1001", "reduceOnly": "true", "closePosition": "false"},
    YOUNG,
)
POSITIONS = Rows({"BTCUSDT:BOTH": SHORT, "ETHUSDT:BOTH": LONG}, YOUNG)
ORDERS = OrderRows({"5:1001": ORDER}, YOUNG)
SNAPSHOT = AccountSnapshot(
    account_id="binance:main",
    totals=TOTALS,
    balances=Rows({"USDT": USDT}, YOUNG),
    positions=POSITIONS,
    open_orders=ORDERS,
    freshness=YOUNG,
)


# Names


@pytest.mark.parametrize(
    ("kind", "names", "besides"),
    [
        (Totals, ACCOUNT_FIELDS, {"freshness"}),
        (Balance, BALANCE_FIELDS, {"freshness", "asset"}),
        (Position, POSITION_FIELDS, {"freshness"}),
        (Order, ORDER_FIELDS, {"freshness"}),
        (EventFields, EVENT_FIELDS, set()),
    ],
)
def test_attributes_are_the_fields_of_the_contract_in_snake_case(
    kind: Any, names: tuple[str, ...], besides: set[str]
) -> None:
    assert {field.name for field in dataclasses.fields(kind)} - besides == {snake_case(name) for name in names}
    assert names == kind.FIELDS


def test_the_names_that_the_documents_use() -> None:
    assert TOTALS.total_wallet_balance == D(5)
    assert SHORT.position_amt == D("-0.50")
    assert SHORT.unrealized_profit == SHORT.un_realized_profit == D("1.5")
    assert ORDER.reduce_only is True


# Answers


@pytest.mark.parametrize("answer", [TOTALS, USDT, SHORT, ORDER, SNAPSHOT, POSITIONS])
def test_every_answer_knows_its_age_and_its_commit(answer: Answer) -> None:
    assert (answer.age_s, answer.seq, answer.freshness) == (0.3, 7, YOUNG)


def test_the_source_of_a_row_is_its_own_and_of_a_whole_that_of_its_last_change() -> None:
    assert (USDT.source, SHORT.source) == ("rest", "stream")
    assert TOTALS.source == POSITIONS.source == SNAPSHOT.source == "stream"


@pytest.mark.parametrize("answer", [TOTALS, USDT, SHORT, ORDER, SNAPSHOT, POSITIONS])
def test_an_answer_cannot_be_changed(answer: Any) -> None:
    with pytest.raises(AttributeError):
        answer.freshness = OLD
    with pytest.raises(AttributeError):
        YOUNG.age_s = 0.0  # type: ignore[misc]


def test_values_are_compared_and_ages_are_not() -> None:
    later = SHORT.at(OLD)
    assert later == SHORT
    assert later.age_s == 9.0
    assert SHORT.age_s == 0.3
    assert type(later) is Position
    assert later != dataclasses.replace(SHORT, position_amt=D(1))
    assert hash(later) == hash(SHORT)
    assert "age_s" not in repr(SHORT)


# No position


def test_no_position_is_flat_and_false() -> None:
    flat = Position.flat("BTCUSDT", "LONG", YOUNG)
    assert not flat
    assert SHORT
    assert (flat.symbol, flat.position_side, flat.side) == ("BTCUSDT", "LONG", "flat")
    assert (flat.position_amt, flat.entry_price, flat.venue_time_ms) == (D(0), D(0), 0)
    assert (flat.source, flat.age_s) == ("stream", 0.3)
    unknown = {field.name for field in dataclasses.fields(Position) if getattr(flat, field.name) is None}
    assert {"mark_price", "liquidation_price", "leverage", "un_realized_profit", "margin_type"} <= unknown


def test_a_snapshot_answers_for_one_symbol() -> None:
    assert SNAPSHOT.position("BTCUSDT") == SHORT
    assert not SNAPSHOT.position("SOLUSDT", "LONG")
    assert SNAPSHOT.position("SOLUSDT", "LONG").position_side == "LONG"


# Rows


def test_rows_are_a_sequence_and_have_names() -> None:
    assert list(POSITIONS) == [SHORT, LONG]
    assert (POSITIONS[0], POSITIONS[-1], POSITIONS[:1]) == (SHORT, LONG, [SHORT])
    assert POSITIONS["ETHUSDT:BOTH"] == POSITIONS.get("ETHUSDT:BOTH") == LONG
    assert POSITIONS.get("SOLUSDT:BOTH") is None
    assert len(POSITIONS) == 2
    assert "BTCUSDT:BOTH" in POSITIONS
    assert "SOLUSDT:BOTH" not in POSITIONS
    assert LONG in POSITIONS
    assert Position.flat("BTCUSDT", "BOTH", YOUNG) not in POSITIONS
    with pytest.raises(KeyError):
        POSITIONS["SOLUSDT:BOTH"]
    with pytest.raises(IndexError):
        POSITIONS[2]
    with pytest.raises(TypeError):
        hash(POSITIONS)


def test_rows_are_stamped_with_the_freshness_of_the_whole() -> None:
    old = Rows(POSITIONS.by_name, OLD)
    assert [row.age_s for row in old] == [9.0, 9.0]
    assert old["BTCUSDT:BOTH"].seq == old[0].seq == 6
    found = old.get("BTCUSDT:BOTH")
    assert found is not None
    assert found.freshness == OLD
    assert POSITIONS["BTCUSDT:BOTH"].freshness == YOUNG


def test_rows_are_compared_by_what_they_hold() -> None:
    assert Rows(dict(reversed(POSITIONS.by_name.items())), OLD) == POSITIONS
    assert Rows({}, YOUNG) != POSITIONS
    assert POSITIONS != [SHORT, LONG]
    assert not Rows({}, YOUNG)


def test_an_open_order_is_found_by_its_name_and_by_its_id_where_one_symbol_has_it() -> None:
    ether = dataclasses.replace(ORDER, symbol="xyz:ETH")
    assert (ORDERS["5:1001"], ORDERS["1001"], ORDERS.get("1001")) == (ORDER, ORDER, ORDER)
    assert "1001" in ORDERS
    assert "1002" not in ORDERS
    both = OrderRows({"5:1001": ORDER, "xyz:ETH:1001": ether}, OLD)
    assert both["xyz:ETH:1001"] == ether
    assert both["5:1001"].age_s == OLD.age_s
    assert "1001" in both
    for look_up in (both.get, both.__getitem__):
        with pytest.raises(ConfigError, match="5:1001, xyz:ETH:1001"):
            look_up("1001")

"""Names, types and order of what the NOFX bot's users get, and what stands there when the venue has not said."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pytest
from support.nofx import ACCOUNT_KEYS, ORDER_KEYS, POSITION_KEYS

from consumers.models import Freshness, Order, Position, Totals
from consumers.nofx import shapes
from consumers.tables import order, position, values

FRESH = Freshness(
    age_s=0.1, seq=7, source="stream", via="publisher", epoch=1, state="live", verified_at_ms=1_795_377_301_000
)

POSITION = {
    "symbol": "BTCUSDT",
    "positionSide": "SHORT",
    "side": "short",
    "positionAmt": "-0.025",
    "entryPrice": "91250.4",
    "markPrice": "91414.9",
    "unRealizedProfit": "-4.1125",
    "leverage": "20",
    "liquidationPrice": "98000.1",
    "venueTimeMs": "1795377301000",
    "source": "stream",
}
ORDER = {
    "symbol": "BTCUSDT",
    "orderId": "8886774420",
    "clientOrderId": "bot-1",
    "side": "BUY",
    "positionSide": "LONG",
    "type": "LIMIT",
    "origType": "LIMIT",
    "timeInForce": "GTC",
    "status": "PARTIALLY_FILLED",
    "price": "91000.1",
    "stopPrice": "0",
    "quantity": "0.02",
    "executedQty": "0.005",
    "avgPrice": "91000.1",
    "reduceOnly": "false",
    "venueTimeMs": "1795377301000",
    "source": "stream",
}


def a_position(**changes: str | None) -> Position:
    row = {name: value for name, value in (POSITION | changes).items() if value is not None}
    return position("BTCUSDT:SHORT", row, FRESH)


def an_order(**changes: str) -> Order:
    row = ORDER | changes
    return order(f"{row['symbol']}:{row['orderId']}", row, FRESH)


def types(shape: dict[str, Any]) -> list[type]:
    return [type(value) for value in shape.values()]


def test_an_account_has_three_floats() -> None:
    text = dict.fromkeys(Totals.FIELDS, "0")
    text |= {"totalWalletBalance": "10000.5", "availableBalance": "8000.25", "totalUnrealizedProfit": "-100.125"}
    shape = shapes.account(Totals(**values(Totals, text), freshness=FRESH))
    assert list(shape) == ACCOUNT_KEYS
    assert list(shape.values()) == [10000.5, 8000.25, -100.125]
    assert types(shape) == [float, float, float]


def test_a_position_keeps_its_sign_and_its_true_figures() -> None:
    shape = shapes.position(a_position())
    assert list(shape) == POSITION_KEYS
    assert list(shape.values()) == ["BTCUSDT", -0.025, 91250.4, 91414.9, -4.1125, 20, 98000.1, "short"]
    assert types(shape) == [str, float, float, float, float, int, float, str]


def test_positions_have_an_order_of_their_own() -> None:
    rows = [
        a_position(symbol=symbol, side=side)
        for symbol, side in (("ETHUSDT", "long"), ("BTCUSDT", "short"), ("BTCUSDT", "long"))
    ]
    told = [(shape["symbol"], shape["side"]) for shape in shapes.positions(rows)]
    assert told == [("BTCUSDT", "long"), ("BTCUSDT", "short"), ("ETHUSDT", "long")]


def test_a_mark_price_that_is_not_told_follows_from_the_profit() -> None:
    assert shapes.position(a_position(markPrice=None))["markPrice"] == 91414.9


def test_figures_that_nobody_can_know_do_not_pass_for_figures() -> None:
    shape = shapes.position(a_position(markPrice=None, unRealizedProfit=None, leverage=None, liquidationPrice=None))
    assert math.isnan(shape["markPrice"])
    assert math.isnan(shape["unRealizedProfit"])
    assert (shape["leverage"], shape["liquidationPrice"]) == (0, 0.0)
    assert types(shape) == types(shapes.position(a_position()))


def test_an_order_has_ten_fields() -> None:
    shape = shapes.order(an_order())
    assert list(shape) == ORDER_KEYS
    assert list(shape.values()) == [
        8886774420,
        "BTCUSDT",
        "BUY",
        "LIMIT",
        "PARTIALLY_FILLED",
        91000.1,
        0.02,
        0.005,
        91000.1,
        "LONG",
    ]
    assert types(shape) == [int, str, str, str, str, float, float, float, float, str]


def test_a_conditional_order_is_not_taken_for_the_order_of_its_number() -> None:
    assert shapes.order(an_order(orderId="algo-8886774420"))["orderId"] == "algo-8886774420"


def test_an_event_is_an_order_as_it_was_after_it() -> None:
    text = ORDER | {"eventSeq": "12", "eventId": "x", "eventType": "TRADE", "receivedAtMs": "1", "epoch": "2"}
    event = shapes.order_event(text | {"price": "", "status": "FILLED"})
    assert event.event_seq == 12
    shape = shapes.order(event)
    assert list(shape) == ORDER_KEYS
    assert (shape["status"], shape["price"]) == ("FILLED", 0.0)


def test_an_event_that_is_not_of_the_contract_is_an_error() -> None:
    with pytest.raises(ValueError, match="eventSeq"):
        shapes.order_event(ORDER)


def test_the_derived_mark_price_is_exact() -> None:
    row = a_position(markPrice=None, positionAmt="0.003", entryPrice="90000", unRealizedProfit="-3.6", side="long")
    assert Decimal(str(shapes.position(row)["markPrice"])) == Decimal(88800)

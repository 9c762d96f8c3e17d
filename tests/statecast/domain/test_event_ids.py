from __future__ import annotations

from typing import Any

import pytest
from support.changes import NOW, D, event, order

from statecast.domain import event_ids
from statecast.domain.event_ids import EventId
from statecast.domain.models import Order, OrderEvent, OrderKey

SYMBOLS = ("BTCUSDT", "BTC-USDT-SWAP", "xyz:TSLA", "PURR/USDC", "BTCUSDT_261225", "币安人生USDT", "a:b:1.5")

ORDINARY: dict[str, tuple[str, dict[str, Any], str, str, str]] = {
    "placed": ("NEW", {}, "", "NEW", ""),
    "a fill": ("TRADE", {"status": "FILLED"}, "5512345678", "FILL", "5512345678"),
    "a fill of a liquidation": ("CALCULATED", {}, "77", "FILL", "77"),
    "a fill whose id has letters": ("TRADE", {}, "ab-9", "FILL", "ab-9"),
    "a liquidation's step without a trade": (
        "CALCULATED",
        {"executed_qty": D("0.010")},
        "",
        "CALCULATED",
        f"{NOW}:0.01",
    ),
    "amended": ("AMENDMENT", {"quantity": D("0.0500"), "price": D("91250.40")}, "", "AMENDMENT", f"{NOW}:0.05@91250.4"),
    "cancelled": ("CANCELED", {"status": "CANCELED"}, "", "CANCELED", ""),
    "expired in a match": ("EXPIRED", {"status": "EXPIRED_IN_MATCH"}, "", "EXPIRED_IN_MATCH", ""),
    "ended with a status that nobody named": ("EXPIRED", {"status": "RISK_2", "ended": True}, "", "RISK_2", ""),
    "something new": ("SUSPENDED", {"executed_qty": D("0.010")}, "", "SUSPENDED", f"NEW:{NOW}:0.01"),
    "a trade without an id": ("TRADE", {"executed_qty": None}, "", "TRADE", f"NEW:{NOW}:"),
}


@pytest.mark.parametrize("symbol", SYMBOLS)
@pytest.mark.parametrize("case", ORDINARY)
def test_an_ordinary_orders_id_is_made_and_read(case: str, symbol: str) -> None:
    event_type, fields, fill_id, step, detail = ORDINARY[case]
    row = order(0, symbol=symbol, **fields)
    made = event_ids.of_order(row, event_type, fill_id)
    assert made == f"{symbol}:1001:{step}" + (f":{detail}" if detail else "")
    assert event_ids.parse(made) == EventId(symbol, "1001", step, detail)


def test_ids_of_two_symbols_orders_with_one_number_differ() -> None:
    rows = [order(0, symbol=symbol) for symbol in SYMBOLS]
    assert len({event_ids.of_order(row, "NEW") for row in rows}) == len(SYMBOLS)


def test_a_fills_id_is_the_same_whoever_makes_it() -> None:
    row = order(0, "PARTIALLY_FILLED")
    assert event_ids.of_order(row, "TRADE", "5") == event_ids.of_fill(row.key, "5")
    assert event_ids.of_order(order(0, "EXPIRED"), "EXPIRED") == event_ids.of_end(row.key, "EXPIRED")


def test_equal_numbers_make_equal_ids() -> None:
    def amended(quantity: str) -> str:
        return event_ids.of_order(order(0, quantity=D(quantity), price=None), "AMENDMENT")

    assert amended("10") == amended("10.0") == amended("1E+1")
    assert amended("10") != amended("1")


@pytest.mark.parametrize("status", ["NEW", "TRIGGERING", "TRIGGERED", "FINISHED", "CANCELED"])
def test_a_conditional_orders_id_is_made_and_read(status: str) -> None:
    order_id = event_ids.conditional_order_id("2148719")
    assert event_ids.algo_id(order_id) == "2148719"
    made = event_ids.of_conditional(order_id, status)
    assert made == f"algo-2148719:{status}"
    assert event_ids.parse(made) == EventId("", "algo-2148719", status)


def test_a_trailing_stops_second_new_is_one_with_the_first_where_a_history_has_that_alone() -> None:
    first, second = event_ids.of_conditional("algo-7", "NEW"), event_ids.of_activation("algo-7")
    assert second == "algo-7:NEW:ACTIVATED"
    assert event_ids.parse(second) == EventId("", "algo-7", "NEW", "ACTIVATED")
    assert (event_ids.placing_of(second), event_ids.placing_of(first)) == (first, None)


def of_history(event_id: str, kind: str = "NEW", **fields: Any) -> OrderEvent:
    return event(0, kind, event_id=event_id, **fields).event


@pytest.mark.parametrize(
    ("one", "on_stream", "is_same"),
    [
        (of_history("algo-7:NEW"), "algo-7:NEW", True),
        (of_history("algo-7:NEW"), "algo-7:NEW:ACTIVATED", True),
        (of_history("algo-7:NEW"), "algo-8:NEW:ACTIVATED", False),
        (of_history("algo-7:TRIGGERED"), "algo-7:NEW:ACTIVATED", False),
        (of_history("BTCUSDT:7:NEW"), "BTCUSDT:7:NEW:ACTIVATED", False),
        (of_history("BTCUSDT:7:FILL:5", "CALCULATED"), "BTCUSDT:7:FILL:5", True),
        (
            of_history("BTCUSDT:7:FILL:5", "CALCULATED", order_id="7", executed_qty=D("2.50")),
            f"BTCUSDT:7:CALCULATED:{NOW}:2.5",
            True,
        ),
        (
            of_history("BTCUSDT:7:FILL:5", "CALCULATED", order_id="7", executed_qty=D("2.5")),
            f"BTCUSDT:7:CALCULATED:{NOW}:3",
            False,
        ),
        (
            of_history("BTCUSDT:7:FILL:5", "TRADE", order_id="7", executed_qty=D("2.5")),
            f"BTCUSDT:7:CALCULATED:{NOW}:2.5",
            False,
        ),
    ],
)
def test_the_stream_may_have_another_id_for_an_event_of_a_history(
    one: OrderEvent, on_stream: str, is_same: bool
) -> None:
    assert (on_stream in event_ids.stream_ids(one)) is is_same
    assert event_ids.is_logged(one, {on_stream}) is is_same


def test_two_levels_that_a_liquidation_takes_in_a_millisecond_are_two_events() -> None:
    rows = [order(0, executed_qty=D(filled)) for filled in ("1", "2")]
    assert len({event_ids.of_order(row, "CALCULATED") for row in rows}) == 2


@pytest.mark.parametrize("symbol", SYMBOLS)
def test_gaps_are_made_and_read(symbol: str) -> None:
    assert event_ids.of_gap("", NOW, "ALL") == f"GAP:{NOW}:ALL"
    assert event_ids.parse(f"GAP:{NOW}:ALL") == EventId("", "", "GAP", f"{NOW}:ALL")
    assert event_ids.parse(event_ids.of_gap(symbol, NOW, "REFUSED")) == EventId(symbol, "", "GAP", f"{NOW}:REFUSED")
    lost = event_ids.of_lost_order(order(0, symbol=symbol))
    assert event_ids.parse(lost) == EventId(symbol, "1001", "GAP")
    unlogged = event_ids.of_unlogged_order(order(0, symbol=symbol), NOW)
    assert event_ids.parse(unlogged) == EventId(symbol, "1001", "GAP", f"{NOW}")
    conditional: Order = order(0, symbol=symbol, order_id="algo-7", algo_id="7")
    assert event_ids.parse(event_ids.of_lost_order(conditional)) == EventId("", "algo-7", "GAP")
    unlogged = event_ids.of_unlogged_order(conditional, NOW)
    assert event_ids.parse(unlogged) == EventId("", "algo-7", "GAP", f"{NOW}")


@pytest.mark.parametrize("foreign", ["", "whatever", "a:b", ":", "BTCUSDT:1001:new", "algo-7", "algo-7::"])
def test_what_is_no_id_of_ours_is_none(foreign: str) -> None:
    assert event_ids.parse(foreign) is None


def test_an_orders_name_is_its_symbol_and_its_id() -> None:
    assert str(OrderKey("xyz:TSLA", "9")) == "xyz:TSLA:9"

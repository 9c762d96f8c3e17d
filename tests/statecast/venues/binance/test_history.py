"""Rows of the histories by REST → past orders and trades."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from statecast.domain.history import PastOrder, PastTrade, events_from_history
from statecast.domain.models import OrderKey
from statecast.errors import FrameError
from statecast.venues.binance import history
from statecast.venues.binance.decode import decode_user_frame

FRAMES = next(p for p in Path(__file__).parents if p.name == "tests") / "frames" / "binance"
REST = {
    row["name"]: row["payload"]
    for row in map(json.loads, (FRAMES / "rest.jsonl").read_text(encoding="utf-8").splitlines())
}
SINCE = 1_793_000_000_000
UNTIL = SINCE + 60_000


def order_row(created: int, updated: int, status: str, filled: str = "0", **fields: object) -> dict[str, Any]:
    """A row of allOrders; times are milliseconds after the beginning of the gap."""
    row = copy.deepcopy(REST["openOrders"][0])
    times = {"time": SINCE + created, "updateTime": SINCE + updated}
    return {**row, "cumBase": "0", "pair": "BTCUSDT", **times, "status": status, "executedQty": filled, **fields}


def trade_row(at: int, number: int, qty: str, **fields: object) -> dict[str, Any]:
    row = copy.deepcopy(REST["userTrades"][0])
    return {**row, "time": SINCE + at, "id": number, "qty": qty, **fields}


def algo_row(created: int, updated: int, status: str, **fields: object) -> dict[str, Any]:
    row = copy.deepcopy(REST["openAlgoOrders"][0])
    return {**row, "createTime": SINCE + created, "updateTime": SINCE + updated, "algoStatus": status, **fields}


@pytest.mark.parametrize(
    ("status", "event_type", "suffix"),
    [
        ("CANCELED", "CANCELED", "CANCELED"),
        ("EXPIRED", "EXPIRED", "EXPIRED"),
        ("EXPIRED_IN_MATCH", "EXPIRED", "EXPIRED_IN_MATCH"),
    ],
)
def test_stream_and_history_give_an_end_the_same_id(status: str, event_type: str, suffix: str) -> None:
    frames = [json.loads(line)["payload"] for line in (FRAMES / "user.jsonl").read_text("utf-8").splitlines()]
    frame = copy.deepcopy(next(one for one in frames if one.get("e") == "ORDER_TRADE_UPDATE"))
    frame["o"] |= {"x": event_type, "X": status, "i": 8886774001, "s": "BTCUSDT", "t": 0, "l": "0"}
    (update,) = decode_user_frame(json.dumps(frame), 0).changes
    (past,) = history.orders([order_row(5, 30, status)])
    found = events_from_history(
        [past], [], since_ms=SINCE, until_ms=UNTIL, logged=(), known_filled={}, received_at_ms=UNTIL
    )
    assert found.updates[-1].event.event_id == update.event.event_id == f"BTCUSDT:8886774001:{suffix}"  # type: ignore[union-attr]
    assert found.updates[-1].event.event_type == event_type


def test_one_row_is_read_as_those_of_a_list() -> None:
    row, algo = order_row(5, 30, "CANCELED"), algo_row(5, 40, "EXPIRED")
    assert (history.order(row),) == history.orders([row])
    assert (history.algo_order(algo),) == history.algo_orders([algo])
    assert isinstance(history.order(row), PastOrder)


@pytest.mark.parametrize("key", ["id", "qty", "price", "time"])
def test_a_trade_without_what_makes_it_one_is_left_out_and_its_order_named(key: str) -> None:
    found = history.trades([trade_row(1, 1, "1", orderId=7) | {key: None}, trade_row(2, 2, "1")])
    assert [row.sequence for row in found.rows] == [2]
    assert found.unreadable == (OrderKey("BTCUSDT", "7"),)
    assert found.listed == 2, "a page is as full as it was"


@pytest.mark.parametrize("key", ["symbol", "orderId"])
def test_a_trade_that_cannot_be_named_is_an_error(key: str) -> None:
    with pytest.raises(FrameError):
        history.trades([trade_row(1, 1, "1") | {key: None}])


@pytest.mark.parametrize("key", ["commission", "commissionAsset", "realizedPnl", "maker", "side", "positionSide"])
def test_what_only_decorates_a_trade_is_left_out_where_it_makes_no_sense(key: str) -> None:
    (whole,) = history.trades([trade_row(1, 1, "1")]).rows
    (trade,) = history.trades([trade_row(1, 1, "1") | {key: ["?"]}]).rows
    assert sum(ours != theirs for ours, theirs in zip(trade, whole, strict=True)) == 1
    assert isinstance(trade, PastTrade)


@pytest.mark.parametrize(
    ("client_id", "order_type", "has_opening_event", "fill_event"),
    [
        ("my-0001", "LIMIT", True, "TRADE"),
        ("autoclose-179300", "LIQUIDATION", False, "CALCULATED"),
        ("adl_autoclose", "MARKET", False, "TRADE"),
        ("settlement_autoclose-1", "MARKET", False, "TRADE"),
    ],
)
def test_the_venues_own_orders_are_told_by_their_names(
    client_id: str, order_type: str, has_opening_event: bool, fill_event: str
) -> None:
    past = history.order(order_row(5, 20, "FILLED", "0.045", clientOrderId=client_id, type=order_type))
    assert (past.has_opening_event, past.fill_event) == (has_opening_event, fill_event)


def test_a_conditional_order_has_what_its_trigger_created() -> None:
    row = algo_row(5, 40, "FINISHED", actualOrderId="8886774009", actualPrice="88000.1")
    past = history.algo_order(row)
    assert (past.created_ms, past.order.order_id, past.order.actual_order_id) == (
        SINCE + 5,
        "algo-2148719",
        "8886774009",
    )
    assert past.order.avg_price == Decimal("88000.1")


def test_a_trade_has_its_fee_and_its_order() -> None:
    (trade,) = history.trades([trade_row(10, 1, "0.025")]).rows
    assert (trade.trade_id, trade.fill_id, trade.sequence) == ("1", "1", 1)
    (without,) = history.trades([trade_row(10, 0, "0.025")]).rows
    assert without.fill_id == "", "as the stream has it, which says 0 where there is no trade"
    assert (trade.time_ms, trade.qty, trade.maker) == (SINCE + 10, Decimal("0.025"), True)
    assert (trade.commission, trade.commission_asset) == (Decimal("0.45625200"), "USDT")
    assert str(trade.order) == "BTCUSDT:8886774001"


@pytest.mark.parametrize("fields", [{"side": "HOLD"}, {"origQty": None}, {"status": "gone"}, {"updateTime": -1}])
def test_an_order_whose_row_is_not_understood_is_named_and_lost(fields: dict[str, object]) -> None:
    whole, lost = history.orders([order_row(5, 30, "NEW"), order_row(5, 30, "CANCELED", orderId=7) | fields])
    assert whole.order.status == "NEW"
    updated = whole.created_ms if "updateTime" in fields else whole.order.venue_time_ms
    assert (lost.order.order_id, lost.order.status, lost.order.executed_qty) == ("7", "", None)
    assert (lost.created_ms, lost.order.venue_time_ms) == (whole.created_ms, updated)


def test_a_conditional_order_whose_row_is_not_understood_is_named_and_lost() -> None:
    (lost,) = history.algo_orders([algo_row(5, 40, "EXPIRED") | {"side": 5}])
    assert (lost.order.key, lost.order.algo_id) == (OrderKey("BTCUSDT", "algo-2148719"), "2148719")
    assert lost.order.status == ""


@pytest.mark.parametrize("fields", [{"orderId": None}, {"time": "x"}, {"symbol": 5, "side": 5}])
def test_an_order_that_cannot_be_named_or_placed_is_an_error(fields: dict[str, object]) -> None:
    with pytest.raises(FrameError):
        history.orders([order_row(5, 30, "NEW") | fields])

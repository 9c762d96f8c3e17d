"""Histories by REST → order events with the ids that the stream gives them."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from statecast.domain.models import OrderKey
from statecast.errors import FrameError
from statecast.venues.binance import history
from statecast.venues.binance.decode import decode_user_frame
from statecast.venues.binance.history import PastOrder, PastTrade, Reconstructed, events_from_history

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


def tell(
    orders: list[dict[str, Any]],
    trades: list[dict[str, Any]] = [],  # noqa: B006 - never changed
    algos: list[dict[str, Any]] = [],  # noqa: B006
    told: frozenset[str] = frozenset(),
    known: dict[str, Decimal] | None = None,
) -> Reconstructed:
    return events_from_history(
        (*history.orders(orders), *history.algo_orders(algos)),
        history.trades(trades),
        since_ms=SINCE,
        until_ms=UNTIL,
        told=told,
        known_filled={OrderKey("BTCUSDT", order_id): (filled, SINCE) for order_id, filled in (known or {}).items()},
        received_at_ms=UNTIL + 5,
    )


def lines(found: Reconstructed) -> list[str]:
    """Each event as type, status, what is filled, and the time after the beginning."""
    return [
        f"{u.event.event_type} {u.order.status} {u.order.executed_qty} @{u.order.venue_time_ms - SINCE}"
        for u in found.updates
    ]


def ids(found: Reconstructed) -> list[str]:
    return [update.event.event_id for update in found.updates]


ID = "BTCUSDT:8886774001"
FILLS = [trade_row(10, 1, "0.025"), trade_row(20, 2, "0.020")]


def test_the_whole_life_of_an_order_that_was_born_in_the_gap() -> None:
    found = tell([order_row(5, 30, "CANCELED", "0.045")], FILLS)
    assert lines(found) == [
        "NEW NEW 0 @5",
        "TRADE PARTIALLY_FILLED 0.025 @10",
        "TRADE PARTIALLY_FILLED 0.045 @20",
        "CANCELED CANCELED 0.045 @30",
    ]
    assert ids(found) == [f"{ID}:NEW", f"{ID}:FILL:1", f"{ID}:FILL:2", f"{ID}:CANCELED"]
    assert [update.open for update in found.updates] == [True, True, True, False]
    assert {update.order.source for update in found.updates} == {"rest"}
    first = found.updates[1].event
    assert (first.last_qty, first.trade_id, first.maker) == (Decimal("0.025"), "1", True)
    assert (first.commission, first.commission_asset, first.realized_profit) == (
        Decimal("0.45625200"),
        "USDT",
        Decimal(0),
    )
    assert first.order.avg_price is None, "the venue has not said what it was then"
    assert found.behind == ()


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
    found = tell([order_row(5, 30, status)])
    assert found.updates[-1].event.event_id == update.event.event_id == f"{ID}:{suffix}"  # type: ignore[union-attr]
    assert found.updates[-1].event.event_type == event_type


def test_the_last_fill_of_a_filled_order_ends_it() -> None:
    found = tell([order_row(5, 20, "FILLED", "0.045")], FILLS)
    assert lines(found)[-1] == "TRADE FILLED 0.045 @20"
    assert found.updates[-1].open is False
    assert found.updates[-1].order.avg_price == Decimal("91250.40000"), "the row's, for it is of this moment"


def test_an_order_older_than_the_gap_is_counted_from_what_the_row_says() -> None:
    found = tell([order_row(-9000, 20, "PARTIALLY_FILLED", "0.049")], FILLS, known={"8886774001": Decimal("0.004")})
    assert lines(found) == ["TRADE PARTIALLY_FILLED 0.029 @10", "TRADE PARTIALLY_FILLED 0.049 @20"]
    assert found.behind == ()


def test_what_was_told_is_left_out_and_counts() -> None:
    found = tell([order_row(5, 30, "CANCELED", "0.045")], FILLS, told=frozenset({f"{ID}:NEW", f"{ID}:FILL:1"}))
    assert lines(found) == ["TRADE PARTIALLY_FILLED 0.045 @20", "CANCELED CANCELED 0.045 @30"]


def test_what_came_after_the_stream_began_is_left_to_it() -> None:
    late = UNTIL - SINCE + 1
    found = tell([order_row(5, late, "CANCELED", "0.045")], [FILLS[0], trade_row(late, 2, "0.020")])
    assert lines(found) == ["NEW NEW 0 @5", "TRADE PARTIALLY_FILLED 0.025 @10"]


def test_a_fill_that_came_after_the_row_was_read_is_left_to_the_stream() -> None:
    found = tell([order_row(5, 10, "PARTIALLY_FILLED", "0.025")], FILLS)
    assert lines(found) == ["NEW NEW 0 @5", "TRADE PARTIALLY_FILLED 0.025 @10"]


KNOWN = {"8886774001": Decimal("0.010")}


@pytest.mark.parametrize("created", [5, -9000], ids=["born in the gap", "older"])
def test_an_order_whose_fills_are_not_all_there_is_behind(created: int) -> None:
    row = order_row(created, 30, "CANCELED", "0.055")
    assert [order.order_id for order in tell([row], FILLS[:1], known=KNOWN).behind] == ["8886774001"]


def test_what_was_filled_before_the_gap_explains_a_row_as_well() -> None:
    row = order_row(-9000, 30, "CANCELED", "0.055")
    assert not tell([row], FILLS, known=KNOWN).behind
    assert not tell([row], [], known={"8886774001": Decimal("0.055")}).behind


def test_orders_of_one_moment_stay_whole_and_all_are_in_the_order_of_time() -> None:
    other = order_row(7, 7, "NEW", orderId=8886774002)
    found = tell([other, order_row(5, 5, "FILLED", "0.045")], [trade_row(5, 2, "0.020"), trade_row(4, 1, "0.025")])
    assert ids(found) == [f"{ID}:NEW", f"{ID}:FILL:1", f"{ID}:FILL:2", "BTCUSDT:8886774002:NEW"]


@pytest.mark.parametrize("client_id", ["autoclose-179300", "adl_autoclose", "settlement_autoclose-1"])
def test_the_venues_own_orders_have_fills_and_no_beginning(client_id: str) -> None:
    row = order_row(5, 20, "FILLED", "0.045", clientOrderId=client_id, type="LIQUIDATION")
    assert lines(tell([row], FILLS)) == ["CALCULATED PARTIALLY_FILLED 0.025 @10", "CALCULATED FILLED 0.045 @20"]


def test_a_conditional_order_is_told_by_its_beginning_and_the_step_it_is_at() -> None:
    found = tell([], algos=[algo_row(5, 40, "FINISHED", actualOrderId="8886774009", actualPrice="88000.1")])
    assert ids(found) == ["algo-2148719:NEW", "algo-2148719:FINISHED"]
    new, end = found.updates
    assert (new.order.actual_order_id, new.order.avg_price, new.open) == (None, None, True)
    assert (end.order.actual_order_id, end.event.event_type, end.open) == ("8886774009", "ALGO_FINISHED", False)
    assert ids(tell([], algos=[algo_row(-5, 40, "CANCELED")])) == ["algo-2148719:CANCELED"]
    assert ids(tell([], algos=[algo_row(5, 5, "NEW")])) == ["algo-2148719:NEW"]


def test_a_trailing_stop_that_was_active_from_the_beginning_is_not_new_again() -> None:
    row = algo_row(5, 5, "NEW", orderType="TRAILING_STOP_MARKET")
    assert ids(tell([], algos=[row], told=frozenset({"algo-2148719:NEW:ACTIVATED"}))) == []


def test_one_row_is_read_as_those_of_a_list() -> None:
    row, algo = order_row(5, 30, "CANCELED"), algo_row(5, 40, "EXPIRED")
    assert (history.order(row),) == history.orders([row])
    assert (history.algo_order(algo),) == history.algo_orders([algo])
    assert isinstance(history.order(row), PastOrder)


@pytest.mark.parametrize("key", ["symbol", "orderId", "id", "qty", "price", "time"])
def test_a_trade_without_what_makes_it_one_is_an_error(key: str) -> None:
    row = trade_row(1, 1, "1")
    del row[key]
    with pytest.raises(FrameError):
        history.trades([row])
    assert isinstance(history.trades([trade_row(1, 1, "1")])[0], PastTrade)

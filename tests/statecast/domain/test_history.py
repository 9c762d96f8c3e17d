"""Orders and trades of a history → order events with the ids that a stream gives them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from statecast.domain.history import (
    PastAmendment,
    PastOrder,
    PastTrade,
    Reconstructed,
    events_from_history,
    fill_of_unknown_order,
    may_be_amended,
    missing_amendments,
    settled,
)
from statecast.domain.models import Order, OrderKey, plain

SINCE = 1_793_000_000_000
UNTIL = SINCE + 60_000
ID = "BTCUSDT:8886774001"
KEY = OrderKey("BTCUSDT", "8886774001")


def past(created: int, updated: int, status: str, filled: str = "0", order_id: str = KEY.order_id) -> PastOrder:
    """An ordinary order as a history has it; times are milliseconds after the beginning of the gap."""
    order = Order(
        order_id=order_id,
        symbol="BTCUSDT",
        client_order_id="my-0001",
        side="BUY",
        position_side="BOTH",
        type="LIMIT",
        orig_type="LIMIT",
        time_in_force="GTC",
        status=status,
        price=Decimal("91250.4"),
        stop_price=None,
        quantity=Decimal("0.050"),
        executed_qty=Decimal(filled),
        avg_price=Decimal("91250.40000"),
        reduce_only=False,
        venue_time_ms=SINCE + updated,
        source="rest",
    )
    return PastOrder(order, SINCE + created)


def conditional(created: int, updated: int, status: str, actual_order_id: str | None = None) -> PastOrder:
    """A conditional one."""
    row = past(created, updated, status, order_id="algo-2148719")
    average = Decimal("88000.1") if actual_order_id else None
    order = row.order._replace(algo_id="2148719", actual_order_id=actual_order_id, executed_qty=None, avg_price=average)
    return row._replace(order=order)


def trade(at: int, number: int, qty: str, fill_id: str = "") -> PastTrade:
    return PastTrade(
        symbol="BTCUSDT",
        order_id=KEY.order_id,
        trade_id=str(number),
        fill_id=fill_id or str(number),
        time_ms=SINCE + at,
        sequence=number,
        qty=Decimal(qty),
        price=Decimal("91250.4"),
        commission=Decimal("0.45625200"),
        commission_asset="USDT",
        realized_profit=Decimal(0),
        maker=False,
    )


FILLS = [trade(10, 1, "0.025"), trade(20, 2, "0.020")]


def reconstruct(
    orders: list[PastOrder],
    trades: list[PastTrade] = [],  # noqa: B006 - never changed
    logged: frozenset[str] = frozenset(),
    known: str | None = None,
    amendments: tuple[PastAmendment, ...] = (),
) -> Reconstructed:
    return events_from_history(
        orders,
        trades,
        since_ms=SINCE,
        until_ms=UNTIL,
        logged=logged,
        known_filled={} if known is None else {KEY: (Decimal(known), SINCE)},
        received_at_ms=UNTIL + 5,
        amendments={KEY: amendments},
    )


def lines(found: Reconstructed) -> list[str]:
    """Each event as type, status, what is filled, and the time after the beginning."""
    return [
        f"{u.event.event_type} {u.order.status} {u.order.executed_qty} @{u.order.venue_time_ms - SINCE}"
        for u in found.updates
    ]


def ids(found: Reconstructed) -> list[str]:
    return [update.event.event_id for update in found.updates]


def test_the_whole_life_of_an_order_that_was_created_in_the_gap() -> None:
    found = reconstruct([past(5, 30, "CANCELED", "0.045")], FILLS)
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
    assert (first.last_qty, first.trade_id, first.maker) == (Decimal("0.025"), "1", False)
    assert (first.commission, first.commission_asset, first.realized_profit) == (
        Decimal("0.45625200"),
        "USDT",
        Decimal(0),
    )
    assert first.order.avg_price is None, "the venue has not said what it was then"
    assert found.behind == ()


def test_the_last_fill_of_a_filled_order_ends_it() -> None:
    found = reconstruct([past(5, 20, "FILLED", "0.045")], FILLS)
    assert lines(found)[-1] == "TRADE FILLED 0.045 @20"
    assert found.updates[-1].open is False
    assert found.updates[-1].order.avg_price == Decimal("91250.40000"), "the row's, for it is of this moment"


def test_an_order_older_than_the_gap_is_counted_from_what_the_row_says() -> None:
    found = reconstruct([past(-9000, 20, "PARTIALLY_FILLED", "0.049")], FILLS, known="0.004")
    assert lines(found) == ["TRADE PARTIALLY_FILLED 0.029 @10", "TRADE PARTIALLY_FILLED 0.049 @20"]
    assert found.behind == ()


def test_what_was_logged_is_left_out_and_counts() -> None:
    found = reconstruct([past(5, 30, "CANCELED", "0.045")], FILLS, logged=frozenset({f"{ID}:NEW", f"{ID}:FILL:1"}))
    assert lines(found) == ["TRADE PARTIALLY_FILLED 0.045 @20", "CANCELED CANCELED 0.045 @30"]


def test_what_came_after_the_stream_began_is_left_to_it() -> None:
    late = UNTIL - SINCE + 1
    found = reconstruct([past(5, late, "CANCELED", "0.045")], [FILLS[0], trade(late, 2, "0.020")])
    assert lines(found) == ["NEW NEW 0 @5", "TRADE PARTIALLY_FILLED 0.025 @10"]


def test_a_fill_that_came_after_the_row_was_read_is_left_to_the_stream() -> None:
    found = reconstruct([past(5, 10, "PARTIALLY_FILLED", "0.025")], FILLS)
    assert lines(found) == ["NEW NEW 0 @5", "TRADE PARTIALLY_FILLED 0.025 @10"]


@pytest.mark.parametrize("created", [5, -9000], ids=["created in the gap", "older"])
def test_an_order_whose_fills_are_not_all_there_is_behind(created: int) -> None:
    row = past(created, 30, "CANCELED", "0.055")
    assert [order.order_id for order in reconstruct([row], FILLS[:1], known="0.010").behind] == ["8886774001"]


def test_what_an_order_has_filled_since_the_stream_began_is_left_to_it() -> None:
    late = UNTIL - SINCE + 1
    assert not reconstruct([past(5, late, "PARTIALLY_FILLED", "0.055")], FILLS[:1]).behind


def test_what_was_filled_before_the_gap_explains_a_row_as_well() -> None:
    row = past(-9000, 30, "CANCELED", "0.055")
    assert not reconstruct([row], FILLS, known="0.010").behind
    assert not reconstruct([row], [], known="0.055").behind


def test_orders_of_one_moment_stay_whole_and_all_are_in_the_order_of_time() -> None:
    other = past(7, 7, "NEW", order_id="8886774002")
    found = reconstruct([other, past(5, 5, "FILLED", "0.045")], [trade(5, 2, "0.020"), trade(4, 1, "0.025")])
    assert ids(found) == [f"{ID}:NEW", f"{ID}:FILL:1", f"{ID}:FILL:2", "BTCUSDT:8886774002:NEW"]


def test_orders_that_the_stream_begins_with_a_fill_have_no_opening_event() -> None:
    row = past(5, 20, "FILLED", "0.045")._replace(has_opening_event=False, fill_event="CALCULATED")
    found = reconstruct([row], FILLS)
    assert lines(found) == ["CALCULATED PARTIALLY_FILLED 0.025 @10", "CALCULATED FILLED 0.045 @20"]
    assert ids(found) == [f"{ID}:FILL:1", f"{ID}:FILL:2"]


@pytest.mark.parametrize("created", [5, -9000], ids=["created in the gap", "older"])
def test_fills_follow_each_other_by_their_sequence_though_the_venues_clock_is_set_back(created: int) -> None:
    fills = [trade(2, 11, "0.010"), trade(10, 10, "0.020"), trade(10, 9, "0.015")]
    found = reconstruct([past(created, 3, "CANCELED", "0.045")], fills)
    assert lines(found)[-4:] == [
        "TRADE PARTIALLY_FILLED 0.015 @10",
        "TRADE PARTIALLY_FILLED 0.035 @10",
        "TRADE PARTIALLY_FILLED 0.045 @2",
        "CANCELED CANCELED 0.045 @3",
    ]


def test_a_fill_is_known_by_its_fill_id_and_shows_its_trade_id() -> None:
    """A venue's trade id may be no identity: 0 for each fill of a liquidation, or nothing that its stream has."""
    fills = [trade(10, 0, "0.025", "0-1793-a"), trade(20, 0, "0.020", "0-1794-b")]
    found = reconstruct([past(5, 20, "FILLED", "0.045")], [*fills, fills[0]])
    assert ids(found)[1:] == [f"{ID}:FILL:0-1793-a", f"{ID}:FILL:0-1794-b"]
    assert [update.event.trade_id for update in found.updates[1:]] == ["0", "0"]
    assert ids(reconstruct([past(5, 20, "FILLED", "0.045")], fills, frozenset({f"{ID}:FILL:0-1793-a"}))) == [
        f"{ID}:NEW",
        f"{ID}:FILL:0-1794-b",
    ]


def test_orders_with_one_id_on_two_symbols_are_two() -> None:
    other = past(6, 6, "NEW")
    other = other._replace(order=other.order._replace(symbol="ETHUSDT"))
    found = reconstruct([past(5, 20, "FILLED", "0.045"), other], FILLS)
    assert ids(found) == [f"{ID}:NEW", "ETHUSDT:8886774001:NEW", f"{ID}:FILL:1", f"{ID}:FILL:2"]
    assert found.filled == {KEY: Decimal("0.045"), other.order.key: Decimal(0)}


def test_a_conditional_order_has_its_beginning_and_the_step_it_is_at() -> None:
    found = reconstruct([conditional(5, 40, "FINISHED", "8886774009")])
    assert ids(found) == ["algo-2148719:NEW", "algo-2148719:FINISHED"]
    new, end = found.updates
    assert (new.order.actual_order_id, new.order.avg_price, new.open) == (None, None, True)
    assert (end.order.actual_order_id, end.event.event_type, end.open) == ("8886774009", "ALGO_FINISHED", False)
    assert ids(reconstruct([conditional(-5, 40, "CANCELED")])) == ["algo-2148719:CANCELED"]
    assert ids(reconstruct([conditional(5, 5, "NEW")])) == ["algo-2148719:NEW"]


def test_a_trailing_stop_that_was_active_from_the_beginning_is_not_new_again() -> None:
    row = conditional(5, 5, "NEW")
    assert ids(reconstruct([row], logged=frozenset({"algo-2148719:NEW:ACTIVATED"}))) == []


# A status that nobody named

UNKNOWN = "EXPIRED_BY_RISK"
ASKED = SINCE + 20_000
LAG = 10_000


@pytest.mark.parametrize("make", [past, conditional], ids=["ordinary", "conditional"])
@pytest.mark.parametrize(
    ("updated", "listed", "status", "ended"),
    [
        (5_000, (), UNKNOWN, True),
        (5_000, "itself", UNKNOWN, False),
        (15_000, "itself", UNKNOWN, False),
        (15_000, (), "", False),
    ],
    ids=["not listed", "listed", "listed, and young", "so young that it may be missing in the list"],
)
def test_whether_such_an_order_is_over_says_the_list_of_open_ones(
    make: Any, updated: int, listed: Any, status: str, ended: bool
) -> None:
    row = make(0, updated, UNKNOWN)
    order = settled(row, {row.order.key} if listed else set(), ASKED, LAG).order
    assert (order.status, order.ended) == (status, ended)


@pytest.mark.parametrize("status", ["NEW", "CANCELED", "FILLED"])
def test_a_known_status_needs_no_list(status: str) -> None:
    assert settled(past(0, 15_000, status), set(), ASKED, LAG) == past(0, 15_000, status)


def test_its_end_is_logged_with_the_venues_word() -> None:
    row = settled(past(5, 30, UNKNOWN, "0.045"), set(), ASKED, LAG)
    found = reconstruct([row], FILLS)
    assert lines(found) == [
        "NEW NEW 0 @5",
        "TRADE PARTIALLY_FILLED 0.025 @10",
        "TRADE PARTIALLY_FILLED 0.045 @20",
        f"{UNKNOWN} {UNKNOWN} 0.045 @30",
    ]
    assert ids(found)[-1] == f"{ID}:{UNKNOWN}"
    assert [update.open for update in found.updates] == [True, True, True, False]


def test_one_that_is_open_has_no_end() -> None:
    assert lines(reconstruct([past(5, 30, UNKNOWN, "0.045")], FILLS))[-1] == "TRADE PARTIALLY_FILLED 0.045 @20"


def test_the_last_fill_ends_one_that_has_all_filled() -> None:
    row = past(5, 30, "FILLED_2", "0.045")
    row = row._replace(order=row.order._replace(quantity=Decimal("0.045"), ended=True))
    found = reconstruct([row], FILLS)
    assert lines(found)[-1] == "TRADE FILLED_2 0.045 @20"
    assert not found.updates[-1].open


def test_one_of_which_nobody_knows_the_end_is_a_gap_behind_what_is_known() -> None:
    row = settled(past(5, 15_000, UNKNOWN, "0.045"), set(), ASKED, LAG)
    found = reconstruct([row], FILLS)
    assert ids(found) == [f"{ID}:NEW", f"{ID}:FILL:1", f"{ID}:FILL:2", f"{ID}:GAP"]
    assert not found.updates[-1].open
    assert reconstruct([row], FILLS, logged=frozenset(ids(found))).updates == ()


def test_the_step_of_a_conditional_order_is_logged_with_the_venues_word() -> None:
    listed, gone = conditional(5, 30, "PAUSED"), settled(conditional(5, 30, "PAUSED"), set(), ASKED, LAG)
    for row, is_open in ((listed, True), (gone, False)):
        found = reconstruct([row])
        assert ids(found) == ["algo-2148719:NEW", "algo-2148719:PAUSED"]
        assert found.updates[-1].open is is_open
    lost = settled(conditional(5, 15_000, "PAUSED"), set(), ASKED, LAG)
    assert ids(reconstruct([lost])) == ["algo-2148719:GAP"]


# A liquidation's trade may have no number on the stream


def liquidated(*fills: PastTrade, logged: frozenset[str] = frozenset()) -> Reconstructed:
    row = past(5, 30, "FILLED", "0.050")._replace(has_opening_event=False, fill_event="CALCULATED")
    return reconstruct([row], list(fills), logged)


def test_a_liquidations_fill_that_the_stream_has_sent_without_a_number_is_logged() -> None:
    fills = trade(10, 1, "0.020"), trade(10, 2, "0.030")
    assert ids(liquidated(*fills)) == [f"{ID}:FILL:1", f"{ID}:FILL:2"]
    first = f"{ID}:CALCULATED:{SINCE + 10}:0.02"
    assert ids(liquidated(*fills, logged=frozenset({first}))) == [f"{ID}:FILL:2"]
    both = frozenset({first, f"{ID}:CALCULATED:{SINCE + 10}:0.05"})
    assert ids(liquidated(*fills, logged=both)) == []


# Amendments


def amended(at: int, before: tuple[str, str], after: tuple[str, str]) -> PastAmendment:
    """To another price and quantity."""
    return PastAmendment(SINCE + at, *map(Decimal, (*before, *after)))


FIRST, SECOND, NOW_SO = ("91000", "0.050"), ("91100", "0.050"), ("91250.4", "0.060")
STEPS = (amended(8, FIRST, SECOND), amended(15, SECOND, NOW_SO))


def terms(found: Reconstructed) -> list[str]:
    """Type, price, quantity, what is filled and the time of each event."""
    rows = ((update.event.event_type, update.order) for update in found.updates)
    return [f"{kind} {o.price} {o.quantity} {o.executed_qty} @{o.venue_time_ms - SINCE}" for kind, o in rows]


def test_each_event_has_the_price_and_the_quantity_of_its_time() -> None:
    row = past(5, 30, "PARTIALLY_FILLED", "0.045")
    row = row._replace(order=row.order._replace(quantity=Decimal("0.060")))
    found = reconstruct([row], FILLS, amendments=STEPS)
    assert terms(found) == [
        "NEW 91000 0.050 0 @5",
        "AMENDMENT 91100 0.050 0 @8",
        "TRADE 91100 0.050 0.025 @10",
        "AMENDMENT 91250.4 0.060 0.025 @15",
        "TRADE 91250.4 0.060 0.045 @20",
    ]
    assert [update.order.status for update in found.updates][1::2] == ["NEW", "PARTIALLY_FILLED"]
    assert ids(found)[1] == f"{ID}:AMENDMENT:{SINCE + 8}:0.05@91100", "as the stream's"
    assert all(update.open for update in found.updates)


@pytest.mark.parametrize(
    ("price", "maker", "order_of"),
    [
        ("91100", True, ["NEW", "TRADE", "AMENDMENT"]),  # it rested at the old price
        ("91250.4", True, ["NEW", "AMENDMENT", "TRADE"]),
        ("91100", False, ["NEW", "AMENDMENT", "TRADE"]),  # it was amended to reach the market
    ],
)
def test_a_fill_of_the_millisecond_of_an_amendment_is_placed_by_its_price(
    price: str, maker: bool, order_of: list[str]
) -> None:
    row = past(15, 15, "PARTIALLY_FILLED", "0.025")
    one = trade(15, 1, "0.025")._replace(price=Decimal(price), maker=maker)
    found = reconstruct([row], [one], amendments=(STEPS[1],))
    assert [update.event.event_type for update in found.updates] == order_of


def test_where_no_trades_were_asked_for_all_is_filled_before_the_amendments() -> None:
    row = past(5, 15, "PARTIALLY_FILLED", "0.025")
    found = events_from_history(
        [row],
        [],
        since_ms=SINCE,
        until_ms=UNTIL,
        logged={f"{ID}:NEW", f"{ID}:FILL:1"},
        known_filled={KEY: (Decimal("0.025"), SINCE + 10)},
        received_at_ms=UNTIL,
        amendments={KEY: STEPS[1:]},
        without_trades={"BTCUSDT"},
    )
    assert lines(found) == ["AMENDMENT PARTIALLY_FILLED 0.025 @15"]
    assert found.behind == ()


@pytest.mark.parametrize(
    ("fills", "at"),
    [((10, 20), (15, 4)), ((20, 10), (15, 25)), ((10, 20), (4, 15))],
    ids=["the amendments go back", "the fills go back", "before it was placed"],
)
def test_amendments_are_left_out_where_the_venues_clock_was_set_back(
    fills: tuple[int, int], at: tuple[int, int]
) -> None:
    amendments = amended(at[0], ("90000", "1"), ("91000", "1")), amended(at[1], ("91000", "1"), ("92000", "1"))
    own = [trade(fills[0], 1, "0.025"), trade(fills[1], 2, "0.020")]
    found = reconstruct([past(5, 30, "FILLED", "0.045")], own, amendments=amendments)
    assert ids(found) == [f"{ID}:NEW", f"{ID}:FILL:1", f"{ID}:FILL:2"]
    (entry,) = found.unplaced
    assert entry.event_id == f"{ID}:GAP:{SINCE + at[0]}"
    again = reconstruct(
        [past(5, 30, "FILLED", "0.045")],
        own,
        frozenset(f"{ID}:AMENDMENT:{SINCE + ms}:1@{price}" for ms, price in zip(at, ("91000", "92000"), strict=True)),
        amendments=amendments,
    )
    assert not again.unplaced, "they are logged"


def test_amendments_are_left_out_where_a_resting_order_was_filled_at_a_price_of_another_time() -> None:
    """The clock was set back by so little that the times alone do not show it."""
    amendment = amended(8, ("91000", "1"), ("91100", "1"))
    for price, is_placed in (("91000", False), ("91100", True), ("90999", True)):
        own = trade(10, 1, "0.045")._replace(price=Decimal(price), maker=True)
        found = reconstruct([past(5, 30, "FILLED", "0.045")], [own], amendments=(amendment,))
        assert (len(found.updates), len(found.unplaced)) == ((3, 0) if is_placed else (2, 1))


def test_an_amendment_that_is_logged_is_not_logged_again() -> None:
    row = past(-50, 15, "NEW")
    found = reconstruct([row], logged=frozenset({f"{ID}:AMENDMENT:{SINCE + 8}:0.05@91100"}), amendments=STEPS)
    assert ids(found) == [f"{ID}:AMENDMENT:{SINCE + 15}:0.06@91250.4"]


def test_an_amendment_of_before_something_logged_is_left_out() -> None:
    row = past(-50, 20, "PARTIALLY_FILLED", "0.025")
    found = reconstruct([row], [FILLS[0]], frozenset({f"{ID}:FILL:1"}), known="0", amendments=STEPS)
    assert ids(found) == [f"{ID}:AMENDMENT:{SINCE + 15}:0.06@91250.4"]


@pytest.mark.parametrize(
    ("known_at", "price", "quantity", "missing"),
    [
        (0, "91000", "0.050", 2),
        (8, "91100.0", "0.05", 1),  # by the stream's own time of it
        (7, "91100", "0.050", 1),  # a millisecond before the history's
        (15, "91250.4", "0.060", 0),
    ],
)
def test_amendments_begin_with_the_first_that_is_not_known(
    known_at: int, price: str, quantity: str, missing: int
) -> None:
    known = past(-50, known_at, "NEW").order._replace(price=Decimal(price), quantity=Decimal(quantity))
    assert missing_amendments(STEPS, known, SINCE) == STEPS[2 - missing :]
    assert missing_amendments(STEPS, None, SINCE) == STEPS
    assert missing_amendments(STEPS, None, SINCE + 9) == STEPS[1:]


@pytest.mark.parametrize(
    ("row", "known", "last_fill", "may_be"),
    [
        (past(5, 5, "NEW"), None, 0, False),
        (past(5, 9, "NEW"), None, 0, True),
        (past(5, 9, "PARTIALLY_FILLED", "0.01"), None, 9, False),
        (past(5, 9, "CANCELED"), None, 0, False),
        (past(-50, -50, "NEW"), past(-50, -50, "NEW"), 0, False),
        (past(-50, 9, "NEW"), past(-50, -50, "NEW"), 0, True),
        (past(-50, 9, "PARTIALLY_FILLED", "0.01"), past(-50, -50, "NEW"), 9, False),
        (past(-50, 9, "CANCELED"), past(-50, -50, "NEW"), 0, False),
        (conditional(5, 9, "CANCELED"), None, 0, False),
    ],
)
def test_amendments_are_asked_for_where_nothing_else_explains_a_change(
    row: PastOrder, known: PastOrder | None, last_fill: int, may_be: bool
) -> None:
    before = known.order if known is not None else None
    assert may_be_amended(row, before, SINCE + last_fill if last_fill else 0) is may_be
    if before is not None:
        assert may_be_amended(row, before._replace(price=Decimal(1)), 0)


# A fill of an order that the venue does not show


def test_a_fill_whose_order_nobody_shows_says_what_its_row_says_and_nothing_else() -> None:
    one = trade(10, 1, "0.025")._replace(side="SELL", position_side="LONG")
    event = fill_of_unknown_order(one, None, UNTIL)
    row = event.order
    assert (event.event_id, event.event_type, event.trade_id) == (f"{ID}:FILL:1", "TRADE", "1")
    assert (event.last_qty, event.last_price, event.commission) == (one.qty, one.price, one.commission)
    assert (row.symbol, row.order_id, row.side, row.position_side) == (*KEY, "SELL", "LONG")
    assert (row.status, row.type, row.client_order_id) == ("", "", "")
    assert (row.quantity, row.executed_qty, row.price, row.avg_price) == (None, None, None, None)
    known = past(-50, -50, "NEW").order
    row = fill_of_unknown_order(one, known, UNTIL).order
    assert (row.side, row.client_order_id, plain(row.price or Decimal(0))) == ("BUY", "my-0001", "91250.4")
    assert (row.status, row.executed_qty) == ("", None)

"""What the venue is asked for a gap, and what follows from the answers. Through a venue that answers by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from decimal import Decimal
from types import SimpleNamespace
from typing import Any, cast

import pytest
from support.changes import NOW, REST, event, new_account, order, rest_order, snapshot
from support.story import merge_all

from publisher.gap_histories import (
    MAX_ASKED_AMENDMENTS,
    Gap,
    GapReader,
    ended_orders,
    is_end_logged,
    not_listed_yet,
    triggered_orders,
)
from publisher.logs import account_log
from statecast.clock import SystemClock
from statecast.domain import gaps
from statecast.domain.catch_up import Apply, CatchUp, GapFill, Merge
from statecast.domain.changes import OrderUpdate
from statecast.domain.history import PastAmendment, PastOrder, PastTrade
from statecast.domain.models import Order, OrderKey
from statecast.domain.snapshot_merge import RestTiming
from statecast.errors import AuthFailed, FrameError, Rejected, VenueError
from statecast.venues.adapter import (
    HistoryKind,
    HistoryPage,
    HistoryQuery,
    VenueAccount,
    Waiting,
    WantsSymbol,
)

LAG_MS = REST.lag_ms


class Desk:
    """A venue with histories by symbol, and one who reads a gap of ten seconds."""

    def __init__(self, few_symbols: int = 20) -> None:
        self.pages: dict[tuple[HistoryKind, str], HistoryPage | VenueError] = {}
        self.single: dict[OrderKey, PastOrder] = {}
        self.asked: list[HistoryQuery] = []
        self.asked_by_id: list[OrderKey] = []
        self.wants_symbol = False
        self.refused: dict[OrderKey, Rejected] = {}
        self.booked: frozenset[str] | None = frozenset()
        self.asked_for_bookings: list[tuple[int, bool]] = []
        self.amendments: dict[OrderKey, tuple[PastAmendment, ...] | VenueError | FrameError | None] = {}
        self.asked_for_amendments: list[OrderKey] = []
        self.clock = SimpleNamespace(now_ms=lambda: NOW + 11_000)
        self.account = new_account()
        self.reader = GapReader(
            cast("VenueAccount", self),
            self.account,
            SystemClock(),
            account_log("test"),
            lambda _: None,
            lambda _: None,
            slice_size=2,
            few_symbols=few_symbols,
            rest=RestTiming(lag_ms=10_000, recent_ms=3_000),
        )

    def history_queries(self, kind: HistoryKind, symbols: Collection[str]) -> tuple[HistoryQuery, ...]:
        if kind == "orders" and not self.wants_symbol:
            return (HistoryQuery(kind),)
        return tuple(HistoryQuery(kind, symbol, symbol) for symbol in sorted(symbols))

    async def history_pages(self, query: HistoryQuery, since_ms: int, _: Waiting) -> AsyncIterator[HistoryPage]:
        self.asked.append(query)
        page = self.pages.get((query.kind, query.symbol), HistoryPage())
        if isinstance(page, VenueError):
            self.wants_symbol = isinstance(page, WantsSymbol)
            raise page
        yield page

    async def fetch_order(self, key: OrderKey, _: Waiting) -> PastOrder | None:
        self.asked_by_id.append(key)
        if key in self.refused:
            raise self.refused[key]
        return self.single.get(key)

    async def symbols_with_fills(self, since_ms: int, _: Waiting, *, whatever_it_costs: bool) -> frozenset[str] | None:
        self.asked_for_bookings.append((since_ms - NOW, whatever_it_costs))
        return self.booked

    async def fetch_amendments(self, key: OrderKey, since_ms: int, _: Waiting) -> tuple[PastAmendment, ...] | None:
        self.asked_for_amendments.append(key)
        found = self.amendments.get(key)
        if isinstance(found, VenueError | FrameError):
            raise found
        return found

    def traded(self, *rows: PastTrade, symbol: str = "BTCUSDT", unreadable: tuple[OrderKey, ...] = ()) -> None:
        self.pages["trades", symbol] = HistoryPage(trades=rows, unreadable=unreadable)

    def symbols_asked(self, kind: HistoryKind) -> list[str]:
        return [query.symbol for query in self.asked if query.kind == kind]

    def lists(self, kind: HistoryKind, *rows: Order, symbol: str = "", forgotten: int = 0) -> None:
        past = tuple(PastOrder(row, row.venue_time_ms) for row in rows)
        self.pages[kind, symbol] = HistoryPage(orders=past, forgotten_until_ms=forgotten)

    def gap(
        self,
        *known: Order,
        logged: Collection[str] = (),
        symbols: Collection[str] = ("BTCUSDT",),
        triggered: Collection[OrderKey] = (),
        moved: Collection[str] = (),
        booked_since_ms: int = 0,
        is_own: bool = False,
        ended: Collection[OrderKey] = (),
        not_logged: Collection[OrderKey] = (),
    ) -> Gap:
        return Gap(
            since_ms=NOW,
            until_ms=NOW + 10_000,
            placed_since_ms=NOW,
            conditional_since_ms=NOW,
            known={row.key: row for row in known},
            filled={row.key: row.executed_qty or Decimal(0) for row in known},
            logged_filled={row.key: row.executed_qty or Decimal(0) for row in known if row.key not in not_logged},
            symbols=set(symbols),
            moved=set(moved),
            booked_since_ms=booked_since_ms,
            is_own=is_own,
            logged=frozenset(logged),
            lost=(),
            triggered=frozenset(triggered),
            listed_ms=NOW + 10_000 + LAG_MS,
            ended=frozenset(ended),
        )


def fill(at: int, number: int, order_id: str = "1001", symbol: str = "BTCUSDT") -> PastTrade:
    """A fill of 0.010."""
    price, qty, fee = Decimal("91250.4"), Decimal("0.010"), Decimal("0.4")
    number_text = str(number)
    return PastTrade(
        symbol, order_id, number_text, number_text, NOW + at, number, qty, price, fee, "USDT", None, True, "BUY", "BOTH"
    )


async def test_orders_come_first_then_conditional_ones_then_trades_of_every_symbol_that_shows() -> None:
    desk = Desk()
    desk.lists("orders", rest_order(100, "CANCELED", symbol="ETHUSDT"))
    read = await desk.reader.read(desk.gap(), {})
    assert [(query.kind, query.symbol) for query in desk.asked] == [
        ("orders", ""),
        ("conditional", "BTCUSDT"),
        ("conditional", "ETHUSDT"),
        ("trades", "BTCUSDT"),
        ("trades", "ETHUSDT"),
    ]
    assert [update.event.event_type for update in read.found.updates] == ["NEW", "CANCELED"]
    assert list(read.ended) == [OrderKey("ETHUSDT", "1001")]


async def test_a_venue_that_wants_a_symbol_is_asked_symbol_by_symbol() -> None:
    desk = Desk()
    desk.pages["orders", ""] = WantsSymbol("a venue", "orders", "wants a symbol")
    desk.lists("orders", rest_order(100, "CANCELED"), symbol="BTCUSDT")
    read = await desk.reader.read(desk.gap(), {})
    assert list(read.ended) == [OrderKey("BTCUSDT", "1001")]


async def test_a_symbol_that_the_venue_refuses_is_a_gap_of_that_symbol_alone() -> None:
    desk = Desk()
    desk.pages["trades", "BTCUSDT"] = Rejected("a venue", "trades", "no such symbol", -1121)
    desk.lists("orders", rest_order(100, "CANCELED", symbol="ETHUSDT"))
    read = await desk.reader.read(desk.gap(), {})
    assert [one.event.event_id for one in read.lost] == [f"BTCUSDT:GAP:{NOW}:REFUSED"]
    assert len(read.found.updates) == 2, "the rest is read"


async def test_a_refusal_of_the_whole_account_is_an_error() -> None:
    desk = Desk()
    desk.pages["orders", ""] = Rejected("a venue", "orders", "no", -1)
    with pytest.raises(Rejected):
        await desk.reader.read(desk.gap(), {})


async def test_what_a_history_that_is_bounded_by_a_count_no_longer_has_is_a_gap() -> None:
    desk = Desk()
    desk.lists("orders", rest_order(5_000, "CANCELED"), forgotten=NOW + 4_000)
    read = await desk.reader.read(desk.gap(), {})
    (gap,) = read.lost
    assert (gap.event.event_id, gap.event.order.venue_time_ms) == (f"GAP:{NOW}:ALL", NOW + 4_000)


async def test_orders_that_were_open_before_are_asked_for_by_their_ids_unless_they_still_are() -> None:
    desk = Desk()
    ended, still_open, forgotten, logged = (order(-50_000, order_id=number) for number in ("1", "2", "3", "4"))
    assert desk.clock.now_ms() - forgotten.venue_time_ms > 60_000, "no REST is so late"
    desk.single[ended.key] = PastOrder(rest_order(200, "CANCELED", order_id="1"), NOW - 50)
    gap = desk.gap(ended, still_open, forgotten, logged, logged=["BTCUSDT:4:CANCELED"])
    read = await desk.reader.read(gap, {still_open.key: still_open})
    assert desk.asked_by_id == [ended.key, forgotten.key, logged.key]
    assert list(read.ended) == [ended.key]
    assert [one.event.event_id for one in read.lost] == ["BTCUSDT:3:GAP"], "nobody knows what became of it"
    assert read.lost == [OrderUpdate(read.lost[0].event, open=False)], "and it is over"


async def test_an_order_that_nobody_knows_is_not_waited_for_after_its_gap_entry() -> None:
    desk = Desk()
    desk.account.apply((snapshot(-100_000),), "rest")
    desk.account.apply((event(-50_000, "NEW"),), "stream")
    catch_up = CatchUp(desk.account)
    catch_up.begin_gap()
    read = await desk.reader.read(desk.gap(*desk.account.orders.values()), {})
    gap = GapFill(NOW + 10_000, NOW, tuple(read.lost), read.found.updates, read.ended, read.found.filled)
    merged = merge_all(catch_up, snapshot(10_000), gap, connected_ms=NOW + 9_000)
    assert isinstance(merged, Merge)
    desk.account.begin_again(gap.ended, merged.incomplete)
    part = catch_up.take_part(100)
    assert isinstance(part, Apply)
    written = desk.account.apply(part.changes, "rest")
    assert [one.event_id for one in written.events] == ["BTCUSDT:1001:GAP"]
    assert not desk.account.orders
    assert not desk.account.incomplete_orders


async def test_triggered_orders_are_asked_for_until_their_end_is_logged() -> None:
    desk = Desk()
    for number in ("7", "8"):
        row = {"order_id": f"algo-{number}", "algo_id": number}
        desk.account.apply((event(10, "ALGO_TRIGGERED", "TRIGGERED", **row),), "stream")
    finished = rest_order(500, "FINISHED", order_id="algo-8", algo_id="8")
    desk.single[finished.key] = PastOrder(finished, NOW)
    read = await desk.reader.read(desk.gap(logged=["algo-7:FINISHED"]), {})
    assert desk.asked_by_id == [finished.key]
    assert list(read.ended) == [finished.key]
    assert desk.account.triggered_orders() == (finished.key,), "the other is waited for no more"


def test_of_the_log_those_are_triggered_whose_last_event_says_so() -> None:
    written = [
        ("algo-1:NEW", "BTCUSDT"),
        ("algo-1:TRIGGERED", "BTCUSDT"),
        ("algo-2:TRIGGERED", "ETHUSDT"),
        ("algo-2:FINISHED", "ETHUSDT"),
        ("BTCUSDT:9:NEW", "BTCUSDT"),
    ]
    assert triggered_orders(written) == {OrderKey("BTCUSDT", "algo-1")}


@pytest.mark.parametrize(
    ("row", "logged", "is_logged"),
    [
        (order(0), "BTCUSDT:1001:CANCELED", True),
        (order(0), "BTCUSDT:1001:NEW", False),
        (order(0, symbol="ETHUSDT"), "BTCUSDT:1001:CANCELED", False),
        (order(0, order_id="algo-1", algo_id="1"), "algo-1:TRIGGERED", True),
        (order(0, order_id="algo-1", algo_id="1"), "algo-1:CANCELED", True),
        (order(0, order_id="algo-1", algo_id="1"), "algo-1:NEW", False),
    ],
)
def test_an_end_is_logged_or_not(row: Order, logged: str, is_logged: bool) -> None:
    assert is_end_logged(row, {logged}) is is_logged


# A status that nobody named


async def test_an_order_with_an_unknown_status_is_over_where_the_venue_does_not_list_it_as_open() -> None:
    desk = Desk()
    ended, working = rest_order(100, "EXPIRED_BY_RISK"), rest_order(100, "WORKING", order_id="1002")
    desk.lists("orders", ended, working, rest_order(200, "CANCELED", order_id="1003"))
    read = await desk.reader.read(desk.gap(), {working.key: working})
    assert [update.event.event_id for update in read.found.updates] == [
        "BTCUSDT:1001:NEW",
        "BTCUSDT:1001:EXPIRED_BY_RISK",
        "BTCUSDT:1002:NEW",
        "BTCUSDT:1003:NEW",
        "BTCUSDT:1003:CANCELED",
    ]
    assert list(read.ended) == [ended.key, OrderKey("BTCUSDT", "1003")]


async def test_one_that_changed_so_late_that_it_may_be_missing_among_the_open_ones_is_a_gap() -> None:
    desk = Desk()
    late = rest_order(10_000, "EXPIRED_BY_RISK", order_id="1002")
    desk.lists("orders", rest_order(9_999, "EXPIRED_BY_RISK"), late)
    read = await desk.reader.read(replace(desk.gap(), listed_ms=NOW + 10_000 + LAG_MS - 1), {})
    assert [update.event.event_id for update in read.found.updates] == [
        "BTCUSDT:1001:NEW",
        "BTCUSDT:1001:EXPIRED_BY_RISK",
        "BTCUSDT:1002:NEW",
        "BTCUSDT:1002:GAP",
    ]


async def test_an_order_that_was_open_before_is_asked_for_and_may_have_ended_with_such_a_status() -> None:
    desk = Desk()
    known = order(-500, "NEW")
    desk.single[known.key] = PastOrder(rest_order(100, "EXPIRED_BY_RISK"), NOW - 1_000)
    read = await desk.reader.read(desk.gap(known), {})
    assert [update.event.event_id for update in read.found.updates] == ["BTCUSDT:1001:EXPIRED_BY_RISK"]
    assert list(read.ended) == [known.key]


async def test_a_triggered_conditional_order_may_have_ended_with_such_a_status() -> None:
    desk = Desk()
    row = rest_order(100, "FINISHED_BY_RISK", order_id="algo-7", algo_id="7", executed_qty=None)
    desk.single[row.key] = PastOrder(row, NOW - 1_000)
    read = await desk.reader.read(desk.gap(triggered=[row.key]), {})
    assert [update.event.event_id for update in read.found.updates] == ["algo-7:FINISHED_BY_RISK"]


# A row that cannot be understood


def lost(at: int, order_id: str = "1001") -> Order:
    return rest_order(at, "", order_id=order_id, side="", quantity=None, executed_qty=None)


async def test_an_order_whose_row_cannot_be_understood_is_a_gap_of_that_order_alone() -> None:
    desk = Desk()
    desk.lists("orders", lost(100), rest_order(200, "CANCELED", order_id="1002"))
    read = await desk.reader.read(desk.gap(order(-500, "NEW", client_order_id="mine")), {})
    assert [update.event.event_id for update in read.found.updates] == [
        "BTCUSDT:1001:GAP",
        "BTCUSDT:1002:NEW",
        "BTCUSDT:1002:CANCELED",
    ]
    assert read.found.updates[0].order.client_order_id == "mine", "as it was last known"


async def test_an_order_that_is_open_is_as_the_list_of_open_orders_has_it() -> None:
    desk = Desk()
    desk.lists("orders", lost(100))
    listed = rest_order(100, "NEW")
    read = await desk.reader.read(desk.gap(), {listed.key: listed})
    assert [update.event.event_id for update in read.found.updates] == ["BTCUSDT:1001:NEW"]
    assert read.ended == {}


async def test_of_an_order_whose_end_the_stream_has_sent_nothing_is_missing() -> None:
    desk = Desk()
    desk.account.apply((snapshot(), event(90, "CANCELED", "CANCELED")), "stream")
    desk.lists("orders", lost(100))
    assert (await desk.reader.read(desk.gap(), {})).found.updates == ()


# Orders that the venue does not show


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, True),
        ({"at": -1}, False),
        ({"at": 10_001}, False),
        ({"symbol": "OTHERUSDT"}, True),
        ({"symbol": "OTHERUSDT", "order_id": "algo-7", "algo_id": "7"}, False),
    ],
    ids=["placed in the gap", "before", "after", "of an unread symbol", "conditional, of an unread symbol"],
)
async def test_an_open_order_of_the_gap_that_no_history_lists_shows_that_they_are_behind(
    fields: dict[str, Any], expected: bool
) -> None:
    desk = Desk()
    listed = rest_order(fields.get("at", 500), **{name: value for name, value in fields.items() if name != "at"})
    gap = replace(desk.gap(), until_ms=NOW + 10_000)
    assert not_listed_yet(gap, {listed.key: listed}, {"OTHERUSDT"}, set()) == ([listed.key] if expected else [])
    assert not not_listed_yet(gap, {listed.key: listed}, set(), {listed.key}), "the stream has sent its beginning"
    gap.filled[listed.key] = Decimal(0)
    assert not not_listed_yet(gap, {listed.key: listed}, set(), set()), "a history has it, or it was known before"


async def test_a_known_order_that_ended_before_the_gap_is_over_and_its_end_is_not_logged() -> None:
    """REST was behind when it was listed as open."""
    desk = Desk()
    known = order(-50_000)
    desk.single[known.key] = PastOrder(rest_order(-40_000, "CANCELED", executed_qty=Decimal(2)), NOW - 60_000)
    read = await desk.reader.read(gap := desk.gap(known), {})
    assert list(read.ended) == [known.key]
    assert (read.found.updates, read.lost) == ((), [])
    assert gap.filled[known.key] == 2, "and so are its fills"


GONE = Rejected("a venue", "order", "no such symbol", -1121)


async def test_an_order_of_a_delisted_symbol_is_a_gap_and_the_rest_goes_on() -> None:
    desk = Desk()
    delisted, other = order(-50, order_id="1", symbol="GONEUSDT"), order(-50, order_id="2")
    desk.refused[delisted.key] = GONE
    desk.single[other.key] = PastOrder(rest_order(200, "CANCELED", order_id="2"), NOW - 50)
    read = await desk.reader.read(desk.gap(delisted, other), {})
    assert [one.event.event_id for one in read.lost] == ["GONEUSDT:1:GAP"]
    assert [update.event.event_id for update in read.found.updates] == ["BTCUSDT:2:CANCELED"]
    assert not read.unsure


async def test_a_young_conditional_order_of_a_delisted_symbol_is_a_gap_at_once() -> None:
    """Its own document says no more than that it does not exist; the history of its symbol says why."""
    desk = Desk()
    young = order(10_900, order_id="algo-7", algo_id="7")
    desk.pages["conditional", "BTCUSDT"] = GONE
    read = await desk.reader.read(desk.gap(young), {})
    assert "algo-7:GAP" in [one.event.event_id for one in read.lost]
    assert not read.unsure


async def test_fills_that_the_venue_refuses_to_list_are_a_gap_of_their_order_and_no_reason_to_ask_again() -> None:
    desk = Desk()
    desk.lists("orders", rest_order(100, "FILLED", executed_qty=Decimal("0.01")))
    desk.pages["trades", "BTCUSDT"] = GONE
    read = await desk.reader.read(gap := desk.gap(), {})
    assert "BTCUSDT:1001:GAP" in [one.event.event_id for one in read.lost]
    assert (read.found.behind, gap.filled[OrderKey("BTCUSDT", "1001")]) == ((), Decimal("0.01"))


async def test_a_refused_key_is_no_order_that_is_refused() -> None:
    desk = Desk()
    known = order(-50)
    desk.refused[known.key] = AuthFailed("a venue", "order", "the key is refused", -2015)
    with pytest.raises(AuthFailed):
        await desk.reader.read(desk.gap(known), {})


@pytest.mark.parametrize("answer", ["refused", "not known"])
async def test_a_triggered_order_that_nobody_shows_is_a_gap_and_waited_for_no_more(answer: str) -> None:
    desk = Desk()
    row = {"order_id": "algo-7", "algo_id": "7"}
    desk.account.apply((snapshot(-100_000),), "rest")
    desk.account.apply((event(-90_000, "ALGO_TRIGGERED", "TRIGGERED", **row),), "stream")
    if answer == "refused":
        desk.refused[OrderKey("BTCUSDT", "algo-7")] = GONE
    read = await desk.reader.read(desk.gap(), {})
    assert [one.event.event_id for one in read.lost] == ["algo-7:GAP"]
    desk.account.apply(read.lost, "rest")
    assert not desk.account.triggered_orders()


@pytest.mark.parametrize(("at", "is_unsure"), [(-49_000, True), (10_900, True), (-49_001, False), (71_001, False)])
async def test_that_the_venue_does_not_know_a_young_order_proves_nothing(at: int, is_unsure: bool) -> None:
    """It is 11 s after the beginning, and no REST is a minute behind."""
    desk = Desk()
    known = order(at)
    read = await desk.reader.read(desk.gap(known), {})
    assert read.unsure == ((known.key,) if is_unsure else ())
    assert [one.event.event_id for one in read.lost] == ([] if is_unsure else ["BTCUSDT:1001:GAP"])
    assert not read.ended


@pytest.mark.parametrize("answer", ["refused", "not known"])
async def test_fills_of_an_order_that_nobody_shows_are_logged_and_its_end_is_a_gap(answer: str) -> None:
    desk = Desk()
    desk.traded(fill(700, 2, "9"), fill(600, 1, "9"))
    if answer == "refused":
        desk.refused[OrderKey("BTCUSDT", "9")] = GONE
    read = await desk.reader.read(desk.gap(), {})
    events = [one.event for one in read.lost]
    assert [one.event_id for one in events] == ["BTCUSDT:9:FILL:1", "BTCUSDT:9:FILL:2", "BTCUSDT:9:GAP"]
    assert (events[0].order.side, events[0].last_qty, events[0].trade_id) == ("BUY", Decimal("0.010"), "1")
    written = desk.account.apply(read.lost, "rest")
    assert written.events == tuple(events)
    assert not desk.account.orders, "no row of it appears"
    again = await desk.reader.read(desk.gap(logged=[one.event_id for one in events]), {})
    assert not again.lost


async def test_fills_of_a_known_order_that_nobody_shows_come_before_its_gap() -> None:
    desk = Desk()
    known = order(-50_000)
    desk.traded(fill(600, 1))
    read = await desk.reader.read(desk.gap(known), {})
    assert [one.event.event_id for one in read.lost] == ["BTCUSDT:1001:FILL:1", "BTCUSDT:1001:GAP"]
    assert read.lost[0].event.order.client_order_id == known.client_order_id
    assert desk.asked_by_id == [known.key], "once"


OLD = OrderKey("BTCUSDT", "9")


async def test_an_old_order_of_a_fill_that_cannot_be_understood_is_behind() -> None:
    """It was not known to be open: nothing else shows that its fill is missing."""
    desk = Desk()
    desk.traded(fill(700, 2), unreadable=(OLD, OrderKey("BTCUSDT", "1001")))
    desk.lists("orders", rest_order(700, "FILLED", executed_qty=Decimal("0.010")))
    desk.single[OLD] = PastOrder(rest_order(600, "FILLED", order_id="9", executed_qty=Decimal("0.010")), NOW - 50)
    read = await desk.reader.read(desk.gap(), {})
    assert [row.key for row in read.found.behind] == [OLD]
    assert [update.event.event_id for update in read.found.updates] == ["BTCUSDT:1001:NEW", "BTCUSDT:1001:FILL:2"]
    assert not read.lost
    desk.reader.forget()
    desk.traded(unreadable=(OrderKey("BTCUSDT", "1001"),))
    read = await desk.reader.read(desk.gap(), {})
    assert [row.key for row in read.found.behind] == [OrderKey("BTCUSDT", "1001")], "by what it has filled"


async def test_an_order_that_nobody_shows_of_a_fill_that_cannot_be_understood_is_a_gap() -> None:
    desk = Desk()
    desk.traded(unreadable=(OLD,))
    desk.refused[OLD] = GONE
    read = await desk.reader.read(desk.gap(), {})
    assert [one.event.event_id for one in read.lost] == ["BTCUSDT:9:GAP"]
    assert (await desk.reader.read(desk.gap(order(-50, order_id="9")), {OLD: order(-50, order_id="9")})).lost == []


async def test_a_young_fill_of_an_order_that_the_venue_does_not_know_yet_is_asked_for_again() -> None:
    desk = Desk()
    desk.traded(fill(1_000, 1, "9"))
    read = await desk.reader.read(desk.gap(), {})
    assert (read.unsure, read.lost) == ((OrderKey("BTCUSDT", "9"),), [])


# A venue that lists orders by symbol


@pytest.mark.parametrize("named", [frozenset({"NEWUSDT"}), None])
async def test_symbols_that_nobody_knew_of_are_named_by_the_bookings_where_orders_are_listed_by_symbol(
    named: frozenset[str] | None,
) -> None:
    desk = Desk()
    desk.wants_symbol = True
    desk.booked = named
    desk.lists("orders", rest_order(100, "FILLED", symbol="NEWUSDT", executed_qty=Decimal("0.01")), symbol="NEWUSDT")
    desk.traded(fill(100, 1, symbol="NEWUSDT"), symbol="NEWUSDT")
    read = await desk.reader.read(desk.gap(), {})
    logged = [update.event.event_id for update in read.found.updates]
    assert logged == (["NEWUSDT:1001:NEW", "NEWUSDT:1001:FILL:1"] if named else [])
    kind = "UNFILLED" if named else "REFUSED"
    assert [one.event.event_id for one in read.lost] == [f"GAP:{NOW}:{kind}"], "what bookings do not say"
    assert desk.asked_for_bookings == [(0, True)]


# Many symbols


MANY = [f"S{number}USDT" for number in range(50)]


async def test_of_many_symbols_those_are_read_in_which_something_has_moved() -> None:
    desk = Desk()
    filled, ended, placed, quiet = (f"S{n}USDT" for n in range(4))
    known = [order(-50, symbol=symbol) for symbol in (filled, ended, quiet)]
    now = {filled: rest_order(500, "PARTIALLY_FILLED", symbol=filled, executed_qty=Decimal("0.01"))}
    desk.single[known[1].key] = PastOrder(
        rest_order(400, "FILLED", symbol=ended, executed_qty=Decimal("0.05")), NOW - 50
    )
    desk.lists("orders", rest_order(100, "CANCELED", symbol=placed))
    open_now = {known[0].key: now[filled], known[2].key: known[2]}
    read = await desk.reader.read(desk.gap(*known, symbols=MANY, moved=["S9USDT"]), open_now)
    assert desk.symbols_asked("trades") == [filled, ended, "S9USDT"]
    assert desk.symbols_asked("conditional") == ["S9USDT"]
    assert read.unread == {*MANY} - {"S9USDT"}
    assert not desk.asked_for_bookings, "no wallet has moved"


async def test_where_a_wallet_has_moved_bookings_name_the_symbol() -> None:
    desk = Desk()
    desk.booked = frozenset({"S7USDT", "NEWUSDT"})
    await desk.reader.read(desk.gap(symbols=MANY, booked_since_ms=NOW + 5), {})
    assert desk.symbols_asked("trades") == ["NEWUSDT", "S7USDT"]
    assert desk.asked_for_bookings == [(5, False)]
    desk.booked, desk.asked = None, []
    await desk.reader.read(desk.gap(symbols=MANY, booked_since_ms=NOW + 5), {})
    assert set(desk.symbols_asked("trades")) == set(MANY), "nobody can say where nothing has moved"


async def test_of_few_symbols_all_are_read() -> None:
    desk = Desk(few_symbols=50)
    read = await desk.reader.read(desk.gap(symbols=MANY), {})
    assert set(desk.symbols_asked("trades")) == set(desk.symbols_asked("conditional")) == set(MANY)
    assert not read.unread


async def test_conditional_orders_that_are_gone_or_were_triggered_have_their_symbols_read() -> None:
    desk = Desk()
    gone = order(-50, order_id="algo-1", algo_id="1", symbol="S1USDT")
    child = rest_order(100, symbol="S2USDT", type="MARKET", orig_type="STOP_MARKET")
    desk.lists("orders", child)
    await desk.reader.read(desk.gap(gone, symbols=MANY), {child.key: child})
    assert desk.symbols_asked("conditional") == ["S1USDT", "S2USDT"]


@pytest.mark.parametrize("is_own", [True, False])
async def test_an_order_that_the_stream_has_sent_to_its_end_is_looked_at_by_those_alone_who_have_not_logged_it(
    is_own: bool,
) -> None:
    desk = Desk()
    desk.account.apply((snapshot(-100_000),), "rest")
    row = {"symbol": "S1USDT", "executed_qty": Decimal("0.05")}
    desk.account.apply((event(10, "NEW", symbol="S1USDT"), event(20, "TRADE", "FILLED", trade_id="t", **row)), "stream")
    desk.lists("orders", rest_order(20, "FILLED", **row))
    await desk.reader.read(desk.gap(symbols=MANY, is_own=is_own), {})
    assert desk.symbols_asked("trades") == ([] if is_own else ["S1USDT"])


async def test_what_a_standby_knows_and_the_log_has_not_makes_its_symbol_one_to_read() -> None:
    desk = Desk()
    filled = rest_order(100, "PARTIALLY_FILLED", symbol="S1USDT", executed_qty=Decimal("0.01"))
    placed = rest_order(100, order_id="algo-6", algo_id="6", symbol="S2USDT")
    known = {row.key: row for row in (filled, placed)}
    await desk.reader.read(desk.gap(filled, placed, symbols=MANY, not_logged=known), known)
    assert desk.symbols_asked("trades") == ["S1USDT"]
    assert desk.symbols_asked("conditional") == ["S2USDT"]
    desk.asked.clear()
    await desk.reader.read(desk.gap(filled, placed, symbols=MANY), known)
    assert not desk.symbols_asked("trades")
    assert not desk.symbols_asked("conditional")


async def test_an_order_whose_fills_are_all_logged_is_not_behind_where_no_trades_were_read() -> None:
    desk = Desk()
    known = order(20, "PARTIALLY_FILLED", symbol="S1USDT", executed_qty=Decimal("0.01"))
    now = known._replace(source="rest")
    desk.lists("orders", now)
    read = await desk.reader.read(desk.gap(known, symbols=MANY, logged=["S1USDT:1001:NEW"]), {now.key: now})
    assert (read.found.updates, read.found.behind, read.lost) == ((), (), [])


async def test_conditional_orders_whose_end_is_logged_are_over() -> None:
    desk = Desk()
    key = OrderKey("BTCUSDT", "algo-5")
    read = await desk.reader.read(desk.gap(ended=[key]), {})
    assert list(read.ended) == [key]
    assert ended_orders([("algo-5:NEW", "BTCUSDT"), ("algo-5:CANCELED", "BTCUSDT"), ("algo-6:NEW", "BTCUSDT")]) == {key}


# Amendments


async def test_amendments_are_asked_for_of_orders_alone_that_may_have_been_amended() -> None:
    desk = Desk()
    same, changed, cancelled = (order(-50, order_id=number) for number in ("1", "2", "3"))
    now = rest_order(700, order_id="2", price=Decimal(91000))
    desk.single[cancelled.key] = PastOrder(rest_order(400, "CANCELED", order_id="3"), NOW - 50)
    terms = changed.price, changed.quantity, now.price, now.quantity
    desk.amendments[changed.key] = (
        PastAmendment(NOW + 700, *cast("tuple[Decimal, Decimal, Decimal, Decimal]", terms)),
    )
    read = await desk.reader.read(desk.gap(same, changed, cancelled), {same.key: same, now.key: now})
    assert desk.asked_for_amendments == [changed.key]
    assert [update.event.event_id for update in read.found.updates] == [
        "BTCUSDT:3:CANCELED",
        f"BTCUSDT:2:AMENDMENT:{NOW + 700}:0.05@91000",
    ]


def to_price(at: int, before: int, after: int, quantity: str = "0.05") -> PastAmendment:
    """An amendment from one price to another."""
    return PastAmendment(NOW + at, Decimal(before), Decimal(quantity), Decimal(after), Decimal(quantity))


AMENDED = order(-50, order_id="2", price=Decimal(90000), quantity=Decimal("0.05"))
AMENDED_NOW = rest_order(1_700, order_id="2", price=Decimal(91000), quantity=Decimal("0.05"))
ENTRY = f"BTCUSDT:2:GAP:{NOW - 50}"


@pytest.mark.parametrize(
    ("listed", "logged"),
    [
        ((), []),
        (Rejected("a venue", "amendments", "not now", -4000), []),
        (FrameError("amendments", "body", "is null"), []),
        ((to_price(1_300, 90000, 90500),), ["AMENDMENT"]),
        ((to_price(1_300, 90000, 90500), to_price(1_700, 90700, 91000)), ["AMENDMENT", "AMENDMENT"]),
        ((to_price(1_700, 90700, 91000),), []),
        ((to_price(1_300, 90000, 91000), to_price(1_600, 91000, 90000)), ["AMENDMENT", "AMENDMENT"]),
    ],
    ids=["none yet", "refused", "nonsense", "not the last", "one in between is missing", "not the first", "and back"],
)
async def test_amendments_that_do_not_lead_to_what_the_order_is_now_are_asked_for_again(
    listed: tuple[PastAmendment, ...] | VenueError | FrameError, logged: list[str]
) -> None:
    desk = Desk()
    desk.amendments[AMENDED.key] = listed
    read = await desk.reader.read(desk.gap(AMENDED), {AMENDED.key: AMENDED_NOW})
    (entry,) = read.not_explained
    assert (entry.event_id, entry.order.price, entry.order.venue_time_ms) == (ENTRY, 91000, NOW + 1_700)
    assert not gaps.ends_order(entry)
    assert [update.event.event_type for update in read.found.updates] == logged
    assert read.lost == []


async def test_an_ended_order_whose_amendments_are_not_listed_has_an_entry_as_well() -> None:
    desk = Desk()
    desk.amendments[AMENDED.key] = ()
    desk.single[AMENDED.key] = PastOrder(AMENDED_NOW._replace(status="CANCELED"), NOW - 50)
    read = await desk.reader.read(desk.gap(AMENDED), {})
    assert [entry.event_id for entry in read.not_explained] == [ENTRY]


async def test_where_a_venue_lists_no_amendments_there_is_an_entry_at_once() -> None:
    desk = Desk()
    read = await desk.reader.read(desk.gap(AMENDED), {AMENDED.key: AMENDED_NOW})
    assert ([one.event.event_id for one in read.lost], read.not_explained) == ([ENTRY], ())


async def test_where_the_change_is_older_than_rest_may_be_behind_there_is_an_entry_at_once() -> None:
    desk = Desk()
    desk.amendments[AMENDED.key] = ()
    read = await desk.reader.read(desk.gap(AMENDED), {AMENDED.key: AMENDED_NOW._replace(venue_time_ms=NOW + 1_000)})
    assert ([one.event.event_id for one in read.lost], read.not_explained) == ([ENTRY], ())


async def test_of_very_many_amended_orders_the_last_are_not_asked_for_and_have_an_entry() -> None:
    desk = Desk()
    known = [AMENDED._replace(order_id=str(number)) for number in range(MAX_ASKED_AMENDMENTS + 1)]
    now = {one.key: AMENDED_NOW._replace(order_id=one.order_id) for one in known}
    desk.amendments |= {key: (to_price(1_700, 90000, 91000),) for key in now}
    read = await desk.reader.read(desk.gap(*known), now)
    assert [one.event.event_id for one in read.lost] == [f"BTCUSDT:{MAX_ASKED_AMENDMENTS}:GAP:{NOW - 50}"]
    assert len(desk.asked_for_amendments) == MAX_ASKED_AMENDMENTS


@pytest.mark.parametrize(
    ("row", "logged"),
    [
        (AMENDED_NOW._replace(venue_time_ms=NOW - 60), ()),
        (AMENDED_NOW._replace(venue_time_ms=NOW + 10_001), ()),
        (AMENDED_NOW, (f"BTCUSDT:2:AMENDMENT:{NOW + 1_700}:0.05@91000",)),
        (AMENDED_NOW, (ENTRY,)),
        (AMENDED_NOW._replace(price=AMENDED.price), ()),
    ],
    ids=["an old row", "the stream may send it", "another publisher logged it", "the log has an entry", "as it was"],
)
async def test_no_amendment_is_missing_that_need_not_have_been(row: Order, logged: tuple[str, ...]) -> None:
    desk = Desk()
    desk.amendments[AMENDED.key] = ()
    read = await desk.reader.read(desk.gap(AMENDED, logged=logged), {AMENDED.key: row})
    assert (read.lost, read.not_explained) == ([], ())


async def test_an_amendment_of_after_the_row_is_no_doubt() -> None:
    desk = Desk()
    desk.amendments[AMENDED.key] = (to_price(1_700, 90000, 91000), to_price(1_900, 91000, 91500))
    read = await desk.reader.read(desk.gap(AMENDED), {AMENDED.key: AMENDED_NOW})
    assert (read.lost, read.not_explained) == ([], ())


async def test_a_key_that_is_refused_is_not_a_history_that_is() -> None:
    desk = Desk()
    desk.amendments[AMENDED.key] = AuthFailed("a venue", "amendments", "no", -2015)
    with pytest.raises(AuthFailed):
        await desk.reader.read(desk.gap(AMENDED), {AMENDED.key: AMENDED_NOW})

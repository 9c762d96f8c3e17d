"""What the venue is asked for a gap, and what follows from the answers. Through a venue that answers by hand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import replace
from decimal import Decimal
from typing import cast

import pytest
from support.changes import NOW, REST, event, new_account, order, rest_order, snapshot

from publisher.gap_histories import Gap, GapReader, is_end_logged, triggered_orders
from publisher.logs import account_log
from statecast.clock import SystemClock
from statecast.domain.catch_up import CatchUp, GapFill, Merge
from statecast.domain.changes import OrderUpdate
from statecast.domain.history import PastOrder
from statecast.domain.models import Order, OrderKey
from statecast.errors import Rejected, VenueError
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

    def __init__(self) -> None:
        self.pages: dict[tuple[HistoryKind, str], HistoryPage | VenueError] = {}
        self.single: dict[OrderKey, PastOrder] = {}
        self.asked: list[HistoryQuery] = []
        self.asked_by_id: list[OrderKey] = []
        self.wants_symbol = False
        self.account = new_account()
        self.reader = GapReader(
            cast("VenueAccount", self),
            self.account,
            SystemClock(),
            account_log("test"),
            lambda _: None,
            lambda _: None,
            slice_size=2,
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
        return self.single.get(key)

    def lists(self, kind: HistoryKind, *rows: Order, symbol: str = "", forgotten: int = 0) -> None:
        past = tuple(PastOrder(row, row.venue_time_ms) for row in rows)
        self.pages[kind, symbol] = HistoryPage(orders=past, forgotten_until_ms=forgotten)

    def gap(
        self,
        *known: Order,
        logged: Collection[str] = (),
        symbols: Collection[str] = ("BTCUSDT",),
        triggered: Collection[OrderKey] = (),
    ) -> Gap:
        return Gap(
            since_ms=NOW,
            until_ms=NOW + 10_000,
            placed_since_ms=NOW,
            conditional_since_ms=NOW,
            known={row.key: row for row in known},
            filled={row.key: row.executed_qty or Decimal(0) for row in known},
            symbols=set(symbols),
            logged=frozenset(logged),
            lost=(),
            triggered=frozenset(triggered),
            listed_ms=NOW + 10_000 + LAG_MS,
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
    ended, still_open, forgotten, logged = (order(-50, order_id=number) for number in ("1", "2", "3", "4"))
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
    merged = catch_up.merge(snapshot(10_000), gap, connected_ms=NOW + 9_000)
    assert isinstance(merged, Merge)
    desk.account.begin_again(gap.ended, merged.incomplete)
    written = desk.account.apply(merged.changes, "rest")
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

"""A history that is read in several attempts is not read again from its beginning, and is the same in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import cast

import pytest
from support.changes import NOW, order

from publisher.history_cache import MAX_ASKED_BY_ID, HistoryCache
from statecast.domain.history import PastOrder, PastTrade
from statecast.domain.models import Order, OrderKey
from statecast.errors import Rejected
from statecast.venues.adapter import HistoryPage, HistoryQuery, VenueAccount, Waiting

PAGE = 4
COUNT = 14
LAG_MS = 60_000
SETTLED_MS = NOW + 1_000_000
"""What the venue lists of before this it does not list late any more."""

ORDERS = HistoryQuery("orders")
TRADES = HistoryQuery("trades", "BTCUSDT", "BTCUSDT")
NONE_OPEN: Mapping[OrderKey, Order] = {}


class Interrupted(Exception):
    """As a stream that is cut ends a gap fill."""


def key(number: int) -> OrderKey:
    return OrderKey("BTCUSDT", str(number))


def trade(number: int, at: int, order_id: str = "1") -> PastTrade:
    one = Decimal(1)
    return PastTrade("BTCUSDT", order_id, "0", str(number), NOW + at, number, one, one, None, None, None, None)


class Desk:
    """A venue that lists orders and trades in pages, oldest first, and one who reads them."""

    def __init__(self, settled_ms: int = SETTLED_MS) -> None:
        self.settled_ms = settled_ms
        self.orders: dict[OrderKey, PastOrder] = {}
        self.trades: list[PastTrade] = []
        self.unreadable: tuple[OrderKey, ...] = ()
        """Orders that the first page of trades names."""
        self.pages = 0
        self.asked_by_id: list[OrderKey] = []
        self.refuses_ids = False
        self.not_known: set[OrderKey] = set()
        """By a server that is behind."""
        self.interrupt_at_page = 0
        self.lists_from_ms = SETTLED_MS
        """The venue lists everything since then, whatever it is asked for."""
        self.cache = HistoryCache(cast("VenueAccount", self), lambda _: None, lambda _: None)

    def place(self, number: int, at: int, status: str = "CANCELED") -> None:
        self.orders[key(number)] = PastOrder(order(at, status, order_id=str(number)), NOW + at)

    def past(self, *, still_open: int = 0) -> list[OrderKey]:
        """Orders of one a second, which were cancelled, but for the first ones."""
        for at in range(COUNT):
            self.place(at, at * 1000, "NEW" if at < still_open else "CANCELED")
        return list(self.orders)

    async def history_pages(self, query: HistoryQuery, since_ms: int, _: Waiting) -> AsyncIterator[HistoryPage]:
        rows: list[tuple[int, PastOrder | PastTrade]]
        if query.kind == "trades":
            rows = sorted(((row.time_ms, row) for row in self.trades), key=lambda pair: pair[0])
        else:
            rows = sorted(((row.created_ms, row) for row in self.orders.values()), key=lambda pair: pair[0])
        rows = [pair for pair in rows if pair[0] >= min(since_ms, self.lists_from_ms)]
        for start in range(0, max(1, len(rows)), PAGE):
            self.pages += 1
            if self.pages == self.interrupt_at_page:
                raise Interrupted
            page = rows[start : start + PAGE]
            last_ms = page[-1][0] if len(page) == PAGE else self.settled_ms
            yield HistoryPage(
                orders=tuple(row for _, row in page if isinstance(row, PastOrder)),
                trades=tuple(row for _, row in page if isinstance(row, PastTrade)),
                settled_ms=min(last_ms, self.settled_ms),
                unreadable=() if start else self.unreadable,
            )
            self.unreadable = ()

    async def fetch_order(self, asked: OrderKey, _: Waiting) -> PastOrder | None:
        self.asked_by_id.append(asked)
        if self.refuses_ids:
            raise Rejected("a venue", "order", "no such symbol", -1)
        return None if asked in self.not_known else self.orders.get(asked)

    async def listed(
        self, since_ms: int = NOW, open_now: Mapping[OrderKey, Order] = NONE_OPEN
    ) -> dict[OrderKey, PastOrder]:
        history = await self.cache.read(ORDERS, since_ms, open_now)
        return {past.order.key: past for past in history.orders}

    async def fills(self) -> list[int]:
        return sorted(int(row.fill_id) for row in (await self.cache.read(TRADES, NOW, NONE_OPEN)).trades)


async def test_what_an_interrupted_attempt_has_read_is_not_read_again() -> None:
    desk = Desk()
    keys = desk.past()
    desk.interrupt_at_page = 4
    with pytest.raises(Interrupted):
        await desk.listed()
    desk.pages = desk.interrupt_at_page = 0
    assert set(await desk.listed()) == set(keys)
    assert desk.pages == 1, "from the page on that was the last"


async def test_an_order_that_was_open_is_looked_at_again() -> None:
    desk = Desk()
    keys = desk.past(still_open=2)
    await desk.listed()
    desk.place(0, 0, "CANCELED")
    found = await desk.listed()
    assert (found[keys[0]].order.status, found[keys[1]].order.status) == ("CANCELED", "NEW")
    assert desk.asked_by_id == keys[:2]
    known = found[keys[1]].order._replace(status="PARTIALLY_FILLED")
    found = await desk.listed(open_now={known.key: known})
    assert found[keys[1]] == PastOrder(known, NOW + 1000), "when it was placed is still known"
    assert desk.asked_by_id == keys[:2], "what is open now need not be asked for"


async def test_many_that_were_open_are_listed_again() -> None:
    desk = Desk()
    count = MAX_ASKED_BY_ID + 5
    for number in range(count):
        desk.place(number, number * 1000, "NEW")
    await desk.listed()
    for number in range(count):
        desk.place(number, number * 1000, "CANCELED")
    found = await desk.listed()
    assert {past.order.status for past in found.values()} == {"CANCELED"}
    assert len(found) == count
    assert len(desk.asked_by_id) == MAX_ASKED_BY_ID - 1


async def test_an_order_that_the_venue_no_longer_knows_is_dropped() -> None:
    desk = Desk()
    keys = desk.past(still_open=1)
    await desk.listed()
    del desk.orders[keys[0]]
    assert set(await desk.listed()) == set(keys[1:])


async def test_an_order_that_one_answer_does_not_know_and_the_list_has_is_kept() -> None:
    desk = Desk()
    keys = desk.past(still_open=1)
    await desk.listed()
    desk.not_known.add(keys[0])
    assert set(await desk.listed()) == set(keys)


async def test_what_the_venue_may_have_listed_late_is_asked_for_again() -> None:
    desk = Desk()
    keys = desk.past()
    assert set(await desk.listed()) == set(keys)
    desk.place(99, SETTLED_MS - NOW + 1)
    assert set(await desk.listed()) == {*keys, key(99)}


async def test_a_window_that_begins_earlier_is_read_anew_and_a_later_one_has_less() -> None:
    desk = Desk()
    keys = desk.past()
    assert set(await desk.listed(NOW + 5000)) == set(keys[5:])
    assert set(await desk.listed(NOW)) == set(keys)
    assert set(await desk.listed(NOW + 9000)) == set(keys[9:])


async def test_trades_go_on_behind_the_last_one_that_is_settled() -> None:
    desk = Desk()
    desk.trades = [trade(number, number * 1000) for number in range(COUNT)]
    desk.interrupt_at_page = 4
    with pytest.raises(Interrupted):
        await desk.fills()
    desk.pages = desk.interrupt_at_page = 0
    assert await desk.fills() == list(range(COUNT))
    assert desk.pages == 1


async def test_an_order_of_a_fill_that_cannot_be_understood_is_named_by_a_later_attempt_too() -> None:
    desk = Desk()
    desk.trades = [trade(number, number * 1000) for number in range(COUNT)]
    desk.unreadable = (key(7),)
    desk.interrupt_at_page = 3
    with pytest.raises(Interrupted):
        await desk.fills()
    assert (await desk.cache.read(TRADES, NOW, NONE_OPEN)).unreadable == {key(7)}


async def test_fills_of_two_orders_may_have_one_id() -> None:
    desk = Desk()
    desk.trades = [trade(1, 0, "1"), trade(1, 0, "2")]
    assert await desk.fills() == [1, 1]


async def test_an_order_that_the_venue_refuses_to_show_by_its_id_is_listed_again() -> None:
    desk = Desk()
    keys = desk.past(still_open=2)
    await desk.listed()
    desk.place(0, 0, "CANCELED")
    desk.refuses_ids = True
    found = await desk.listed()
    assert set(found) == set(keys)
    assert found[keys[0]].order.status == "CANCELED"


async def test_trades_in_doubt_are_asked_for_again_however_old() -> None:
    desk = Desk()
    desk.trades = [trade(2, 0)]
    assert await desk.fills() == [2]
    desk.trades = [trade(1, -0), trade(2, 0)]
    assert await desk.fills() == [2], "what is settled counts as listed"
    desk.cache.forget_trades(["BTCUSDT"])
    assert await desk.fills() == [1, 2]


async def test_a_filled_gap_is_forgotten() -> None:
    desk = Desk()
    desk.past()
    await desk.listed()
    desk.cache.forget()
    desk.pages = 0
    await desk.listed()
    assert desk.pages == COUNT // PAGE + 1


async def test_what_a_venue_lists_beyond_what_was_asked_for_is_left_out() -> None:
    desk = Desk()
    keys = desk.past()
    desk.lists_from_ms = NOW
    assert set(await desk.listed(NOW + 5000)) == set(keys[5:])
    desk.trades = [trade(number, number * 1000) for number in range(COUNT)]
    history = await desk.cache.read(TRADES, NOW + 9000, NONE_OPEN)
    assert [row.sequence for row in history.trades] == list(range(9, COUNT))


async def test_what_lies_between_two_readings_is_listed_when_a_later_one_goes_back() -> None:
    desk = Desk(settled_ms=NOW + 3_000)
    desk.past()
    await desk.listed(NOW)
    desk.settled_ms = SETTLED_MS
    desk.place(50, 5_500)
    await desk.listed(NOW + 9_000)
    assert key(50) in await desk.listed(NOW + 4_000)

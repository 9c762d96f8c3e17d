"""Histories against a real HTTP server over loopback: windows, pages, and waiting for weight."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from support.binance_rest import (
    HOUR_MS,
    REST,
    START_MS,
    JumpingClock,
    Venue,
    answer,
    answering,
    failure,
    ignore,
    new_account,
)

from statecast.domain.models import OrderKey
from statecast.errors import Rejected
from statecast.venues.adapter import CheckScope, HistoryPage, HistoryQuery, WantsSymbol
from statecast.venues.binance import wire
from statecast.venues.binance.account import BinanceAccount
from statecast.venues.binance.limits import WeightBudget

ORDER = {**REST["openOrders"][0], "time": START_MS}
ALL = HistoryQuery("orders")
ORDERS = HistoryQuery("orders", "BTCUSDT", "BTCUSDT")
CONDITIONAL = HistoryQuery("conditional", "BTCUSDT", "BTCUSDT")
TRADES = HistoryQuery("trades", "BTCUSDT", "BTCUSDT")
SETTLED_MS = START_MS - wire.HISTORY_LAG_MS


@pytest.fixture
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture
async def venue(clock: JumpingClock) -> AsyncIterator[Venue]:
    async with answering(clock) as venue:
        yield venue


@pytest.fixture
async def account(venue: Venue, clock: JumpingClock) -> AsyncIterator[BinanceAccount]:
    account = new_account(venue.url, clock)
    yield account
    await account.aclose()


async def rows_of(pages: AsyncIterator[HistoryPage]) -> list[Any]:
    return [row async for page in pages for row in (*page.orders, *page.trades)]


def trade(number: int, at_ms: int = START_MS) -> dict[str, Any]:
    return {**REST["userTrades"][0], "id": number, "time": at_ms}


def test_all_ordinary_orders_are_one_query_and_the_rest_go_by_symbol(account: BinanceAccount) -> None:
    symbols = ["ETHUSDT", "BTCUSDT"]
    assert account.history_queries("orders", symbols) == (ALL,)
    for kind in ("conditional", "trades"):
        assert account.history_queries(kind, symbols) == (
            HistoryQuery(kind, "BTCUSDT", "BTCUSDT"),
            HistoryQuery(kind, "ETHUSDT", "ETHUSDT"),
        )
        assert account.history_queries(kind, []) == ()


@pytest.mark.parametrize("found_by", ["a history", "a check"])
async def test_a_venue_that_wants_a_symbol_gets_one_from_then_on(
    account: BinanceAccount, venue: Venue, found_by: str
) -> None:
    missing = {"code": -1102, "msg": "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."}
    venue.next["/fapi/v1/allOrders"] = [lambda _: answer(missing, 400)]
    if found_by == "a check":
        await account.fetch_check(CheckScope(created_since_ms=START_MS))
    else:
        error = await failure(rows_of(account.history_pages(ALL, START_MS, ignore)))
        assert isinstance(error, WantsSymbol)
        assert "-1102" in str(error)
    assert account.history_queries("orders", ["BTCUSDT"]) == (ORDERS,)


async def test_a_refusal_of_one_symbol_is_no_wish_for_one(account: BinanceAccount, venue: Venue) -> None:
    missing = {"code": -1102, "msg": "Mandatory parameter 'orderId' was not sent."}
    venue.next["/fapi/v1/allOrders"] = [lambda _: answer(missing, 400)]
    error = await failure(rows_of(account.history_pages(ORDERS, START_MS, ignore)))
    assert isinstance(error, Rejected)
    assert account.history_queries("orders", ["BTCUSDT"]) == (ALL,)


@pytest.mark.parametrize("query", [ALL, CONDITIONAL, TRADES], ids=lambda query: query.kind)
async def test_a_history_is_settled_until_a_minute_ago_and_not_beyond_what_was_listed(
    account: BinanceAccount, venue: Venue, query: HistoryQuery
) -> None:
    paths = {"orders": "allOrders", "conditional": "allAlgoOrders", "trades": "userTrades"}
    venue.bodies["/fapi/v1/" + paths[query.kind]] = []
    since_ms = START_MS - 10 * wire.DAY_MS
    pages = [page async for page in account.history_pages(query, since_ms, ignore)]
    assert [page.settled_ms for page in pages] == [since_ms + wire.HISTORY_SPAN_MS, SETTLED_MS]
    assert {page.forgotten_until_ms for page in pages} == {0}


async def test_a_full_page_is_settled_until_its_youngest_row(account: BinanceAccount, venue: Venue) -> None:
    since_ms = START_MS - HOUR_MS
    orders = [{**ORDER, "orderId": n, "time": since_ms + n} for n in range(wire.HISTORY_PAGE + 5)]
    venue.next["/fapi/v1/allOrders"] = [
        lambda _: answer(orders[: wire.HISTORY_PAGE]),
        lambda _: answer(orders[wire.HISTORY_PAGE - 1 :]),
    ]
    pages = [page async for page in account.history_pages(ALL, since_ms, ignore)]
    assert [page.settled_ms for page in pages] == [since_ms + wire.HISTORY_PAGE - 1, SETTLED_MS]
    trades = [trade(n, since_ms + n) for n in range(wire.HISTORY_PAGE + 5)]
    venue.next["/fapi/v1/userTrades"] = [
        lambda _: answer(trades[: wire.HISTORY_PAGE]),
        lambda _: answer(trades[wire.HISTORY_PAGE :]),
    ]
    pages = [page async for page in account.history_pages(TRADES, since_ms, ignore)]
    assert [page.settled_ms for page in pages] == [since_ms + wire.HISTORY_PAGE - 1, SETTLED_MS]


async def test_orders_of_a_long_time_are_asked_for_in_spans_that_the_venue_accepts(
    account: BinanceAccount, venue: Venue
) -> None:
    venue.bodies["/fapi/v1/allOrders"] = []
    since_ms = START_MS - 20 * wire.DAY_MS
    assert await rows_of(account.history_pages(ALL, since_ms, ignore)) == []
    spans = [(int(r.query["startTime"]), int(r.query["endTime"])) for r in venue.requests if "startTime" in r.query]
    assert spans[0][0] == since_ms
    assert spans[-1][1] >= START_MS
    assert all(end - start < 7 * wire.DAY_MS for start, end in spans)
    assert all(after[0] == before[1] + 1 for before, after in itertools.pairwise(spans))
    assert not any("symbol" in request.query for request in venue.requests)


async def test_full_pages_are_turned_and_no_order_is_left_out(account: BinanceAccount, venue: Venue) -> None:
    rows = [{**ORDER, "orderId": n, "time": START_MS - HOUR_MS + n // 3} for n in range(2500)]

    def page(request: web.Request) -> web.StreamResponse:
        start, end = int(request.query["startTime"]), int(request.query["endTime"])
        return answer([row for row in rows if start <= row["time"] <= end][: int(request.query["limit"])])

    venue.next["/fapi/v1/allOrders"] = [page] * 10
    found = await rows_of(account.history_pages(ORDERS, START_MS - HOUR_MS, ignore))
    assert {past.order.order_id for past in found} == {str(n) for n in range(2500)}


async def test_orders_of_one_millisecond_beyond_a_page_are_an_error(account: BinanceAccount, venue: Venue) -> None:
    venue.bodies["/fapi/v1/allOrders"] = [ORDER] * wire.HISTORY_PAGE
    error = await failure(rows_of(account.history_pages(ALL, START_MS, ignore)))
    assert str(error) == "frame GET /fapi/v1/allOrders: body: holds more orders of one millisecond than a page can"


async def test_trades_of_one_millisecond_are_turned_by_their_numbers(account: BinanceAccount, venue: Venue) -> None:
    rows = [trade(n) for n in range(2300)]

    def page(request: web.Request) -> web.StreamResponse:
        assert not ("fromId" in request.query and "startTime" in request.query), "the venue refuses both"
        first = int(request.query.get("fromId", 0))
        return answer([row for row in rows if row["id"] >= first][: int(request.query["limit"])])

    venue.next["/fapi/v1/userTrades"] = [page] * 10
    found = await rows_of(account.history_pages(TRADES, START_MS - HOUR_MS, ignore))
    assert [row.sequence for row in found] == list(range(2300))


async def test_orders_that_the_venue_has_forgotten_are_none(account: BinanceAccount, venue: Venue) -> None:
    gone = {"code": -2013, "msg": "Order does not exist."}
    venue.next |= {path: [lambda _: answer(gone, 400)] for path in ("/fapi/v1/order", "/fapi/v1/algoOrder")}
    assert await account.fetch_order(OrderKey("BTCUSDT", "1"), ignore) is None
    assert await account.fetch_order(OrderKey("BTCUSDT", "algo-1"), ignore) is None
    venue.bodies["/fapi/v1/order"] = ORDER
    venue.bodies["/fapi/v1/algoOrder"] = REST["openAlgoOrders"][0] | {"createTime": START_MS}
    found = await account.fetch_order(OrderKey("BTCUSDT", "8886774001"), ignore)
    assert found is not None
    assert (found.order.order_id, found.created_ms) == ("8886774001", START_MS)
    algo = await account.fetch_order(OrderKey("BTCUSDT", "algo-2148719"), ignore)
    assert algo is not None
    assert algo.order.order_id == "algo-2148719"


async def test_a_history_waits_for_weight_and_leaves_enough_for_a_snapshot(venue: Venue, clock: JumpingClock) -> None:
    budget = WeightBudget()
    client = new_account(venue.url, clock, budget)
    venue.bodies["/fapi/v1/userTrades"] = []
    waits: list[float] = []
    try:
        await client.clock.sync()
        budget.spend(1600, client.clock.now_ms())
        await client.fetch_snapshot()
        assert await rows_of(client.history_pages(TRADES, START_MS, waits.append)) == []
    finally:
        await client.aclose()
    assert len(waits) == 1
    assert 0 < waits[0] <= 60
    assert clock.elapsed_s >= waits[0], "and then went on"


async def test_a_history_survives_the_venues_wish_for_silence(
    account: BinanceAccount, venue: Venue, clock: JumpingClock
) -> None:
    venue.bodies["/fapi/v1/userTrades"] = [trade(1)]
    limited = {"code": -1003, "msg": "Too many requests."}
    venue.next["/fapi/v1/userTrades"] = [lambda _: answer(limited, 429, Retry_After="7")]
    waits: list[float] = []
    assert len(await rows_of(account.history_pages(TRADES, START_MS, waits.append))) == 1
    assert [round(wait) for wait in waits] == [7]

"""Histories against a real HTTP server over loopback: windows, pages, and waiting for weight."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

import pytest
from aiohttp import web
from support.binance_rest import (
    HOUR_MS,
    REST,
    START_MS,
    Answer,
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


async def test_a_page_of_trades_that_is_full_is_settled_until_its_youngest_row(
    account: BinanceAccount, venue: Venue
) -> None:
    since_ms = START_MS - HOUR_MS
    trades = [trade(n, since_ms + n) for n in range(wire.HISTORY_PAGE + 5)]
    venue.next["/fapi/v1/userTrades"] = [
        lambda _: answer(trades[: wire.HISTORY_PAGE]),
        lambda _: answer(trades[wire.HISTORY_PAGE - 1 :]),
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


def order_rows(count: int, per_ms: float, symbols: int = 1) -> list[dict[str, Any]]:
    """So many orders within an hour, so many of them in a millisecond, of symbols by turns."""
    began = START_MS - HOUR_MS
    return [
        {**ORDER, "orderId": n, "symbol": f"S{n % symbols}USDT", "time": began + int(n / per_ms)} for n in range(count)
    ]


SORTED: dict[str, Callable[[dict[str, Any]], tuple[Any, ...]]] = {
    "time": lambda row: (row["time"], row["orderId"]),
    "id": lambda row: (row["orderId"],),
    "symbol and id": lambda row: (row["symbol"], row["orderId"]),
    "symbol, newest first": lambda row: (row["symbol"], -row["time"], -row["orderId"]),
    "newest first": lambda row: (-row["time"], -row["orderId"]),
}


def listing(rows: list[dict[str, Any]], by: str = "time") -> Answer:
    """The venue lists these, so sorted."""
    rows = sorted(rows, key=SORTED[by])

    def page(request: web.Request) -> web.StreamResponse:
        query = request.query
        assert not ("orderId" in query and "startTime" in query)
        start, end = int(query.get("startTime", 0)), int(query.get("endTime", 1 << 60))
        found = [row for row in rows if start <= row["time"] <= end and row["orderId"] >= int(query.get("orderId", 0))]
        found = [row for row in found if query.get("symbol", row["symbol"]) == row["symbol"]]
        if "orderId" in query:
            found.sort(key=lambda row: row["orderId"])
        return answer(found[: int(query["limit"])])

    return page


@pytest.mark.parametrize("by", SORTED)
@pytest.mark.parametrize(("count", "per_ms"), [(2500, 3), (2500, 0.001), (9000, 40)])
async def test_no_order_is_left_out_whatever_the_pages_are_sorted_by(
    venue: Venue, clock: JumpingClock, by: str, count: int, per_ms: float
) -> None:
    rows = order_rows(count, per_ms, symbols=3)
    async with aclosing(new_account(venue.url, clock, WeightBudget(limit=1_000_000))) as account:
        venue.next["/fapi/v1/allOrders"] = [listing(rows, by)] * 200
        pages = [page async for page in account.history_pages(ALL, START_MS - HOUR_MS, ignore)]
    found = {past.order.key for page in pages for past in page.orders}
    assert found == {OrderKey(row["symbol"], str(row["orderId"])) for row in rows}
    settled = [page.settled_ms for page in pages if page.settled_ms]
    assert settled == sorted(settled)
    assert settled[-1] == SETTLED_MS
    asked = venue.count("/fapi/v1/allOrders")
    assert asked <= count / 1000 * (2.5 if by == "time" else 3.5) + 12, "each weighs 5"


async def test_what_is_settled_was_listed_whatever_the_pages_are_sorted_by(venue: Venue, clock: JumpingClock) -> None:
    rows = order_rows(2500, 0.001, symbols=3)
    async with aclosing(new_account(venue.url, clock)) as account:
        venue.next["/fapi/v1/allOrders"] = [listing(rows, "symbol and id")] * 20
        listed: set[int] = set()
        async for page in account.history_pages(ALL, START_MS - HOUR_MS, ignore):
            listed |= {int(past.order.order_id) for past in page.orders}
            assert listed >= {row["orderId"] for row in rows if row["time"] <= page.settled_ms}


async def test_orders_of_one_millisecond_beyond_a_page_are_asked_for_by_symbol_and_id(
    account: BinanceAccount, venue: Venue
) -> None:
    rows = order_rows(2600, 1200)
    venue.next["/fapi/v1/allOrders"] = [listing(rows)] * 100
    error = await failure(rows_of(account.history_pages(ALL, START_MS - HOUR_MS, ignore)))
    assert isinstance(error, WantsSymbol), "of all symbols, no page proves that it has them all"
    assert account.history_queries("orders", ["S0USDT"]) == (HistoryQuery("orders", "S0USDT", "S0USDT"),)
    query = HistoryQuery("orders", "S0USDT", "S0USDT")
    pages = [page async for page in account.history_pages(query, START_MS - HOUR_MS, ignore)]
    assert {past.order.order_id for page in pages for past in page.orders} == {str(n) for n in range(2600)}
    assert pages[-1].settled_ms == SETTLED_MS


def trade_listing(rows: list[dict[str, Any]]) -> Answer:
    def page(request: web.Request) -> web.StreamResponse:
        query = request.query
        assert not ("fromId" in query and "startTime" in query), "the venue refuses both"
        first = int(query.get("fromId", 0))
        return answer([row for row in rows if row["id"] >= first][: int(query["limit"])])

    return page


async def test_trades_of_one_millisecond_are_turned_by_their_numbers(account: BinanceAccount, venue: Venue) -> None:
    rows = [trade(n) for n in range(2300)]
    venue.next["/fapi/v1/userTrades"] = [trade_listing(rows)] * 10
    found = await rows_of(account.history_pages(TRADES, START_MS - HOUR_MS, ignore))
    assert sorted({row.sequence for row in found}) == list(range(2300))


@pytest.mark.parametrize("page", [1, 2, 3, 4, 7])
async def test_both_fills_of_a_trade_with_oneself_are_listed_wherever_a_page_ends(
    venue: Venue, clock: JumpingClock, page: int
) -> None:
    """And where a page holds nothing but one number, the next one goes on."""
    rows = [{**trade(n), "orderId": 100 * n + order} for n in range(9) for order in range(1 + n % 2)]
    async with aclosing(new_account(venue.url, clock, history_page=page)) as account:
        venue.next["/fapi/v1/userTrades"] = [trade_listing(rows)] * 40
        found = await rows_of(account.history_pages(TRADES, START_MS - HOUR_MS, ignore))
    listed = {(row.sequence, int(row.order_id)) for row in found}
    whole = {(row["id"], row["orderId"]) for row in rows}
    assert listed == whole if page > 1 else {number for number, _ in listed} == set(range(9))


@pytest.mark.parametrize("bad", [(4,), (0,), (3, 4, 7), (7, 8)])
async def test_behind_a_row_that_cannot_be_understood_fills_are_listed_on(
    venue: Venue, clock: JumpingClock, bad: tuple[int, ...]
) -> None:
    """Also where a page ends with it: it counts among those that make a page full."""
    rows = [{**trade(n), "orderId": n, "qty": None if n in bad else "1"} for n in range(9)]
    async with aclosing(new_account(venue.url, clock, history_page=3)) as account:
        venue.next["/fapi/v1/userTrades"] = [trade_listing(rows)] * 40
        pages = [page async for page in account.history_pages(TRADES, START_MS - HOUR_MS, ignore)]
    assert {row.sequence for page in pages for row in page.trades} == set(range(9)) - set(bad)
    assert {key for page in pages for key in page.unreadable} == {OrderKey("BTCUSDT", str(n)) for n in bad}


async def test_a_full_page_of_fills_none_of_which_can_be_understood_is_an_error(
    venue: Venue, clock: JumpingClock
) -> None:
    rows = [{**trade(n), "id": None} for n in range(3)]
    async with aclosing(new_account(venue.url, clock, history_page=3)) as account:
        venue.bodies["/fapi/v1/userTrades"] = rows
        error = await failure(rows_of(account.history_pages(TRADES, START_MS - HOUR_MS, ignore)))
    assert str(error) == "frame GET /fapi/v1/userTrades: body: holds no row that can be understood"


async def test_nothing_is_asked_for_that_the_venue_no_longer_keeps(account: BinanceAccount, venue: Venue) -> None:
    for query, path in ((ALL, "allOrders"), (CONDITIONAL, "allAlgoOrders"), (TRADES, "userTrades")):
        venue.bodies[f"/fapi/v1/{path}"] = []
        since_ms = START_MS - 93 * wire.DAY_MS
        pages = [page async for page in account.history_pages(query, since_ms, ignore)]
        asked = [int(one.query["startTime"]) for one in venue.requests if one.path == f"/fapi/v1/{path}"]
        assert START_MS - 90 * wire.DAY_MS <= asked[0] <= START_MS - 90 * wire.DAY_MS + 1_000
        assert {page.forgotten_until_ms for page in pages} == {asked[0]}


# What else is asked for a gap


def amendment(number: int, at_ms: int) -> dict[str, Any]:
    changed = {"price": {"before": str(number), "after": str(number + 1)}, "origQty": {"before": "1", "after": "2"}}
    return {
        "amendmentId": 5000 + number,
        "symbol": "BTCUSDT",
        "orderId": 7,
        "time": at_ms,
        "amendment": changed | {"count": number},
    }


async def test_amendments_of_an_order_are_listed_newest_first_and_read_oldest_first(
    account: BinanceAccount, venue: Venue
) -> None:
    rows = [amendment(number, START_MS - HOUR_MS + number // 3) for number in range(250)]

    def page(request: web.Request) -> web.StreamResponse:
        start, end = int(request.query["startTime"]), int(request.query.get("endTime", 1 << 60))
        found = [row for row in reversed(rows) if start <= row["time"] <= end]
        return answer(found[: int(request.query["limit"])])

    path = "/fapi/v1/orderAmendment"
    venue.next[path] = [page] * 10
    found = await account.fetch_amendments(OrderKey("BTCUSDT", "7"), START_MS - HOUR_MS, ignore)
    assert [int(one.price_before) for one in found] == list(range(250))
    assert (found[1].price, found[1].quantity_before, found[1].quantity) == (2, 1, 2)
    assert {(one.query["symbol"], one.query["orderId"]) for one in venue.requests if one.path == path} == {
        ("BTCUSDT", "7")
    }
    assert await account.fetch_amendments(OrderKey("BTCUSDT", "algo-7"), START_MS, ignore) == ()


async def test_amendments_that_the_venue_refuses_to_list_are_not_none(account: BinanceAccount, venue: Venue) -> None:
    refusal = {"code": -1121, "msg": "Invalid symbol."}
    venue.next["/fapi/v1/orderAmendment"] = [lambda _: answer(refusal, 400)]
    with pytest.raises(Rejected):
        await account.fetch_amendments(OrderKey("BTCUSDT", "7"), START_MS - HOUR_MS, ignore)


async def test_one_amendment_that_cannot_be_understood_costs_itself_alone(
    account: BinanceAccount, venue: Venue
) -> None:
    """It counts as a row of its page nevertheless, and there is a next one."""
    rows: list[dict[str, Any]] = [amendment(number, START_MS - HOUR_MS + number) for number in range(150)]
    rows[120] = {**rows[120], "amendment": {"price": None}}

    def page(request: web.Request) -> web.StreamResponse:
        end_ms = int(request.query.get("endTime", 1 << 60))
        return answer([row for row in reversed(rows) if row["time"] <= end_ms][: int(request.query["limit"])])

    venue.next["/fapi/v1/orderAmendment"] = [page] * 10
    found = await account.fetch_amendments(OrderKey("BTCUSDT", "7"), START_MS - HOUR_MS, ignore)
    assert [int(one.price_before) for one in found] == [number for number in range(150) if number != 120]
    venue.next["/fapi/v1/orderAmendment"] = [lambda _: answer([{"amendmentId": 1}] * 100)]
    assert await account.fetch_amendments(OrderKey("BTCUSDT", "7"), START_MS - HOUR_MS, ignore) == ()


def income(number: int, symbol: str = "") -> dict[str, Any]:
    symbol = symbol or f"S{number % 40}USDT"
    return {
        "symbol": symbol,
        "incomeType": "COMMISSION",
        "income": "-1",
        "asset": "USDT",
        "time": START_MS - 60_000 - number,
    }


@pytest.mark.parametrize(("count", "whatever", "named"), [(0, False, 0), (50, False, 40), (4500, True, 40)])
async def test_bookings_name_the_symbols_in_which_something_was_filled(
    account: BinanceAccount, venue: Venue, count: int, whatever: bool, named: int
) -> None:
    rows = sorted((income(number) for number in range(count)), key=lambda row: row["time"])

    def page(request: web.Request) -> web.StreamResponse:
        assert request.query["incomeType"] == "COMMISSION"
        assert "symbol" not in request.query
        found = [row for row in rows if row["time"] >= int(request.query["startTime"])]
        return answer(found[: int(request.query["limit"])])

    venue.next["/fapi/v1/income"] = [page] * 10
    found = await account.symbols_with_fills(START_MS - HOUR_MS, ignore, whatever_it_costs=whatever)
    assert found is not None
    assert len(found) == named


async def test_so_many_bookings_that_naming_symbols_costs_more_than_reading_them_name_none(
    account: BinanceAccount, venue: Venue
) -> None:
    venue.next["/fapi/v1/income"] = [lambda _: answer([income(n) for n in range(1000)])] * 10
    assert await account.symbols_with_fills(START_MS - HOUR_MS, ignore, whatever_it_costs=False) is None
    assert venue.count("/fapi/v1/income") == 3
    venue.next["/fapi/v1/income"] = [lambda _: answer({"code": -5000, "msg": "Path is invalid"}, 404)]
    assert await account.symbols_with_fills(START_MS - HOUR_MS, ignore, whatever_it_costs=True) is None


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

"""A history that is read in several attempts is not read again from its beginning, and tells the same in the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from decimal import Decimal

import pytest
from support.world import KEY, SECRET, new_server

from publisher import history_cache
from publisher.history_cache import LAG_MS, HistoryCache
from statecast.clock import SystemClock
from statecast.domain.history import PastOrder
from statecast.domain.models import Order, OrderKey
from statecast.secret import Secret
from statecast.simulator.ledger import Ledger
from statecast.simulator.orders import OrderRequest, OrderType, Side
from statecast.simulator.server import SimulatorServer
from statecast.venues.adapter import WantsSymbol
from statecast.venues.binance import history, wire
from statecast.venues.binance.account import BinanceAccount
from statecast.venues.binance.limits import WeightBudget

PAGE = 4
COUNT = 14
AGO_MS = 10 * LAG_MS
ORDERS = "GET /fapi/v1/allOrders 200"
TRADES = "GET /fapi/v1/userTrades 200"
NONE_OPEN: Mapping[OrderKey, Order] = {}


class Interrupted(Exception):
    """As a stream that is cut ends a backfill."""


class Desk:
    """An account with a past, and one who reads it, page by page."""

    def __init__(self, server: SimulatorServer) -> None:
        self.ledger: Ledger = server.exchange.ledger
        self.asked = server.exchange.requests
        self.fault = server.exchange.fault
        urls = wire.BinanceUrls.choose(False, server.rest_url, server.ws_url, None, None)
        self.rest = BinanceAccount(urls, Secret(KEY), Secret(SECRET), SystemClock(), WeightBudget())
        self.histories = HistoryCache(self.rest, lambda _: None, self._page)
        self.began_ms = SystemClock().now_ms() - AGO_MS
        self.pages = 0
        self.interrupted_at = 0

    def _page(self, _: str) -> None:
        self.pages += 1
        if self.pages == self.interrupted_at:
            raise Interrupted

    def place(self, at_ms: int) -> int:
        """A resting order; its number."""
        rules = self.ledger.rules["BTCUSDT"]
        price = self.ledger.marks["BTCUSDT"] * Decimal("0.9") // rules.tick_size * rules.tick_size
        qty = (rules.min_notional / price // rules.step_size + 2) * rules.step_size
        self.ledger.place(
            OrderRequest(symbol="BTCUSDT", side=Side.BUY, type=OrderType.LIMIT, qty=qty, price=price), at_ms
        )
        return self.ledger.open_orders("BTCUSDT")[-1].order_id

    def past(self, *, still_open: int = 0) -> list[int]:
        """Orders of one a second, which were cancelled, but for the first ones; their numbers."""
        numbers = [self.place(self.began_ms + at * 1000) for at in range(COUNT)]
        for at, number in enumerate(numbers[still_open:], start=still_open):
            self.ledger.cancel(number, self.began_ms + at * 1000 + 100)
        return numbers

    async def listed(
        self, since_ms: int | None = None, open_now: Mapping[OrderKey, Order] = NONE_OPEN
    ) -> dict[int, PastOrder]:
        found = await self.histories.orders_since(self.began_ms if since_ms is None else since_ms, "", open_now)
        return {int(past.order.order_id): past for past in found}

    async def fills(self) -> list[int]:
        return [trade.trade_id for trade in await self.histories.trades_since(self.began_ms, "BTCUSDT")]


@pytest.fixture
async def desk(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    monkeypatch.setattr(wire, "HISTORY_PAGE", PAGE)
    async with new_server() as server:
        desk = Desk(server)
        async with aclosing(desk.rest):
            yield desk


async def test_what_an_interrupted_attempt_has_read_is_not_read_again(desk: Desk) -> None:
    numbers = desk.past()
    await desk.listed()
    at_once = desk.asked[ORDERS]
    desk.histories.forget()
    desk.pages, desk.interrupted_at = 0, at_once - 2
    with pytest.raises(Interrupted):
        await desk.listed()
    before = desk.asked[ORDERS]
    assert before == 2 * at_once - 2
    assert set(await desk.listed()) == set(numbers)
    assert desk.asked[ORDERS] - before == 2, "from the page on that was the last"


async def test_an_order_that_was_open_is_looked_at_again(desk: Desk) -> None:
    numbers = desk.past(still_open=2)
    assert {past.order.status for past in (await desk.listed()).values()} == {"NEW", "CANCELED"}
    now_ms = SystemClock().now_ms()
    desk.ledger.cancel(numbers[0], now_ms)
    found = await desk.listed()
    assert found[numbers[0]].order.status == "CANCELED"
    assert found[numbers[1]].order.status == "NEW"
    assert desk.asked["GET /fapi/v1/order 200"] == 2
    known = found[numbers[1]].order._replace(status="PARTIALLY_FILLED")
    found = await desk.listed(open_now={known.key: known})
    assert found[numbers[1]] == PastOrder(known, desk.began_ms + 1000), "when it was placed is still known"
    assert desk.asked["GET /fapi/v1/order 200"] == 2


async def test_many_that_were_open_are_listed_again(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history_cache, "MAX_ASKED_ALONE", 3)
    numbers = desk.past(still_open=8)
    await desk.listed()
    for number in numbers[:8]:
        desk.ledger.cancel(number, SystemClock().now_ms())
    found = await desk.listed()
    assert set(found) == set(numbers)
    assert {past.order.status for past in found.values()} == {"CANCELED"}
    assert desk.asked["GET /fapi/v1/order 200"] == 2


async def test_what_the_venue_may_have_told_late_is_asked_for_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = desk.past()
    late = desk.place(SystemClock().now_ms() - LAG_MS // 2)
    decoded = history.orders
    monkeypatch.setattr(
        history, "orders", lambda body: tuple(past for past in decoded(body) if past.order.order_id != str(late))
    )
    assert set(await desk.listed()) == set(numbers)
    monkeypatch.setattr(history, "orders", decoded)
    assert set(await desk.listed()) == {*numbers, late}


async def test_a_window_that_begins_earlier_is_read_anew_and_a_later_one_tells_less(desk: Desk) -> None:
    numbers = desk.past()
    assert set(await desk.listed(desk.began_ms + 5000)) == set(numbers[5:])
    assert set(await desk.listed(desk.began_ms)) == set(numbers)
    assert set(await desk.listed(desk.began_ms + 9000)) == set(numbers[9:])


async def test_trades_go_on_behind_the_last_one_that_is_settled(desk: Desk) -> None:
    fills = []
    for at in range(COUNT):
        number = desk.place(desk.began_ms + at * 1000)
        qty = desk.ledger.open_orders("BTCUSDT")[-1].qty
        desk.ledger.fill_resting(number, qty, desk.began_ms + at * 1000 + 100)
        fills.append(desk.ledger.trades[-1].trade_id)
    desk.interrupted_at = 3
    with pytest.raises(Interrupted):
        await desk.fills()
    before = desk.asked[TRADES]
    assert await desk.fills() == fills
    assert desk.asked[TRADES] - before == 1, "two trades are left"


async def test_a_venue_that_wants_a_symbol_gets_one(desk: Desk) -> None:
    numbers = desk.past()
    body = '{"code":-1102,"msg":"Mandatory parameter \'symbol\' was not sent, was empty/null, or malformed."}'
    args = {"count": 1, "status": 400, "body": body, "path": "/fapi/v1/allOrders"}
    desk.fault("answer_rest", args, SystemClock().now_ms())
    with pytest.raises(WantsSymbol):
        await desk.histories.orders_since(desk.began_ms, "", NONE_OPEN)
    found = await desk.histories.orders_since(desk.began_ms, "BTCUSDT", NONE_OPEN)
    assert {int(past.order.order_id) for past in found} == set(numbers)


async def test_an_order_that_the_venue_refuses_to_tell_alone_is_listed_again(desk: Desk) -> None:
    numbers = desk.past(still_open=2)
    await desk.listed()
    desk.ledger.cancel(numbers[0], SystemClock().now_ms())
    body = '{"code":-1121,"msg":"Invalid symbol."}'
    args = {"count": 5, "status": 400, "body": body, "path": "/fapi/v1/order"}
    desk.fault("answer_rest", args, SystemClock().now_ms())
    found = await desk.listed()
    assert set(found) == set(numbers)
    assert found[numbers[0]].order.status == "CANCELED"


async def test_trades_in_doubt_are_asked_for_again_however_old(desk: Desk) -> None:
    number = desk.place(desk.began_ms)
    desk.ledger.fill_resting(number, Decimal("0.001"), desk.began_ms)
    desk.ledger.fill_resting(number, Decimal("0.001"), desk.began_ms + 1000)
    late = desk.ledger.trades.pop(0)
    assert await desk.fills() == [late.trade_id + 1]
    desk.ledger.trades.insert(0, late)
    assert await desk.fills() == [late.trade_id + 1], "what is older than the lag is believed"
    desk.histories.forget_trades(["BTCUSDT"])
    assert sorted(await desk.fills()) == [late.trade_id, late.trade_id + 1]

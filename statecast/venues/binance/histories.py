"""Order and trade histories of one account, page by page.

A history of orders is listed by the time of creation. No document says by what its rows are sorted, so a full page
proves nothing of what lies in its window: the window is made smaller until the page is not full, and the next one is as
wide as the last ones suggest. Trades are listed by their time, and from the first page that is full by their ids, for
many can be of one millisecond. Since 2026-08-25 the history of ordinary orders is listed of all symbols at once; a
venue that wants a symbol is not asked so again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import structlog

from statecast.domain import event_ids
from statecast.domain.history import PastAmendment, PastOrder, PastTrade
from statecast.domain.models import Order, OrderKey
from statecast.errors import AuthFailed, FrameError, Rejected
from statecast.venues.adapter import CheckScope, HistoryKind, HistoryPage, HistoryQuery, Waiting, WantsSymbol
from statecast.venues.binance import history, wire
from statecast.venues.binance.errors import NO_SUCH_ORDER, NO_SUCH_SYMBOL, PARAMETER_MISSING
from statecast.venues.binance.rest import NO_PARAMS, BinanceRest
from statecast.venues.http import all_of

NO_END_MS = 1 << 60

AHEAD_MS = 60_000
"""The last window of a history reaches so far beyond now, for clocks that differ."""

BOOKED_WITHIN_MS = 10_000
"""Times of one fill differ by so much at the most: other services book incomes, and stamp wallets, than those that fill
orders."""

MAX_INCOME_PAGES = 3
"""Of an account that trades so much, reading each symbol costs no more than the pages that would name them."""

Params = Mapping[str, str | int]
Ask = Callable[[wire.Call, Params], Awaitable[object]]
"""Sends a call for a page."""

_Page = tuple[tuple[PastOrder, ...], int]
_Trades = tuple[history.Trades, int]


class Created(NamedTuple):
    """Orders that were created lately. All ordinary ones until `until_ms` are among them, and all conditional ones of a
    symbol until a time of its own."""

    orders: Sequence[Order] = ()
    until_ms: int = NO_END_MS
    conditional_until_ms: Mapping[str, int] = {}


class Histories:
    """Reads what one account's past is known by. Times are the venue's milliseconds."""

    def __init__(self, rest: BinanceRest) -> None:
        self._rest = rest
        self._lists_orders_of_all_symbols = True
        self._refused: set[str] = set()
        """Symbols of which the log says that the venue does not list their conditional orders."""

    # Of a gap. These calls may wait for request weight: `waiting` is called with the seconds, each time.

    def queries(self, kind: HistoryKind, symbols: Collection[str]) -> tuple[HistoryQuery, ...]:
        """One query for all ordinary orders, where the venue takes it; else one for each symbol."""
        if kind == "orders" and self._lists_orders_of_all_symbols:
            return (HistoryQuery(kind),)
        return tuple(HistoryQuery(kind, symbol, symbol) for symbol in sorted(symbols))

    async def pages(self, query: HistoryQuery, since_ms: int, waiting: Waiting) -> AsyncIterator[HistoryPage]:
        """A history, oldest first. A row that two pages hold is there twice."""
        await self._rest.clock.ensure()
        settled_ms = self._rest.clock.now_ms() - wire.HISTORY_LAG_MS
        start_ms = self._kept_since(since_ms)
        forgotten_ms = start_ms if start_ms > since_ms else 0
        if query.kind == "trades":
            async for trades, until_ms in self._trades(query.symbol, start_ms, waiting):
                yield HistoryPage((), trades.rows, min(until_ms, settled_ms), forgotten_ms, trades.unreadable)
            return

        def ask(call: wire.Call, params: Params) -> Awaitable[object]:
            return self._rest.read_when_allowed(call, params, waiting)

        try:
            async for orders, until_ms in self._orders(query, start_ms, ask):
                yield HistoryPage(orders, (), min(until_ms, settled_ms), forgotten_ms)
        except WantsSymbol:
            self._lists_orders_of_all_symbols = False
            raise
        except Rejected as error:
            if query.symbol or error.code != PARAMETER_MISSING:
                raise
            self._lists_orders_of_all_symbols = False
            raise WantsSymbol(error.venue, error.call, error.reason) from error

    async def order(self, key: OrderKey, waiting: Waiting) -> PastOrder | None:
        """One order; None where the venue does not know it: not any more, or not yet."""

        async def read(call: wire.Call, params: Params) -> object:
            return await self._rest.read_when_allowed(call, params, waiting, paged=False)

        try:
            return await self._one_order(key, read)
        except Rejected as error:
            if error.code == NO_SUCH_ORDER:
                return None
            raise

    async def amendments(self, key: OrderKey, since_ms: int, waiting: Waiting) -> tuple[PastAmendment, ...]:
        """How an order was amended since then, oldest first. The venue lists the newest first, 100 at a time."""
        if event_ids.algo_id(key.order_id) != key.order_id:
            return ()  # A conditional order cannot be amended.
        found: dict[int, tuple[int, PastAmendment]] = {}
        params: dict[str, str | int] = {"symbol": key.symbol, "orderId": key.order_id, "limit": wire.AMENDMENT_PAGE}
        params["startTime"] = self._kept_since(since_ms)
        while True:
            page = history.amendments(
                await self._rest.read_when_allowed(wire.ORDER_AMENDMENT, params, waiting, paged=False)
            )
            has_more = any(number not in found for number, _, _ in page.rows)
            found.update({number: (count, amendment) for number, count, amendment in page.rows})
            if page.listed < wire.AMENDMENT_PAGE or not has_more:
                break
            params["endTime"] = min(amendment.time_ms for _, _, amendment in page.rows)
        return tuple(amendment for _, amendment in sorted(found.values(), key=lambda row: row[0]))

    async def symbols_with_fills(self, since_ms: int, waiting: Waiting, *, all_pages: bool) -> frozenset[str] | None:
        """Symbols in which a commission was booked since then. None where the venue does not answer, or they fill too
        many pages and not `all_pages` are wanted."""
        await self._rest.clock.ensure()
        start_ms, now_ms = self._kept_since(since_ms - BOOKED_WITHIN_MS), self._rest.clock.now_ms()
        symbols: set[str] = set()
        pages = 0
        while start_ms <= now_ms:
            pages += 1
            end_ms = start_ms + wire.HISTORY_SPAN_MS
            params: Params = {"incomeType": "COMMISSION", "startTime": start_ms, "endTime": end_ms}
            try:
                rows = history.incomes(await self._rest.read_when_allowed(wire.INCOME, params, waiting))
            except AuthFailed:
                raise
            except (Rejected, FrameError):
                return None
            symbols.update(row.symbol for row in rows if row.symbol)
            if len(rows) < self._rest.history_page:
                start_ms = end_ms + 1
                continue
            if pages >= MAX_INCOME_PAGES and not all_pages:
                return None
            # A page may end within a millisecond, and one millisecond may fill it.
            youngest_ms = max(row.time_ms for row in rows)
            start_ms = youngest_ms if youngest_ms > start_ms else start_ms + 1
        return frozenset(symbols)

    def _kept_since(self, since_ms: int) -> int:
        """What the venue still has of a time."""
        return max(since_ms, self._rest.clock.now_ms() - wire.KEPT_MS)

    async def _orders(self, query: HistoryQuery, since_ms: int, ask: Ask) -> AsyncIterator[_Page]:
        """Pages, and until when all orders were listed by then; 0 where a page proves nothing of that."""
        call, decoded = _listing(query.kind)
        symbol: Params = {"symbol": query.symbol} if query.symbol else NO_PARAMS
        start_ms, last_ms = since_ms, self._rest.clock.now_ms() + AHEAD_MS
        width_ms = wire.HISTORY_SPAN_MS
        while start_ms <= last_ms:
            end_ms = min(start_ms + width_ms, last_ms)
            page = decoded(await ask(call, {**symbol, "startTime": start_ms, "endTime": end_ms}))
            if len(page) < self._rest.history_page:
                yield page, end_ms
                start_ms, width_ms = end_ms + 1, _next_width(width_ms, len(page), self._rest.history_page)
                continue
            yield page, 0
            if end_ms > start_ms:
                # As many as a page holds at the most, if its rows are the first ones of the window; and half of it.
                times = sorted(row.created_ms for row in page)
                likely_ms = times[len(times) * 3 // 4] - start_ms
                width_ms = max(0, min(likely_ms, (end_ms - start_ms) // 2))
                continue
            if not query.symbol:
                # Which symbols they are of, no page can prove.
                raise WantsSymbol(wire.VENUE, str(call), "more orders of one millisecond than a page can hold")
            async for more in self._by_id(query, min(_number(row) for row in page), end_ms, ask):
                yield more, 0
            yield (), end_ms
            start_ms, width_ms = end_ms + 1, 1

    async def _by_id(
        self, query: HistoryQuery, first_id: int, until_ms: int, ask: Ask
    ) -> AsyncIterator[tuple[PastOrder, ...]]:
        """One symbol's orders from an id on, until some were created later."""
        call, decoded = _listing(query.kind)
        name = "orderId" if query.kind == "orders" else "algoId"
        while True:
            page = decoded(await ask(call, {"symbol": query.symbol, name: first_id}))
            yield page
            if len(page) < self._rest.history_page or min(row.created_ms for row in page) > until_ms:
                return
            first_id = max(_number(row) for row in page) + 1

    async def _trades(self, symbol: str, since_ms: int, waiting: Waiting) -> AsyncIterator[_Trades]:
        """Pages, and until when all fills were listed by then. Both orders of a trade with oneself have one number, so
        a page begins with the number that the one before it ended with."""
        start_ms, now_ms = since_ms, self._rest.clock.now_ms()
        from_id: int | None = None
        while from_id is None and start_ms <= now_ms:
            end_ms = start_ms + wire.HISTORY_SPAN_MS
            window: Params = {"symbol": symbol, "startTime": start_ms, "endTime": end_ms}
            page = history.trades(await self._rest.read_when_allowed(wire.USER_TRADES, window, waiting))
            last = self._last_of_full(page)
            yield page, last.time_ms if last is not None else end_ms
            start_ms = end_ms + 1
            if last is not None:
                from_id = last.sequence
        while from_id is not None:  # By id it goes on without an end.
            by_id: Params = {"symbol": symbol, "fromId": from_id}
            page = history.trades(await self._rest.read_when_allowed(wire.USER_TRADES, by_id, waiting))
            last = self._last_of_full(page)
            yield page, last.time_ms if last is not None else NO_END_MS
            # Of one number there are two fills at the most: a page of it alone holds both.
            from_id = None if last is None else max(last.sequence, from_id + (last.sequence <= from_id))

    def _last_of_full(self, page: history.Trades) -> PastTrade | None:
        """The fill from which on the next page is to be asked for; None where there is no next page."""
        if page.listed < self._rest.history_page:
            return None
        if not page.rows:
            raise FrameError(str(wire.USER_TRADES), "body", "holds no row that can be understood")
        return page.rows[-1]

    # Of a check. These calls do not wait: a check has its time.

    async def created(self, scope: CheckScope) -> Created:
        """What was created lately, as far as it is asked for."""
        parts = await all_of(
            [
                self._ordinary(scope.created_since_ms),
                *(self._conditional(symbol, since_ms) for symbol, since_ms in scope.conditional_since_ms),
                *(self._by_its_id(key) for key in scope.by_id),
            ]
        )
        return Created(
            [order for part in parts for order in part.orders],
            min(part.until_ms for part in parts),
            {symbol: until_ms for part in parts for symbol, until_ms in part.conditional_until_ms.items()},
        )

    async def _ordinary(self, since_ms: int) -> Created:
        if not since_ms or not self._lists_orders_of_all_symbols:
            return Created()
        listed: list[Order] = []
        try:
            return Created(listed, await self._list(HistoryQuery("orders"), since_ms, listed))
        except Rejected as error:
            if error.code != PARAMETER_MISSING:
                raise
            self._lists_orders_of_all_symbols = False
        except WantsSymbol:
            self._lists_orders_of_all_symbols = False
        return Created(listed)

    async def _conditional(self, symbol: str, since_ms: int) -> Created:
        """None of a symbol that the venue does not have any more. Until when all are listed of one that it refuses
        otherwise, nobody knows."""
        listed: list[Order] = []
        start_ms = max(since_ms, self._rest.clock.now_ms() - wire.HISTORY_SPAN_MS)
        try:
            until_ms = await self._list(HistoryQuery("conditional", symbol, symbol), start_ms, listed)
        except AuthFailed:
            raise
        except Rejected as error:
            if error.code != NO_SUCH_SYMBOL:
                self._warn_once(symbol, error)
                return Created(listed)
            until_ms = start_ms if listed else NO_END_MS
        return Created(listed, conditional_until_ms={symbol: until_ms})

    def _warn_once(self, symbol: str, error: Rejected) -> None:
        if symbol not in self._refused:
            self._refused.add(symbol)
            structlog.get_logger().warning("history_refused", symbol=symbol, reason=str(error))

    async def _by_its_id(self, key: OrderKey) -> Created:
        """Nothing of one that the venue does not know, or will not say."""
        try:
            past = await self._one_order(key, self._rest.read)
        except AuthFailed:
            raise
        except Rejected:
            return Created()
        return Created((past.order,))

    async def _one_order(self, key: OrderKey, read: Callable[[wire.Call, Params], Awaitable[object]]) -> PastOrder:
        algo_id = event_ids.algo_id(key.order_id)
        if algo_id != key.order_id:
            return history.algo_order(await read(wire.ALGO_ORDER, {"algoId": algo_id}))
        return history.order(await read(wire.ORDER, {"symbol": key.symbol, "orderId": key.order_id}))

    async def _list(self, query: HistoryQuery, since_ms: int, into: list[Order]) -> int:
        """Orders created since then, page by page while there is weight to spare; returns until when they all are."""

        async def ask(call: wire.Call, params: Params) -> object:
            return await self._rest.read(call, {**params, "limit": self._rest.history_page})

        call, _ = _listing(query.kind)
        until_ms = since_ms
        async for page, settled_ms in self._orders(query, since_ms, ask):
            into += [past.order for past in page]
            until_ms = max(until_ms, settled_ms)
            if until_ms < self._rest.clock.now_ms() and not self._rest.may_spend(call.weight):
                return until_ms
        return NO_END_MS


def _listing(kind: HistoryKind) -> tuple[wire.Call, Callable[[object], tuple[PastOrder, ...]]]:
    """The call that lists a kind of orders, and the decoder of its answer."""
    return (wire.ALL_ORDERS, history.orders) if kind == "orders" else (wire.ALL_ALGO_ORDERS, history.algo_orders)


def _next_width(width_ms: int, rows: int, page: int) -> int:
    """How wide the next window may be, by how many rows the last one had: so wide that a page is three quarters full,
    as far as the next orders are as many, and not more than 16 times as wide."""
    rows = max(rows, 1)
    return min(max(width_ms, 1) * min(16 * rows, page * 3 // 4) // rows + 1, wire.HISTORY_SPAN_MS)


def _number(past: PastOrder) -> int:
    return int(event_ids.algo_id(past.order.order_id))
